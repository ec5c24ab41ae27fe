"""`fail_fast`: at the first node that fails for good, everything ends but what is there for failures."""

from __future__ import annotations

from typing import Any

import pytest

from dagengine.machine.operations import Pause, Rerun, Unpause


@pytest.fixture
def fast(hand):
    def make(nodes: list[dict[str, Any]], **spec: Any):
        it = hand(nodes, failure_policy="fail_fast", **spec)
        it.begin()
        return it

    return make


def test_what_runs_is_stopped_and_what_has_not_begun_is_skipped(fast, kinds) -> None:
    it = fast([{"id": "a"}, {"id": "b"}, {"id": "c", "dependencies": ["b"]}])
    assert kinds(it.end("a", "fail")) == ["NodeFailed a", "NodeCancelled b", "NodeSkipped c", "ExecutionFailed"]
    assert [fact.reason for fact in it.facts[1:3]] == ["fail_fast", "fail_fast"]
    assert it.commands == ["abandon b 1"]


def test_a_failure_that_is_tried_again_stops_nothing(fast) -> None:
    it = fast([{"id": "a", "retry": {"fail": {"max_attempts": 2}}}, {"id": "b"}])
    it.end("a", "fail")
    assert it.phases == {"a": "backoff", "b": "running"}


@pytest.mark.parametrize(
    ("run_if", "phase"),
    [
        ("any_failed", "running"),
        ("all_done", "running"),
        ("always", "running"),
        ("any_succeeded", "skipped"),
        ("none_failed", "skipped"),
    ],
)
def test_nodes_that_are_there_for_failures_still_run(fast, run_if: str, phase: str) -> None:
    it = fast([{"id": "a"}, {"id": "b"}, {"id": "c", "dependencies": ["a", "b"], "run_if": run_if}])
    it.end("a", "fail")
    assert it.phases["c"] == phase


def test_one_that_is_running_goes_on(fast) -> None:
    it = fast([{"id": "a"}, {"id": "b", "run_if": "all_done"}])
    it.end("a", "fail")
    assert it.phases["b"] == "running"


def test_a_node_that_fails_before_its_first_attempt_counts(fast) -> None:
    it = fast([{"id": "a", "when": "inputs.go"}, {"id": "b"}])
    it.evaluated("when", "a", b"!")
    assert it.phases == {"a": "failed", "b": "cancelled"}


def test_on_exit_runs_and_its_failures_stop_nothing(fast) -> None:
    lua = {"type": "lua", "code": "return 1"}
    it = fast([{"id": "a"}], on_exit=[{"id": "x", "executor": lua}, {"id": "y", "executor": lua}])
    it.end("a")
    it.end("x", "fail")
    assert it.phases["y"] == "running"


def test_it_follows_the_end_of_a_pause(fast) -> None:
    it = fast([{"id": "a"}, {"id": "b"}])
    it.operate(Pause())
    it.end("a", "fail")
    assert it.phases["b"] == "running"
    it.operate(Unpause())
    assert it.phases["b"] == "cancelled"


def test_a_failure_that_was_committed_without_what_follows_counts_after_a_crash(fast, kinds) -> None:
    it = fast([{"id": "a"}, {"id": "b"}])
    it.end("a", "fail")
    assert kinds(it.crash(keep=4)) == ["NodeCancelled b", "ExecutionFailed"]


@pytest.mark.parametrize("crashing", [False, True])
def test_after_a_retry_only_what_fails_anew_counts(fast, crashing: bool) -> None:
    it = fast([{"id": "a"}, {"id": "b"}, {"id": "c"}])
    it.end("a", "fail")
    it.operate(Rerun(nodes=("b", "c")))
    if crashing:
        it.crash()
    assert it.phases == {"a": "failed", "b": "running", "c": "running"}
    it.end("b", "fail")
    assert it.phases["c"] == "cancelled"


def test_after_a_pause_nothing_begins_only_to_be_given_up(hand, kinds) -> None:
    nodes = [{"id": "a"}, {"id": "d", "foreach": "inputs.list", "max_parallel": 1}]
    it = hand(nodes, failure_policy="fail_fast")
    it.begin()
    it.evaluated("foreach", "d", b"[1,2]")
    it.operate(Pause())
    it.end("d", index=0)
    it.end("a", "fail")
    assert kinds(it.operate(Unpause())) == ["Resumed", "NodeCancelled d", "ExecutionFailed"]


def test_nothing_begins_that_is_due_after_the_node_that_failed(hand, kinds) -> None:
    retry = {"fail": {"max_attempts": 2, "backoff": {"initial": "2s", "jitter": 0}}}
    it = hand([{"id": "a", "total_timeout": "1s"}, {"id": "b", "retry": retry}], failure_policy="fail_fast")
    it.begin()
    it.end("b", "fail")
    assert kinds(it.pass_time(3_000_000)) == ["NodeFailed a", "NodeCancelled b", "ExecutionFailed"]


def test_nothing_begins_after_a_crash_that_it_stops(hand, kinds) -> None:
    nodes = [{"id": "a"}, {"id": "d", "foreach": "inputs.list", "max_parallel": 1}]
    it = hand(nodes, failure_policy="fail_fast")
    it.begin()
    it.evaluated("foreach", "d", b"[1,2]")
    it.operate(Pause())
    it.end("d", index=0)
    it.end("a", "fail")
    it.operate(Unpause())
    resumed = kinds(it.world.facts).index("Resumed")
    assert kinds(it.crash(keep=resumed + 1)) == ["NodeCancelled d", "ExecutionFailed"]


EFFECT: dict[str, Any] = {"type": "python", "function": "f"}


def test_effects_that_it_stops_are_no_orphans_after_a_crash(hand, kinds) -> None:
    it = hand([{"id": "a"}, {"id": "b", "executor": EFFECT}], failure_policy="fail_fast")
    it.begin()
    it.end("a", "fail")
    failed = kinds(it.world.facts).index("NodeFailed a")
    assert kinds(it.crash(keep=failed + 1)) == ["NodeCancelled b", "ExecutionFailed"]


def test_an_orphan_that_fails_for_good_stops_items_that_would_begin(hand, kinds) -> None:
    once = {"error": {"max_attempts": 1}}
    nodes = [{"id": "a", "executor": EFFECT, "retry": once}, {"id": "d", "foreach": "inputs.list", "max_parallel": 1}]
    it = hand(nodes, failure_policy="fail_fast")
    it.begin()
    it.evaluated("foreach", "d", b"[1,2]")
    it.end("d", index=0)
    ended = kinds(it.world.facts).index("NodeSucceeded d[0]")
    assert kinds(it.crash(keep=ended + 1)) == ["NodeFailed a", "NodeCancelled d", "ExecutionFailed"]
