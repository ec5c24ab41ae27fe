"""Who should have what: every execution that this replica owns, in memory, with the engine that is meant to run it.

The store is the truth about the past; the ledger is what the dispatcher acts on. What comes into it was recorded as
owned, or claimed, in the store first; so is every change of it that matters.

An execution may leave the ledger (it is parked, or this replica was fenced off) and come back as another `Tracked`.
Whoever still has the former one cannot change anything with it.
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
        self.held: dict[str, Tracked] = {}
        """Those that may not be placed yet."""
        self._held_size = 0
        self.work = asyncio.Event()
        """Set whenever something may have become placeable."""

    @property
    def waiting(self) -> int:
        """Executions that no engine is meant to have."""
        return len(self.queue) + len(self.held)

    @property
    def waiting_size(self) -> int:
        """Bytes that their inputs take."""
        return self.queue.size + self._held_size

    def waits(self, execution: str) -> bool:
        """Whether no engine is meant to have an execution."""
        return execution in self.queue or execution in self.held

    def placeable(self, tracked: Tracked) -> bool:
        """Whether an engine that is here is able to run it, has it room or not; True while none is ready."""
        eligible = self.roster.fleet.eligible(tracked.plan.needs)
        if eligible.reason is not None:
            return eligible.reason in ("no_engine", "all_draining")
        return not eligible.capacities.keys() <= tracked.excluded

    def hold(self, tracked: Tracked) -> None:
        """Take an execution in that may not be placed yet."""
        self.executions[tracked.record.id] = tracked
        if self.held.setdefault(tracked.record.id, tracked) is tracked:
            self._held_size += len(tracked.record.inputs)

    def let_go(self, tracked: Tracked) -> None:
        """An execution that was held may be placed."""
        if self._unhold(tracked):
            self.queue.add(tracked)
            self.work.set()

    def _unhold(self, tracked: Tracked) -> bool:
        if self.held.pop(tracked.record.id, None) is None:
            return False
        self._held_size -= len(tracked.record.inputs)
        return True

    def has(self, tracked: Tracked) -> bool:
        """Whether this is what the ledger knows of its execution."""
        return self.executions.get(tracked.record.id) is tracked

    def take_in(self, tracked: Tracked) -> None:
        """Take an execution in that was claimed; what becomes of it is said later."""
        former = self.executions.get(tracked.record.id)
        if former is not None and former is not tracked:
            self.forget(former)
        self.executions[tracked.record.id] = tracked

    def add(self, tracked: Tracked) -> None:
        """Take an execution in; without an engine it waits for one."""
        self.executions[tracked.record.id] = tracked
        if tracked.engine is None:
            self.queue.add(tracked)
            self.work.set()

    def enqueue(self, tracked: Tracked) -> None:
        """Take an execution back from whoever was meant to have it: it waits to be placed."""
        if not self.has(tracked):
            return
        self.withdraw(tracked)
        self.queue.add(tracked)
        self.work.set()

    def withdraw(self, tracked: Tracked) -> None:
        """Take an execution back from whoever was meant to have it; it does not wait for another engine either."""
        if not self.has(tracked):
            return
        self._unassign(tracked)
        tracked.engine, tracked.dispatching = None, False
        self.queue.remove(tracked)
        self._unhold(tracked)

    def give(self, tracked: Tracked, engine: Engine) -> None:
        """`engine` is meant to have it."""
        if not self.has(tracked):
            return
        self.withdraw(tracked)
        tracked.engine = engine.id
        _take(engine, tracked)

    def forget(self, tracked: Tracked) -> None:
        """It has ended, or others look after it: the place it took is free."""
        if not self.has(tracked):
            return
        del self.executions[tracked.record.id]
        self.queue.remove(tracked)
        self._unhold(tracked)
        self._unassign(tracked)
        self.work.set()

    def clear(self) -> None:
        """Forget all executions: others look after them now."""
        self.executions.clear()
        self.queue.clear()
        self.held.clear()
        self._held_size = 0
        for engine in self.roster.engines.values():
            engine.leave_all()
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
                _take(engine, tracked)

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
            engine.leave(tracked.record.id)


def _take(engine: Engine, tracked: Tracked) -> None:
    engine.take(tracked.record.id, tracked.plan.reference, alone=tracked.plan.needs.exclusive)
