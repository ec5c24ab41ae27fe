"""Chains of pure nodes are performed back to back by a worker; what comes of it is as if each had been asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagengine.app import DAGEngine
from dagengine.errors import ExecutionFailed
from dagengine.events.facts import Fact, NodeFailed, NodeStarted, NodeSucceeded
from dagengine.executors.lua.process.executor import LuaProcesses
from dagengine.machine import operations

READS = "return nodes.{} + 1"


@pytest.fixture
async def engine() -> AsyncIterator[DAGEngine]:
    made = DAGEngine(lua="process", lua_workers=2)
    yield made
    await made.close()


@pytest.fixture
def hand_offs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many attempts each hand-off had."""
    sizes: list[int] = []
    original = LuaProcesses._hand_over

    def counting(self: LuaProcesses, desk: Any, budget: float) -> None:
        before = desk.stock.last_order
        original(self, desk, budget)
        sizes.append(desk.stock.last_order - before)

    monkeypatch.setattr(LuaProcesses, "_hand_over", counting)
    return sizes


def _chain(length: int, *, code: Callable[[int], str], **options: Any) -> list[dict[str, Any]]:
    nodes = []
    for number in range(length):
        node: dict[str, Any] = {"id": f"n{number}", "executor": {"type": "lua", "code": code(number)}, **options}
        if number:
            node["dependencies"] = [f"n{number - 1}"]
        nodes.append(node)
    return nodes


def _reading(number: int) -> str:
    return READS.format(f"n{number - 1}") if number else "return 1"


async def test_a_chain_takes_far_fewer_hand_offs_than_nodes(engine, document, hand_offs) -> None:
    workflow = document(_chain(200, code=_reading), outputs={"last": "{{ nodes.n199 }}"})
    for _ in range(4):  # what an attempt costs is learnt
        hand_offs.clear()
        assert await engine.run(workflow, {}) == {"last": 200}
    assert len(hand_offs) < 60


async def test_results_further_back_and_larger_ones_are_there(engine, document) -> None:
    def code(number: int) -> str:
        if number == 0:
            return "return string.rep('x', 2 * 1024 * 1024)"  # larger than what a worker keeps for what follows
        if number == 1:
            return "return #nodes.n0"
        return "return nodes.n1" if number % 3 else f"return nodes.n{number - 1} + 0"

    workflow = document(_chain(30, code=code), outputs={"last": "{{ nodes.n29 }}"})
    for _ in range(3):
        assert await engine.run(workflow, {}) == {"last": 2 * 1024 * 1024}


async def test_what_comes_after_a_failure_is_never_started(engine, document) -> None:
    def code(number: int) -> str:
        return "if inputs.fail then error('no') end return 1" if number == 7 else _reading(number)

    workflow = document(_chain(20, code=code), inputs={"fail": {"type": "boolean", "default": False}})
    for _ in range(3):
        await engine.run(workflow, {})
    facts: list[Fact] = []
    with pytest.raises(ExecutionFailed):
        await engine.run(workflow, {"fail": True}, on_fact=lambda _, fact: facts.append(fact))
    assert [fact.node for fact in facts if isinstance(fact, NodeFailed)] == ["n7"]
    assert {fact.node for fact in facts if isinstance(fact, NodeStarted)} == {f"n{number}" for number in range(8)}


async def test_a_script_that_is_stopped_takes_nothing_of_what_follows_with_it(engine, document) -> None:
    """Its worker is killed; what that had been handed behind it begins anew, after the retry."""
    spin = "if inputs.spin then while true do end end return 1"
    nodes = _chain(20, code=lambda number: spin if number == 5 else _reading(number))
    nodes[5] |= {"timeout": "100ms", "retry": {"error": {"max_attempts": 2, "backoff": {"initial": "1ms"}}}}
    workflow = document(nodes, inputs={"spin": {"type": "boolean", "default": False}})
    for _ in range(3):
        await engine.run(workflow, {})
    facts: list[Fact] = []
    with pytest.raises(ExecutionFailed):
        await engine.run(workflow, {"spin": True}, on_fact=lambda _, fact: facts.append(fact))
    assert [fact.node for fact in facts if isinstance(fact, NodeSucceeded)] == [f"n{number}" for number in range(5)]
    assert await engine.run(workflow, {}) == {"n19": 15}


