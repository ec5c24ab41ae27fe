"""What tests of workflows and of this project share: time that moves when it is told to.

Nothing here is imported by the packages themselves.
"""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["START", "VirtualClock"]

START: Final = 1_767_225_600_000_000
"""2026-01-01 00:00:00 UTC: where a `VirtualClock` starts by default."""


class VirtualClock:
    """A `dagengine.clock.Clock` that stands still until `advance` moves it. For one event loop.

    A test waits with `asleep` until the code under test has gone to sleep, then advances::

        clock = VirtualClock()
        task = asyncio.create_task(service.run())
        await clock.asleep()
        clock.advance(60_000_000)
    """

    def __init__(self, at: int = START) -> None:
        self._now = at
        self._sleepers: dict[asyncio.Future[None], int] = {}
        self._slept = asyncio.Event()

    def now(self) -> int:
        """Microseconds since the Unix epoch."""
        return self._now

    @property
    def next_wake(self) -> int | None:
        """The earliest time that anybody sleeps until, or None when nobody sleeps."""
        return min(self._sleepers.values(), default=None)

    async def sleep_until(self, at: int) -> None:
        """Return when the clock has been advanced to `at`."""
        if at <= self._now:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        self._sleepers[woken] = at
        self._slept.set()
        try:
            await woken
        finally:
            self._sleepers.pop(woken, None)

    async def asleep(self, count: int = 1, *, until: int | None = None) -> None:
        """Return when at least `count` sleepers wait for time to pass; with `until`, for exactly that time."""
        while sum(until is None or at == until for at in self._sleepers.values()) < count:
            self._slept.clear()
            await self._slept.wait()

    def advance(self, by: int) -> None:
        """Move time `by` microseconds at one stroke and wake whoever is due. ValueError when `by` is negative."""
        if by < 0:
            raise ValueError(f"time cannot go back: advance({by})")
        self._now += by
        for woken, at in list(self._sleepers.items()):
            if at <= self._now:
                del self._sleepers[woken]
                if not woken.done():
                    woken.set_result(None)
