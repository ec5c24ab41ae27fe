"""How long the executions that answer to one session may count on staying with this engine.

Each load report of a session carries a *beat*; the orchestrator answers it with a `Lease`. Its time runs from when the
report was sent. The orchestrator counts from when it sent its answer, so this side is the first to know that the time
is over. Until the first answer in a session, its lease is taken to be as long as the last one of the session before,
from when it was opened. Where no lease has ever come nothing is promised, and nothing can be over.

Its clock must go on whatever happens (`clock.elapsed`): were it set back, or stopped while the machine sleeps, this
engine would take a lease for good that others take for over.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from dagengine.clock import Clock

__all__ = ["Lease", "Leases"]

_UNANSWERED: Final = 256
"""Beats that are remembered until they are answered. Who answers none of so many in a row answers none."""


class Lease:
    """The lease of one session. `turned(lease)` is called when it is over, and when it goes on after all."""

    def __init__(self, clock: Clock, turned: Callable[[Lease], None]) -> None:
        self.until: int | None = None
        """When it is over, on its clock; None as long as nobody has said how long it is."""
        self.length = 0
        """How long it was granted for the last time, in microseconds."""
        self.over = False
        self._clock = clock
        self._turned = turned
        self._opened = clock.now()
        self._beats = 0
        self._sent: OrderedDict[int, int] = OrderedDict()
        self._watch: asyncio.Task[None] | None = None
        self._watched = 0
        """Until when the watch sleeps."""
        self._stopped = False

    def presume(self, former: Lease) -> None:
        """An execution comes from a session with another lease: as long as nobody says how long, this is like that."""
        if self.until is None and former.until is not None:
            self.length = former.length
            self.until = self._opened + former.length
            self.check()

    def beat(self) -> int:
        """The number of a report that is sent now."""
        self._beats += 1
        self._sent[self._beats] = self._clock.now()
        if len(self._sent) > _UNANSWERED:
            self._sent.popitem(last=False)
        return self._beats

    def answered(self, beat: int, milliseconds: int) -> bool:
        """Take an answer in, unless it is to a beat that was never sent, or comes after that to a later one."""
        sent = self._sent.get(beat)
        if sent is None:
            return False
        while self._sent and next(iter(self._sent)) <= beat:
            self._sent.popitem(last=False)
        self.length = milliseconds * 1_000
        self.until = sent + self.length
        self.check()
        return True

    def check(self) -> None:
        """Look at the clock. It needs no call; but what follows from a message must not come before it, when a process
        goes on that was stopped for a while."""
        if self.until is None or self._stopped:
            return
        over = self._clock.now() >= self.until
        if not over and (self._watch is None or self.until < self._watched):
            if self._watch is not None:
                self._watch.cancel()
            self._watch = asyncio.get_running_loop().create_task(self._wait())
            self._watched = self.until
        if over != self.over:
            self.over = over
            self._turned(self)

    def stop(self) -> None:
        """Watch it no more."""
        self._stopped = True
        if self._watch is not None:
            self._watch.cancel()

    async def _wait(self) -> None:
        while self.until is not None and self._clock.now() < self.until:
            self._watched = self.until
            await self._clock.sleep_until(self.until)
        self._watch = None
        self.check()


class Leases:
    """The leases of a host's sessions: of those that there are, and of those that are gone until their time is over."""

    def __init__(self, clock: Clock, turned: Callable[[Lease], None]) -> None:
        self._clock = clock
        self._turned = turned
        self._open: dict[Lease, None] = {}
        self._left: dict[Lease, None] = {}

    def begin(self) -> Lease:
        """That of a new session."""
        lease = Lease(self._clock, self._turn)
        self._open[lease] = None
        return lease

    def end(self, lease: Lease) -> None:
        """Its session is gone. What was promised still holds."""
        self._open.pop(lease, None)
        if lease.until is not None and not lease.over:
            self._left[lease] = None
        else:
            lease.stop()

    def check(self) -> None:
        """Look at the clock for all of them."""
        for lease in (*self._open, *self._left):
            lease.check()

    def stop(self) -> None:
        """Watch none any more."""
        for lease in (*self._open, *self._left):
            lease.stop()
        self._open.clear()
        self._left.clear()

    def _turn(self, lease: Lease) -> None:
        self._left.pop(lease, None)  # it is over, and nobody renews it
        self._turned(lease)
