"""Tasks that are meant to run as long as the orchestrator does, and what is said when one of them does not.

Such a task handles what can be expected to go wrong by itself. If it ends all the same, that is a fault of ours, and
the orchestrator only looks alive: so the death is logged as critical, `/healthz` answers 503, and `dag-orchestrator`
exits to be started anew. The dispatcher and the orchestrator start all their tasks here.

`to_its_end` is for short ones that are begun for a caller and must not be left half done when that one gives up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

__all__ = ["Supervisor", "to_its_end"]

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Supervisor:
    """Watches tasks. `faults` says which have died, for people."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._watched: set[asyncio.Task[None]] = set()
        self._died = asyncio.Event()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run `work` as a task, and watch it until it is released. `name` names it in logs and in `faults`."""
        task = asyncio.create_task(work, name=name)
        self._watched.add(task)
        task.add_done_callback(self._ended)
        return task

    def release(self, task: asyncio.Task[None]) -> None:
        """From now on `task` may end."""
        self._watched.discard(task)

    async def stop(self, *tasks: asyncio.Task[None]) -> None:
        """Cancel tasks and wait for their end."""
        for task in tasks:
            self.release(task)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def died(self) -> None:
        """Return when a task has died."""
        await self._died.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task not in self._watched:
            return
        self._watched.discard(task)
        if task.cancelled():  # the whole loop is being ended
            return
        _log.critical("task_died", task=task.get_name(), exc_info=task.exception())
        self.faults.append(f"the task '{task.get_name()}' has died; the log tells why")
        self._died.set()


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Do something to its end, whether or not whoever asked for it still waits for it then."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(_notice)
    return await asyncio.shield(task)


def _notice(task: asyncio.Task[Any]) -> None:
    """Look at how it ended: asyncio complains of errors that nobody was told of."""
    if not task.cancelled():
        task.exception()
