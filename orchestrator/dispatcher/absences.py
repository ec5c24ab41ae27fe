"""Engines that are away, and for how long others must still leave their executions alone.

A promise (`Lease`) counts at an engine from when it asked for it, and here from when it is given, which is later: so an
engine gives up before anybody else begins. The clock is one that nobody sets (`dagengine.clock.elapsed`): were it put
forward, somebody else would begin too soon. Called by `sessions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dagengine.clock import Clock
from dagengine.wire.v1 import session_pb2
from orchestrator.dispatcher import messages

__all__ = ["Absences"]

_LOOK_EVERY: Final = 1_000_000
"""Microseconds between two looks at engines that stay away."""


class Absences:
    """Engines that should have executions but are not connected, and what they were promised. `lease` in seconds."""

    def __init__(self, clock: Clock, *, lease: float) -> None:
        self._clock = clock
        self._lease = round(lease * 1e6)
        self._since: dict[str, int] = {}
        self._promised: dict[str, int] = {}
        """When engines were last promised that they keep what they have."""

    def expect(self, engine: str) -> None:
        """An engine should be there, and is not."""
        self._since.setdefault(engine, self._clock.now())

    def begin(self, engine: str) -> None:
        """An engine is not there from now on; or until now, somebody else may have promised it more time."""
        self._since[engine] = self._clock.now()

    def end(self, engine: str) -> None:
        """An engine is there."""
        self._since.pop(engine, None)

    def promise(self, engine: str, beat: int) -> session_pb2.OrchestratorMessage:
        """Let an engine keep what it has for the time of the lease, from its report with this beat on."""
        self._promised[engine] = self._clock.now()
        return messages.lease(beat, self._lease // 1_000)

    async def until_next_look(self) -> None:
        """Return when it is time to look for engines that have stayed away for too long."""
        await self._clock.sleep_until(self._clock.now() + _LOOK_EVERY)

    def over(self) -> Iterator[str]:
        """Engines that have stayed away for too long. Each is looked at anew: it may have come back meanwhile."""
        deadline = self._clock.now() - self._lease
        for engine in list(self._since):
            since = self._since.get(engine)
            if since is not None and max(since, self._promised.get(engine, 0)) <= deadline:
                del self._since[engine]
                self._promised.pop(engine, None)
                yield engine
