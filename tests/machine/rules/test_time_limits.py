"""`total_timeout` of a node and `timeout` of the execution."""

from __future__ import annotations

from typing import Any

import pytest

from dagengine.machine.operations import Cancel, Pause
from dagengine.machine.stimuli import Admitted

SECOND = 1_000_000
LUA: dict[str, Any] = {"type": "lua", "code": "return 1"}


class TestOfANode:
    def test_it_counts_from_the_first_attempt(self, hand) -> None:
        it = hand([{"id": "a", "pool": "db", "total_timeout": "10s"}])
        it.begin()
        assert it.machine.wake_at is None
        it.pass_time(60 * SECOND)
        it.handle(Admitted(at=it.now, node=0, index=-1, attempt=1))
        assert it.machine.wake_at == it.now + 10 * SECOND

    def test_it_goes_on_over_attempts_and_is_final(self, hand, kinds) -> None:
        it = hand([{"id": "a", "total_timeout": "10s", "retry": {"error": {"max_attempts": 9}}}])
        it.begin()
        it.end("a", "error")
        it.pass_time(5 * SECOND)
        made = it.pass_time(5 * SECOND)
        assert kinds(made) == ["NodeFailed a", "ExecutionFailed"]
        assert (made[0].conclusion, made[0].error.type, made[0].attempt) == ("error", "NodeTimeout", 2)
        assert made[0].error.message == "the node took longer than its total_timeout of 10s"
        assert it.commands == ["abandon a 2"]

    def test_it_is_for_all_items_together(self, hand) -> None:
        it = hand([{"id": "a", "total_timeout": "10s", "foreach": "inputs.list", "max_parallel": 2}])
        it.begin()
        it.evaluated("foreach", "a", b"[1,2,3]")
        it.end("a", index=0)
        it.pass_time(10 * SECOND)
        assert it.commands == ["abandon a[1] 1", "abandon a[2] 1"]
        assert it.end("a", index=1) == []

    def test_a_node_that_ends_in_time_hears_nothing_of_it(self, hand) -> None:
        it = hand([{"id": "a", "total_timeout": "10s"}, {"id": "b"}])
        it.begin()
        it.end("a")
        assert it.machine.wake_at is None

    def test_what_was_asked_for_it_is_forgotten(self, hand) -> None:
        args = {"type": "python", "function": "f", "args": {"n": "{{ item }}"}}
        it = hand([{"id": "a", "total_timeout": "10s", "foreach": "inputs.list", "executor": args}])
        it.begin()
        it.evaluated("foreach", "a", b"[1]")
        it.pass_time(10 * SECOND)
        assert it.machine.awaited() == []
        assert it.evaluated("args", "a", b'{"n":1}', index=0) == []


class TestOfTheExecution:
    def test_everything_ends_but_what_runs_always(self, hand, kinds) -> None:
        nodes = [
            {"id": "a"},
            {"id": "b", "dependencies": ["a"]},
            {"id": "c", "dependencies": ["a"], "run_if": "always"},
        ]
        it = hand([*nodes, {"id": "d", "dependencies": ["a"], "run_if": "all_done"}], timeout="1m")
        it.begin()
        made = it.pass_time(60 * SECOND)
        assert kinds(made) == [
            "ExecutionTimedOut",
            "NodeCancelled a",
            "NodeSkipped b",
            "NodeSkipped d",
            "NodeStarted c",
        ]
        assert {fact.reason for fact in made[1:4]} == {"timeout"}
        _, failed = it.end("c")
        assert (failed.error.type, it.state.status) == ("ExecutionTimeout", "failed")
        assert failed.error.message == "the execution took longer than its timeout of 1m"

    def test_on_exit_is_not_counted(self, hand, kinds) -> None:
        it = hand([{"id": "a"}], timeout="1m", on_exit=[{"id": "x", "executor": LUA}])
        it.begin()
        it.end("a")
        assert it.machine.wake_at is None
        it.pass_time(120 * SECOND)
        assert kinds(it.end("x")) == ["NodeSucceeded x", "ExecutionSucceeded"]

    def test_it_is_enforced_after_a_crash(self, hand, kinds) -> None:
        it = hand([{"id": "a"}, {"id": "b"}], timeout="1m")
        it.begin()
        it.pass_time(60 * SECOND)
        assert kinds(it.crash(keep=5)) == ["NodeCancelled b", "ExecutionFailed"]

    def test_a_cancel_ends_it(self, hand) -> None:
        it = hand([{"id": "a", "run_if": "always"}], timeout="1m")
        it.begin()
        it.operate(Cancel())
        assert it.machine.wake_at is None


class TestOutputsThatAreBeingWorkedOut:
    """Every node has ended, and something comes in between."""

    @pytest.mark.parametrize("on_exit", [[], [{"id": "x", "executor": LUA}]])
    @pytest.mark.parametrize("how", ["cancel", "timeout"])
    def test_their_answer_changes_nothing_any_more(self, hand, how: str, on_exit: list[dict[str, Any]]) -> None:
        it = hand([{"id": "a"}], timeout="1m", outputs={"a": "{{ nodes.a }}"}, on_exit=on_exit)
        it.begin()
        it.end("a")
        assert it.commands == ["evaluate outputs"]
        it.operate(Cancel()) if how == "cancel" else it.pass_time(60 * SECOND)
        assert it.machine.awaited() == []
        assert it.evaluated("outputs", "", b'{"a":1}') == []
        if on_exit:
            it.end("x")
        assert it.state.status == ("cancelled" if how == "cancel" else "failed")


class TestPausesAfterATimeout:
    @pytest.mark.parametrize("place", ["nodes", "on_exit"])
    def test_it_lifts_them(self, hand, place: str) -> None:
        clean = {"id": "clean", "executor": LUA, "pool": "db"} | ({"run_if": "always"} if place == "nodes" else {})
        nodes = [{"id": "a"}, clean] if place == "nodes" else [{"id": "a"}]
        it = hand(nodes, timeout="1s", on_exit=[clean] if place == "on_exit" else [])
        it.begin()
        it.operate(Pause(node="clean"))
        it.pass_time(SECOND)
        assert it.commands[-1] == "admit clean 1"

    def test_items_go_on_too(self, hand) -> None:
        clean = {"id": "clean", "run_if": "always", "foreach": "inputs.list", "max_parallel": 1}
        it = hand([{"id": "a"}, clean], timeout="1s")
        it.begin()
        it.evaluated("foreach", "clean", b"[1,2]")
        it.operate(Pause(node="clean"))
        it.end("clean", index=0)
        it.pass_time(SECOND)
        assert it.commands == ["abandon a 1", "run clean[1] 1"]

    def test_none_begins(self, hand) -> None:
        it = hand([{"id": "a"}, {"id": "clean", "run_if": "always"}], timeout="1s")
        it.begin()
        it.pass_time(SECOND)
        (refused,) = it.operate(Pause(node="clean"))
        assert refused.why == "it has taken longer than its timeout, and is ending"
