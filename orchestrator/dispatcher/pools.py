"""Pools over the whole system: the orchestrator's half. Engines ask for room in sessions, and are granted it here.

What is taken is known in two places: here, and at the engines that hold it. A session begins with a report of all that
its engine holds, and that is the truth from then on; so nothing about pools is written to the store. What follows:

- *Only the leader* among the replicas speaks of pools. The others tell their engines the names, no more.
- *A new leader*, also the one that starts alone, grants nothing in a pool until every engine that may hold room in it
  has reported, or is taken for lost: those that the store says have executions whose workflows use the pool.
- *An engine that is away* keeps what it holds. What it waits for is forgotten; it asks again when it is back. Once it
  is taken for lost, and its executions are placed elsewhere, what it held is free. Should it still be working, cut off
  as it is, more is taken than the pool has for as long as that lasts: see docs/limits.md.
- *An engine that starts anew* reports nothing, and so holds nothing.

`Sessions` calls it with what engines say; `run` grants by the clock in pools that have a rate.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Final, cast

import msgspec
import structlog

from dagengine.admission import pools
from dagengine.admission.declaration import Declared
from dagengine.clock import Clock
from dagengine.wire.v1 import session_pb2
from orchestrator.alarm import Alarm
from orchestrator.dispatcher.engines import Engine, Roster
from orchestrator.verbs import PoolView

__all__ = ["Pools"]

_log = structlog.get_logger("orchestrator.pools")

_CLOSED: Final = 0
"""The size of a pool in which nothing is granted yet."""


class _Ticket(msgspec.Struct, frozen=True, gc=False):
    """A request of an engine, by the number that the engine has given it."""

    engine: str
    number: int


class Pools:
    """All pools over the whole system. `declared` are those that the operator wants, by name."""

    def __init__(self, declared: Mapping[str, Declared], clock: Clock, roster: Roster) -> None:
        self.declared = dict(declared)
        self.names: frozenset[str] = frozenset(declared)
        self._clock = clock
        self._roster = roster
        self._pools = {name: one.pool(name) for name, one in self.declared.items()}
        self._pool_of: dict[str, dict[int, str]] = {}
        """The pool of each request that waits or holds, by engine."""
        self._awaited: dict[str, set[str]] = {}
        """Engines whose reports are needed before a pool opens."""
        self._alarm = Alarm(clock)
        self._term = 0
        """Fencing token of this leader; 0 while another replica leads."""

    # --- who speaks of them ---

    def lead(self, term: int, uses: Mapping[str, Collection[str]]) -> list[str]:
        """Speak of pools from now on. `uses`: the pools in which engines may hold room, as the store knows.

        The engines among them that are not connected: what they hold is to be heard, or they are to be given up.
        """
        self._forget()
        self._term = term
        for name, used in uses.items():
            self._expect(name, used)
        message = session_pb2.OrchestratorMessage(shared_pools=self._told())
        connected = [engine for engine in self._roster.engines.values() if engine.connected]
        for engine in connected:
            engine.link.send(message)
        awaited = {engine for engines in self._awaited.values() for engine in engines}
        return sorted(awaited - {engine.id for engine in connected})

    def follow(self) -> None:
        """Another replica speaks of them."""
        self._forget()

    def _forget(self) -> None:
        self._term = 0
        self._pools = {name: one.pool(name) for name, one in self.declared.items()}
        self._pool_of.clear()
        self._awaited.clear()
        self._alarm.ring()

    def _told(self) -> session_pb2.SharedPools:
        return session_pb2.SharedPools(names=sorted(self.names), term=self._term)

    def _expect(self, engine: str, used: Iterable[str]) -> None:
        """An engine may hold room in those of the pools `used` that are here: closed until it has reported."""
        for name in self.names.intersection(used):
            self._awaited.setdefault(name, set()).add(engine)
            self._pools[name].handle(pools.Resized(at=self._clock.now(), size=_CLOSED))

    def _heard_of(self, engine: str) -> None:
        """What an engine holds is known now: open the pools that waited for that."""
        for name, engines in list(self._awaited.items()):
            engines.discard(engine)
            if not engines:
                del self._awaited[name]
                resized = pools.Resized(at=self._clock.now(), size=self.declared[name].size)
                self._grant(self._pools[name].handle(resized))

    # --- what sessions hear ---

    def begin(self, engine: Engine) -> session_pb2.SharedPools:
        """A session with an engine begins; what to tell it of the pools. It answers the leader with a report."""
        self._withdraw(engine.id)
        for name in sorted(self.names & engine.pools.keys()):
            _log.warning(
                "pool_declared_twice",
                pool=name,
                engine=engine.id,
                hint="the one over the whole system counts; take the other out of the engine's ENGINE_POOLS",
            )
        return self._told()

    def received(self, engine: Engine, message: session_pb2.EngineMessage) -> None:
        """What a message of an engine says about pools. What it still says to a former leader is not heard."""
        if not self._term:
            return
        if message.HasField("pool_report"):
            self._report(engine.id, message.pool_report)
        for release in message.pool_releases:
            self._release(engine.id, release.tickets)
        for request in message.pool_requests:
            self._ask(engine.id, request)
        self._alarm.ring()

    def away(self, engine: str) -> None:
        """An engine's session has ended: it keeps what it holds, and asks again for what it waits for."""
        self._withdraw(engine)

    def lost(self, engine: str) -> None:
        """An engine's executions are placed elsewhere: what it held is free."""
        self._release(engine, list(self._pool_of.get(engine, ())))
        self._heard_of(engine)

    # --- for people ---

    def views(self) -> list[PoolView]:
        """The pools as they stand: those over the whole system, then those of engines, in order of their names."""
        shared = [
            PoolView(
                name=name,
                scope="system",
                size=one.size,
                rate=None if one.rate is None else str(one.rate),
                used=self._pools[name].used if self._term else None,
                waiting=len(self._pools[name].line) if self._term else None,
                reason=self._why_closed(name) if self._term else "the replica that leads counts it",
            )
            for name, one in sorted(self.declared.items())
        ]
        own = [
            PoolView(name=name, scope="engine", engine=engine.id, size=pool.size, used=pool.used, waiting=pool.waiting)
            for engine in self._roster.engines.values()
            if engine.connected
            for name, pool in engine.pools.items()
            if name not in self.names
        ]
        return shared + sorted(own, key=lambda view: (view.name, view.engine or ""))

    def _why_closed(self, name: str) -> str:
        missing = sorted(self._awaited.get(name, ()))
        return f"it opens once it is known what engines hold of it: {', '.join(missing)}" if missing else ""

    # --- parts ---

    def _ask(self, engine: str, request: session_pb2.PoolRequest) -> None:
        pool = self._pools.get(request.pool)
        if pool is None:
            # Only an engine that was told of other pools asks so: it hears of these in its next session.
            _log.warning("pool_unknown", pool=request.pool, engine=engine)
            return
        self._pool_of.setdefault(engine, {})[request.ticket] = request.pool
        asked = pools.Asked(
            at=self._clock.now(),
            ticket=_Ticket(engine, request.ticket),
            weight=request.weight,
            priority=request.priority,
            waited=request.waited,
        )
        self._grant(pool.handle(asked))

    def _release(self, engine: str, numbers: Iterable[int]) -> None:
        known = self._pool_of.get(engine, {})
        left: dict[str, list[Hashable]] = {}
        for number in numbers:
            if (name := known.pop(number, None)) is not None:
                left.setdefault(name, []).append(_Ticket(engine, number))
        if not known:
            self._pool_of.pop(engine, None)
        at = self._clock.now()
        for name, tickets in left.items():
            # Whoever still waits is taken out first, so that the room of the others is not granted to it.
            self._grant(self._pools[name].handle(pools.Withdrawn(at=at, tickets=tuple(tickets))))
            self._grant(self._pools[name].handle(pools.Released(at=at, tickets=tuple(tickets))))

    def _withdraw(self, engine: str) -> None:
        known = self._pool_of.get(engine, {})
        waiting = [number for number, name in known.items() if self._pools[name].waits(_Ticket(engine, number))]
        self._release(engine, waiting)

    def _report(self, engine: str, report: session_pb2.PoolReport) -> None:
        """What an engine holds: no more and no less, whatever was granted before."""
        holdings = {one.ticket: one for one in report.holdings if one.pool in self.names}
        self._release(engine, [number for number in self._pool_of.get(engine, ()) if number not in holdings])
        for number, one in holdings.items():
            self._pool_of.setdefault(engine, {})[number] = one.pool
            room = min(one.weight, max(self.declared[one.pool].size, 1))
            held = pools.Held(at=self._clock.now(), ticket=_Ticket(engine, number), weight=room)
            self._grant(self._pools[one.pool].handle(held))
        self._heard_of(engine)

    def _grant(self, tickets: Iterable[Hashable]) -> None:
        granted: dict[str, list[int]] = {}
        for item in tickets:
            ticket = cast(_Ticket, item)
            granted.setdefault(ticket.engine, []).append(ticket.number)
        for engine, numbers in granted.items():
            message = session_pb2.OrchestratorMessage(pool_grants=[session_pb2.PoolGrant(tickets=numbers)])
            if (known := self._roster.engines.get(engine)) is not None:
                known.link.send(message)

    # --- time ---

    async def run(self) -> None:
        """Grant when pools with a rate let the next one begin, until cancelled."""
        while True:
            times = (pool.wake_at for pool in self._pools.values())
            wake = min((at for at in times if at is not None), default=None)
            await self._alarm.wait(wake)
            if wake is None or self._clock.now() < wake:
                continue
            for pool in self._pools.values():
                self._grant(pool.handle(pools.TimePassed(at=self._clock.now())))
