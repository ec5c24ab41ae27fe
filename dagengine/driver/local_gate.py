"""The gate of one engine: its pools, the rates of nodes, and the way to pools over the whole system.

It feeds the pure machines of `dagengine.admission` and calls back what they grant. An attempt takes its turn by its
node's rate first; only those whose turn it is ask for room, so nobody holds room and waits. When it is granted room it
begins, and counts for the rate from then on.

A pool that the orchestrator declares over the whole system goes before one of the same name that the engine declares:
a limit that was meant for all engines is not lifted by the setting of one.

Releases are gathered and granted from once per turn of the event loop, so that a batch of attempts that end together
is one sweep. Callbacks never run inside each other, however deep drivers call back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Final, Literal, cast

from dagengine.admission import declaration, pools, rates
from dagengine.clock import Clock
from dagengine.driver.gate import Granted, Queued, Request, SharedPools, Ticket

__all__ = ["PATIENCE", "LocalGate"]


PATIENCE: Final = 100_000
"""Microseconds for which an attempt may wait for room over the whole system before it says that it waits."""

_Place = Literal["", "rate", "here", "shared", "nowhere"]


class _Waiting:
    """An attempt that waits. `place` is where."""

    __slots__ = ("granted", "place", "queued", "request")

    def __init__(self, request: Request, granted: Granted, queued: Queued) -> None:
        self.request = request
        self.granted = granted
        self.queued: Queued | None = queued
        self.place: _Place = ""


class LocalGate:
    """Implements `gate.Gate`. Used on the thread of one event loop.

    `declared` are the pools of this engine by name: `{"db": Declared(4)}`, or as `declaration.parse` reads them.
    """

    def __init__(self, declared: Mapping[str, declaration.Declared], clock: Clock) -> None:
        self.declared = dict(declared)
        self.clock = clock
        self._pools = {name: one.pool(name) for name, one in self.declared.items()}
        self._rates = rates.Rates()
        self._shared: SharedPools | None = None
        self._waiting: dict[Ticket, _Waiting] = {}
        self._room: dict[Ticket, str] = {}
        """Who has room, and in which pool: the empty text for one over the whole system."""
        self._tickets: dict[str, set[Ticket]] = {}
        """Those that wait or have room, by execution."""
        self._nowhere: dict[Ticket, None] = {}
        self._impatient: deque[tuple[int, Ticket]] = deque()
        """Until when to wait before saying so, soonest first."""
        self._released: dict[str, dict[Ticket, None]] = {}
        self._sweep: asyncio.Handle | None = None
        self._calls: deque[tuple[Ticket, Callable[[], None]]] = deque()
        """What is to be called back. Of those who are told that they wait, only those that still do."""
        self._undelivered: set[Ticket] = set()
        """Those that are granted, and do not know yet."""
        self._calling = False
        self._timer: asyncio.Task[None] | None = None
        self._timer_at: int | None = None
        self._closed = False

    # --- the port ---

    def ask(self, request: Request, granted: Granted, queued: Queued) -> None:
        """Have `granted()` called once the attempt may begin, and `queued(pool, rate)` before, if it has to wait."""
        ticket = request.ticket
        if self._closed or ticket in self._waiting or ticket in self._room or ticket in self._undelivered:
            return
        if self._sweep is not None and ticket in self._released.get(request.pool, ()):
            self._sweep.cancel()  # an execution that was given back asks for what it still seems to have
            self._sweep_up()
        waiting = self._waiting[ticket] = _Waiting(request, granted, queued)
        self._tickets.setdefault(ticket.execution, set()).add(ticket)
        if request.rate is None:
            self._enter(ticket)
        else:
            waiting.place = "rate"
            asked = rates.Asked(
                at=self.clock.now(),
                ticket=ticket,
                key=request.rate_key,
                rate=request.rate,
                priority=request.priority,
            )
            self._turns(self._rates.handle(asked))
        if ticket in self._waiting:
            self._say_that_it_waits(ticket)
        self._finish()

    def withdraw(self, ticket: Ticket) -> None:
        """The attempt that waits (or was granted, and has not begun) will not begin."""
        self._leave(ticket)
        self._finish()

    def release(self, ticket: Ticket) -> None:
        """The attempt has ended: its room is free."""
        self._give_back(ticket)

    def forget(self, execution: str) -> None:
        """Withdraw and release whatever an execution has here."""
        for ticket in list(self._tickets.get(execution, ())):
            self._leave(ticket)
        self._finish()

    def missing(self, pools: Iterable[str]) -> list[str]:
        """Those of `pools` that are declared neither here nor, as far as is known, over the whole system."""
        return sorted({pool for pool in pools if pool not in self._pools and not self._is_shared(pool)})

    def close(self) -> None:
        """Grant nothing any more."""
        self._closed = True
        self._calls.clear()
        for handle in (self._sweep, self._timer):
            if handle is not None:
                handle.cancel()
        self._sweep = self._timer = None

    # --- for whoever puts the engine together, or looks at it ---

    def attach(self, shared: SharedPools) -> None:
        """Ask for room in pools over the whole system there."""
        self._shared = shared

    def reconsider(self) -> None:
        """Other pools than before are shared now: whoever waits for one asks again where it is now."""
        for ticket, waiting in list(self._waiting.items()):
            if ticket not in self._waiting or waiting.place == "rate":
                continue
            if waiting.place != self._place_of(waiting.request.pool):
                self._leave_pool(ticket, waiting)
                self._enter(ticket)
        self._finish()

    def snapshot(self) -> list[pools.Snapshot]:
        """The pools of this engine as they stand, also those that go unused, being shared under the same name."""
        return [pool.snapshot() for pool in self._pools.values()]

    # --- in ---

    def _is_shared(self, pool: str) -> bool:
        return self._shared is not None and self._shared.knows(pool)

    def _place_of(self, pool: str) -> _Place:
        if self._is_shared(pool):
            return "shared"
        return "here" if pool in self._pools else "nowhere"

    def _enter(self, ticket: Ticket) -> None:
        """Its turn has come, or it needs none: ask for room, if it needs any."""
        waiting = self._waiting[ticket]
        request = waiting.request
        if not request.pool:
            self._grant([ticket])
        elif self._shared is not None and self._shared.knows(request.pool):
            waiting.place = "shared"
            self._shared.ask(request, lambda: self._granted_elsewhere(ticket))
        elif (pool := self._pools.get(request.pool)) is not None:
            waiting.place = "here"
            at = self.clock.now()
            asked = pools.Asked(at=at, ticket=ticket, weight=request.weight, priority=request.priority)
            self._grant(pool.handle(asked))
        else:
            waiting.place = "nowhere"
            self._nowhere[ticket] = None
            import structlog  # only here: it takes long to load, and hardly anybody comes by

            structlog.get_logger(__name__).warning("pool_unknown", pool=request.pool, execution=ticket.execution)

    def _turns(self, tickets: Iterable[Hashable]) -> None:
        for ticket in tickets:
            self._enter(cast(Ticket, ticket))

    def _grant(self, tickets: Iterable[Hashable]) -> None:
        """These may begin. Their callbacks come at the end of the sweep."""
        for item in tickets:
            ticket = cast(Ticket, item)
            waiting = self._waiting.pop(ticket)
            request = waiting.request
            if request.pool:
                self._room[ticket] = "" if waiting.place == "shared" else request.pool
            self._undelivered.add(ticket)
            self._calls.append((ticket, waiting.granted))
            if request.rate is not None:
                self._turns(self._rates.handle(rates.Began(at=self.clock.now(), ticket=ticket)))

    def _granted_elsewhere(self, ticket: Ticket) -> None:
        waiting = self._waiting.get(ticket)
        if waiting is not None and waiting.place == "shared":
            self._grant([ticket])
            self._finish()

    def _say_that_it_waits(self, ticket: Ticket) -> None:
        waiting = self._waiting[ticket]
        if waiting.place == "shared":
            self._impatient.append((self.clock.now() + PATIENCE, ticket))
            return
        queued, waiting.queued = waiting.queued, None
        if queued is not None:
            rate = str(waiting.request.rate) if waiting.place == "rate" else ""
            pool = "" if rate else waiting.request.pool
            self._calls.append((ticket, lambda: queued(pool, rate)))

    # --- out ---

    def _leave(self, ticket: Ticket) -> None:
        """It waits for nothing any more, and has no room."""
        waiting = self._waiting.pop(ticket, None)
        if waiting is None:
            self._give_back(ticket)
            return
        self._untie(ticket)
        self._leave_pool(ticket, waiting)
        if waiting.request.rate is not None:
            self._turns(self._rates.handle(rates.Withdrawn(at=self.clock.now(), tickets=(ticket,))))

    def _leave_pool(self, ticket: Ticket, waiting: _Waiting) -> None:
        match waiting.place:
            case "here":
                withdrawn = pools.Withdrawn(at=self.clock.now(), tickets=(ticket,))
                self._grant(self._pools[waiting.request.pool].handle(withdrawn))
            case "shared" if self._shared is not None:
                self._shared.give_back(ticket)
            case "nowhere":
                self._nowhere.pop(ticket, None)

    def _give_back(self, ticket: Ticket) -> None:
        self._undelivered.discard(ticket)
        self._untie(ticket)
        pool = self._room.pop(ticket, None)
        if pool is None:
            return
        if not pool:
            if self._shared is not None:
                self._shared.give_back(ticket)
            return
        self._released.setdefault(pool, {})[ticket] = None
        if self._sweep is None and not self._closed:
            self._sweep = asyncio.get_running_loop().call_soon(self._sweep_up)

    def _sweep_up(self) -> None:
        """Grant what the attempts that have ended since the last sweep left free."""
        self._sweep = None
        released, self._released = self._released, {}
        at = self.clock.now()
        for pool, tickets in released.items():
            self._grant(self._pools[pool].handle(pools.Released(at=at, tickets=tuple(tickets))))
        self._finish()

    def _untie(self, ticket: Ticket) -> None:
        tickets = self._tickets.get(ticket.execution)
        if tickets is not None:
            tickets.discard(ticket)
            if not tickets:
                del self._tickets[ticket.execution]

    # --- callbacks and time ---

    def _finish(self) -> None:
        """Call back, one after the other, and see to the clock."""
        if self._calling:
            return
        self._calling = True
        try:
            while self._calls:
                ticket, call = self._calls.popleft()
                if ticket in self._waiting:
                    call()
                elif ticket in self._undelivered:
                    self._undelivered.discard(ticket)
                    if ticket not in self._room:
                        self._untie(ticket)
                    call()
        finally:
            self._calling = False
        self._arm_timer()

    def _arm_timer(self) -> None:
        at = None if self._closed else self._wake_at()
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at is not None:
            self._timer = asyncio.get_running_loop().create_task(self._wake(at), name="gate")

    def _wake_at(self) -> int | None:
        while self._impatient and self._is_patient(self._impatient[0][1]):
            self._impatient.popleft()
        times = [pool.wake_at for pool in self._pools.values()]
        times += [self._rates.wake_at, self._impatient[0][0] if self._impatient else None]
        return min((at for at in times if at is not None), default=None)

    def _is_patient(self, ticket: Ticket) -> bool:
        """Whether nobody needs to be told any more that a ticket waits."""
        waiting = self._waiting.get(ticket)
        return waiting is None or waiting.queued is None

    async def _wake(self, at: int) -> None:
        await self.clock.sleep_until(at)
        self._timer = self._timer_at = None
        now = self.clock.now()
        self._turns(self._rates.handle(rates.TimePassed(at=now)))
        for pool in self._pools.values():
            self._grant(pool.handle(pools.TimePassed(at=now)))
        while self._impatient and self._impatient[0][0] <= now:
            self._tell(self._impatient.popleft()[1])
        self._finish()

    def _tell(self, ticket: Ticket) -> None:
        waiting = self._waiting.get(ticket)
        if waiting is not None and waiting.queued is not None:
            queued, waiting.queued = waiting.queued, None
            pool = waiting.request.pool
            self._calls.append((ticket, lambda: queued(pool, "")))
