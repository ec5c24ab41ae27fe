"""Names of objects that are to be looked at: each once, one look at a time, and later when a look went wrong.

The work queue of Kubernetes controllers (client-go, `util/workqueue`), on the Clock port: a name that is added while it
waits is there once; one that is added while it is being looked at is looked at again after that. After a failure it
comes back by itself, at first soon, then at ever longer intervals, spread by chance.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from dagengine.clock import Clock
from orchestrator.alarm import Alarm
from orchestrator.errors import ClusterConflict, ClusterError, ClusterUnavailable, OrchestratorError

__all__ = ["Look", "WorkQueue"]

_log = structlog.get_logger(__name__)

Look = Callable[[str], Awaitable[float | None]]
"""Looks at the object with a name: in how many seconds it wants to do so again, or None. Raising is a failure."""

_FIRST: Final = 0.05
_LONGEST: Final = 60.0
"""Seconds before the first, and at most before each further, try after a failure."""
_LONGEST_CONFLICT: Final = 1.0
"""The same where somebody else was faster, and nothing is wrong."""
_TOLD: Final = 3
"""Failures in a row after which they are told as warnings: 409s and short outages are nothing to speak of."""
_VOID: Final = 100
"""Entries that are void and may pile up, beside as many as are not: they would stay until their time has come."""


class WorkQueue:
    """The names of one kind of objects. `kind` is for the log."""

    def __init__(self, kind: str, clock: Clock, *, at_once: int = 4, chance: random.Random | None = None) -> None:
        """At most `at_once` objects are looked at at the same time. `chance` spreads what comes again."""
        self._kind = kind
        self._clock = clock
        self._at_once = at_once
        self._chance = chance or random.Random()  # noqa: S311 - spreads retries, no secret
        self._alarm = Alarm(clock)
        self._due: dict[str, int] = {}
        """When each waiting name is to be looked at."""
        self._order: list[tuple[int, str]] = []
        """The same by time; entries that `_due` contradicts are void."""
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._due)

    def add(self, name: str, *, after: float = 0.0) -> None:
        """Look at `name` in `after` seconds, or before that where that was said already."""
        at = self._clock.now() + round(after * 1e6)
        if name not in self._due or at < self._due[name]:
            self._due[name] = at
            if len(self._order) > 2 * len(self._due) + _VOID:
                self._order = [(at, name) for name, at in self._due.items()]
                heapq.heapify(self._order)
            else:
                heapq.heappush(self._order, (at, name))
            self._alarm.ring()

    async def run(self, look: Look) -> None:
        """Look at what is due, until cancelled."""
        try:
            while True:
                while len(self._looking) < self._at_once and (name := self._take()) is not None:
                    task = asyncio.create_task(self._perform(name, look), name=f"{self._kind} {name}")
                    self._looking[name] = task
                await self._alarm.wait(self._next())
        finally:
            looking = [*self._looking.values()]
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)

    def _take(self) -> str | None:
        """The next name that is due and that nobody looks at."""
        now, busy = self._clock.now(), []
        found = None
        while found is None and self._order and self._order[0][0] <= now:
            at, name = heapq.heappop(self._order)
            if self._due.get(name) != at:
                continue
            if name in self._looking:
                busy.append((at, name))
                continue
            found = name
            del self._due[name]
        for entry in busy:
            heapq.heappush(self._order, entry)
        return found

    def _next(self) -> int | None:
        """When something is due that could be taken then; None while only the end of a look can change that."""
        if len(self._looking) >= self._at_once:
            return None
        while self._order and self._due.get(self._order[0][1]) != self._order[0][0]:
            heapq.heappop(self._order)
        waiting = [at for name, at in self._due.items() if name not in self._looking] if self._looking else None
        if waiting is not None:
            return min(waiting, default=None)
        return self._order[0][0] if self._order else None

    async def _perform(self, name: str, look: Look) -> None:
        try:
            again = await look(name)
            self._failures.pop(name, None)
        except (ClusterError, OrchestratorError) as error:
            again = self._after(name, error)
        except Exception as error:  # a fault of ours: it must not keep the other objects from being looked at
            _log.exception("workflow_object_not_reconciled", kind=self._kind, object=name)
            again = self._after(name, error)
        finally:
            self._looking.pop(name, None)
            self._alarm.ring()
        if again is not None:
            self.add(name, after=again)

    def _after(self, name: str, error: Exception) -> float:
        """In how many seconds to try again after a failure."""
        count = self._failures[name] = self._failures.get(name, 0) + 1
        longest = _LONGEST_CONFLICT if isinstance(error, ClusterConflict) else _LONGEST
        delay = min(longest, _FIRST * 2.0 ** min(count - 1, 16)) * self._chance.uniform(0.5, 1.0)
        if isinstance(error, ClusterUnavailable) and error.retry_after is not None:
            delay = max(delay, min(error.retry_after, _LONGEST))
        say = _log.warning if count == _TOLD and not isinstance(error, ClusterConflict) else _log.debug
        say("workflow_object_waits", kind=self._kind, object=name, error=str(error), failures=count)
        return delay
