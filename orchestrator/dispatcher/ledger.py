"""Who should have what: every execution that has not ended, in memory, with the engine that is meant to run it.

The store is the truth about the past; the ledger is what the dispatcher acts on. It is rebuilt from the store at the
start, and every change of it that matters is written to the store first.
"""

from __future__ import annotations

import asyncio

from orchestrator.dispatcher.engines import Engine, Roster
from orchestrator.dispatcher.queue import Queue
from orchestrator.dispatcher.tracked import Tracked

__all__ = ["Ledger"]


class Ledger:
    """Executions by id, and those among them that wait for an engine."""

    def __init__(self) -> None:
        self.roster = Roster()
        self.executions: dict[str, Tracked] = {}
        self.queue = Queue()
        self.work = asyncio.Event()
        """Set whenever something may have become placeable."""

    def add(self, tracked: Tracked) -> None:
        """Take an execution in; without an engine it waits for one."""
        self.executions[tracked.record.id] = tracked
        if tracked.engine is None:
            self.queue.add(tracked)
            self.work.set()

    def enqueue(self, tracked: Tracked) -> None:
        """Take an execution back from whoever was meant to have it: it waits to be placed."""
        self.withdraw(tracked)
        self.queue.add(tracked)
        self.work.set()

    def withdraw(self, tracked: Tracked) -> None:
        """Take an execution back from whoever was meant to have it; it does not wait for another engine either."""
        self._unassign(tracked)
        tracked.engine, tracked.dispatching = None, False
        self.queue.remove(tracked)

    def give(self, tracked: Tracked, engine: Engine) -> None:
        """`engine` is meant to have it."""
        self.withdraw(tracked)
        tracked.engine = engine.id
        engine.running[tracked.record.id] = tracked.plan.reference

    def forget(self, tracked: Tracked) -> None:
        """It has ended: the place it took is free."""
        self.executions.pop(tracked.record.id, None)
        self.queue.remove(tracked)
        self._unassign(tracked)
        self.work.set()

    def meant_for(self, engine: str) -> list[Tracked]:
        """What an engine is meant to have."""
        return [tracked for tracked in self.executions.values() if tracked.engine == engine]

    def dispatched_to(self, engine: str) -> dict[str, Tracked]:
        """Executions whose latest dispatch, as the store has it, was to `engine`; none that is on its way somewhere."""
        return {
            key: tracked
            for key, tracked in self.executions.items()
            if tracked.record.engine == engine and not tracked.dispatching
        }

    def keep_dispatching(self, engine: Engine) -> None:
        """A new session with `engine` has begun: what is on its way there still is."""
        for tracked in self.meant_for(engine.id):
            if tracked.dispatching:
                engine.running[tracked.record.id] = tracked.plan.reference

    def reconsider(self, engine: str) -> None:
        """`engine` is not what it was: what it could not run may be tried there again."""
        for tracked in self.executions.values():
            if engine in tracked.excluded:
                tracked.excluded.discard(engine)
                if tracked.record.id in self.queue:
                    self.queue.add(tracked)
        self.work.set()

    def _unassign(self, tracked: Tracked) -> None:
        engine = self.roster.engines.get(tracked.engine or "")
        if engine is not None:
            engine.running.pop(tracked.record.id, None)
