"""Expressions on a thread of their own: the loop stays free, whatever anybody's expression does."""

from __future__ import annotations

import asyncio
import json

import pytest

from dagengine.app import DAGEngine
from dagengine.errors import ExecutionFailed
from dagengine.executors.base import Evaluation, Question
from dagengine.executors.lua.aside import EvaluatorAside
from dagengine.executors.lua.evaluator import LuaEvaluator

SLOW = "(function() while true do end end)()"


def document(*nodes: dict[str, object], **spec: object) -> dict[str, object]:
    metadata = {"id": "w", "version": "1.0.0"}
    return {"apiVersion": "workflows/v1", "kind": "Workflow", "metadata": metadata, "spec": {"nodes": nodes, **spec}}


@pytest.fixture
async def aside():
    evaluator = EvaluatorAside(LuaEvaluator(timeout=200_000))
    yield evaluator
    await evaluator.close()


async def test_questions_are_answered_in_order_on_the_loop(aside, scope) -> None:
    answers: list[object] = []
    all_there = asyncio.Event()

    def answer(evaluation: Evaluation) -> None:
        answers.append(json.loads(evaluation.value))
        if len(answers) == 200:
            all_there.set()

    for number in range(200):
        aside.ask(Question(scope=scope(), template={"n": number}), answer)
    assert answers == []
    async with asyncio.timeout(30):
        await all_there.wait()
    assert answers == [{"n": number} for number in range(200)]


async def test_what_was_forgotten_is_not_answered(aside, scope) -> None:
    answers: list[str] = []
    done = asyncio.Event()
    aside.ask(Question(scope=scope(), code=SLOW), lambda _: answers.append("slow"))
    aside.ask(Question(scope=scope(), code="1"), lambda _: answers.append("forgotten"))
    aside.forget("e-1")
    aside.ask(Question(scope=scope(), code="2"), lambda _: (answers.append("after"), done.set())[0])
    async with asyncio.timeout(30):
        await done.wait()
    assert answers[-1] == "after"
    assert "forgotten" not in answers


async def test_questions_of_attempts_that_run_are_answered_all_the_same(aside, scope) -> None:
    """An operation drops what the machine has asked; an attempt that waits for its own question would wait for ever."""
    answered = asyncio.get_running_loop().create_future()
    aside.ask(Question(scope=scope(), code=SLOW), lambda _: None)
    aside.ask(Question(scope=scope(), code="7", of_attempt=True), answered.set_result)
    aside.forget("e-1")
    assert (await asyncio.wait_for(answered, 30)).value == b"7"


async def test_the_loop_turns_while_an_expression_runs_into_its_limit() -> None:
    node = {"id": "a", "when": SLOW, "executor": {"type": "lua", "code": "return 1"}}
    async with DAGEngine(lua="thread") as engine:
        run = asyncio.create_task(engine.run(document(node)))
        turns = 0
        while not run.done():
            turns += 1
            await asyncio.sleep(0)
        with pytest.raises(ExecutionFailed, match="timeout"):
            await run
    assert turns > 1_000


async def test_cancelling_does_not_wait_for_expressions_that_nobody_needs_any_more() -> None:
    slow = {
        "id": "slow",
        "foreach": "{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}",
        "executor": {"type": "python", "function": "f", "args": {"x": "{{ " + SLOW + " }}"}},
    }
    last = {
        "id": "last",
        "dependencies": ["slow"],
        "run_if": "always",
        "when": "inputs.go == nil",
        "executor": {"type": "lua", "code": "return 'ran'"},
    }
    cancel, expanded = asyncio.Event(), asyncio.Event()
    kinds: list[tuple[str, str]] = []

    def observe(_: int, fact: object) -> None:
        kinds.append((type(fact).__name__, getattr(fact, "node", "")))
        if type(fact).__name__ == "NodeExpanded":
            expanded.set()

    async with DAGEngine(lua="thread", functions={"f": lambda x: x}) as engine, asyncio.timeout(10):
        run = asyncio.create_task(engine.run(document(slow, last), cancel=cancel, on_fact=observe))
        await expanded.wait()
        cancel.set()
        with pytest.raises(ExecutionFailed) as raised:
            await run
    assert raised.value.status == "cancelled"
    assert ("NodeSucceeded", "last") in kinds
