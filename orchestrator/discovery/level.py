"""A value that can be watched: readers get what it is now and what it becomes, never what it was in between.

The adapters of discovery keep their set of engines in one. Not thread-safe: it belongs to the thread of one event
loop (it may be made and set before that loop runs).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Generic, TypeVar

__all__ = ["Level"]

T = TypeVar("T")


class Level(Generic[T]):
    """A value with watchers."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._revision = 0
        self._closed = False
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def value(self) -> T:
        """The value as it is."""
        return self._value

    def set(self, value: T) -> None:
        """Change the value; setting what it is already wakes nobody. Without effect after `close`."""
        if self._closed or value == self._value:
            return
        self._value = value
        self._revision += 1
        self._wake()

    def close(self) -> None:
        """End every watch, those to come included. Idempotent."""
        self._closed = True
        self._wake()

    async def watch(self) -> AsyncIterator[T]:
        """The value at once, then again after each change, until the level is closed."""
        seen = -1
        while not self._closed:
            if seen != self._revision:
                seen = self._revision
                yield self._value
            else:
                await self._changed()

    async def while_open(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` until the level is closed, or to its end. What it raises is raised."""
        working, closed = asyncio.create_task(work), asyncio.create_task(self._until_closed())
        try:
            await asyncio.wait((working, closed), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, closed):
                task.cancel()
            await asyncio.gather(working, closed, return_exceptions=True)

    async def _until_closed(self) -> None:
        while not self._closed:
            await self._changed()

    async def _changed(self) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._waiting.add(woken)
        try:
            await woken
        finally:
            self._waiting.discard(woken)

    def _wake(self) -> None:
        for woken in self._waiting:
            if not woken.done():
                woken.set_result(None)
