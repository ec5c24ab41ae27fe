"""Time as a port: the wall clock for processes, a virtual clock for tests.

Times are whole microseconds since the Unix epoch; only drivers read a clock, the machine gets time as data.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Clock", "SystemClock", "elapsed"]


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> int:
        """Microseconds since the Unix epoch. Never goes backwards."""

    async def sleep_until(self, at: int) -> None:
        """Return when `now()` has reached `at`."""


def elapsed() -> int:
    """Nanoseconds since some moment, whatever anybody does to the wall clock; also those in which the machine slept."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)  # Linux, whose monotonic clock sleeps with the machine
    return time.monotonic_ns() if boot is None else time.clock_gettime_ns(boot)


class SystemClock:
    """The wall clock, made steady: it never goes backwards, and it never stands still.

    While the wall clock is behind what was answered before (somebody has set it back), time goes on at half its pace
    until the wall clock has caught up. So timers are late by no more than they are long.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`wall` and `monotonic` give nanoseconds."""
        self._wall = wall
        self._monotonic = monotonic
        self._at = wall()
        self._asked = monotonic()

    def now(self) -> int:
        """Microseconds since the Unix epoch, never less than the last answer."""
        asked = self._monotonic()
        slowed = self._at + (asked - self._asked) // 2
        wall = self._wall()
        self._asked = asked
        self._at = wall if wall > slowed else slowed
        return self._at // 1_000

    async def sleep_until(self, at: int) -> None:
        """Sleep in real time until `now()` has reached `at`."""
        while (left := at - self.now()) > 0:  # noqa: ASYNC110 - the clock is what is waited for
            await asyncio.sleep(left / 1e6)
