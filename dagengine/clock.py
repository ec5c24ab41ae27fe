"""Time as a port: the wall clock for processes, a virtual clock for tests.

Times are whole microseconds since the Unix epoch; only drivers read a clock, the machine gets time as data.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> int:
        """Microseconds since the Unix epoch. Never goes backwards."""

    async def sleep_until(self, at: int) -> None:
        """Return when `now()` has reached `at`."""


class SystemClock:
    """The machine's wall clock, kept from going backwards."""

    def __init__(self) -> None:
        self._last = 0

    def now(self) -> int:
        """Microseconds since the Unix epoch, never less than the last answer."""
        at = time.time_ns() // 1_000
        if at > self._last:
            self._last = at
        return self._last

    async def sleep_until(self, at: int) -> None:
        """Sleep in real time until `now()` has reached `at`."""
        import asyncio

        while (left := at - self.now()) > 0:
            await asyncio.sleep(left / 1e6)
