"""An execution that was given up: its last fact may come while nodes have not ended, and says so."""

from __future__ import annotations

from typing import Any

import pytest

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.events.facts import ErrorInfo
from dagengine.machine import why
from dagengine.machine.check import check
from dagengine.machine.machine import fold
from dagengine.machine.operations import Pause, Rerun

ERROR = ErrorInfo(type="Broken", message="engine-1 broke down")


def last(at: int, *, given_up: bool = True) -> facts.ExecutionFailed:
    return facts.ExecutionFailed(at=at, error=ERROR, given_up=given_up)


@pytest.fixture
def it(hand: Any) -> Any:
    it = hand([{"id": "a"}, {"id": "b", "dependencies": ["a"]}])
    it.begin()
    return it


def test_it_has_failed_with_the_fault_and_its_nodes_are_left_as_they_were(it: Any) -> None:
    journal = [*it.world.facts, last(it.now)]
    machine = fold(it.world.graph, journal, execution="e-1", seed=7)
    check(machine)
    assert (machine.state.status, machine.state.error, machine.state.given_up) == ("failed", ERROR, True)
    assert machine.ended
    assert machine.state.unfinished == 2


def test_so_may_be_one_that_somebody_had_cancelled(hand: Any) -> None:
    it = hand([{"id": "a", "run_if": "always"}])
    it.begin()
    it.cancel()
    machine = fold(it.world.graph, [*it.world.facts, last(it.now)], execution="e-1", seed=7)
    check(machine)
    assert machine.state.status == "failed"


def test_it_is_told_apart_in_the_journal_alone(it: Any) -> None:
    assert facts.decode(facts.encode(last(5))) == last(5)
    assert b"given_up" not in facts.encode(last(5, given_up=False))
    with pytest.raises(MachineError, match="2 nodes have not ended"):
        it.state.apply(last(it.now, given_up=False))


def test_only_what_has_failed_was_given_up(it: Any) -> None:
    it.state.given_up = True
    it.state.status = "cancelled"
    with pytest.raises(MachineError, match="what was given up has failed"):
        check(it.machine)


def taken_over(it: Any) -> Any:
    """Its journal ends with the fact of whoever gave it up; another engine has it."""
    it.world.give_up()
    return it


class TestRetried:
    def test_whatever_ran_runs_again_too_whichever_nodes_are_named(self, hand: Any) -> None:
        it = hand([{"id": "a"}, {"id": "b"}, {"id": "c", "dependencies": ["b"]}])
        it.begin()
        it.end("a", "fail")
        (request, *_) = taken_over(it).operate(Rerun(nodes=("a",)))
        assert (request.nodes, request.fresh) == (("a", "b", "c"), ("a",))
        assert it.commands == ["run a 2", "run b 2"]

    def test_whatever_waited_waits_anew(self, hand: Any) -> None:
        wait = {"type": "wait", "signal": {"name": "go"}}
        it = hand([{"id": "a"}, {"id": "w", "executor": wait}])
        it.begin()
        it.end("a", "fail")
        taken_over(it).operate(Rerun(nodes=("a",)))
        assert it.phases == {"a": "running", "w": "waiting"}

    @pytest.mark.parametrize("nodes", [(), ("a",)])
    def test_nothing_need_have_begun(self, hand: Any, nodes: tuple[str, ...]) -> None:
        it = hand([{"id": "a", "when": "inputs.go"}, {"id": "b", "dependencies": ["a"]}])
        it.begin()
        (request,) = taken_over(it).operate(Rerun(nodes=nodes))
        assert isinstance(request, facts.RerunRequested)
        assert it.commands == ["evaluate when a"]

    def test_a_machine_that_has_asked_for_something_asks_again(self, hand: Any) -> None:
        it = hand([{"id": "a", "when": "inputs.go"}])
        it.begin()
        for machine in (it.world.machine, it.world.shadow):
            machine.state.apply(last(it.now))
        it.operate(Rerun())
        assert it.commands == ["evaluate when a"]

    def test_items_that_succeeded_are_kept(self, hand: Any) -> None:
        it = hand([{"id": "a", "foreach": "inputs.list"}, {"id": "b", "dependencies": ["a"]}])
        it.begin()
        it.evaluated("foreach", "a", b"[1,2]")
        it.end("a", index=0)
        request, _ = taken_over(it).operate(Rerun())
        assert (request.nodes, request.items) == (("b",), ("a",))
        assert it.commands == ["run a[1] 2"]

    def test_what_it_was_paused_at_is_forgotten(self, hand: Any) -> None:
        it = hand([{"id": "a"}])
        it.begin()
        it.operate(Pause())
        taken_over(it).operate(Rerun())
        assert it.commands == ["run a 2"]

    def test_on_exit_goes_on_where_it_was(self, hand: Any, kinds: Any) -> None:
        lua = {"type": "lua", "code": "return 1"}
        last_ones = [{"id": "x", "executor": lua}, {"id": "y", "executor": lua, "dependencies": ["x"]}]
        it = hand([{"id": "a"}], on_exit=last_ones)
        it.begin()
        it.end("a")
        it.end("x")
        made = taken_over(it).operate(Rerun())
        assert kinds(made) == ["RerunRequested", "ExecutionConcluded", "NodeStarted y"]


class TestUntilThen:
    def test_nothing_is_due(self, hand: Any) -> None:
        it = hand([{"id": "a", "retry": {"fail": {"max_attempts": 2}}}])
        it.begin()
        it.end("a", "fail")
        assert it.machine.wake_at is not None
        assert taken_over(it).machine.wake_at is None

    def test_each_node_that_has_not_ended_says_so(self, hand: Any) -> None:
        nodes = [{"id": "a", "retry": {"fail": {"max_attempts": 2}}}, {"id": "b", "dependencies": ["a"]}, {"id": "c"}]
        it = hand([*nodes, {"id": "d", "foreach": "inputs.list"}])
        it.begin()
        it.evaluated("foreach", "d", b"[1,2]")
        it.end("a", "fail")
        it.end("d", index=0)
        told = why.explain(taken_over(it).state)
        assert [(one.node, one.code) for one in told] == [(node, "given_up") for node in "abcd"]
        assert told[0].words == "the execution was given up before it had ended: engine-1 broke down"
        assert [(one.index, one.code) for one in why.explain_items(it.state, "d")] == [(1, "given_up")]
