"""The workers there are: forked when work waits for one, replaced when one dies, and not for ever when that goes wrong.

Between `executor`, which decides what workers do, and `nursery`, which they come from.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Final, Protocol

from dagengine.errors import ExecutorError
from dagengine.executors.lua.process.desk import Desk
from dagengine.executors.lua.process.messages import Options
from dagengine.executors.lua.process.nursery import Nursery

__all__ = ["Owner", "Pool", "processors"]

MOST_FAILURES: Final = 5
"""How often in a row workers may fail before they have done anything, until what waits for them is given up."""

_AT_ONCE: Final = 16
"""How many workers are asked for before the first of them is ready: more requests than a socket holds would be lost."""

_FIRST_REST: Final = 0.05
_LONGEST_REST: Final = 5.0


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Owner(Protocol):
    """Who is told what happens to workers."""

    def reported(self, desk: Desk) -> None:
        """A worker has reported something, or has ended."""

    def ended(self, desk: Desk, status: int | None) -> None:
        """A worker has ended, with a status as of `os.waitpid`, or nobody knows how. It is none of the pool's now."""

    def rested(self) -> None:
        """Workers can be forked again."""

    def hopeless(self, reason: str) -> None:
        """There are no workers, and every try to get one has failed lately."""


class Pool:
    """At most `size` workers made with `options`. For one event loop."""

    def __init__(self, options: Options, size: int, owner: Owner) -> None:
        self.desks: dict[int, Desk] = {}
        self._size = size
        self._owner = owner
        self._nursery = Nursery(options, self)
        self._last = 0
        self._failures = 0
        self._rest: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def missing(self) -> int:
        """How many workers more there may be, now."""
        free = self._size - len(self.desks)
        if self._rest is not None or not free:
            return 0
        return min(free, _AT_ONCE - sum(not desk.ready for desk in self.desks.values()))

    def start(self) -> None:
        """Begin to start the process that workers come from, before there is work."""
        with contextlib.suppress(ExecutorError):  # it is told when there is work that waits for it
            self._nursery.start()

    def grow(self, by: int) -> None:
        """Have so many workers more, but not more than may be."""
        for _ in range(min(by, self.missing)):
            self._last += 1
            desk = Desk(self._last, asyncio.get_running_loop(), self._owner.reported)
            try:
                self._nursery.fork(desk.number, *desk.ends)
            except (ExecutorError, OSError) as exc:
                desk.close()
                self.failed(str(exc))
                return
            desk.given_away()
            self.desks[desk.number] = desk

    def kill(self, desk: Desk) -> None:
        """Kill a worker; `Owner.ended` tells when it is dead."""
        self._nursery.kill(desk.number)

    def proved(self, desk: Desk) -> None:
        """A worker has ended an attempt."""
        desk.proven = True
        self._failures = 0

    def failed(self, reason: str) -> None:
        """A worker was of no use: no more of them for a while."""
        if self._rest is not None or self._closed:
            return
        self._failures += 1
        rest = min(_FIRST_REST * 2 ** (self._failures - 1), _LONGEST_REST)
        self._rest = asyncio.get_running_loop().call_later(rest, self._rested)
        if self._failures >= MOST_FAILURES and not any(desk.ready for desk in self.desks.values()):
            self._owner.hopeless(f"no Lua worker process could be started in {self._failures} tries: {reason}")

    async def close(self) -> None:
        """End all workers, and the process that they come from."""
        self._closed = True
        if self._rest is not None:
            self._rest.cancel()
        for desk in self.desks.values():
            desk.close()
        self.desks.clear()
        await self._nursery.close()

    def let_go(self, desk: Desk) -> None:
        """An orphan has closed its end: it is dead."""
        if self.desks.pop(desk.number, None) is not None:
            self._owner.ended(desk, None)

    # --- what the nursery tells ---

    def born(self, number: int, pid: int) -> None:
        """See `Family`."""
        if number in self.desks:
            self.desks[number].pid = pid

    def died(self, number: int, status: int) -> None:
        """See `Family`."""
        desk = self.desks.pop(number, None)
        if desk is not None:
            self._owner.ended(desk, status)

    def stillborn(self, number: int, error: OSError) -> None:
        """See `Family`."""
        desk = self.desks.pop(number, None)
        if desk is not None:
            desk.close()
            self.failed(f"cannot fork: {error.strerror}")

    def orphaned(self, reason: str) -> None:
        """See `Family`."""
        if self._closed:
            return
        self.failed(f"the process that workers are forked from has ended ({reason})")
        for desk in list(self.desks.values()):
            desk.orphaned = True
            if desk.pid:
                # Linux does that by itself; elsewhere a script that never ends would go on without anybody.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(desk.pid, signal.SIGKILL)
            if desk.over:
                self.let_go(desk)

    def _rested(self) -> None:
        self._rest = None
        self._owner.rested()
