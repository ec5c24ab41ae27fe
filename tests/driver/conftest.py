"""A driver between things that the test controls: a journal that commits when told to, an executor that ends then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest

from dagengine.admission.declaration import Declared
from dagengine.clock import Clock, SystemClock
from dagengine.driver import Driver
from dagengine.driver.local_gate import LocalGate
from dagengine.driver.results import RememberedResults
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.executors.base import Done, Job, Outcome
from dagengine.executors.lua.evaluator import LuaEvaluator
from dagengine.executors.lua.inline import InlineLua
from dagengine.graph import Graph


class HeldJournal:
    """A `dagengine.journal.base.Journal` that commits nothing by itself. `facts` are all that were appended."""

    def __init__(self, *, committed: int = 0) -> None:
        self.facts: list[Fact] = []
        self.committed = committed
        self.fault: Exception | None = None
        """What `append` raises."""
        self._before = committed
        self._congested = False
        self._callbacks: list[Callable[[], None]] = []
        self._changed = asyncio.Event()

    @property
    def congested(self) -> bool:
        return self._congested

    @congested.setter
    def congested(self, congested: bool) -> None:
        self._congested = congested
        self._notify()

    @property
    def appended(self) -> int:
        return self._before + len(self.facts)

    def append(self, facts: Sequence[Fact]) -> None:
        if self.fault is not None:
            raise self.fault
        self.facts.extend(facts)
        self._changed.set()

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def commit(self, upto: int | None = None) -> None:
        """Commit up to a position, or all there is."""
        self.committed = self.appended if upto is None else upto
        self._notify()

    def position(self, fact: str, node: str = "", attempt: int | None = None) -> int:
        """The position of a fact; 0 when it has not been appended."""
        for at, found in enumerate(self.facts, self._before + 1):
            fits = type(found).__name__ == fact and getattr(found, "node", "") == node
            if fits and attempt in (None, getattr(found, "attempt", None)):
                return at
        return 0

    async def holds(self, fact: str, node: str = "", attempt: int | None = None) -> int:
        """Wait until a fact has been appended; its position."""
        async with asyncio.timeout(30):
            while not self.position(fact, node, attempt):
                self._changed.clear()
                await self._changed.wait()
        return self.position(fact, node, attempt)

    @property
    def kinds(self) -> list[str]:
        return [f"{type(fact).__name__} {getattr(fact, 'node', '')}".rstrip() for fact in self.facts]

    def _notify(self) -> None:
        for callback in self._callbacks:
            callback()


class ScriptedExecutor:
    """A `dagengine.executors.base.Executor` whose attempts end when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.batches: list[int] = []
        self.cancelled: list[tuple[str, int | None, int]] = []
        self.graces: list[int] = []
        self._done: dict[tuple[str, int | None, int], tuple[Job, Done]] = {}

    @property
    def begun(self) -> list[str]:
        """`node attempt` of everything that was ever submitted, in order."""
        return [f"{job.node} {job.attempt}" for job in self.jobs]

    def submit(self, jobs: Sequence[Job], done: Done) -> None:
        self.batches.append(len(jobs))
        for job in jobs:
            self.jobs.append(job)
            self._done[job.node, job.index, job.attempt] = (job, done)

    def cancel(self, execution: str, node: str, index: int | None, attempt: int, *, grace: int = 0) -> None:
        self.graces.append(grace)
        self.cancelled.append((node, index, attempt))

    async def close(self) -> None:
        self._done.clear()

    def end(self, node: str, conclusion: Any = "success", *, attempt: int = 1, result: bytes = b"1") -> None:
        job, done = self._done.pop((node, None, attempt))
        error = None if conclusion == "success" else ErrorInfo(type="Scripted", message=f"{node} says {conclusion}")
        done(job, Outcome(conclusion=conclusion, result=result, error=error))


@pytest.fixture
def held_journal() -> type[HeldJournal]:
    return HeldJournal


@pytest.fixture
async def journal() -> HeldJournal:
    return HeldJournal()


@pytest.fixture
def scripted() -> ScriptedExecutor:
    return ScriptedExecutor()


@pytest.fixture
async def drive(
    journal: HeldJournal, scripted: ScriptedExecutor, graph: Callable[..., Graph]
) -> AsyncIterator[Callable[..., Driver]]:
    """`drive(nodes, …)`: a driver with real Lua, and `scripted` for the `python` nodes."""
    clock = SystemClock()
    lua = InlineLua(log=[].append, clock=clock)
    gate = LocalGate({"one": Declared(1)}, clock)
    drivers = []

    def make(
        nodes: list[dict[str, Any]],
        *,
        journal: Any = journal,
        executors: Mapping[str, Any] | None = None,
        clock: Clock = clock,
        execution: str = "e-1",
        evaluator: Any = None,
        **spec: Any,
    ) -> Driver:
        driver = Driver(
            graph(nodes, **spec),
            execution=execution,
            seed=7,
            executors={"lua": lua, "python": scripted} if executors is None else executors,
            evaluator=evaluator or LuaEvaluator(),
            gate=gate,
            results=RememberedResults(clock),
            journal=journal,
            clock=clock,
        )
        drivers.append(driver)
        return driver

    yield make
    for driver in drivers:
        driver.stop()
    gate.close()
    await lua.close()


@pytest.fixture(scope="session")
def effect() -> Callable[..., dict[str, Any]]:
    """`effect(id, *dependencies, **fields)`: a node whose attempts the outside can see."""

    def make(id: str, *dependencies: str, pure: bool = False, **fields: Any) -> dict[str, Any]:
        executor = {"type": "python", "function": "f", "pure": pure}
        return {"id": id, "dependencies": list(dependencies), "executor": executor, **fields}

    return make
