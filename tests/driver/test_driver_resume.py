"""Taking an execution over: any committed prefix leads to the same outputs, and no committed effect is repeated."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dagengine import DAGEngine
from dagengine.events.facts import NodeFailed, NodeStarted, NodeSucceeded
from dagengine.journal.memory import MemoryJournal

NODES: list[dict[str, Any]] = [
    {"id": "rows", "executor": {"type": "lua", "code": "return {3, 1, 2}"}},
    {"id": "random", "executor": {"type": "lua", "code": "return math.random(1000000)"}},
    {
        "id": "double",
        "dependencies": ["rows"],
        "foreach": "nodes.rows",
        "executor": {"type": "lua", "code": "return {item = item * 2, luck = math.random(1000000)}"},
    },
    {"id": "never", "dependencies": ["rows"], "when": "#nodes.rows > 5"},
    {
        "id": "send",
        "dependencies": ["double", "never"],
        "run_if": "none_failed",
        "executor": {"type": "python", "function": "send", "args": {"rows": "{{ nodes.double }}"}},
        "retry": {"error": {"max_attempts": 3, "backoff": {"initial": "1ms", "jitter": 0}}},
    },
    {"id": "last", "dependencies": ["send", "random"], "executor": {"type": "lua", "code": "return nodes.send + 1"}},
]
OUTPUTS = {"total": "{{ nodes.last }}", "luck": "{{ nodes.random }}", "rows": "{{ nodes.double }}"}


class Sent:
    """The outside world: what was sent to it, by attempt."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    async def send(self, rows: list[dict[str, int]], context: Any) -> int:
        self.calls.append(context.attempt)
        return sum(row["item"] for row in rows)


async def test_from_any_committed_prefix_the_outputs_are_the_same(graph) -> None:
    plan, sent = graph(NODES, outputs=OUTPUTS), Sent()
    async with DAGEngine(functions={"send": sent.send}) as engine:
        whole = MemoryJournal(keep=True)
        driver = engine.open(plan, execution="e-1", journal=whole, seed=11)
        driver.start(b"{}")
        await driver.wait()
        engine.release("e-1")
        outputs = json.loads(driver.state.outputs or b"")
        assert outputs["total"] == 13
        for keep in range(1, len(whole.facts) + 1):
            prefix = whole.facts[:keep]
            sent.calls.clear()
            rest = MemoryJournal(keep=True, committed=keep)
            again = engine.open(plan, execution="e-1", journal=rest, seed=11)
            again.resume(prefix)
            await again.wait()
            engine.release("e-1")
            assert json.loads(again.state.outputs or b"") == outputs, f"from {keep} facts"
            assert_nothing_is_repeated(prefix, rest.facts, sent.calls)


def assert_nothing_is_repeated(prefix: list[Any], rest: list[Any], calls: list[int]) -> None:
    ended = {(fact.node, fact.index) for fact in prefix if isinstance(fact, NodeSucceeded)}
    assert not ended & {(fact.node, fact.index) for fact in rest if isinstance(fact, NodeStarted | NodeSucceeded)}
    started = [fact.attempt for fact in prefix if isinstance(fact, NodeStarted) and fact.node == "send"]
    if ("send", None) in ended:
        assert calls == []
    elif started:
        assert calls == [2], "an attempt whose start was committed may have been performed: it is not repeated"
        assert [fact.error.type for fact in rest if isinstance(fact, NodeFailed)] == ["Orphaned"]
    else:
        assert calls == [1]


async def test_a_pure_attempt_that_was_interrupted_draws_the_same_random_numbers(graph) -> None:
    plan = graph([{"id": "a", "executor": {"type": "lua", "code": "return {math.random(1000000000), math.random()}"}}])
    async with DAGEngine() as engine:
        whole = MemoryJournal(keep=True)
        first = engine.open(plan, execution="e-1", journal=whole, seed=11)
        first.start(b"{}")
        await first.wait()
        again = engine.open(plan, execution="e-1", journal=MemoryJournal(committed=2), seed=11)
        again.resume(whole.facts[:2])
        await again.wait()
        engine.release("e-1")
    assert first.state.outputs == again.state.outputs


@pytest.mark.parametrize("seed", [1, 2])
async def test_another_attempt_draws_others(graph, seed: int) -> None:
    code = "local luck = math.random(1000000000) print(luck) error('again')"
    retry = {"fail": {"max_attempts": 3, "backoff": {"initial": "1ms", "jitter": 0}}}
    plan = graph([{"id": "a", "executor": {"type": "lua", "code": code}, "retry": retry}])
    lines: list[str] = []
    async with DAGEngine() as engine:
        driver = engine.open(
            plan, execution="e-1", journal=MemoryJournal(), seed=seed, log=lambda line: lines.append(line.text)
        )
        driver.start(b"{}")
        await driver.wait()
        engine.release("e-1")
    assert len(lines) == len(set(lines)) == 3


async def test_an_execution_that_had_ended_ends_at_once(graph) -> None:
    plan = graph([{"id": "a"}])
    async with DAGEngine() as engine:
        journal = MemoryJournal(keep=True)
        driver = engine.open(plan, execution="e-1", journal=journal, seed=1)
        driver.start(b"{}")
        await driver.wait()
        rest = MemoryJournal(keep=True, committed=len(journal.facts))
        again = engine.open(plan, execution="e-1", journal=rest, seed=1)
        again.resume(journal.facts)
        await again.wait()
        assert (again.state.status, rest.facts) == ("succeeded", [])
        engine.release("e-1")
