"""Requests that wait for an execution, and their release when the server stops.

A stopping server must not sit out the timeouts of its clients: `release` makes every waiting request answer at once
with what is known, and every event stream end (its client resumes it elsewhere). Waiting costs no task of its own.
"""

from __future__ import annotations

import asyncio

from orchestrator.verbs import ExecutionView, Verbs

__all__ = ["Waiting"]


class Waiting:
    """The requests of one application that wait now."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs
        self._scopes: set[asyncio.Timeout] = set()
        self._released = False

    async def ended(self, execution: str, timeout: float) -> ExecutionView:
        """The execution once it has ended, or as it is after `timeout` seconds or when the server stops."""
        scope = self.open()
        try:
            async with scope:
                return await self._verbs.wait(execution, timeout=timeout)
        except TimeoutError:
            if not scope.expired():
                raise
            return await self._verbs.execution(execution)
        finally:
            self.close(scope)

    def open(self) -> asyncio.Timeout:
        """A scope that `release` ends with TimeoutError. Give it back to `close`."""
        scope = asyncio.timeout(0 if self._released else None)
        self._scopes.add(scope)
        return scope

    def close(self, scope: asyncio.Timeout) -> None:
        """Forget a scope."""
        self._scopes.discard(scope)

    def release(self) -> None:
        """End all waiting, for good."""
        self._released = True
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            scope.reschedule(now)
