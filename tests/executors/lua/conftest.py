"""What the tests of Lua share: a scope made from Python values, a script run to its value, jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from dagengine.clock import SystemClock
from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua.inline import InlineLua
from dagengine.executors.lua.runtime import Runtime
from dagengine.spec.model import LuaExecutor

MakeScope = Callable[..., base.Scope]


def _scope(
    *,
    inputs: object = None,
    nodes: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
    item: object = ...,
    index: int | None = None,
    key: str | None = None,
    modules: Mapping[str, str] | None = None,
    conclusion: object = ...,
) -> base.Scope:
    return base.Scope(
        execution="e-1",
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
        conclusion=None if conclusion is ... else msgspec.json.encode(conclusion),
    )


@pytest.fixture(scope="session")
def scope() -> MakeScope:
    return _scope


class Lua:
    """A runtime that is replaced when it breaks."""

    def __init__(self) -> None:
        self.max_memory = 64 << 20
        self.max_output = 4 << 20
        self._runtime: Runtime | None = None

    @property
    def runtime(self) -> Runtime:
        if self._runtime is None or self._runtime.broken:
            self._runtime = Runtime(max_memory=self.max_memory, max_output=self.max_output)
        return self._runtime

    def raw(self, code: str, *, run: Mapping[str, Any] | None = None, **values: Any) -> bytes | ErrorInfo:
        """The outcome of `code`; `run` are arguments of `Runtime.run`, the others make the scope."""
        lua = self.runtime
        chunk = lua.script(code)
        if isinstance(chunk, ErrorInfo):
            return chunk
        return lua.run(chunk, _scope(**values), **{"timeout": 5_000_000, **(run or {})})

    def value(self, code: str, **options: Any) -> Any:
        result = self.raw(code, **options)
        assert isinstance(result, bytes), result
        return msgspec.json.decode(result)

    def error(self, code: str, **options: Any) -> ErrorInfo:
        result = self.raw(code, **options)
        assert isinstance(result, ErrorInfo), result
        return result


@pytest.fixture
def lua() -> Lua:
    return Lua()


@pytest.fixture(scope="session")
def job() -> Callable[..., base.Job]:
    """Makes a job that runs `code`."""

    def make(code: str, *, node: str = "n", index: int | None = None, **options: Any) -> base.Job:
        limits = {name: options.pop(name) for name in ("memory", "output") if name in options}
        given = {name: options.pop(name) for name in ("attempt", "timeout", "seed") if name in options}
        return base.Job(
            position=0,
            node=node,
            index=index,
            spec=LuaExecutor(code=code, **limits),
            scope=_scope(index=index, **options),
            **{"attempt": 1, **given},
        )

    return make


@pytest.fixture
async def perform() -> Callable[..., Any]:
    """Performs jobs on the inline executor: their outcomes, in order."""

    async def run(jobs: Sequence[base.Job]) -> list[base.Outcome]:
        executor = InlineLua(log=lambda _line: None, clock=SystemClock(), max_memory=64 << 20)
        outcomes: dict[int, base.Outcome] = {}
        ended = asyncio.Event()

        def done(job: base.Job, outcome: base.Outcome) -> None:
            outcomes[id(job)] = outcome
            if len(outcomes) == len(jobs):
                ended.set()

        executor.submit(jobs, done)
        async with asyncio.timeout(30):
            await ended.wait()
        await executor.close()
        return [outcomes[id(job)] for job in jobs]

    return run
