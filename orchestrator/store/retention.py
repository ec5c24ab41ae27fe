"""What need not be kept, and deleting it in steps that are short enough to hold nobody up.

Each function runs inside the transaction of its caller. Those that look for what could go only read, so an adapter
can have them run beside its writes; those that delete look again whether it may.

An execution is unknown from the first step of its purge on, so that nobody goes on with a journal of which a part is
missing. What a purge leaves behind when it is interrupted is found by `expired` again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from orchestrator.store import base, queries, schema

__all__ = ["delete_blobs", "delete_logs", "ended_workflows", "expired", "old_logs", "purge", "unused_blobs"]

_executions = schema.executions
_blobs = schema.blobs
_logs = schema.logs
_ended = _executions.c.finished_at.is_not(None)


def expired(
    connection: sa.Connection, *, workflow: str | None, ended_before: int | None, keep: int | None, limit: int
) -> list[base.Expired]:
    """Ended executions that ended before a time, or that are beyond the newest `keep` of their workflow."""
    found: list[base.Expired] = []
    for each in [workflow] if workflow is not None else ended_workflows(connection):
        last = None if keep is None else _last_beyond(connection, each, keep)
        for one, number in _oldest(connection, each, limit):
            aged = ended_before is not None and one.finished_at < ended_before
            if not aged and (last is None or (one.finished_at, number) > last):
                break
            found.append(one)
    return sorted(found, key=lambda one: one.finished_at)[: max(limit, 0)]


def ended_workflows(connection: sa.Connection) -> Iterator[str]:
    """Workflows of which executions have ended. Each is one look into the index, however many executions it has."""
    following = sa.select(_executions.c.workflow).where(_ended).order_by(_executions.c.workflow).limit(1)
    workflow: str | None = connection.scalar(following)
    while workflow is not None:
        yield workflow
        workflow = connection.scalar(following.where(_executions.c.workflow > workflow))


def _last_beyond(connection: sa.Connection, workflow: str, keep: int) -> tuple[int, int] | None:
    """Where the newest execution stands that is beyond the newest `keep`; None when there is none."""
    statement = (
        sa.select(_executions.c.finished_at, _executions.c.number)
        .where(_executions.c.workflow == workflow, _ended)
        .order_by(_executions.c.finished_at.desc(), _executions.c.number.desc())
        .offset(max(keep, 0))
        .limit(1)
    )
    row = connection.execute(statement).first()
    return None if row is None else (row[0], row[1])


def _oldest(connection: sa.Connection, workflow: str, limit: int) -> list[tuple[base.Expired, int]]:
    statement = (
        sa.select(
            _executions.c.id,
            _executions.c.status,
            _executions.c.finished_at,
            _executions.c.last_seq,
            _executions.c.number,
        )
        .where(_executions.c.workflow == workflow, _ended)
        .order_by(_executions.c.finished_at, _executions.c.number)
        .limit(max(limit, 0))
    )
    return [
        (base.Expired(id=name, workflow=workflow, status=status, finished_at=finished_at, facts=facts), number)
        for name, status, finished_at, facts, number in connection.execute(statement)
    ]


def purge(connection: sa.Connection, executions: Sequence[str], *, rows: int) -> int:
    """Delete ended executions with all that belongs to them, facts first; how many rows went, at most about `rows`."""
    gone = 0
    for some in queries.portions(executions):
        if gone >= rows:
            break
        chosen = sa.select(_executions.c.number).where(_executions.c.id.in_(some), _ended)
        numbers = connection.scalars(chosen.order_by(_executions.c.number).with_for_update()).all()
        if numbers:
            gone += _hide(connection, numbers)
            gone += _delete(connection, numbers, rows=max(rows - gone, 1))
    return gone


def _hide(connection: sa.Connection, numbers: Sequence[int]) -> int:
    """Have executions be unknown, and whatever is unique about them be free for others; how many rows went."""
    connection.execute(
        _executions.update()
        .where(
            _executions.c.number.in_(numbers),
            sa.or_(_executions.c.idempotency_key.is_not(None), _executions.c.occurrence.is_not(None)),
        )
        .values(idempotency_key=None, occurrence=None)
    )
    inputs = schema.execution_inputs
    return connection.execute(inputs.delete().where(inputs.c.execution.in_(numbers))).rowcount


def _delete(connection: sa.Connection, numbers: Sequence[int], *, rows: int) -> int:
    gone = 0
    for table, key in ((schema.facts, schema.facts.c.position), (_logs, _logs.c.id)):
        some = sa.select(key).where(table.c.execution.in_(numbers)).limit(rows - gone)
        gone += connection.execute(table.delete().where(key.in_(some))).rowcount
        if gone >= rows:
            return gone
    for few in (schema.blob_refs, schema.former_ends, schema.inbox):
        gone += connection.execute(few.delete().where(few.c.execution.in_(numbers))).rowcount
    return gone + connection.execute(_executions.delete().where(_executions.c.number.in_(numbers))).rowcount


def old_logs(connection: sa.Connection, *, workflow: str | None, ended_before: int, rows: int) -> list[int]:
    """Ids of log lines of executions (of one workflow) that ended before a time; at most `rows`."""
    found: list[int] = []
    for each in [workflow] if workflow is not None else ended_workflows(connection):
        statement = (
            sa.select(_logs.c.id)
            .join_from(_executions, _logs)
            .where(_executions.c.workflow == each, _ended, _executions.c.finished_at < ended_before)
            .limit(max(rows - len(found), 0))
        )
        found.extend(connection.scalars(statement))
        if len(found) >= rows:
            break
    return found


def delete_logs(connection: sa.Connection, lines: Sequence[int]) -> int:
    """Delete log lines; how many went."""
    return _delete_all(connection, _logs, lines, _logs.c.id)


def unused_blobs(connection: sa.Connection, *, put_before: int, rows: int) -> list[str]:
    """Digests of values that were put before a time, and that no fact cites; at most `rows`."""
    return list(connection.scalars(sa.select(_blobs.c.digest).where(_unused(put_before)).limit(max(rows, 0))))


def delete_blobs(connection: sa.Connection, digests: Sequence[str], *, put_before: int) -> int:
    """Delete those of some values that are still unused; how many went."""
    return _delete_all(connection, _blobs, digests, _blobs.c.digest, _unused(put_before))


def _unused(put_before: int) -> sa.ColumnElement[bool]:
    cited = sa.select(schema.blob_refs.c.digest).where(schema.blob_refs.c.digest == _blobs.c.digest)
    return sa.and_(_blobs.c.put_at < put_before, ~cited.exists())


def _delete_all(
    connection: sa.Connection,
    table: sa.Table,
    keys: Sequence[Any],
    key: sa.Column[Any],
    *conditions: sa.ColumnElement[bool],
) -> int:
    return sum(
        connection.execute(table.delete().where(key.in_(some), *conditions)).rowcount for some in queries.portions(keys)
    )
