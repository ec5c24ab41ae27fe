"""An engine that is closed after the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dagengine import DAGEngine


@pytest.fixture
async def engine() -> AsyncIterator[DAGEngine]:
    async with DAGEngine() as engine:
        yield engine


@pytest.fixture(scope="session")
def lua() -> Callable[..., dict[str, Any]]:
    """`lua(id, code, *dependencies, **fields)`: a node that runs `code`."""

    def make(id: str, code: str = "return 1", *dependencies: str, **fields: Any) -> dict[str, Any]:
        return {"id": id, "dependencies": list(dependencies), "executor": {"type": "lua", "code": code}, **fields}

    return make


@pytest.fixture(scope="session")
def python() -> Callable[..., dict[str, Any]]:
    """`python(id, function, *dependencies, args=…, pure=…, **fields)`: a node that calls `function`."""

    def make(id: str, function: str, *dependencies: str, **fields: Any) -> dict[str, Any]:
        executor = {"type": "python", "function": function}
        executor |= {name: fields.pop(name) for name in ("args", "pure") if name in fields}
        return {"id": id, "dependencies": list(dependencies), "executor": executor, **fields}

    return make
