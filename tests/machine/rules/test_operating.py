"""What people ask for: every operation is answered by exactly one fact that cites it, whether it can be done or not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from dagengine.events import facts
from dagengine.machine.operations import (
    Cancel,
    Decide,
    EditInputs,
    Operation,
    Pause,
    Rerun,
    Signal,
    Skip,
    Unpause,
)

LUA: dict[str, Any] = {"type": "lua", "code": "return 1"}
BY: dict[str, str] = {"author": "ada", "reason": "because"}
NODES: list[dict[str, Any]] = [
    {"id": "a"},
    {"id": "go", "executor": {"type": "wait", "signal": {"name": "go"}}},
    {"id": "ok", "executor": {"type": "wait", "approval": {}}},
    {"id": "b", "dependencies": ["a"]},
]
CAN: list[tuple[Operation, type]] = [
    (Cancel(**BY), facts.CancelRequested),
    (Cancel(terminate=True, **BY), facts.CancelRequested),
    (Pause(**BY), facts.Paused),
    (Pause(node="b", **BY), facts.Paused),
    (Rerun(nodes=("a",), **BY), facts.RerunRequested),
    (Skip(node="a", **BY), facts.NodeOverridden),
    (Skip(node="b", result=Raw(b"1"), **BY), facts.NodeOverridden),
    (Signal(name="go", **BY), facts.Signalled),
    (Decide(node="ok", approved=True, **BY), facts.Decided),
    (EditInputs(node="b", inputs=Raw(b'{"n":1}'), **BY), facts.InputsEdited),
]
CANNOT: list[tuple[Operation, str]] = [
    (Unpause(**BY), "it is not paused"),
    (Unpause(node="b", **BY), "b is not paused"),
    (Pause(node="x", **BY), "the workflow has no node 'x'"),
    (Rerun(nodes=("b",), **BY), "b has not run yet"),
    (Skip(node="x", **BY), "the workflow has no node 'x'"),
    (Skip(node="last", **BY), "'last' belongs to `on_exit`, which has not begun"),
    (Signal(name="stop", **BY), "no node waits for a signal 'stop'; there are: go"),
    (Decide(node="a", approved=True, **BY), "a, which is RUNNING after attempt 1, does not wait for an approval"),
    (EditInputs(node="b", inputs=Raw(b"[]"), **BY), "inputs are an object: the value of each input, by name"),
    (EditInputs(node="a", inputs=Raw(b"{}"), **BY), "a, which is RUNNING after attempt 1, has begun already"),
]


@pytest.fixture
def begun(hand):
    it = hand(NODES, on_exit=[{"id": "last", "executor": LUA}])
    it.begin()
    return it


def citing(made: list[facts.Fact]) -> list[facts.Operation]:
    return [fact for fact in made if isinstance(fact, facts.Operation)]


@pytest.mark.parametrize(("operation", "fact"), CAN, ids=lambda case: type(case).__name__)
def test_what_can_be_done_is_a_fact_that_says_who_and_why(begun, operation: Operation, fact: type) -> None:
    (found,) = citing(begun.operate(operation, "c-1"))
    assert type(found) is fact
    assert (found.author, found.reason, found.command) == ("ada", "because", "c-1")


@pytest.mark.parametrize(("operation", "why"), CANNOT, ids=lambda case: type(case).__name__)
def test_what_cannot_be_done_is_refused_in_words(begun, operation: Operation, why: str) -> None:
    (found,) = begun.operate(operation, "c-1")
    assert isinstance(found, facts.CommandRefused)
    assert found.why.startswith(why)
    assert (found.author, found.reason, found.command) == ("ada", "because", "c-1")


@pytest.mark.parametrize(
    "operation", [operation for operation, _ in (*CAN, *CANNOT)], ids=lambda one: type(one).__name__
)
@pytest.mark.parametrize("crashing", [False, True])
def test_a_second_delivery_changes_nothing(begun, operation: Operation, crashing: bool) -> None:
    begun.operate(operation, "c-1")
    if crashing:
        begun.crash()
    assert citing(begun.operate(operation, "c-1")) == []


def test_after_the_end_there_is_nothing_to_operate_but_a_retry(hand) -> None:
    it = hand([{"id": "a"}])
    it.begin()
    it.end("a")
    assert it.operate(Cancel(), "c-1") == []
    assert it.operate(Pause(), "c-2") == []
    (refused,) = it.operate(Rerun(), "c-3")
    assert isinstance(refused, facts.CommandRefused)


class TestSkip:
    def test_what_runs_is_stopped_and_counts_as_skipped(self, hand) -> None:
        it = hand([{"id": "a"}, {"id": "b", "dependencies": ["a"]}])
        it.begin()
        it.operate(Skip(node="a"))
        assert it.commands == ["abandon a 1"]
        assert it.phases == {"a": "skipped", "b": "skipped"}
        assert it.end("a", attempt=1) == []

    def test_with_a_result_it_counts_as_succeeded(self, hand) -> None:
        it = hand([{"id": "a"}, {"id": "b", "dependencies": ["a"]}])
        it.begin()
        it.operate(Skip(node="a", result=Raw(b'{"n":1}')))
        assert it.phases == {"a": "succeeded", "b": "running"}
        assert it.state.result(0) == b'{"n":1}'

    def test_before_its_turn_it_does_not_wait_for_its_dependencies(self, hand) -> None:
        it = hand([{"id": "a"}, {"id": "b", "dependencies": ["a"]}, {"id": "c", "dependencies": ["b"]}])
        it.begin()
        it.operate(Skip(node="b", result=Raw(b"1")))
        assert it.phases == {"a": "running", "b": "succeeded", "c": "running"}
        it.end("c")
        it.end("a")
        assert it.state.status == "succeeded"

    def test_all_items_are_stopped(self, hand) -> None:
        it = hand([{"id": "a", "foreach": "inputs.list"}])
        it.begin()
        it.evaluated("foreach", "a", b"[1,2]")
        it.operate(Skip(node="a"))
        assert it.commands == ["abandon a[0] 1", "abandon a[1] 1"]
        assert it.state.status == "succeeded"

    @pytest.mark.parametrize(
        "executor", [NODES[1]["executor"], NODES[2]["executor"], {"type": "wait", "duration": "1s"}]
    )
    def test_one_that_waits_waits_for_nothing_any_more(self, hand, executor: dict[str, Any]) -> None:
        it = hand([{"id": "a", "executor": executor}, {"id": "b"}])
        it.begin()
        it.operate(Skip(node="a"))
        assert it.state.waits == {}
        assert it.machine.wake_at is None


class TestEdit:
    ARGS: Any = {"id": "b", "executor": {"type": "python", "function": "f", "args": {"n": "{{ inputs.n }}"}}}  # noqa: RUF012 - read only

    def test_it_is_evaluated_anew_when_it_was_being_prepared(self, hand) -> None:
        it = hand([self.ARGS])
        it.begin()
        serial = it.machine.asked["args", 0, -1]
        it.operate(EditInputs(node="b", inputs=Raw(b'{"n":2}')))
        assert it.commands == ["evaluate args b"]
        assert it.machine.asked["args", 0, -1] > serial

    def test_the_last_edit_counts_and_lasts_over_a_retry(self, hand) -> None:
        it = hand([{"id": "a"}, self.ARGS | {"dependencies": ["a"]}])
        it.begin()
        it.operate(EditInputs(node="b", inputs=Raw(b'{"n":2}')))
        it.operate(EditInputs(node="b", inputs=Raw(b'{"n":3}')))
        it.end("a")
        it.evaluated("args", "b", b'{"n":3}')
        it.end("b")
        it.operate(Rerun(nodes=("b",)))
        assert it.state.edits == {1: b'{"n":3}'}
        assert it.commands == ["evaluate args b"]


@pytest.mark.parametrize(
    "operation",
    [
        EditInputs(node="b", inputs=Raw(b"nope")),
        EditInputs(node="b", inputs=Raw(b"[" * 100_000)),
        Signal(name="go", payload=Raw(b"{")),
        Skip(node="a", result=Raw(b"")),
    ],
)
def test_what_is_not_json_is_refused(hand, operation: Operation) -> None:
    it = hand(NODES)
    it.begin()
    (refused,) = it.operate(operation)
    assert isinstance(refused, facts.CommandRefused)
    assert "must be JSON" in refused.why


@pytest.mark.parametrize("index", [-1, -2])
def test_items_are_counted_from_0(hand, index: int) -> None:
    it = hand(NODES)
    it.begin()
    (refused,) = it.operate(Decide(node="ok", index=index, approved=True))
    assert refused.why == f"items are counted from 0: 'ok' has no item {index}"


class TestTerminatingOnExit:
    """What was said of the others before `on_exit` began stays true."""

    def ending(self, hand, conclusion: str, **spec: Any) -> Any:
        it = hand([{"id": "a"}], on_exit=[{"id": "x", "executor": LUA}, {"id": "y", "executor": LUA}], **spec)
        it.begin()
        if conclusion == "cancelled":
            it.cancel()
        else:
            it.end("a", conclusion)
        return it

    @pytest.mark.parametrize("conclusion", ["success", "fail", "cancelled"])
    def test_it_ends_as_it_has_concluded(self, hand, kinds, conclusion: str) -> None:
        it = self.ending(hand, conclusion)
        concluded = it.state.concluded
        assert concluded is not None
        made = it.operate(Cancel(terminate=True))
        assert kinds(made)[:3] == ["CancelRequested", "NodeCancelled x", "NodeCancelled y"]
        assert it.state.status == concluded.status
        assert it.state.outputs == (b'{"a":1}' if conclusion == "success" else None)
        assert it.state.error == concluded.error

    def test_unless_one_of_it_has_failed(self, hand) -> None:
        it = self.ending(hand, "success")
        it.end("x", "fail")
        it.operate(Cancel(terminate=True))
        assert it.state.status == "failed"
        assert it.state.error.message.startswith("on_exit node 'x' failed")

    def test_nodes_of_it_that_were_stopped_can_be_run_again(self, hand) -> None:
        it = self.ending(hand, "success")
        it.operate(Cancel(terminate=True))
        it.operate(Rerun(nodes=("x",)))
        it.end("x")
        assert it.state.error.message == "on_exit node 'y' was given up, and has not been run again"

    def test_after_a_timeout_it_has_taken_too_long(self, hand) -> None:
        it = hand([{"id": "a"}], on_exit=[{"id": "x", "executor": LUA}], timeout="1s")
        it.begin()
        it.pass_time(1_000_000)
        it.operate(Cancel(terminate=True))
        assert (it.state.status, it.state.error.type) == ("failed", "ExecutionTimeout")
