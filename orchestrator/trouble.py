"""What fails again and again is said once, and once more when it works again.

A store that is away has every loop of an orchestrator fail several times a second. Used by those loops.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Trouble"]


class Trouble:
    """One thing that is tried again and again: `event` when it fails, `over` when it works again (structlog events)."""

    def __init__(self, log: Any, event: str, *, over: str) -> None:
        self._log = log
        self._event = event
        self._over = over
        self._met = False

    def met(self, error: Exception, **fields: object) -> None:
        """It has failed: an error the first time, for debugging after that."""
        tell = self._log.debug if self._met else self._log.error
        tell(self._event, error=str(error), **fields)
        self._met = True

    def over(self) -> None:
        """It works."""
        if self._met:
            self._met = False
            self._log.info(self._over)
