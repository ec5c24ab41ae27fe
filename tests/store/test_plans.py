"""What is asked all the time, or of large tables, is read from an index: nothing is scanned or sorted for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.store import blobs, membership, migration, ownership, queries, retention, schema

Asked = Callable[[sa.Connection], object]

QUESTIONS: dict[str, Asked] = {
    "claim": lambda c: ownership.claim(c, "r", now=1, limit=9, keyed=False),
    "claim with keys": lambda c: ownership.claim(c, "r", now=1, limit=9, keyed=True),
    "next wake": lambda c: ownership.next_wake(c, keyed=False),
    "outstanding": lambda c: ownership.outstanding(c, now=1),
    "park": lambda c: ownership.park(c, "r", "e1", epoch=1, last_seq=0, wake_at=None),
    "free": lambda c: membership.leave(c, "r"),
    "heads": lambda c: queries.heads(c, ["e1", "e2"]),
    "dispatched": queries.dispatched,
    "inbox of one": lambda c: queries.inbox(c, "e1", None),
    "inboxes": lambda c: queries.inboxes(c, ["e1", "e2"]),
    "expired": lambda c: retention.expired(c, workflow=None, ended_before=5, keep=1, limit=9),
    "old logs": lambda c: retention.old_logs(c, workflow=None, ended_before=50, rows=9),
    "purge": lambda c: retention.purge(c, ["e1", "e2"], rows=1_000),
    "blobs": lambda c: blobs.values(c, ["a", "b"]),
    "delete blobs": lambda c: retention.delete_blobs(c, ["a", "b"], put_before=9),
}


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    """A database with an execution that runs, and one that has ended."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as opened:
        migration.migrate(opened, name="new")
        opened.execute(schema.documents.insert(), {"digest": "d", "document": b"{}"})
        common: dict[str, Any] = {"workflow": "w", "version": "1.0.0", "digest": "d", "seed": 1, "epoch": 1}
        common |= {"last_seq": 0, "engine": "g", "trigger": "api", "created_at": 1}
        opened.execute(schema.executions.insert(), {"id": "e1", "status": "running", "owner": "r", **common})
        opened.execute(schema.executions.insert(), {"id": "e2", "status": "failed", "finished_at": 3, **common})
        yield opened
    engine.dispose()


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_is_read_from_an_index(connection: sa.Connection, question: str) -> None:
    asked: list[tuple[str, Any]] = []
    sa.event.listen(
        connection,
        "before_cursor_execute",
        lambda _c, _cursor, statement, values, *_: asked.append((statement, values)),
    )
    QUESTIONS[question](connection)
    statements = list(asked)
    assert statements
    for statement, values in statements:
        steps = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
        for step in steps:
            bounded = "LIMIT" in statement and ("USING COVERING INDEX" in step or step == "SCAN unowned")
            assert not step.startswith("SCAN") or bounded, statement
            assert "TEMP B-TREE" not in step or question in ("purge", "inboxes", "outstanding"), statement  # of few


def test_what_is_parked_is_not_read_to_count_what_is_outstanding(connection: sa.Connection) -> None:
    asked: list[tuple[str, Any]] = []
    sa.event.listen(
        connection,
        "before_cursor_execute",
        lambda _c, _cursor, statement, values, *_: asked.append((statement, values)),
    )
    ownership.outstanding(connection, now=1)
    steps = [
        row[3]
        for statement, values in list(asked)
        for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        if "executions" in row[3]
    ]
    assert [step.partition(" USING INDEX ")[2].partition(" (")[0] for step in steps] == [
        "ix_executions_owner",
        "ix_executions_wake_at_number_concurrency_key",
    ]