async def test_what_speaks_is_performed_when_it_is_asked_for(document) -> None:
    lines: list[str] = []
    engine = DAGEngine(lua="process", lua_workers=1, log=lambda line: lines.append(line.text))
    try:
        workflow = document(_chain(20, code=lambda number: f"print('{number}') return 1"))
        for _ in range(3):
            lines.clear()
            await engine.run(workflow, {})
            assert lines == [str(number) for number in range(20)]
    finally:
        await engine.close()


async def test_a_pause_throws_away_what_was_performed_ahead_and_loses_nothing(engine, document) -> None:
    workflow = document(_chain(300, code=_reading), outputs={"last": "{{ nodes.n299 }}"})
    for _ in range(3):
        await engine.run(workflow, {})
    facts: list[Fact] = []
    reached = asyncio.Event()

    def see(_: int, fact: Fact) -> None:
        facts.append(fact)
        if isinstance(fact, NodeSucceeded) and fact.node == "n40":
            engine.operate("e-paused", operations.Pause())
            reached.set()

    running = asyncio.ensure_future(engine.run(workflow, {}, execution="e-paused", on_fact=see))
    async with asyncio.timeout(30):
        await reached.wait()
        engine.operate("e-paused", operations.Unpause())
        assert await running == {"last": 300}
    started = [fact.node for fact in facts if isinstance(fact, NodeStarted)]
    assert started == [f"n{number}" for number in range(300)]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_random_chains_and_forks_come_to_the_same_as_inline(document, data) -> None:
    nodes: list[dict[str, Any]] = []
    for number in range(data.draw(st.integers(2, 25))):
        above = data.draw(st.integers(max(0, number - 3), number - 1)) if number else None
        kind = data.draw(st.sampled_from(["add", "add", "add", "fail", "when"]))
        value = f"nodes.n{above}" if above is not None else "1"
        fails = f"if {value} % 5 == 3 then fail('no') end "
        node: dict[str, Any] = {
            "id": f"n{number}",
            "executor": {"type": "lua", "code": f"{fails if kind == 'fail' else ''}return {value} + 1"},
            "dependencies": [] if above is None else [f"n{above}"],
        }
        if kind == "when":
            node["when"] = f"{value} ~= 4"
        nodes.append(node)
    workflow = document(nodes)
    told = []
    for isolation in ("inline", "process"):
        engine = DAGEngine(lua=isolation)
        try:
            told += [await _story(engine, workflow) for _ in range(2)]
        finally:
            await engine.close()
    assert all(one == told[0] for one in told)


async def _story(engine: DAGEngine, workflow: Any) -> list[tuple[str, str, bytes]]:
    """What became of each node; the order of those that do not depend on each other is anybody's."""
    facts: list[Fact] = []
    with contextlib.suppress(ExecutionFailed):
        await engine.run(workflow, {}, on_fact=lambda _, fact: facts.append(fact))
    about = [fact for fact in facts if hasattr(fact, "node")]
    return sorted((type(fact).__name__, fact.node, bytes(getattr(fact, "result", b""))) for fact in about)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_workers_that_are_killed_at_any_time_cost_attempts_and_nothing_else(document, processes, data) -> None:
    """Chains and forks, two executions at a time. Whatever is killed ends as an error, and is tried again."""
    retry = {"error": {"max_attempts": 1_000, "backoff": {"initial": "1ms", "factor": 1}}}
    nodes = _chain(data.draw(st.integers(5, 60)), code=_reading, retry=retry)
    for number in range(data.draw(st.integers(0, 10))):
        above = data.draw(st.sampled_from(nodes))["id"]
        executor = {"type": "lua", "code": READS.format(above)}
        nodes.append({"id": f"fork{number}", "dependencies": [above], "executor": executor, "retry": retry})
    expected = await _results(DAGEngine(lua="inline"), document(nodes))
    kills = data.draw(st.sets(st.integers(1, 2 * len(nodes)), max_size=6))
    seen = 0

    def kill(_: int, fact: Fact) -> None:
        nonlocal seen
        seen += 1
        if seen in kills:
            for worker in processes.workers():
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()

    engine = DAGEngine(lua="process", lua_workers=2)
    try:
        async with asyncio.timeout(60):
            both = [engine.run(document(nodes), {}, execution=name, on_fact=kill) for name in ("e-1", "e-2")]
            assert await asyncio.gather(*both) == [expected, expected]
            assert await engine.run(document(nodes), {}, on_fact=kill) == expected
    finally:
        await engine.close()


async def _results(engine: DAGEngine, workflow: Any) -> Any:
    async with engine:
        return await engine.run(workflow, {})
