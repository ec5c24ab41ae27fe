"""What the tests of Python nodes share: jobs, and an executor whose outcomes can be awaited."""

from __future__ import annotations

import asyncio
import functools
import importlib
import itertools
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

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
        isolation: Literal["thread", "process"] = "thread",
        key: str = "",
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
            spec=PythonExecutor(function=function, isolation=isolation),
            scope=scope,
            timeout=timeout,
            args=None if args is None else msgspec.json.encode(args),
            key=key,
        )

    return make


class Calls:
    """An executor and the outcomes that it gave."""

    def __init__(self, make_job: Callable[..., base.Job], **options: Any) -> None:
        self.lines: list[base.LogLine] = []
        self._logged = asyncio.Event()
        self.executor = PythonFunctions(clock=SystemClock(), log=self._log, threads=2, **options)
        self.outcomes: list[tuple[base.Job, base.Outcome]] = []
        self._make_job = make_job
        self._changed = asyncio.Event()

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.lines]

    def submit(self, *jobs: base.Job) -> None:
        self.executor.submit(jobs, self._done)

    def begin(self, function: Callable[..., object], **options: Any) -> base.Job:
        """Register `function` as `f` and begin a call of it."""
        if "f" not in self.executor:
            self.executor.register("f", function)
        job = self._make_job(**options)
        self.submit(job)
        return job

    def cancel(self, job: base.Job, *, grace: int = 0) -> None:
        self.executor.cancel(job.scope.execution, job.node, job.index, job.attempt, grace=grace)

    async def wait(self, count: int = 1) -> list[base.Outcome]:
        async with asyncio.timeout(30):
            while len(self.outcomes) < count:
                self._changed.clear()
                await self._changed.wait()
        return [outcome for _, outcome in self.outcomes]

    async def logged(self, text: str) -> None:
        """Wait for a line that the function logs or prints."""
        async with asyncio.timeout(30):
            while text not in self.texts:
                self._logged.clear()
                await self._logged.wait()

    async def outcome(self, function: str, **options: Any) -> base.Outcome:
        """The outcome of one call of a function that is known already, or is named by its path."""
        self.submit(self._make_job(function, **options))
        return (await self.wait(len(self.outcomes) + 1))[-1]

    async def call(self, function: Callable[..., object], **options: Any) -> base.Outcome:
        """The outcome of one call."""
        self.begin(function, **options)
        return (await self.wait(len(self.outcomes) + 1))[-1]

    async def value(self, function: Callable[..., object], **options: Any) -> Any:
        outcome = await self.call(function, **options)
        assert outcome.conclusion == "success", outcome
        return msgspec.json.decode(outcome.result)

    def _log(self, line: base.LogLine) -> None:
        """From any thread; the tests that wait for lines have them from the loop's."""
        self.lines.append(line)
        self._logged.set()

    def _done(self, job: base.Job, outcome: base.Outcome) -> None:
        self.outcomes.append((job, outcome))
        self._changed.set()


@pytest.fixture
def calls_with(job: Callable[..., base.Job]) -> Callable[..., Calls]:
    """Calls of an executor that is made with options; the test closes it."""
    return functools.partial(Calls, job)


@pytest.fixture
async def calls(calls_with: Callable[..., Calls]) -> AsyncIterator[Calls]:
    made = calls_with()
    yield made
    await made.executor.close()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """`module(source)` writes a module that can be imported, here and in worker processes; gives its name."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(source: str, *, name: str = "") -> str:
        name = name or f"work{next(_numbers)}"
        path = tmp_path / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(tmp_path).parents[:-1]:
            (tmp_path / folder / "__init__.py").touch()
        path.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return name

    yield write
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]


_numbers = itertools.count(1)
