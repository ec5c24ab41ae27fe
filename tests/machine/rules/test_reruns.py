"""Running parts of an execution again: what runs, what is kept, and how it ends then."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from dagengine.machine.operations import Cancel, Pause, Rerun, Skip, Unpause
from dagengine.machine.stimuli import Admitted

LUA: dict[str, Any] = {"type": "lua", "code": "return 1"}
CHAIN: list[dict[str, Any]] = [{"id": "a"}, {"id": "b", "dependencies": ["a"]}, {"id": "c", "dependencies": ["b"]}]


def test_a_node_runs_again_with_everything_below_it(hand, kinds) -> None:
    it = hand(CHAIN)
    it.begin()
    for node in "abc":
        it.end(node)
    made = it.operate(Rerun(nodes=("b",), author="ada"), "r-1")
    assert kinds(made) == ["RerunRequested", "NodeStarted b"]
    assert (made[0].nodes, made[0].author, made[0].command) == (("b", "c"), "ada", "r-1")
    assert made[1].attempt == 2
    assert it.phases == {"a": "succeeded", "b": "running", "c": "pending"}


def test_without_nodes_it_is_all_that_did_not_succeed(hand) -> None:
    it = hand([*CHAIN, {"id": "d"}])
    it.begin()
    it.end("a")
    it.end("d")
    it.end("b", "fail")
    it.operate(Rerun())
    assert it.facts[0].nodes == ("b", "c")


def test_what_its_condition_skipped_is_kept(hand) -> None:
    it = hand([{"id": "a", "when": "inputs.go"}, {"id": "b"}])
    it.begin()
    it.evaluated("when", "a", b"false")
    it.end("b", "fail")
    it.operate(Rerun())
    assert it.facts[0].nodes == ("b",)


def test_the_policy_grants_as_many_attempts_as_at_first(hand) -> None:
    it = hand([{"id": "a", "retry": {"fail": {"max_attempts": 2, "backoff": {"initial": "1s"}}}}])
    it.begin()
    for _ in range(2):
        it.end("a", "fail")
        it.pass_time(2_000_000)
    it.operate(Rerun())
    it.end("a", "fail")
    assert it.phases == {"a": "backoff"}


def test_the_idempotency_key_is_another_one(hand) -> None:
    it = hand([{"id": "a", "executor": {"type": "python", "function": "f"}}])
    it.begin()
    it.end("a")
    it.operate(Rerun(nodes=("a",)))
    assert it.state.generation_of(0, -1) == 1


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (Rerun(), "nothing has failed; name the nodes that are to run again"),
        (Rerun(nodes=("b",)), "b has not run yet"),
        (Rerun(nodes=("x",)), "the workflow has no node 'x'"),
    ],
)
def test_what_cannot_run_again(hand, operation: Rerun, why: str) -> None:
    it = hand(CHAIN)
    it.begin()
    (refused,) = it.operate(operation)
    assert refused.why == why


def test_an_execution_that_is_ending_cannot_be_taken_up_yet(hand) -> None:
    it = hand([{"id": "a"}], on_exit=[{"id": "x", "executor": LUA}])
    it.begin()
    it.end("a")
    (refused,) = it.operate(Rerun(nodes=("a",)))
    assert refused.why == "it is ending; retry it once it has ended"


def test_on_exit_runs_again_too(hand, kinds) -> None:
    it = hand([{"id": "a"}], on_exit=[{"id": "x", "executor": LUA}])
    it.begin()
    it.end("a", "fail")
    it.end("x")
    it.operate(Rerun())
    assert it.phases == {"a": "running", "x": "pending"}
    assert kinds(it.end("a")) == ["NodeSucceeded a", "ExecutionConcluded", "NodeStarted x"]


def test_a_node_of_on_exit_alone(hand, kinds) -> None:
    it = hand([{"id": "a"}], on_exit=[{"id": "x", "executor": LUA}])
    it.begin()
    it.end("a")
    it.end("x", "fail")
    assert kinds(it.operate(Rerun())) == ["RerunRequested", "ExecutionConcluded", "NodeStarted x"]
    assert kinds(it.end("x")) == ["NodeSucceeded x", "ExecutionSucceeded"]


def test_what_was_overridden_runs_again_when_something_above_it_does(hand) -> None:
    it = hand(CHAIN)
    it.begin()
    it.operate(Skip(node="b", result=Raw(b"5")))
    it.end("a")
    it.operate(Rerun(nodes=("a",)))
    assert it.phases["b"] == "pending"
    assert it.state.overridden == {}


def test_room_that_is_granted_late_is_not_for_the_attempt_after_it(hand) -> None:
    it = hand([{"id": "a", "foreach": "inputs.list", "pool": "db"}])
    it.begin()
    it.evaluated("foreach", "a", b"[1]")
    granted = Admitted(at=it.now, node=0, index=0, attempt=1)
    it.handle(granted)
    it.end("a", "fail", index=0)
    it.operate(Rerun())
    assert it.commands == ["admit a[0] 2"]
    assert it.handle(granted) == []
    assert it.phase("a", 0) == "pending"


class TestHowItEnds:
    def test_not_as_a_success_with_nodes_that_were_given_up(self, hand) -> None:
        it = hand([{"id": "a"}, {"id": "b"}, {"id": "c", "dependencies": ["b"]}])
        it.begin()
        it.operate(Cancel())
        it.operate(Rerun(nodes=("a",)))
        _, failed = it.end("a")
        assert failed.error.type == "NodeCancelled"
        assert failed.error.message == "node 'b' was given up, and has not been run again (and 1 more)"

    def test_as_a_success_when_those_have_run_too(self, hand) -> None:
        it = hand([{"id": "a"}, {"id": "b"}])
        it.begin()
        it.operate(Cancel())
        it.operate(Rerun(nodes=("a",)))
        it.end("a")
        it.operate(Rerun())
        it.end("b")
        assert it.state.status == "succeeded"


class TestItems:
    NODE: Any = {"id": "a", "foreach": "inputs.list", "fail_after": 0}  # noqa: RUF012 - never changed

    def failed(self, hand, **fields: Any):
        it = hand([self.NODE | fields, {"id": "b", "dependencies": ["a"]}])
        it.begin()
        it.evaluated("foreach", "a", b"[1,2,3]")
        it.end("a", index=0)
        it.end("a", "fail", index=1)
        return it

    def test_those_that_succeeded_are_kept(self, hand, kinds) -> None:
        it = self.failed(hand)
        made = it.operate(Rerun())
        assert kinds(made) == ["RerunRequested", "NodeStarted a[1]", "NodeStarted a[2]"]
        assert (made[0].nodes, made[0].items) == (("b",), ("a",))
        assert it.commands == ["run a[1] 2", "run a[2] 2"]

    def test_all_run_again_when_the_node_is_named(self, hand) -> None:
        it = self.failed(hand)
        it.operate(Rerun(nodes=("a",)))
        it.evaluated("foreach", "a", b"[1,2]")
        assert it.commands == ["run a[0] 2", "run a[1] 2"]

    def test_their_limit_counts_from_then_on(self, hand) -> None:
        it = self.failed(hand, total_timeout="1m")
        it.pass_time(3_600_000_000)
        it.operate(Rerun())
        assert it.machine.wake_at == it.now + 60_000_000

    def test_during_a_pause_they_wait_for_its_end(self, hand) -> None:
        it = hand([self.NODE | {"fail_after": None}, {"id": "b"}])
        it.begin()
        it.evaluated("foreach", "a", b"[1]")
        it.end("a", "fail", index=0)
        it.operate(Pause())
        assert it.operate(Rerun())[1:] == []
        assert it.phases == {"a": "running", "b": "running"}

    def test_after_a_crash_they_go_on(self, hand, kinds) -> None:
        it = self.failed(hand)
        it.operate(Rerun())
        made = len(it.world.facts)
        assert kinds(it.crash(keep=made - 2)) == ["NodeStarted a[1]", "NodeStarted a[2]"]


class TestTheLimitOfTheExecution:
    def test_it_goes_on_when_it_had_not_ended(self, hand) -> None:
        it = hand([{"id": "a"}, {"id": "b"}], timeout="1h")
        it.begin()
        due = it.machine.wake_at
        it.pass_time(60_000_000)
        it.end("a", "fail")
        it.operate(Rerun())
        assert it.machine.wake_at == due

    def test_it_begins_anew_when_it_had(self, hand) -> None:
        it = hand([{"id": "a"}], timeout="1h")
        it.begin()
        it.pass_time(3_600_000_000)
        assert it.state.status == "failed"
        it.operate(Rerun())
        assert it.machine.wake_at == it.now + 3_600_000_000


def test_attempts_of_items_go_on_counting_over_an_expansion_to_nothing(hand) -> None:
    it = hand([{"id": "a", "foreach": "inputs.list"}, {"id": "b"}])
    it.begin()
    for items in (b"[1]", b"[]", b"[1]"):
        it.evaluated("foreach", "a", items)
        if items == b"[1]" and it.state.reruns:
            break
        it.operate(Rerun(nodes=("a",)))
    assert it.commands == ["run a[0] 2"]
    assert it.end("a", index=0, attempt=1) == []


class TestPauses:
    def test_one_of_before_the_end_does_not_hold_up_what_runs_again(self, hand) -> None:
        it = hand([{"id": "a"}], outputs={"x": "{{ nodes.a }}"})
        it.begin()
        it.end("a")
        it.operate(Pause())
        it.evaluated("outputs", value=b'{"x":1}')
        assert it.state.status == "succeeded"
        it.operate(Rerun(nodes=("a",)))
        assert it.commands == ["run a 2"]

    @pytest.mark.parametrize("ended", [True, False])
    def test_one_of_a_node_ends_with_it(self, hand, ended: bool) -> None:
        it = hand([{"id": "a"}, {"id": "b"}])
        it.begin()
        it.operate(Pause(node="a"))
        it.end("a")
        if ended:
            it.end("b")
        it.operate(Rerun(nodes=("a",)))
        assert it.commands == ["run a 2"]

    def test_one_of_a_node_that_has_not_ended_goes_on(self, hand) -> None:
        it = hand([{"id": "a"}, {"id": "b"}])
        it.begin()
        it.operate(Pause(node="a"))
        it.operate(Rerun(nodes=("a",)))
        assert it.commands == ["abandon a 1"]
        it.operate(Unpause(node="a"))
        assert it.commands == ["run a 2"]


def test_of_many_nodes_with_items_each_is_looked_at_once(hand) -> None:
    nodes = [{"id": f"n{at}", "foreach": "inputs.list"} for at in range(100)]
    it = hand([*nodes, {"id": "z", "dependencies": ["n0"], "foreach": "inputs.list", "run_if": "any_failed"}])
    it.begin()
    for at in range(100):
        it.evaluated("foreach", f"n{at}", b"[1,2]")
        it.end(f"n{at}", index=0)
        it.end(f"n{at}", "fail", index=1)
    it.evaluated("foreach", "z", b"[1]")
    it.end("z", "fail", index=0)
    graph = it.machine.graph
    assert not graph._ancestors, "nobody has asked for the ancestors of a node"
    request, *_ = it.operate(Rerun())
    assert len(request.items) == 100
    assert request.nodes == ("z",), "what it depends on changes, and so may its list"
    assert not graph._ancestors
