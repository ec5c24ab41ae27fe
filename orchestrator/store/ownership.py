"""Which replica owns an execution that has not ended: claiming what nobody owns, and parking what only waits.

Each function runs inside the transaction of its caller. Where several replicas share a database, rows are locked
before they are judged, and what depends on them is read after that.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import sqlalchemy as sa

from orchestrator.store import base, queries, schema

__all__ = ["claim", "free", "next_wake", "outstanding", "park"]

_executions = schema.executions
_claimable: Final = sa.and_(_executions.c.owner.is_(None), _executions.c.wake_at.is_not(None))
_without_key: Final = _executions.c.concurrency_key.is_(None)
_next_wake: Final = sa.select(_executions.c.wake_at).where(_claimable).order_by(_executions.c.wake_at).limit(1)
_next_wake_without_key: Final = _next_wake.where(_without_key)
_COUNTED: Final = 100_000
_kept: Final = sa.or_(_executions.c.engine.is_not(None), _without_key)
# One part for each of the indexes by which nothing that is parked is read. What has ended is in neither; were it asked
# for its status, SQLite would go by that, and read all that is parked.
_outstanding_owned: Final = (
    sa.select(_executions.c.digest, _executions.c.engine, sa.func.count())
    .where(_executions.c.owner.is_not(None), _kept)
    .group_by(_executions.c.digest, _executions.c.engine)
)
_unowned: Final = (
    sa.select(_executions.c.digest, _executions.c.engine)
    .where(_claimable, _executions.c.wake_at <= sa.bindparam("now"), _kept)
    .limit(_COUNTED)
    .subquery("unowned")
)
_outstanding_unowned: Final = sa.select(_unowned.c.digest, _unowned.c.engine, sa.func.count()).group_by(
    _unowned.c.digest, _unowned.c.engine
)
# Built once: what is parked is parked one by one, and building takes longer than the database does.
_to_park: Final = (
    sa.select(_executions.c.number, _executions.c.owner)
    .where(
        _executions.c.id == sa.bindparam("execution"),
        _executions.c.epoch == sa.bindparam("epoch"),
        _executions.c.last_seq == sa.bindparam("last_seq"),
        _executions.c.engine.is_not(None),
        _executions.c.status.in_(queries.UNFINISHED),
    )
    .with_for_update(key_share=True)
)
_asked: Final = sa.select(schema.inbox.c.number).where(schema.inbox.c.execution == sa.bindparam("number")).limit(1)
_park: Final = (
    _executions.update()
    .where(_executions.c.number == sa.bindparam("parked"))
    .values(engine=None, owner=None, wake_at=sa.bindparam("wakes"))
)


def claim(connection: sa.Connection, replica: str, *, now: int, limit: int, keyed: bool) -> list[base.ExecutionRecord]:
    """Have `replica` own what can be claimed at `now`, those that have waited longest first; at most `limit`."""
    chosen = (
        sa.select(_executions.c.number)
        .where(_claimable, _executions.c.wake_at <= now)
        .order_by(_executions.c.wake_at, _executions.c.number)
        .limit(max(limit, 0))
        .with_for_update(skip_locked=True)
    )
    if not keyed:
        chosen = chosen.where(_without_key)
    numbers = connection.scalars(chosen).all()
    change = _executions.update().values(
        owner=replica,
        wake_at=None,
        epoch=sa.case((_executions.c.engine.is_not(None), _executions.c.epoch + 1), else_=_executions.c.epoch),
    )
    for some in queries.portions(numbers):
        connection.execute(change.where(_executions.c.number.in_(some)))
    return queries.numbered(connection, numbers)


def next_wake(connection: sa.Connection, *, keyed: bool) -> int | None:
    """When the next execution can be claimed; None when none waits for a time."""
    found: int | None = connection.scalar(_next_wake if keyed else _next_wake_without_key)
    return found


def outstanding(connection: sa.Connection, *, now: int) -> list[base.Outstanding]:
    """What engines have and what waits for one, by version and engine."""
    found: Counter[tuple[str, str | None]] = Counter()
    for question, given in ((_outstanding_owned, {}), (_outstanding_unowned, {"now": now})):
        for digest, engine, executions in connection.execute(question, given):
            found[digest, engine] += executions
    return [
        base.Outstanding(digest=digest, engine=engine, executions=executions)
        for (digest, engine), executions in found.items()
    ]


def park(
    connection: sa.Connection, replica: str | None, execution: str, *, epoch: int, last_seq: int, wake_at: int | None
) -> bool:
    """Take an execution that only waits from its engine and its owner; False when it does not, or is not as said.

    `replica` has to own it, unless that is None.
    """
    said = {"execution": execution, "epoch": epoch, "last_seq": last_seq}
    found = connection.execute(_to_park, said).first()
    if found is None or (replica is not None and found.owner != replica):
        return False
    # Only now: what came into the inbox until its row was locked is seen, and what comes after finds it parked.
    if connection.scalar(_asked, {"number": found.number}):
        return False
    connection.execute(_park, {"parked": found.number, "wakes": wake_at})
    return True


def free(connection: sa.Connection, owned: sa.ColumnElement[bool]) -> None:
    """Have nobody own the executions that are `owned`, and let them be claimed at once. Engines keep them."""
    connection.execute(_executions.update().where(owned).values(owner=None, wake_at=0))
