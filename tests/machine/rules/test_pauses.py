"""Pausing: nothing new begins, and clocks stand still; in the whole execution or at a node."""

from __future__ import annotations

from typing import Any

import pytest

from dagengine.machine.commands import Admit
from dagengine.machine.operations import Cancel, EditInputs, Pause, Signal, Unpause
from dagengine.machine.stimuli import Admitted, Found

SECOND = 1_000_000
RETRY = {"fail": {"max_attempts": 2, "backoff": {"initial": "10s", "jitter": 0}}}
EFFECT = {"type": "python", "function": "f"}


def test_what_runs_may_end_and_what_follows_waits(hand, kinds) -> None:
    it = hand([{"id": "a"}, {"id": "b", "dependencies": ["a"]}])
    it.begin()
    it.operate(Pause(author="ada"))
    assert kinds(it.end("a")) == ["NodeSucceeded a"]
    assert kinds(it.operate(Unpause())) == ["Resumed", "NodeStarted b"]


def test_an_execution_ends_after_its_pause(hand, kinds) -> None:
    it = hand([{"id": "a"}])
    it.begin()
    it.operate(Pause())
    it.end("a")
    assert it.state.status == "running"
    assert kinds(it.operate(Unpause())) == ["Resumed", "ExecutionSucceeded"]


@pytest.mark.parametrize("node", ["", "a"])
class TestClocks:
    def test_a_retry_comes_later_by_the_pause(self, hand, kinds, node: str) -> None:
        it = hand([{"id": "a", "retry": RETRY}])
        it.begin()
        it.end("a", "fail")
        it.pass_time(4 * SECOND)
        it.operate(Pause(node=node))
        assert it.machine.wake_at is None
        assert it.pass_time(100 * SECOND) == []
        it.operate(Unpause(node=node))
        assert it.machine.wake_at == it.now + 6 * SECOND
        assert kinds(it.pass_time(6 * SECOND)) == ["NodeStarted a"]

    def test_a_clock_that_is_set_during_a_pause_stands_from_then_on(self, hand, node: str) -> None:
        it = hand([{"id": "a", "retry": RETRY}])
        it.begin()
        it.operate(Pause(node=node))
        it.pass_time(3 * SECOND)
        it.end("a", "fail")
        it.pass_time(50 * SECOND)
        it.operate(Unpause(node=node))
        assert it.machine.wake_at == it.now + 10 * SECOND

    def test_the_limit_of_a_node_stands(self, hand, kinds, node: str) -> None:
        it = hand([{"id": "a", "total_timeout": "10s"}])
        it.begin()
        it.operate(Pause(node=node))
        it.pass_time(60 * SECOND)
        it.operate(Unpause(node=node))
        assert it.pass_time(9 * SECOND) == []
        assert kinds(it.pass_time(SECOND))[0] == "NodeFailed a"

    def test_a_pause_outlives_a_crash(self, hand, node: str) -> None:
        it = hand([{"id": "a", "executor": {"type": "wait", "duration": "10s"}}])
        it.begin()
        it.operate(Pause(node=node))
        it.pass_time(60 * SECOND)
        it.crash()
        assert it.machine.wake_at is None
        it.operate(Unpause(node=node))
        assert it.machine.wake_at == it.now + 10 * SECOND


def test_the_limit_of_the_execution_stands_only_when_all_of_it_is_paused(hand) -> None:
    it = hand([{"id": "a"}], timeout="1m")
    it.begin()
    it.operate(Pause(node="a"))
    assert it.machine.wake_at == 1_000 + 60 * SECOND
    it.operate(Pause())
    assert it.machine.wake_at is None


def test_two_pauses_are_counted_once(hand) -> None:
    it = hand([{"id": "a", "executor": {"type": "wait", "duration": "10s"}}])
    it.begin()
    it.operate(Pause(node="a"))
    it.pass_time(SECOND)
    it.operate(Pause())
    it.pass_time(SECOND)
    it.operate(Unpause(node="a"))
    assert it.machine.wake_at is None
    it.pass_time(SECOND)
    it.operate(Unpause())
    assert it.machine.wake_at == 1_000 + 13 * SECOND


def test_a_signal_ends_a_wait_that_is_paused(hand) -> None:
    it = hand([{"id": "a", "executor": {"type": "wait", "signal": {"name": "go"}}}, {"id": "b", "dependencies": ["a"]}])
    it.begin()
    it.operate(Pause())
    it.operate(Signal(name="go"))
    assert it.phases == {"a": "succeeded", "b": "pending"}


