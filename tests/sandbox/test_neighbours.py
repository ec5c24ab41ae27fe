"""While a script attacks, another execution on the same engine is served as usual.

What is compared are medians of one engine, measured in turns: some executions without an attack, some beside one, again
and again. So whatever else the machine does falls on both. The attack has one of two workers, as it would with
timeouts shorter than the work that waits. (Attacks on all workers are what timeouts are for.) What ends at once is not
started again at once: the engine's loop would be shared with that as with any other client in a hurry, evil or not.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dagengine import DAGEngine
from dagengine.errors import ExecutionFailed
from dagengine.spec.model import Document

pytestmark = pytest.mark.alone

ROUNDS = 5
RUNS = 25
EVERY = 0.1
"""Seconds from one start of an attack to the next, at least."""

TRIES = 4
"""A ratio that is too high is measured again: on a busy machine another process may take the second processor, and then
the attack has the first one. Nothing can make the ratio lower than it is."""

ATTACKS = {
    "a loop": "while true do end",
    "a loop that catches": "while true do pcall(function() while true do end end) end",
    "a pattern": "return ('a'):rep(5000):find(('.-'):rep(20) .. 'b')",
    "a sort": "local t = {} for i = 1, 500000 do t[i] = (i * 7919) % 500009 end while true do table.sort(t) end",
    "memory": "local t = {} while true do t[#t + 1] = {} end",
    "one big text": "return ('x'):rep(1 << 30)",
    "a log": "while true do print('x') end",
    "results": "local t = {1} for _ = 1, 50 do t = {t, t} end return t",
    "errors": "error(('x'):rep(1 << 22))",
}


def _workflow(id: str, code: str, **node: Any) -> Document:
    once = {"fail": {"max_attempts": 1}, "error": {"max_attempts": 1}}
    nodes = [{"id": "n", "executor": {"type": "lua", "code": code}, "retry": once, **node}]
    spec = {"nodes": nodes, "outputs": {"n": "{{ nodes.n }}"}}
    return Document.model_validate({"metadata": {"id": id, "version": "1.0.0"}, "spec": spec})


@pytest.fixture
async def engine() -> AsyncIterator[DAGEngine]:
    async with DAGEngine(lua="process", lua_workers=2, lua_memory=64 << 20) as engine:
        yield engine


class Attacker:
    """Attacks again and again, with one node at a time."""

    def __init__(self, engine: DAGEngine, code: str) -> None:
        self._engine = engine
        self._workflow = _workflow("attack", f"print('begun') {code}", timeout="300ms")
        self._going = False
        self._begun = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.attacks = 0

    async def __aenter__(self) -> None:
        self._going = True
        self._begun.clear()
        self._task = asyncio.create_task(self._attack())
        await self._begun.wait()

    async def __aexit__(self, *exc_info: object) -> None:
        self._going = False
        if self._task is not None:
            await self._task

    async def _attack(self) -> None:
        while self._going:
            next_at = time.monotonic() + EVERY
            with pytest.raises(ExecutionFailed):
                await self._engine.run(self._workflow, on_log=lambda _line: self._begun.set())
            self.attacks += 1
            await asyncio.sleep(next_at - time.monotonic())


async def _latencies(engine: DAGEngine, workflow: Document) -> list[float]:
    taken = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        assert await engine.run(workflow) == {"n": 1}
        taken.append(time.perf_counter() - begun)
    return taken


@pytest.mark.parametrize("code", ATTACKS.values(), ids=ATTACKS.keys())
async def test_a_neighbour_is_served_as_usual(engine: DAGEngine, code: str) -> None:
    neighbour, attacker = _workflow("neighbour", "return 1"), Attacker(engine, code)
    await _latencies(engine, neighbour)  # starts the workers
    ratios = []
    for _ in range(TRIES):
        alone: list[float] = []
        beside: list[float] = []
        for _ in range(ROUNDS):
            alone += await _latencies(engine, neighbour)
            async with attacker:
                beside += await _latencies(engine, neighbour)
        ratios.append(statistics.median(beside) / statistics.median(alone))
        if ratios[-1] < 2:
            break
    assert attacker.attacks >= ROUNDS
    assert min(ratios) < 2, ratios
