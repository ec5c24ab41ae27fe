"""A sandbox to type at: what is entered shares its globals, an expression shows its value. `dagctl repl` is its user.

It is the sandbox of Lua nodes, with its limits on memory and output, but without a deadline: what runs can be
cancelled, which keeps what was there before.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dagengine.clock import Clock
from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua import runtime

__all__ = ["Console", "Entered"]

_SEED: Final = 1
_UNFINISHED: Final = "<eof>"


class Entered(NamedTuple):
    """What came of something that was entered: lines to show, an error, or that more has to come."""

    text: str = ""
    error: ErrorInfo | None = None
    unfinished: bool = False


class Console:
    """Used by one thread, but for `cancel`. `lines` takes what scripts log, while they run."""

    def __init__(
        self,
        scope: base.Scope,
        *,
        clock: Clock,
        lines: runtime.Lines,
        max_memory: int = runtime.DEFAULT_MAX_MEMORY,
        max_output: int = runtime.DEFAULT_MAX_OUTPUT,
    ) -> None:
        self._scope = scope
        self._clock = clock
        self._lines = lines
        self._lua = runtime.Runtime(max_memory=max_memory, max_output=max_output)

    def cancel(self, token: object) -> None:
        """Stop what was entered with `token`, if it is what runs. Safe from any thread and in a signal's handler."""
        self._lua.cancel(token)

    def enter(self, code: str, *, token: object = None) -> Entered:
        """Evaluate an expression, or run a chunk; the error of one that `cancel` has stopped is `Cancelled`.

        What `lines` raises stops it, too, and is raised again: what was there before is kept.
        """
        chunk = self._lua.console(f"return {code}")
        if isinstance(chunk, ErrorInfo):
            chunk = self._lua.console(code)
        if isinstance(chunk, ErrorInfo):
            if chunk.message.endswith(_UNFINISHED):
                return Entered(error=chunk, unfinished=True)
            return Entered(error=chunk)
        chunk = chunk._replace(code=code)  # errors show what was entered
        try:
            now = self._clock.now()
            result = self._lua.run(chunk, self._scope, seed=_SEED, now=now, lines=self._lines, token=token)
        finally:
            if self._lua.broken:
                self._lua.revive()
        if isinstance(result, bytes):
            return Entered(text=result.decode("utf-8", "replace"))
        return Entered(error=result)
