"""The grace of a cancel: what has effects may end by itself, and nothing else goes on."""

from __future__ import annotations

from typing import Any

from dagengine.machine.operations import Cancel, Rerun

SECOND = 1_000_000
EFFECT: dict[str, Any] = {"id": "a", "executor": {"type": "python", "function": "f"}}
RETRIED = EFFECT | {"retry": {"fail": {"max_attempts": 3, "backoff": {"initial": "1s", "jitter": 0}}}}


def test_effects_are_asked_to_end_and_everything_else_is_stopped(hand, kinds) -> None:
    it = hand([EFFECT, {"id": "pure"}, {"id": "next", "dependencies": ["a"]}])
    it.begin()
    made = it.operate(Cancel(grace=10 * SECOND))
    assert kinds(made) == ["CancelRequested", "NodeCancelled pure", "NodeSkipped next"]
    assert it.commands == ["abandon a 1", "abandon pure 1"]
    assert [command.grace for command in it.last.commands] == [10 * SECOND, 0]
    assert it.machine.wake_at == it.now + 10 * SECOND


def test_a_success_within_it_counts(hand, kinds) -> None:
    it = hand([EFFECT])
    it.begin()
    it.operate(Cancel(grace=SECOND))
    assert kinds(it.end("a")) == ["NodeSucceeded a", "ExecutionCancelled"]


def test_a_failure_within_it_is_not_tried_again(hand, kinds) -> None:
    it = hand([RETRIED])
    it.begin()
    it.operate(Cancel(grace=SECOND))
    assert kinds(it.end("a", "fail")) == ["NodeCancelled a", "ExecutionCancelled"]


def test_when_it_is_over_what_runs_is_stopped(hand, kinds) -> None:
    it = hand([EFFECT])
    it.begin()
    it.operate(Cancel(grace=SECOND))
    assert kinds(it.pass_time(SECOND)) == ["NodeCancelled a", "ExecutionCancelled"]
    assert it.commands == ["abandon a 1"]
    assert it.last.commands[0].grace == 0


def test_a_shorter_one_counts_and_a_longer_one_does_not(hand, kinds) -> None:
    it = hand([EFFECT])
    it.begin()
    it.operate(Cancel(grace=60 * SECOND))
    assert kinds(it.operate(Cancel(grace=90 * SECOND))) == ["CancelRequested"]
    assert it.commands == []
    it.operate(Cancel(grace=5 * SECOND))
    assert it.commands == ["abandon a 1"]
    assert it.machine.wake_at == it.now + 5 * SECOND
    assert kinds(it.pass_time(5 * SECOND)) == ["NodeCancelled a", "ExecutionCancelled"]


def test_a_cancel_without_any_ends_it(hand, kinds) -> None:
    it = hand([EFFECT])
    it.begin()
    it.operate(Cancel(grace=60 * SECOND))
    assert kinds(it.operate(Cancel())) == ["CancelRequested", "NodeCancelled a", "ExecutionCancelled"]


def test_terminating_ends_it(hand, kinds) -> None:
    it = hand([EFFECT], on_exit=[{"id": "x", "executor": {"type": "lua", "code": "return 1"}}])
    it.begin()
    it.operate(Cancel(grace=60 * SECOND))
    made = it.operate(Cancel(terminate=True))
    assert kinds(made) == ["CancelRequested", "NodeCancelled a", "NodeSkipped x", "ExecutionCancelled"]


def test_a_crash_ends_it(hand, kinds) -> None:
    it = hand([EFFECT])
    it.begin()
    it.operate(Cancel(grace=60 * SECOND))
    assert kinds(it.crash()) == ["NodeCancelled a", "ExecutionCancelled"]


class TestItems:
    def expanded(self, hand):
        it = hand([RETRIED | {"foreach": "inputs.list", "max_parallel": 2}])
        it.begin()
        it.evaluated("foreach", "a", b"[1,2,3]")
        return it

    def test_no_item_begins_and_none_is_tried_again(self, hand, kinds) -> None:
        it = self.expanded(hand)
        it.end("a", "fail", index=1)
        it.operate(Cancel(grace=60 * SECOND))
        assert it.pass_time(SECOND) == []
        assert kinds(it.end("a", index=0)) == ["NodeSucceeded a[0]", "NodeCancelled a", "ExecutionCancelled"]

    def test_the_node_succeeds_when_all_its_items_do(self, hand, kinds) -> None:
        it = self.expanded(hand)
        it.end("a", index=0)
        it.end("a", index=1)
        it.operate(Cancel(grace=SECOND))
        assert kinds(it.end("a", index=2)) == ["NodeSucceeded a[2]", "NodeSucceeded a", "ExecutionCancelled"]


def test_the_grace_of_a_cancel_before_a_retry_is_forgotten(hand) -> None:
    it = hand([EFFECT])
    it.begin()
    it.operate(Cancel(grace=600 * SECOND))
    it.now += SECOND
    it.end("a", "fail")
    it.operate(Rerun())
    it.now += SECOND
    it.operate(Cancel(grace=600 * SECOND))
    assert it.pass_time(599 * SECOND) == []
    assert it.phases == {"a": "running"}
