"""Without contact: effects that run are given up, none begins, pure code goes on; and afterwards all goes on."""

from __future__ import annotations

import pytest

from dagengine.executors.base import Answer, Evaluation, Question
from dagengine.machine.operations import Pause, Unpause
from dagengine.testing import VirtualClock

SECOND = 1_000_000


class SlowEvaluator:
    """Answers when the test does."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def ask(self, question: Question, answer: Answer) -> None:
        self.answers.append(answer)

    def forget(self, execution: str) -> None:
        """What was asked is answered all the same: the machine knows what it waits for."""

    async def close(self) -> None:
        self.answers.clear()


def keys(scripted) -> list[str]:
    return [f"{job.key} {job.attempt}" for job in scripted.jobs]


async def test_an_effect_that_runs_is_stopped_and_repeated_under_the_same_key(drive, journal, scripted, effect) -> None:
    clock = VirtualClock()
    driver = drive([effect("pay")], clock=clock)
    driver.start(b"{}")
    journal.commit()
    driver.lose_contact()
    assert scripted.cancelled == [("pay", None, 1)]
    assert journal.facts[-1].error.type == "Orphaned"
    await clock.asleep()
    clock.advance(2 * SECOND)
    await journal.holds("NodeStarted", "pay", 2)
    assert keys(scripted) == ["e-1/pay/0 1"]  # nobody knows of the second one yet
    journal.commit()
    assert keys(scripted) == ["e-1/pay/0 1"]  # what was known before the loss may be old
    driver.regain_contact()
    assert keys(scripted) == ["e-1/pay/0 1", "e-1/pay/0 2"]


async def test_what_the_stopped_attempt_still_says_changes_nothing(drive, journal, scripted, effect) -> None:
    driver = drive([effect("pay")])
    driver.start(b"{}")
    journal.commit()
    driver.lose_contact()
    made = len(journal.facts)
    scripted.end("pay")
    assert len(journal.facts) == made


async def test_what_may_go_on_goes_on(drive, journal, scripted, effect) -> None:
    driver = drive([effect("pay", on_partition="continue"), effect("next", "pay")])
    driver.start(b"{}")
    journal.commit()
    driver.lose_contact()
    assert scripted.cancelled == []
    scripted.end("pay")
    journal.commit()
    assert scripted.begun == ["pay 1"]
    driver.regain_contact()
    assert scripted.begun == ["pay 1", "next 1"]


async def test_an_effect_that_has_not_begun_loses_no_attempt(drive, journal, scripted, effect) -> None:
    once = {"error": {"max_attempts": 1}}
    driver = drive([effect("pay", retry=once)])
    driver.start(b"{}")
    driver.lose_contact()
    driver.regain_contact()
    assert scripted.begun == []
    journal.commit()
    assert scripted.begun == ["pay 1"]
    assert journal.kinds == ["ExecutionStarted", "NodeStarted pay"]


async def test_pure_code_goes_on(drive, journal) -> None:
    driver = drive([{"id": f"n{at}", "dependencies": [f"n{at - 1}"] if at else []} for at in range(50)])
    driver.lose_contact()
    driver.start(b"{}")
    await journal.holds("ExecutionSucceeded")


async def test_it_is_lost_once_however_often_it_is_said(drive, journal, scripted, effect) -> None:
    clock = VirtualClock()
    driver = drive([effect("pay")], clock=clock)
    driver.start(b"{}")
    journal.commit()
    for _ in range(3):
        driver.lose_contact()
    assert journal.kinds.count("NodeFailed pay") == 1
    for _ in range(3):
        driver.regain_contact()
    await clock.asleep()
    clock.advance(2 * SECOND)
    await journal.holds("NodeStarted", "pay", 2)
    journal.commit()
    driver.lose_contact()
    assert journal.kinds.count("NodeFailed pay") == 2


async def test_an_execution_that_has_ended_or_was_stopped_notices_nothing(drive, journal) -> None:
    driver = drive([{"id": "a"}])
    driver.start(b"{}")
    last = await journal.holds("ExecutionSucceeded")
    driver.lose_contact()
    driver.stop()
    driver.regain_contact()
    assert journal.appended == last


class TestRest:
    async def test_what_makes_no_fact_is_told_when_all_is_committed(self, drive, journal) -> None:
        """A pause comes while an expression is evaluated: the answer leads to nothing, and then it only waits."""
        evaluator = SlowEvaluator()
        nodes = [{"id": "a"}, {"id": "b", "dependencies": ["a"], "when": "true"}]
        driver = drive(nodes, evaluator=evaluator)
        told: list[bool] = []
        driver.on_rest(lambda: told.append(driver.only_waits))
        driver.start(b"{}")
        await journal.holds("NodeSucceeded", "a")
        driver.operate(Pause(), command="p")
        journal.commit()
        assert not driver.only_waits
        assert told == []
        evaluator.answers[0](Evaluation(value=b"true"))
        assert told == [True]

    async def test_what_waits_for_facts_to_be_committed_is_told_by_their_commit(self, drive, journal) -> None:
        driver = drive([{"id": "w", "executor": {"type": "wait", "signal": {"name": "go"}}}])
        told: list[int] = []
        driver.on_rest(lambda: told.append(1))
        driver.start(b"{}")
        assert told == []
        assert driver.only_waits

    @pytest.mark.parametrize(("seconds", "parks"), [(9, False), (10, True), (3_600, True)])
    async def test_a_short_wait_is_waited_for_here(self, drive, seconds: int, parks: bool) -> None:
        clock = VirtualClock()
        wait = {"type": "wait", "duration": f"{seconds}s"}
        driver = drive([{"id": "w", "executor": wait}], clock=clock)
        driver.start(b"{}")
        assert driver.only_waits is parks
        assert driver.wake_at == clock.now() + seconds * SECOND

    async def test_what_is_paused_only_waits_and_never_wakes_by_itself(self, drive, journal, effect, scripted) -> None:
        driver = drive([{"id": "w", "executor": {"type": "wait", "duration": "1s"}}])
        driver.start(b"{}")
        assert not driver.only_waits
        driver.operate(Pause(), command="p")
        assert driver.only_waits
        assert driver.wake_at is None
        driver.operate(Unpause(), command="u")
        assert not driver.only_waits

    async def test_items_that_run_or_wait_are_told_apart(self, drive, journal, scripted, effect) -> None:
        wait = {"type": "wait", "signal": {"name": "go"}}
        driver = drive([{"id": "w", "foreach": "{1, 2, 3}", "executor": wait}])
        driver.start(b"{}")
        assert driver.only_waits
        other = drive([effect("e", foreach="{1, 2, 3}")], execution="e-2")
        other.start(b"{}")
        assert not other.only_waits
