"""What the tests of Lua share: a scope made from Python values, a script run to its value, jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
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
        given = {name: options.pop(name) for name in ("attempt", "timeout", "seed") if name in options}
        return base.Job(
            position=0,
            node=node,
            index=index,
            spec=LuaExecutor(code=code),
            scope=_scope(index=index, **options),
            **{"attempt": 1, **given},
        )

    return make
