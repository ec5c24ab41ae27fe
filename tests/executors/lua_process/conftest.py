"""What the tests of Lua in processes share: jobs, executors that are closed, and a look at the processes there are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import psutil
import pytest

from dagengine.clock import SystemClock
from dagengine.executors import base
from dagengine.executors.lua.inline import InlineLua
from dagengine.executors.lua.process.executor import LuaProcesses
from dagengine.spec.model import LuaExecutor

Submits = InlineLua | LuaProcesses


def _job(
    code: str,
    *,
    execution: str = "e-1",
    node: str = "n",
    index: int | None = None,
    inputs: object = None,
    nodes: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
    item: object = ...,
    key: str | None = None,
    modules: Mapping[str, str] | None = None,
    conclusion: object = None,
    memory: int | None = None,
    output: int | None = None,
    **options: Any,
) -> base.Job:
    scope = base.Scope(
        execution=execution,
        workflow="w",
        version="1.0.0",
        digest="sha256:0",
        inputs=msgspec.json.encode({} if inputs is None else inputs),
        nodes={id: msgspec.json.encode(value) for id, value in (nodes or {}).items()},
        env=env or {},
        item=None if item is ... else msgspec.json.encode(item),
        index=index,
        key=key,
        modules=modules or {},
        conclusion=None if conclusion is None else msgspec.json.encode(conclusion),
    )
    spec = LuaExecutor(code=code, memory=memory, output=output)
    return base.Job(position=0, node=node, index=index, spec=spec, scope=scope, **{"attempt": 1, **options})


@pytest.fixture(scope="session")
def job() -> Callable[..., base.Job]:
    """Makes a job that runs `code`."""
    return _job


class Crowd:
    """Jobs that were submitted, and how each ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[base.Job, base.Outcome]] = []
        self._changed = asyncio.Event()

    def submit(self, executor: Submits, jobs: Sequence[base.Job]) -> None:
        executor.submit(jobs, self.done)

    def done(self, job: base.Job, outcome: base.Outcome) -> None:
        self.ended.append((job, outcome))
        self._changed.set()

    async def wait(self, count: int, *, seconds: float = 30) -> list[base.Outcome]:
        """The first `count` outcomes, in the order that they came."""
        async with asyncio.timeout(seconds):
            while len(self.ended) < count:
                self._changed.clear()
                await self._changed.wait()
        return [outcome for _, outcome in self.ended[:count]]

    def by_index(self) -> dict[int | None, base.Outcome]:
        assert len({job.index for job, _ in self.ended}) == len(self.ended), "a job was ended twice"
        return {job.index: outcome for job, outcome in self.ended}


@pytest.fixture
async def crowd() -> Crowd:
    return Crowd()


@pytest.fixture
def lines() -> list[base.LogLine]:
    return []


Start = Callable[..., LuaProcesses]


@pytest.fixture
async def start(lines: list[base.LogLine]) -> AsyncIterator[Start]:
    """`start(workers=2)` makes an executor; all are closed in the end."""
    started: list[LuaProcesses] = []

    def make(*, log: base.LogSink = lines.append, **options: Any) -> LuaProcesses:
        executor = LuaProcesses(log=log, **{"clock": SystemClock(), "max_memory": 64 << 20, **options})
        started.append(executor)
        return executor

    yield make
    for executor in started:
        await executor.close()


@pytest.fixture
def executor(start: Start) -> LuaProcesses:
    return start(workers=2)


class Processes:
    """The processes below this one: zygotes, and their workers."""

    def __init__(self) -> None:
        self._before = {child.pid for child in psutil.Process().children()}

    def zygotes(self) -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if child.pid not in self._before]

    def workers(self) -> list[psutil.Process]:
        return [worker for zygote in self.zygotes() for worker in zygote.children()]

    def everybody(self) -> list[psutil.Process]:
        return self.zygotes() + self.workers()


@pytest.fixture
def processes() -> Processes:
    return Processes()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test leaves a process or an open file. (The loop's own were opened before, and are closed after.)"""
    children = {child.pid for child in psutil.Process().children()}
    files = set(os.listdir("/proc/self/fd"))
    yield
    assert {child.pid for child in psutil.Process().children()} <= children
    assert set(os.listdir("/proc/self/fd")) <= files
