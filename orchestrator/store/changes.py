"""The writes that are not on the hot path, in SQLAlchemy Core.

Each function runs inside the transaction of its caller. It refuses before it has changed anything, so that a refusal
costs nobody else's write anything (see `writer`). Where several replicas write to one database, what one of them has
looked for may be there once it inserts it: then the first counts.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from orchestrator import errors
from orchestrator.store import base, conflicts, queries, schema

__all__ = [
    "add_inbox",
    "at_limit",
    "never_registered",
    "record_occurrence",
    "release",
    "reopen",
]

_executions = schema.executions


def never_registered(new: base.NewExecution) -> errors.StoreError:
    """What whoever records an execution gets to hear whose digest is that of no version."""
    return errors.StoreError(
        f"Execution {new.id} cannot be recorded: no version of {new.workflow} with digest {new.digest} was ever "
        "registered."
    )


def at_limit(new: base.NewExecution, under_way: int) -> errors.AtLimit:
    """What whoever records an execution gets to hear when as many as may have its key have not ended."""
    key = (new.concurrency_key or "").removeprefix(f"{new.workflow}/")
    return errors.AtLimit(
        f"{under_way} of {new.most} executions of '{new.workflow}' are under way (concurrency key '{key}'), and it "
        "skips those on top of them: try again when one has ended"
    )


def release(connection: sa.Connection, execution: str, epoch: int) -> None:
    """Take an execution back from its engine, if `epoch` is still in force."""
    connection.execute(
        _executions.update()
        .where(
            _executions.c.id == execution,
            _executions.c.epoch == epoch,
            _executions.c.status.in_(queries.UNFINISHED),
        )
        .values(engine=None)
    )


def add_inbox(connection: sa.Connection, item: base.InboxItem) -> bool:
    """Keep a command; False when the execution has ended or is unknown. One that is kept already is kept once."""
    held = _hold(connection, item.execution)
    if held is None or held.status in base.TERMINAL:
        return False
    _keep(connection, held.number, item)
    if held.owner is None:
        connection.execute(_executions.update().where(_executions.c.number == held.number).values(wake_at=0))
    return True


class _Held(msgspec.Struct, frozen=True):
    """An execution that stays as it is until the transaction ends."""

    number: int
    status: base.Status
    owner: str | None


def _hold(connection: sa.Connection, execution: str) -> _Held | None:
    statement = sa.select(_executions.c.number, _executions.c.status, _executions.c.owner)
    row = connection.execute(statement.where(_executions.c.id == execution).with_for_update(key_share=True)).first()
    return None if row is None else _Held(*row)


def _keep(connection: sa.Connection, number: int, item: base.InboxItem) -> None:
    values = msgspec.structs.asdict(item) | {"execution": number}
    connection.execute(conflicts.insert(connection, schema.inbox).on_conflict_do_nothing(), values)


def reopen(connection: sa.Connection, item: base.InboxItem) -> tuple[base.ExecutionRecord, bool] | None:
    """Keep a retry, and queue its execution again if it has ended; whether it had. None when it is unknown."""
    held = _hold(connection, item.execution)
    record = None if held is None else queries.execution(connection, item.execution)
    if held is None or record is None:
        return None
    ended = held.status in base.TERMINAL
    change = _executions.update().where(_executions.c.number == held.number)
    if ended:
        cleared: dict[str, Any] = {"engine": None, "owner": None, "finished_at": None, "outputs": None, "error": None}
        end = {name: getattr(record, name) for name in ("status", "finished_at", "outputs", "error")}
        connection.execute(schema.former_ends.insert(), {"execution": held.number, **end})
        connection.execute(change.values(status="queued", **cleared))
        record = msgspec.structs.replace(record, status="queued", **cleared)
    if record.owner is None:
        connection.execute(change.values(wake_at=0))
        record = msgspec.structs.replace(record, wake_at=0)
    _keep(connection, held.number, item)
    return record, ended


def record_occurrence(connection: sa.Connection, trigger: str, at: int) -> None:
    """Remember that the occurrences of `trigger` up to `at` have been dealt with. Never goes backwards."""
    insert = conflicts.insert(connection, schema.occurrences).values(trigger=trigger, at=at)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=[schema.occurrences.c.trigger],
            set_={"at": insert.excluded.at},
            where=schema.occurrences.c.at < insert.excluded.at,
        )
    )
