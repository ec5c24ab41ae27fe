"""Cancelling: whatever has not ended ends, but nodes that run always; asking twice changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from dagengine.events import facts
from dagengine.machine.operations import Cancel

ALWAYS: dict[str, Any] = {"id": "clean", "run_if": "always", "dependencies": ["a"]}


def test_what_runs_is_abandoned_and_what_waits_is_skipped(hand, kinds) -> None:
    it = hand([{"id": "a"}, {"id": "b"}, {"id": "c", "dependencies": ["a"]}])
    it.begin()
    it.end("b")
    made = it.cancel()
    assert kinds(made) == ["CancelRequested", "NodeCancelled a", "NodeSkipped c", "ExecutionCancelled"]
    assert it.commands == ["abandon a 1"]
    assert made[2].reason == "cancelled"
    assert it.phases == {"a": "cancelled", "b": "succeeded", "c": "skipped"}
    assert it.state.status == "cancelled"


def test_the_facts_tell_who_asked_for_it_and_why(hand) -> None:
    it = hand([{"id": "a"}])
    it.begin()
    requested, *_, last = it.cancel("c-7", "too slow")
    assert (requested.author, requested.reason, requested.command) == ("ada", "too slow", "c-7")
    assert last.reason == "too slow"


def test_what_waits_to_be_tried_again_is_not(hand) -> None:
    it = hand([{"id": "a", "retry": {"fail": {"max_attempts": 3}}}])
    it.begin()
    it.end("a", "fail")
    it.cancel()
    assert it.phases == {"a": "cancelled"}
    assert it.commands == []
    assert it.machine.wake_at is None


def test_the_outcome_of_an_abandoned_attempt_changes_nothing(hand) -> None:
    it = hand([{"id": "a"}, ALWAYS])
    it.begin()
    it.cancel()
    assert it.end("a", "success", attempt=1) == []
    assert it.phases["a"] == "cancelled"


def test_an_expression_that_is_answered_after_it_changes_nothing(hand) -> None:
    it = hand([{"id": "a", "when": "inputs.go"}, {"id": "keep", "run_if": "always"}])
    it.begin()
    it.cancel()
    assert it.evaluated("when", "a", b"true") == []
    assert it.phases == {"a": "skipped", "keep": "running"}


class TestAlways:
    def test_a_node_that_runs_always_still_runs(self, hand, kinds) -> None:
        it = hand([{"id": "a"}, ALWAYS])
        it.begin()
        made = it.cancel()
        assert kinds(made) == ["CancelRequested", "NodeCancelled a", "NodeStarted clean"]
        assert it.commands == ["abandon a 1", "run clean 1"]
        assert kinds(it.end("clean")) == ["NodeSucceeded clean", "ExecutionCancelled"]

    def test_one_that_is_running_goes_on(self, hand) -> None:
        it = hand([{"id": "keep", "run_if": "always"}, {"id": "a"}])
        it.begin()
        it.cancel()
        assert it.commands == ["abandon a 1"]
        assert it.phases == {"keep": "running", "a": "cancelled"}
        it.end("keep")
        assert it.state.status == "cancelled"

    def test_one_that_waits_to_be_tried_again_is_tried_again(self, hand) -> None:
        it = hand([{"id": "keep", "run_if": "always", "retry": {"fail": {"max_attempts": 2}}}])
        it.begin()
        (failed,) = it.end("keep", "fail")
        it.cancel()
        it.pass_time(failed.retry_at - it.now)
        assert it.commands == ["run keep 2"]

    def test_one_that_fails_after_it_is_tried_again_as_ever(self, hand) -> None:
        it = hand([{"id": "keep", "run_if": "always", "retry": {"fail": {"max_attempts": 2}}}])
        it.begin()
        it.cancel()
        (failed,) = it.end("keep", "fail")
        assert failed.retry_at is not None
        it.pass_time(failed.retry_at - it.now)
        failed, last = it.end("keep", "fail")
        assert failed.retry_at is None
        assert isinstance(last, facts.ExecutionCancelled)

    def test_one_that_was_lost_in_a_crash_after_it_is_tried_again(self, hand) -> None:
        effect = {"type": "python", "function": "f"}
        it = hand([{"id": "a"}, {"id": "keep", "dependencies": ["a"], "run_if": "always", "executor": effect}])
        it.begin()
        it.cancel()
        orphaned, *_ = it.crash()
        assert orphaned.retry_at is not None

    def test_one_with_items_runs_them_all(self, hand) -> None:
        it = hand([{"id": "keep", "run_if": "always", "foreach": "inputs.list"}])
        it.begin()
        it.evaluated("foreach", "keep", b"[1,2]")
        it.cancel()
        it.end("keep", index=0)
        it.end("keep", index=1)
        assert (it.phases, it.state.status) == ({"keep": "succeeded"}, "cancelled")

    def test_what_depends_on_it_is_skipped_unless_it_runs_always_too(self, hand) -> None:
        it = hand([{"id": "a"}, ALWAYS, {"id": "b", "dependencies": ["clean"], "run_if": "all_done"}])
        it.begin()
        it.cancel()
        it.end("clean")
        assert it.phases == {"a": "cancelled", "clean": "succeeded", "b": "skipped"}


def test_the_items_of_a_node_are_abandoned_with_it(hand, kinds) -> None:
    it = hand([{"id": "a", "foreach": "inputs.list", "retry": {"fail": {"max_attempts": 2}}}])
    it.begin()
    it.evaluated("foreach", "a", b"[1,2,3]")
    it.end("a", index=0)
    it.end("a", "fail", index=1)
    assert kinds(it.cancel()) == ["CancelRequested", "NodeCancelled a", "ExecutionCancelled"]
    assert it.commands == ["abandon a[2] 1"]


def test_the_second_delivery_of_a_request_changes_nothing(hand) -> None:
    it = hand([{"id": "a"}, ALWAYS])
    it.begin()
    it.cancel("c-1")
    assert it.cancel("c-1") == []
    assert it.commands == []


def test_another_request_is_noted_and_changes_nothing_else(hand, kinds) -> None:
    it = hand([{"id": "a"}, ALWAYS])
    it.begin()
    it.cancel("c-1", "first")
    assert kinds(it.cancel("c-2", "second")) == ["CancelRequested"]
    assert it.cancel("c-2") == []
    (_, last) = it.end("clean")
    assert last.reason == "first"


def test_a_request_without_an_id_is_noted_each_time(hand, kinds) -> None:
    it = hand([{"id": "a"}, ALWAYS])
    it.begin()
    it.cancel("")
    assert kinds(it.cancel("")) == ["CancelRequested"]


def test_an_execution_that_has_ended_is_not_cancelled(hand) -> None:
    it = hand([{"id": "a"}])
    it.begin()
    it.end("a")
    assert it.cancel() == []
    assert it.state.status == "succeeded"


def test_an_execution_that_has_not_begun_is_not_cancelled(hand) -> None:
    it = hand([{"id": "a"}])
    assert it.cancel() == []
    it.begin()
    assert it.commands == ["run a 1"]


class TestBeforeItBegan:
    @pytest.fixture
    def request_(self) -> Cancel:
        return Cancel(author="ada", reason="not today")

    def test_no_node_starts(self, hand, kinds, request_: Cancel) -> None:
        it = hand([{"id": "a"}, {"id": "b", "dependencies": ["a"]}, {"id": "c", "when": "inputs.go"}])
        made = it.begin(cancel=request_, command="c-1")
        assert kinds(made) == [
            "ExecutionStarted",
            "CancelRequested",
            "NodeSkipped a",
            "NodeSkipped b",
            "NodeSkipped c",
            "ExecutionCancelled",
        ]
        assert it.commands == []

    def test_nodes_that_run_always_run(self, hand, request_: Cancel) -> None:
        it = hand([{"id": "a"}, ALWAYS])
        it.begin(cancel=request_, command="c-1")
        assert it.commands == ["run clean 1"]
        it.end("clean")
        assert it.state.status == "cancelled"

    def test_its_delivery_later_changes_nothing(self, hand, request_: Cancel) -> None:
        it = hand([{"id": "a"}, ALWAYS])
        it.begin(cancel=request_, command="c-1")
        assert it.cancel("c-1") == []


def test_it_wins_over_a_failure_before_it(hand) -> None:
    it = hand([{"id": "a"}, {"id": "b"}])
    it.begin()
    it.end("a", "fail")
    (*_, last) = it.cancel()
    assert isinstance(last, facts.ExecutionCancelled)


def test_outputs_are_not_evaluated_after_it(hand) -> None:
    it = hand([{"id": "a"}], outputs={"x": "{{ nodes.a }}"})
    it.begin()
    it.end("a")
    assert it.commands == ["evaluate outputs"]
    *_, last = it.cancel()
    assert isinstance(last, facts.ExecutionCancelled)
    assert it.evaluated("outputs", value=b'{"x":1}') == []
