"""What a running script is asked to stop for, and where the lines of its log go. Used by `runtime`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

__all__ = ["LEVELS", "NEVER", "Level", "Lines", "Watch"]

Level = Literal["debug", "info", "warning", "error"]
Lines = Callable[[Level, str], None]
"""Takes the lines of a script's log."""

LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error")
NEVER: Final = 1 << 63

_GO_ON, _CANCELLED, _TIMEOUT = range(3)
"""What `tick` answers; `guard.lua` has the names of the reasons."""


class Watch:
    """Lua holds it (by `tick`), so it must not hold the runtime."""

    __slots__ = ("deadline", "lines", "running", "stopped", "unwanted")

    def __init__(self) -> None:
        self.deadline = NEVER
        """In `time.monotonic_ns()`."""
        self.running: object = None
        self.unwanted: object = None
        self.stopped = False
        self.lines: Lines | None = None

    def tick(self, log: bytes | None) -> int:
        """Called by the guard every few milliseconds of a running script: 0, or why it must stop.

        What is raised here stops the script, and is raised again after the call.
        """
        if log is not None:
            self.write(log)
        if self.stopped or (self.unwanted is not None and self.unwanted is self.running):
            return _CANCELLED
        return _TIMEOUT if time.monotonic_ns() >= self.deadline else _GO_ON

    def write(self, log: bytes) -> None:
        """Hand the lines of `log` on: each has its level's digit before it."""
        if self.lines is not None:
            for line in log.decode("utf-8", "replace").split("\n"):
                self.lines(LEVELS[int(line[0])], line[1:])
