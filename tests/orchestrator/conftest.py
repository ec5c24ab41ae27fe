"""Embedded orchestrators, workflows that wait for the test, and the facts that came of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest

from dagengine import DAGEngine, Workflow
from dagengine.events import facts as codec
from orchestrator import Orchestrator

T = TypeVar("T")


class Latch:
    """A workflow of three nodes whose second one, an asynchronous function, waits until the test opens the latch."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        """Nodes whose functions were called, in order."""
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    def workflow(self, id: str = "latch", version: str = "1.0.0", **options: Any) -> Workflow:
        wf = Workflow(id, version, **options)
        quick = {"error": {"max_attempts": 3, "backoff": {"initial": "1ms"}}}

        @wf.python
        def before() -> str:
            self.calls.append("before")
            return "before"

        @wf.python(depends_on=[before], retry=quick)
        async def hold() -> str:
            self.calls.append("hold")
            self.reached.set()
            await self.opened.wait()
            return "held"

        @wf.python(depends_on=[hold])
        def after() -> str:
            self.calls.append("after")
            return "after"

        return wf


@pytest.fixture
async def latch() -> Latch:
    return Latch()


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., Awaitable[Orchestrator]]]:
    """`await opened(url="sqlite://", engines=1, …)`: an open orchestrator with engines in this process."""
    async with AsyncExitStack() as stack:

        async def make(url: str = "sqlite://", *, engines: int = 1, **options: Any) -> Orchestrator:
            orch = Orchestrator(url, **options)
            for number in range(1, engines + 1):
                orch.register_engine(f"engine-{number}", DAGEngine(clock=options.get("clock")))
            return await stack.enter_async_context(orch)

        yield make


@pytest.fixture
async def orch(opened: Callable[..., Awaitable[Orchestrator]]) -> Orchestrator:
    """An orchestrator in memory with one engine."""
    return await opened()


@pytest.fixture
def hello() -> Workflow:
    """A workflow with one input and one Lua node."""
    wf = Workflow("hello", "1.0.0", inputs={"name": {"type": "string"}}, outputs={"text": "{{ nodes.greet }}"})
    wf.lua("greet", 'return "hello " .. inputs.name')
    return wf


@pytest.fixture
def kinds() -> Callable[[list[Any]], list[str]]:
    """What happened, in words, from facts as the verbs give them."""

    def tell(found: list[Any]) -> list[str]:
        told = []
        for view in found:
            fact = codec.decode(bytes(view.fact))
            error = f" ({fact.error.type})" if isinstance(fact, codec.NodeFailed) else ""
            told.append(" ".join(filter(None, [type(fact).__name__, getattr(fact, "node", "")])) + error)
        return told

    return tell


@pytest.fixture
def soon() -> Callable[..., Awaitable[Any]]:
    """`await soon(condition)`: wait for a condition (perhaps asynchronous) that follows from what was done."""

    async def wait(condition: Callable[[], T | Awaitable[T]]) -> T:
        async with asyncio.timeout(20):
            while True:
                answer = condition()
                found = await answer if isinstance(answer, Awaitable) else answer
                if found:
                    return found
                await asyncio.sleep(0)

    return wait