class TestWhatWasBeingPrepared:
    def test_an_answer_that_comes_during_the_pause_is_asked_for_again(self, hand) -> None:
        it = hand([{"id": "a", "when": "inputs.go"}])
        it.begin()
        it.operate(Pause(node="a"))
        assert it.evaluated("when", "a", b"true") == []
        it.operate(Unpause(node="a"))
        assert it.commands == ["evaluate when a"]

    def test_room_that_was_asked_for_is_asked_for_again(self, hand, kinds) -> None:
        it = hand([{"id": "a", "pool": "db"}])
        it.begin()
        it.operate(Pause())
        assert not it.machine.wants_room(Admit(0, -1, 1))
        assert it.handle(Admitted(at=it.now, node=0, index=-1, attempt=1)) == []
        it.operate(Unpause())
        assert it.commands == ["admit a 1"]
        assert kinds(it.handle(Admitted(at=it.now, node=0, index=-1, attempt=1))) == ["NodeStarted a"]

    def test_a_retry_that_waits_for_room_goes_on_with_it(self, hand) -> None:
        it = hand([{"id": "a", "pool": "db", "retry": RETRY}])
        it.begin()
        it.handle(Admitted(at=it.now, node=0, index=-1, attempt=1))
        it.end("a", "fail")
        it.pass_time(10 * SECOND)
        it.operate(Pause(node="a"))
        it.operate(Unpause(node="a"))
        assert it.commands == ["admit a 2"]

    def test_inputs_can_be_edited_meanwhile(self, hand) -> None:
        it = hand([{"id": "a", "executor": EFFECT | {"args": {"n": "{{ inputs.n }}"}}}])
        it.begin()
        it.operate(Pause(node="a"))
        it.evaluated("args", "a", b'{"n":1}')
        it.operate(EditInputs(node="a", inputs=b'{"n":2}'))
        it.operate(Unpause(node="a"))
        assert it.commands == ["evaluate args a"]

    def test_a_cached_result_is_looked_up_again(self, hand) -> None:
        it = hand([{"id": "a", "cache": {"key": "k"}}])
        it.begin()
        it.evaluated("cache", "a", b'"k"')
        it.operate(Pause(node="a"))
        serial = it.machine.asked["lookup", 0, -1]
        it.handle(Found(at=it.now, node=0, index=-1, serial=serial, result=None))
        it.operate(Unpause(node="a"))
        assert it.commands == ["evaluate cache a"]


class TestItems:
    NODE: Any = {"id": "a", "foreach": "inputs.list", "max_parallel": 1}  # noqa: RUF012 - never changed

    @pytest.mark.parametrize("node", ["", "a"])
    def test_no_item_begins(self, hand, kinds, node: str) -> None:
        it = hand([self.NODE])
        it.begin()
        it.evaluated("foreach", "a", b"[1,2]")
        it.operate(Pause(node=node))
        assert kinds(it.end("a", index=0)) == ["NodeSucceeded a[0]"]
        assert kinds(it.operate(Unpause(node=node)))[1:] == ["NodeStarted a[1]"]

    def test_a_node_whose_items_have_all_ended_ends(self, hand, kinds) -> None:
        it = hand([self.NODE])
        it.begin()
        it.evaluated("foreach", "a", b"[1]")
        it.operate(Pause(node="a"))
        assert kinds(it.end("a", index=0))[:2] == ["NodeSucceeded a[0]", "NodeSucceeded a"]


class TestCancelling:
    def test_it_lifts_every_pause(self, hand) -> None:
        it = hand([{"id": "a"}, {"id": "b"}], on_exit=[{"id": "x", "executor": {"type": "lua", "code": "return 1"}}])
        it.begin()
        it.operate(Pause())
        it.operate(Pause(node="b"))
        it.operate(Cancel())
        assert it.state.paused == {}
        assert it.phases["x"] == "running"

    def test_a_node_that_runs_always_begins_though_it_was_paused(self, hand, kinds) -> None:
        it = hand([{"id": "b"}, {"id": "a", "run_if": "always", "dependencies": ["b"]}, {"id": "c"}])
        it.begin()
        it.operate(Pause(node="a"))
        it.end("b")
        assert kinds(it.operate(Cancel())) == ["CancelRequested", "NodeCancelled c", "NodeStarted a"]

    def test_items_of_a_node_that_runs_always_go_on(self, hand, kinds) -> None:
        it = hand([{"id": "a", "run_if": "always", "foreach": "inputs.list", "max_parallel": 1}, {"id": "b"}])
        it.begin()
        it.evaluated("foreach", "a", b"[1,2]")
        it.operate(Pause(node="a"))
        it.end("a", index=0)
        assert kinds(it.operate(Cancel()))[-1] == "NodeStarted a[1]"
