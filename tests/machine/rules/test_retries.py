"""Retries: counted per conclusion, after waits that grow, are capped, are spread, and replay the same."""

from __future__ import annotations

from typing import Any

import pytest

from dagengine.events import facts
from dagengine.machine import backoff
from dagengine.machine.commands import Run
from dagengine.machine.machine import Machine
from dagengine.machine.stimuli import AttemptEnded, Begin, TimePassed
from dagengine.spec.model import Backoff

SECOND = 1_000_000


def policy(attempts: int, **wait: Any) -> dict[str, Any]:
    return {"max_attempts": attempts, "backoff": {"initial": "1s", "factor": 2, "max": "30s", "jitter": 0} | wait}


def test_a_node_that_said_no_is_not_tried_again_by_default(hand) -> None:
    it = hand([{"id": "a"}])
    it.begin()
    (failed, last) = it.end("a", "fail")
    assert (failed.conclusion, failed.attempt, failed.retry_at) == ("fail", 1, None)
    assert isinstance(last, facts.ExecutionFailed)


def test_a_node_that_broke_down_is_tried_three_times_by_default(hand) -> None:
    it = hand([{"id": "a"}])
    it.begin()
    for attempt in (1, 2):
        (failed,) = it.end("a", "error")
        assert failed.attempt == attempt
        it.pass_time(failed.retry_at - it.now)
        assert it.commands == [f"run a {attempt + 1}"]
    failed, _ = it.end("a", "error")
    assert (failed.attempt, failed.retry_at) == (3, None)


def test_the_two_conclusions_are_counted_apart(hand) -> None:
    it = hand([{"id": "a", "retry": {"fail": policy(2), "error": policy(3)}}])
    it.begin()
    for conclusion in ("error", "fail", "error"):
        (failed,) = it.end("a", conclusion)
        assert failed.retry_at is not None
        it.pass_time(failed.retry_at - it.now)
    assert it.state.attempt[0] == 4
    assert it.state.failures[0, -1] == (1, 2)
    failed, _ = it.end("a", "fail")
    assert (failed.attempt, failed.retry_at) == (4, None)
    assert it.phases == {"a": "failed"}


