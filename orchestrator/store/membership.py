"""Replicas: joining, renewing a lease, ending those that have run out, and which one leads.

Each function runs inside the transaction of its caller. `now` is what the clock of the store says: that of the
database where replicas share one, so that their own clocks may differ.

A replica is one for as long as its row is there, and no longer: its writes lock that row against being deleted (where
others could do that), so ending a lease waits for the writes under way, and no write comes after it. A lease that has
run out does nothing by itself; somebody has to end it. The leader is the holder of one lease more, which it keeps for
as long as it is a replica. Who leads is found out here, or said by an election elsewhere (`lead`): then a higher term
ends the former leader as a replica, so that nothing of it is written under the new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from orchestrator import errors
from orchestrator.store import base, ownership, schema

__all__ = ["end_all", "fenced", "join", "lead", "leave", "renew", "replicas", "take_over"]

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


def join(connection: sa.Connection, replica: str, *, name: str, lease: int, elect: bool, now: int) -> base.Membership:
    """Become a replica until `now + lease`, and, with `elect`, lead when nobody does."""
    row = {"id": replica, "name": name, "joined_at": now, "until": now + lease}
    connection.execute(_replicas.insert(), row)
    return _membership(connection, replica, elect=elect, now=now, until=now + lease)


def renew(connection: sa.Connection, replica: str, *, lease: int, elect: bool, now: int) -> base.Membership:
    """Be a replica until `now + lease`, and, with `elect`, lead when nobody does. Fenced when it is none any more."""
    _prolong(connection, replica, until=now + lease)
    return _membership(connection, replica, elect=elect, now=now, until=now + lease)


def lead(connection: sa.Connection, replica: str, *, term: int, lease: int, now: int) -> tuple[base.Membership, bool]:
    """Be a replica until `now + lease`, and lead under `term` if it is higher than any before. Fenced.

    True with the answer when somebody else had led until then, and is a replica no more.
    """
    _prolong(connection, replica, until=now + lease)
    holder, highest = connection.execute(_leader.with_for_update()).one()
    ended = False
    if term > highest:
        connection.execute(_leases.update().where(_leases.c.name == schema.LEADER).values(holder=replica, term=term))
        ended = holder != replica and _is_replica(connection, holder)
        if ended:
            _end(connection, [holder])
    return _membership(connection, replica, elect=False, now=now, until=now + lease), ended


def take_over(connection: sa.Connection, replica: str, *, now: int) -> list[str]:
    """End the leases of others that have run out; their names. One with a write under way is left for the next time."""
    over = (
        sa.select(_replicas.c.id, _replicas.c.name)
        .where(_replicas.c.until <= now, _replicas.c.id != replica)
        .with_for_update(skip_locked=True)
    )
    found = connection.execute(over).all()
    _end(connection, [replica for replica, _ in found])
    return [name for _, name in found]


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


def _prolong(connection: sa.Connection, replica: str, *, until: int) -> None:
    change = _replicas.update().where(_replicas.c.id == replica)
    if connection.execute(change.values(until=until)).rowcount == 0:
        raise fenced()


def _membership(connection: sa.Connection, replica: str, *, elect: bool, now: int, until: int) -> base.Membership:
    count = connection.scalar(sa.select(sa.func.count()).select_from(_replicas)) or 0
    holder, term = (_elected if elect else _leads)(connection, replica)
    return base.Membership(
        term=term if holder == replica else None, highest=term, others=count - 1, now=now, until=until
    )


def _leads(connection: sa.Connection, _: str) -> tuple[str | None, int]:
    """Who leads, or led last, and the term of that."""
    holder, term = connection.execute(_leader).one()
    return holder, term


def _elected(connection: sa.Connection, replica: str) -> tuple[str | None, int]:
    """The same once `replica` has become the leader if there is none."""
    holder, term = connection.execute(_leader).one()
    if holder != replica and not _is_replica(connection, holder):
        # Somebody else may be about to lead: whoever gets the row looks again.
        holder, term = connection.execute(_leader.with_for_update()).one()
        if not _is_replica(connection, holder):
            holder, term = replica, term + 1
            connection.execute(_leases.update().where(_leases.c.name == schema.LEADER).values(holder=holder, term=term))
    return holder, term


def _is_replica(connection: sa.Connection, holder: str | None) -> bool:
    return connection.scalar(sa.select(_replicas.c.id).where(_replicas.c.id == holder)) is not None
