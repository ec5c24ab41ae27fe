"""Room in pools over the whole system: the engine's half of what sessions say about them.

`SessionGate` implements `dagengine.driver.gate.SharedPools` for the engine's gate. It asks the orchestrator for room,
in whatever session `SharedPools` came last, and keeps count of what it was granted:

- A session that dies takes nothing away. What was granted stays granted, what waits goes on waiting, and nothing new is
  granted until there is another session.
- The next one begins with a report of all the room that is held here, and with the requests of all that wait. So both
  sides know the same, whatever was lost on the way, and an orchestrator that was restarted learns what is taken.
- Of several replicas one leads, and it alone speaks of pools. Each leader has a higher term than the one before: one
  that is leader no more, and does not know it yet, is heard as the followers are, who only tell which pools there are.

Of each pool at most `MOST_ASKED` requests are with the orchestrator at a time, the first in line; the others follow as
those are granted. A `foreach` over a hundred thousand items must not make it keep a hundred thousand of them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol

from dagengine.admission.line import Line, rank
from dagengine.driver.gate import Granted, Request, Ticket
from dagengine.driver.local_gate import LocalGate
from dagengine.server.highest import Highest
from dagengine.wire.v1 import session_pb2

__all__ = ["MOST_ASKED", "SessionGate", "Voice"]

MOST_ASKED: Final = 1_024
"""Requests for room in one pool that an orchestrator has of one engine at a time."""


class Voice(Protocol):
    """The outgoing half of a session (`dagengine.server.outbox.Outbox`)."""

    def pools(self, source: SessionGate, /) -> None:
        """`source` has something to say about pools: have it `compose` that into the next message."""


class _Asked:
    """A request that waits. `since` is when it came here, in microseconds."""

    __slots__ = ("granted", "request", "since")

    def __init__(self, request: Request, granted: Granted, since: int) -> None:
        self.request = request
        self.granted = granted
        self.since = since


class SessionGate:
    """Asks for room in shared pools for one engine's gate, and attaches itself to it."""

    def __init__(self, gate: LocalGate) -> None:
        self._gate = gate
        self._names: frozenset[str] = frozenset()
        self._terms = Highest()
        self._voice: Voice | None = None
        """The session in which pools are spoken of; None while there is none."""
        self._counter = itertools.count(1)
        self._numbers: dict[Ticket, int] = {}
        self._asked: dict[int, _Asked] = {}
        self._held: dict[int, Request] = {}
        self._lines: dict[str, Line[int]] = {}
        """Requests that the orchestrator has not been told of, by pool."""
        self._told: Counter[str] = Counter()
        """How many it has been told of, and has not answered."""
        self._report = False
        self._unsent: dict[int, None] = {}
        self._releases: list[int] = []
        gate.attach(self)

    # --- driver.gate.SharedPools ---

    def knows(self, pool: str) -> bool:
        """Whether there is such a pool, as far as orchestrators have told."""
        return pool in self._names

    def ask(self, request: Request, granted: Granted, /) -> None:
        """Have `granted()` called once there is room."""
        number = self._numbers[request.ticket] = next(self._counter)
        self._asked[number] = _Asked(request, granted, self._gate.clock.now())
        self._line_up(number)
        self._advance(request.pool)

    def give_back(self, ticket: Ticket, /) -> None:
        """Its room is free, or it does not wait for any (longer)."""
        number = self._numbers.pop(ticket, None)
        if number is None:
            return
        asked = self._asked.pop(number, None)
        if asked is None:
            del self._held[number]
            self._say_released(number)
            return
        pool = asked.request.pool
        if self._lines[pool].remove(number):
            return
        self._told[pool] -= 1
        if number in self._unsent:
            del self._unsent[number]
        else:
            self._say_released(number)
        self._advance(pool)

    # --- what the host hears ---

    def announce(self, voice: Voice, names: Iterable[str], *, term: int, incarnation: str) -> None:
        """A session tells of the shared pools. If that of a leader, they are spoken of in this one from now on."""
        if not term or term < self._terms.of(incarnation):
            self._names |= frozenset(names)
            self._gate.reconsider()
            return
        self._terms.note(incarnation, term)
        self._names = frozenset(names)
        self._voice = voice
        self._report = True
        self._releases.clear()
        self._unsent.clear()
        self._told.clear()
        self._lines.clear()
        for number in self._asked:
            self._line_up(number)
        self._gate.reconsider()
        for pool in list(self._lines):
            self._advance(pool)
        voice.pools(self)

    def grant(self, voice: Voice, numbers: Iterable[int]) -> None:
        """Room was granted in a session. In any but the latest one that means nothing: it is asked for again there."""
        if voice is not self._voice:
            return
        for number in numbers:
            asked = self._asked.pop(number, None)
            if asked is None:
                continue  # it does not wait any more, and that is on its way to whoever has granted this
            self._held[number] = asked.request
            self._told[asked.request.pool] -= 1
            self._advance(asked.request.pool)
            asked.granted()

    def left(self, voice: Voice) -> None:
        """A session has ended."""
        if voice is self._voice:
            self._voice = None

    # --- what the host tells ---

    def own_pools(self) -> list[session_pb2.Pool]:
        """The pools that the engine has for itself, as they stand."""
        return [
            session_pb2.Pool(name=pool.name, size=pool.size, used=pool.used, waiting=pool.waiting)
            for pool in self._gate.snapshot()
        ]

    # --- what the outbox sends ---

    def compose(self, message: session_pb2.EngineMessage) -> None:
        """Put what is to be said into a message."""
        if self._report:
            self._report = False
            message.pool_report.SetInParent()
            for number, request in self._held.items():
                message.pool_report.holdings.add(ticket=number, pool=request.pool, weight=request.weight)
        if self._releases:
            message.pool_releases.add(tickets=self._releases)
            self._releases.clear()
        now = self._gate.clock.now()
        for number in self._unsent:
            asked = self._asked[number]
            message.pool_requests.add(
                ticket=number,
                pool=asked.request.pool,
                weight=asked.request.weight,
                priority=asked.request.priority,
                waited=max(0, now - asked.since),
            )
        self._unsent.clear()

    # --- parts ---

    def _line_up(self, number: int) -> None:
        asked = self._asked[number]
        line = self._lines.setdefault(asked.request.pool, Line())
        line.put(number, rank(asked.since, asked.request.priority))

    def _advance(self, pool: str) -> None:
        """Have the first in line asked for, as long as not too many are."""
        line = self._lines.get(pool)
        if self._voice is None or line is None:
            return
        while self._told[pool] < MOST_ASKED and (number := line.first) is not None:
            line.remove(number)
            self._told[pool] += 1
            self._unsent[number] = None
        if self._unsent:
            self._voice.pools(self)

    def _say_released(self, number: int) -> None:
        if self._voice is not None:
            self._releases.append(number)
            self._voice.pools(self)
