"""Tasks that run in one replica only: in the one that leads, for as long as it does.

`app` names them, the dispatcher says when this replica leads. Each must be able to end at any time and begin anew
elsewhere, from what is in the store: for a moment, the former leader's may still run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from orchestrator.supervision import Supervisor

__all__ = ["Singletons"]


class Singletons:
    """Starts and stops such tasks. `works` makes them, by name."""

    def __init__(self, works: Mapping[str, Callable[[], Coroutine[Any, Any, None]]], supervisor: Supervisor) -> None:
        self._works = dict(works)
        self._supervisor = supervisor
        self._turns = 0
        """How often this replica has begun to lead."""
        self._leads = False
        self._changed = asyncio.Event()

    def lead(self, leads: bool) -> None:
        """This replica leads from now on, or does so no more."""
        self._leads = leads
        self._turns += leads
        self._changed.set()

    async def run(self) -> None:
        """Have the tasks run while this replica leads, until cancelled."""
        running: list[asyncio.Task[None]] = []
        turn = 0
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                if running and (not self._leads or turn != self._turns):
                    await self._supervisor.stop(*running)
                    running = []
                if self._leads and not running:
                    turn = self._turns
                    running = [self._supervisor.start(work(), name=name) for name, work in self._works.items()]
        finally:
            await self._supervisor.stop(*running)
