"""Replicas: joining, renewing a lease, ending those that have run out, and which one leads.

Each function runs inside the transaction of its caller. `now` is what the clock of the store says: that of the
database where replicas share one, so that their own clocks may differ.

A replica is one for as long as its row is there, and no longer: its writes lock that row against being deleted (where
others could do that), so ending a lease waits for the writes under way, and no write comes after it. A lease that has
run out does nothing by itself; somebody has to end it. The leader is the holder of one lease more, which it keeps for
as long as it is a replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from orchestrator import errors
from orchestrator.store import base, ownership, schema

__all__ = ["end_all", "fenced", "join", "leave", "renew", "replicas", "take_over"]

_replicas = schema.replicas
_leases = schema.leases
_leader: Final = sa.select(_leases.c.holder, _leases.c.term).where(_leases.c.name == schema.LEADER)
_all: Final = sa.select(_replicas, _leases.c.holder.is_not(None)).join_from(
    _replicas,
    _leases,
    sa.and_(_leases.c.name == schema.LEADER, _leases.c.holder == _replicas.c.id),
    isouter=True,
)


def fenced() -> errors.Fenced:
    """What a replica gets to hear that is none any more."""
    return errors.Fenced(
        "This process is no replica of the store any more: its lease has ended, and others may have taken over what "
        "it owned. It has to join again."
    )


def join(connection: sa.Connection, replica: str, *, name: str, lease: int, now: int) -> base.Membership:
    """Become a replica until `now + lease`, and lead when nobody does."""
    row = {"id": replica, "name": name, "joined_at": now, "until": now + lease}
    connection.execute(_replicas.insert(), row)
    return _membership(connection, replica, now=now, until=now + lease)


def renew(connection: sa.Connection, replica: str, *, lease: int, now: int) -> base.Membership:
    """Be a replica until `now + lease`, and lead when nobody does. Fenced when it is none any more."""
    change = _replicas.update().where(_replicas.c.id == replica)
    if connection.execute(change.values(until=now + lease)).rowcount == 0:
        raise fenced()
    return _membership(connection, replica, now=now, until=now + lease)


def take_over(connection: sa.Connection, replica: str, *, now: int) -> int:
    """End the leases of others that have run out; how many. One with a write under way is left for the next time."""
    over = (
        sa.select(_replicas.c.id)
        .where(_replicas.c.until <= now, _replicas.c.id != replica)
        .with_for_update(skip_locked=True)
    )
    ids = connection.scalars(over).all()
    _end(connection, ids)
    return len(ids)


def leave(connection: sa.Connection, replica: str) -> None:
    """End the lease of `replica`, if it still has one."""
    _end(connection, [replica])


def end_all(connection: sa.Connection) -> None:
    """End every lease: for whoever knows that it is alone."""
    connection.execute(_replicas.delete())
    ownership.free(connection, schema.executions.c.owner.is_not(None))


def replicas(connection: sa.Connection) -> list[base.Replica]:
    """All replicas, in the order in which they joined."""
    rows = connection.execute(_all.order_by(_replicas.c.joined_at, _replicas.c.id))
    return [
        base.Replica(id=replica, name=name, joined_at=joined_at, until=until, leads=bool(leads))
        for replica, name, joined_at, until, leads in rows
    ]


def _end(connection: sa.Connection, ids: Sequence[str]) -> None:
    if ids:
        connection.execute(_replicas.delete().where(_replicas.c.id.in_(ids)))
        ownership.free(connection, schema.executions.c.owner.in_(ids))


def _membership(connection: sa.Connection, replica: str, *, now: int, until: int) -> base.Membership:
    count = connection.scalar(sa.select(sa.func.count()).select_from(_replicas)) or 0
    return base.Membership(term=_term(connection, replica), others=count - 1, now=now, until=until)


def _term(connection: sa.Connection, replica: str) -> int | None:
    """The term of `replica` as leader, which it becomes when there is none; None when another one leads."""
    holder, term = connection.execute(_leader).one()
    if holder != replica and not _is_replica(connection, holder):
        # Somebody else may be about to lead: whoever gets the row looks again.
        holder, term = connection.execute(_leader.with_for_update()).one()
        if not _is_replica(connection, holder):
            holder, term = replica, term + 1
            connection.execute(_leases.update().where(_leases.c.name == schema.LEADER).values(holder=holder, term=term))
    return term if holder == replica else None


def _is_replica(connection: sa.Connection, holder: str | None) -> bool:
    return connection.scalar(sa.select(_replicas.c.id).where(_replicas.c.id == holder)) is not None
