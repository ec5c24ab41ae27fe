"""An alarm: what a task waits for between two looks at something. A time, or a ring before it."""

from __future__ import annotations

import asyncio

from dagengine.clock import Clock

__all__ = ["Alarm"]


class Alarm:
    """One task waits, anybody rings."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the one who waits. A ring while nobody waits is kept for the next one."""
        self._rung.set()

    async def wait(self, until: int | None) -> bool:
        """Return at `until` (None: never by itself), or with the next ring; True when it rang."""
        if until is None:
            await self._rung.wait()
        elif not self._rung.is_set():
            sleeping = asyncio.ensure_future(self._clock.sleep_until(until))
            ringing = asyncio.ensure_future(self._rung.wait())
            try:
                await asyncio.wait((sleeping, ringing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()
                ringing.cancel()
                await asyncio.gather(sleeping, ringing, return_exceptions=True)
        rung = self._rung.is_set()
        self._rung.clear()
        return rung
