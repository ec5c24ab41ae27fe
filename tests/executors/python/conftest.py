"""What the tests of Python nodes share: jobs, and an executor whose outcomes can be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
import pytest

from dagengine.clock import SystemClock
from dagengine.executors import base
from dagengine.executors.python import PythonFunctions
from dagengine.spec.model import PythonExecutor


@pytest.fixture(scope="session")
def job() -> Callable[..., base.Job]:
    """`job(function, args={…}, nodes={…}, inputs=…, item=…, index=…)`: one attempt."""

    def make(
        function: str = "f",
        *,
        node: str = "n",
        execution: str = "e-1",
        inputs: object = None,
        nodes: Mapping[str, object] | None = None,
        args: Mapping[str, object] | None = None,
        item: object = ...,
        index: int | None = None,
        attempt: int = 1,
        timeout: int | None = None,
    ) -> base.Job:
        scope = base.Scope(
            execution=execution,
            workflow="w",
            version="1.0.0",
            digest="sha256:0",
            inputs=msgspec.json.encode(inputs or {}),
            nodes={id: msgspec.json.encode(value) for id, value in (nodes or {}).items()},
            env={},
            item=None if item is ... else msgspec.json.encode(item),
            index=index,
        )
        return base.Job(
            position=0,
            node=node,
            index=index,
            attempt=attempt,
            spec=PythonExecutor(function=function),
            scope=scope,
            timeout=timeout,
            args=None if args is None else msgspec.json.encode(args),
        )

    return make


class Calls:
    """An executor and the outcomes that it gave."""

    def __init__(self, make_job: Callable[..., base.Job]) -> None:
        self.lines: list[base.LogLine] = []
        self.executor = PythonFunctions(clock=SystemClock(), log=self.lines.append, threads=2)
        self.outcomes: list[tuple[base.Job, base.Outcome]] = []
        self._make_job = make_job
        self._changed = asyncio.Event()

    def submit(self, *jobs: base.Job) -> None:
        self.executor.submit(jobs, self._done)

    def begin(self, function: Callable[..., object], **options: Any) -> base.Job:
        """Register `function` as `f` and begin a call of it."""
        if "f" not in self.executor:
            self.executor.register("f", function)
        job = self._make_job(**options)
        self.submit(job)
        return job

    def cancel(self, job: base.Job) -> None:
        self.executor.cancel(job.scope.execution, job.node, job.index, job.attempt)

    async def wait(self, count: int = 1) -> list[base.Outcome]:
        async with asyncio.timeout(30):
            while len(self.outcomes) < count:
                self._changed.clear()
                await self._changed.wait()
        return [outcome for _, outcome in self.outcomes]

    async def call(self, function: Callable[..., object], **options: Any) -> base.Outcome:
        """The outcome of one call."""
        self.begin(function, **options)
        return (await self.wait(len(self.outcomes) + 1))[-1]

    async def value(self, function: Callable[..., object], **options: Any) -> Any:
        outcome = await self.call(function, **options)
        assert outcome.conclusion == "success", outcome
        return msgspec.json.decode(outcome.result)

    def _done(self, job: base.Job, outcome: base.Outcome) -> None:
        self.outcomes.append((job, outcome))
        self._changed.set()


@pytest.fixture
async def calls(job: Callable[..., base.Job]) -> AsyncIterator[Calls]:
    made = Calls(job)
    yield made
    await made.executor.close()
