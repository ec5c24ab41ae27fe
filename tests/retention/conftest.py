"""A store with executions that ended long ago, and a purger over it, on a clock of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dagengine.clock import Clock, SystemClock
from dagengine.events import facts
from dagengine.testing import VirtualClock
from orchestrator.monitor.monitor import Monitor
from orchestrator.registry.registry import Registry
from orchestrator.retention.policy import Kept
from orchestrator.retention.purger import Purger
from orchestrator.store.base import Batch, NewExecution, Terminal
from orchestrator.store.sqlite import SQLiteStore

DAY = 86_400_000_000


class Watched(SQLiteStore):
    """A store that remembers in which order it was written to: `purge` with its rows, and `append`."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.written: list[tuple[str, int]] = []

    async def purge(self, executions: Sequence[str], *, rows: int) -> int:
        gone = await super().purge(executions, rows=rows)
        self.written.append(("purge", gone))
        return gone

    async def append(self, batches: Sequence[Batch]) -> Any:
        answers = await super().append(batches)
        self.written.append(("append", len(batches)))
        return answers


class House:
    """The store, and all that a purger needs."""

    def __init__(self, store: Watched, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.monitor = Monitor()
        self.registry = Registry(store, clock=clock)

    def purger(self, *, clock: Clock | None = None, **kept: int) -> Purger:
        """A purger whose defaults are `kept`."""
        defaults = Kept(**kept)
        return Purger(self.store, self.registry, clock or SystemClock(), defaults=defaults, monitor=self.monitor)

    async def register(self, workflow: str, version: str = "1.0.0", **spec: Any) -> None:
        """A version of one node."""
        node = {"id": "a", "executor": {"type": "lua", "code": "return 1"}}
        await self.registry.register(
            {
                "apiVersion": "workflows/v1",
                "kind": "Workflow",
                "metadata": {"id": workflow, "version": version},
                "spec": {"nodes": [node], **spec},
            }
        )

    async def ended(
        self, id: str, workflow: str = "w", *, days: float = 0, size: int = 2, lines: int = 0, key: str | None = None
    ) -> None:
        """An execution that ended so many days ago, with `size` facts and so many log lines."""
        at = SystemClock().now() - round(days * DAY) - 1
        await self.begun(id, workflow, at=at, key=key)
        if lines:
            await self.store.add_logs(id, 1, [("a", b'{"text":"line"}')] * lines)
        last = facts.encode(facts.ExecutionCancelled(at=at))
        terminal = Terminal(status="cancelled", at=at)
        batch = Batch(
            execution=id, epoch=1, first_seq=1, facts=[b'{"type":"x"}'] * (size - 1) + [last], terminal=terminal
        )
        (answer,) = await self.store.append([batch])
        assert answer.outcome == "committed"

    async def begun(self, id: str, workflow: str = "w", *, at: int = 1, key: str | None = None) -> None:
        """An execution that an engine has."""
        entry = await self.registry.resolve(workflow)
        new = NewExecution(
            id=id,
            workflow=workflow,
            version=entry.record.version,
            digest=entry.record.digest,
            inputs=b"{}",
            created_at=at,
            seed=1,
            idempotency_key=key,
        )
        await self.store.create_execution(new)
        await self.store.dispatch([id], "engine-1")

    async def left(self, workflow: str | None = None) -> list[str]:
        """Ids of the executions that are known, in alphabetical order."""
        return sorted(record.id for record in await self.store.executions(workflow=workflow, limit=10_000))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A store in a file, with the workflow `w`."""
    store = Watched(f"sqlite:///{tmp_path}/store.db")
    await store.open()
    made = House(store, VirtualClock())
    await made.register("w")
    yield made
    await store.close()
