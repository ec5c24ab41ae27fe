"""Expressions may be answered later, in a sweep of their own: what happened meanwhile decides what that is worth."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dagengine.clock import SystemClock
from dagengine.driver import Driver
from dagengine.driver.local_gate import LocalGate
from dagengine.driver.results import RememberedResults
from dagengine.executors.base import Evaluation, Question
from dagengine.machine.operations import Cancel


class LateEvaluator:
    """Answers when the test says so. `asked` are the expressions, in order."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self._waiting: list[Callable[[Evaluation], None]] = []

    def ask(self, question: Question, done: Callable[[Evaluation], None]) -> None:
        self.asked.append(question.code if question.code is not None else question.template)
        self._waiting.append(done)

    def forget(self, execution: str) -> None:
        """Every question was begun already: nothing can be dropped."""

    async def close(self) -> None:
        self._waiting.clear()

    def answer(self, value: bytes, *, at: int = 0) -> None:
        self._waiting.pop(at)(Evaluation(value=value))


@pytest.fixture
def late() -> LateEvaluator:
    return LateEvaluator()


@pytest.fixture
async def driver(late, journal, scripted, graph, effect) -> Driver:
    """Nodes `a` and `b` with conditions, and one that runs always; Python nodes are scripted."""
    nodes = [
        effect("a", pure=True, when="inputs.a"),
        effect("b", pure=True, when="inputs.b"),
        effect("keep", pure=True, run_if="always"),
    ]
    driver = Driver(
        graph(nodes),
        execution="e-1",
        seed=1,
        executors={"python": scripted},
        evaluator=late,
        gate=LocalGate({}, SystemClock()),
        results=RememberedResults(SystemClock()),
        journal=journal,
        clock=SystemClock(),
    )
    driver.start(b"{}")
    return driver


async def test_others_go_on_while_an_answer_is_awaited(driver, late, scripted) -> None:
    assert late.asked == ["inputs.a", "inputs.b"]
    assert scripted.begun == ["keep 1"]


async def test_answers_may_come_in_any_order(driver, late, scripted, journal) -> None:
    late.answer(b"true", at=1)
    late.answer(b"false")
    assert scripted.begun == ["keep 1", "b 1"]
    assert journal.position("NodeSkipped", "a")


async def test_an_answer_after_a_cancel_starts_nothing(driver, late, scripted, journal) -> None:
    driver.operate(Cancel(), command="c-1")
    made = list(journal.kinds)
    late.answer(b"true")
    assert journal.kinds == made
    assert scripted.begun == ["keep 1"]


async def test_what_an_expression_decides_about_a_node_that_runs_always_is_not_lost_by_a_cancel(
    late, journal, scripted, graph, effect
) -> None:
    driver = Driver(
        graph([effect("clean", pure=True, run_if="always", when="inputs.dirty")]),
        execution="e-1",
        seed=1,
        executors={"python": scripted},
        evaluator=late,
        gate=LocalGate({}, SystemClock()),
        results=RememberedResults(SystemClock()),
        journal=journal,
        clock=SystemClock(),
    )
    driver.start(b"{}")
    driver.operate(Cancel(), command="c-1")
    late.answer(b"true", at=-1)
    late.answer(b"true")  # the one that was asked before the cancel
    assert scripted.begun == ["clean 1"]
    scripted.end("clean")
    assert journal.kinds[-1] == "ExecutionCancelled"


async def test_an_answer_after_a_stop_makes_no_fact(driver, late, journal) -> None:
    driver.stop()
    made = list(journal.kinds)
    late.answer(b"true")
    assert journal.kinds == made