def test_each_conclusion_has_waits_of_its_own(hand) -> None:
    it = hand([{"id": "a", "retry": {"fail": policy(9, initial="1s"), "error": policy(9, initial="10s")}}])
    it.begin()
    waits = []
    for conclusion in ("fail", "error", "fail", "error"):
        (failed,) = it.end("a", conclusion)
        waits.append((failed.retry_at - it.now) // SECOND)
        it.pass_time(failed.retry_at - it.now)
    assert waits == [1, 10, 2, 20]


def test_a_retry_is_due_exactly_at_its_time(hand) -> None:
    it = hand([{"id": "a", "retry": {"fail": policy(2)}}])
    it.begin()
    (failed,) = it.end("a", "fail")
    assert it.phases == {"a": "backoff"}
    assert it.machine.wake_at == failed.retry_at == it.now + SECOND
    assert it.pass_time(SECOND - 1) == []
    (started,) = it.pass_time(1)
    assert (started.attempt, it.commands) == (2, ["run a 2"])
    assert it.machine.wake_at is None


def test_retries_become_due_in_the_order_of_their_times(hand) -> None:
    slow, quick = policy(2, initial="9s"), policy(2, initial="2s")
    it = hand([{"id": "a", "retry": {"fail": slow}}, {"id": "b", "retry": {"fail": quick}}])
    it.begin()
    it.end("a", "fail")
    it.end("b", "fail")
    it.pass_time(2 * SECOND)
    assert it.commands == ["run b 2"]
    it.pass_time(7 * SECOND)
    assert it.commands == ["run a 2"]


def test_all_that_is_due_starts_at_one_stroke(hand) -> None:
    it = hand([{"id": name, "retry": {"fail": policy(2)}} for name in "abc"])
    it.begin()
    for name in "abc":
        it.end(name, "fail")
    it.pass_time(3600 * SECOND)
    assert it.commands == ["run a 2", "run b 2", "run c 2"]


def test_an_attempt_that_ends_late_changes_nothing(hand) -> None:
    it = hand([{"id": "a", "retry": {"fail": policy(3)}}])
    it.begin()
    it.end("a", "fail")
    assert it.end("a", "success", attempt=1) == []
    it.pass_time(SECOND)
    assert it.end("a", "success", attempt=1) == []
    assert it.end("a", "fail", attempt=3) == []
    assert it.phases == {"a": "running"}
    it.end("a", "success", attempt=2)
    assert it.state.status == "succeeded"


def test_an_answer_that_comes_twice_changes_nothing(hand) -> None:
    it = hand([{"id": "a"}, {"id": "b"}])
    it.begin()
    it.end("a", result=b"1")
    assert it.end("a", result=b"2") == []
    assert it.state.result(0) == b"1"


def test_an_attempt_that_does_not_say_why_it_ended_has_an_error_all_the_same(hand) -> None:
    it = hand([{"id": "a"}])
    it.begin()
    (failed, _) = it.handle(AttemptEnded(it.now, 0, -1, 1, "fail", b"null", None, 5))
    assert failed.error.message == "the attempt ended without saying why"


class TestWaits:
    @staticmethod
    def waits(policy: Backoff, *, seed: int = 1, count: int = 10) -> list[int]:
        return [backoff.wait(policy, ended, seed=seed, unit=(0, -1, ended)) for ended in range(1, count + 1)]

    def test_they_grow_by_the_factor_up_to_the_longest(self) -> None:
        made = Backoff(initial="1s", factor=2, max="30s", jitter=0.0)
        assert [wait // SECOND for wait in self.waits(made, count=7)] == [1, 2, 4, 8, 16, 30, 30]

    def test_a_factor_of_one_keeps_them_equal(self) -> None:
        assert set(self.waits(Backoff(initial="1s", factor=1, jitter=0.0))) == {SECOND}

    def test_a_small_factor_goes_on_growing(self) -> None:
        slow = self.waits(Backoff(initial="1s", factor=1.01, max="1h", jitter=0.0), count=300)
        assert slow == sorted(slow)
        assert slow[299] == pytest.approx(SECOND * 1.01**299)

    def test_the_thousandth_wait_of_the_steepest_growth_is_at_its_cap(self) -> None:
        steep = Backoff(initial="1s", factor=100, max="2h", jitter=0.0)
        assert backoff.wait(steep, 1_000, seed=1, unit=(0, -1, 1_000)) == 7200 * SECOND

    def test_without_an_initial_wait_there_is_none(self) -> None:
        assert set(self.waits(Backoff(initial="0s", factor=100), count=1_000)) == {0}

    @pytest.mark.parametrize("jitter", [0.1, 0.5, 1.0])
    def test_jitter_spreads_them_over_its_share_to_both_sides(self, jitter: float) -> None:
        spread = Backoff(initial="10s", factor=1, jitter=jitter)
        waits = [backoff.wait(spread, 1, seed=seed, unit=(0, -1, 1)) for seed in range(2_000)]
        base = 10 * SECOND
        assert base * (1 - jitter) <= min(waits) < base * (1 - 0.95 * jitter)
        assert base * (1 + 0.95 * jitter) < max(waits) <= base * (1 + jitter)
        assert sum(waits) / len(waits) == pytest.approx(base, rel=0.05 * jitter)

    def test_the_same_seed_waits_as_long_and_another_does_not(self) -> None:
        made = Backoff(initial="10s", jitter=0.5)
        assert self.waits(made, seed=3) == self.waits(made, seed=3)
        assert self.waits(made, seed=3) != self.waits(made, seed=4)

    def test_units_and_attempts_wait_differently(self) -> None:
        made = Backoff(initial="10s", factor=1, jitter=1.0)
        units = [(position, index, attempt) for position in range(5) for index in range(-1, 4) for attempt in (1, 2, 3)]
        assert len({backoff.wait(made, 1, seed=9, unit=unit) for unit in units}) == len(units)


def test_two_machines_with_one_seed_make_the_same_facts_and_with_another_other_times(graph) -> None:
    plan = graph([{"id": "a", "retry": {"fail": policy(5, jitter=1.0)}}])

    def retries(seed: int) -> list[int]:
        machine = Machine(plan, execution="e-1", seed=seed)
        (command,) = machine.handle(Begin(at=1_000, inputs=b"{}")).commands
        found = []
        for _ in range(4):
            assert isinstance(command, Run)
            ended = AttemptEnded(machine.state.now, 0, -1, command.attempt, "fail", b"null", None, 5)
            (failed,) = machine.handle(ended).facts
            assert isinstance(failed, facts.NodeFailed)
            assert failed.retry_at is not None
            found.append(failed.retry_at)
            (command,) = machine.handle(TimePassed(at=failed.retry_at)).commands
        return found

    assert retries(7) == retries(7)
    assert retries(7) != retries(8)
