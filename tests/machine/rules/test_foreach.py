"""`foreach`: a node that runs once per element of a list."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import pytest

from dagengine.events import facts
from dagengine.machine.commands import Run
from dagengine.machine.fanout import ITEM_WINDOW
from dagengine.machine.machine import Machine, fold
from dagengine.machine.phases import Phase
from dagengine.machine.state import State
from dagengine.machine.stimuli import AttemptEnded, Begin, Evaluated, Resume

NODE: dict[str, Any] = {"id": "a", "foreach": "inputs.list"}
AFTER: dict[str, Any] = {"id": "after", "dependencies": ["a"]}


@pytest.fixture
def expanded(hand):
    """`expanded(items, **node)`: node `a` with these items, expanded."""

    def make(items: bytes, *others: dict[str, Any], **fields: Any):
        it = hand([NODE | fields, *others])
        it.begin()
        it.evaluated("foreach", "a", items)
        return it

    return make


def test_every_item_runs_on_its_own_in_the_order_of_the_list(expanded) -> None:
    it = expanded(b'[10,"x",{"k":[]}]')
    assert it.commands == ["run a[0] 1", "run a[1] 1", "run a[2] 1"]
    assert [bytes(value) for value in it.state.items[0].values] == [b"10", b'"x"', b'{"k":[]}']
    assert it.phases == {"a": "running"}


def test_the_result_is_the_list_of_results_in_the_order_of_the_items(expanded) -> None:
    it = expanded(b"[1,2,3]", AFTER)
    it.end("a", index=2, result=b'"c"')
    it.end("a", index=0, result=b'"a"')
    assert it.state.result(0) is None
    it.end("a", index=1, result=b"null")
    assert it.state.result(0) == b'["a",null,"c"]'
    assert it.commands == ["run after 1"]


def test_the_fact_that_ends_the_node_does_not_repeat_the_results(expanded) -> None:
    it = expanded(b"[1]")
    _, ended, _ = it.end("a", index=0, result=b"5")
    assert isinstance(ended, facts.NodeSucceeded)
    assert (ended.index, ended.result) == (None, msgspec.UNSET)


@pytest.mark.parametrize("value", [b"[]", b"{}"], ids=["list", "empty Lua table"])
def test_without_items_the_node_succeeds_at_once_with_an_empty_list(expanded, kinds, value: bytes) -> None:
    it = expanded(value, AFTER)
    assert kinds(it.facts) == ["NodeExpanded a", "NodeSucceeded a", "NodeStarted after"]
    assert it.state.result(0) == b"[]"


@pytest.mark.parametrize("value", [b"5", b'"text"', b"null", b"true", b"1.5"])
def test_what_is_no_list_fails_the_node(expanded, value: bytes) -> None:
    it = expanded(value, retry={"fail": {"max_attempts": 5}})
    failed, last = it.facts
    assert failed.error.type == "ForeachError"
    assert failed.error.message == f"`foreach: inputs.list` must give a list or a map, got {value.decode()}"
    assert (failed.attempt, failed.retry_at) == (0, None)
    assert isinstance(last, facts.ExecutionFailed)


def test_a_long_value_that_is_no_list_is_shown_in_part(expanded) -> None:
    it = expanded(b'"' + b"x" * 500 + b'"')
    assert it.facts[0].error.message.endswith('got "' + "x" * 39 + "…")


def test_an_expression_that_cannot_be_evaluated_fails_the_node(expanded) -> None:
    it = expanded(b"!")
    assert it.phases == {"a": "failed"}
    assert it.state.errors[0, -1].message == "attempt to index nil"


def test_when_an_item_fails_the_others_still_run_and_then_the_node_fails(expanded, kinds) -> None:
    it = expanded(b"[1,2,3]", AFTER)
    it.end("a", "fail", index=1)
    assert it.phases == {"a": "running", "after": "pending"}
    it.end("a", index=0)
    made = it.end("a", index=2)
    assert kinds(made) == ["NodeSucceeded a[2]", "NodeFailed a", "NodeSkipped after", "ExecutionFailed"]
    assert made[1].error.message == "1 of 3 items failed; item 1: a says fail"
    assert made[1].conclusion == "fail"


def test_the_error_of_the_node_tells_the_item_that_failed_first_in_time(expanded) -> None:
    it = expanded(b"[1,2,3]")
    it.end("a", "fail", index=2)
    it.end("a", "fail", index=0)
    _, failed, _ = it.end("a", index=1)
    assert failed.error.message.startswith("2 of 3 items failed; item 2:")


def test_items_that_only_broke_down_break_the_node_down(expanded) -> None:
    once = {"error": {"max_attempts": 1}}
    it = expanded(b"[1,2]", retry=once)
    it.end("a", "error", index=0)
    _, failed, _ = it.end("a", "error", index=1)
    assert failed.conclusion == "error"


def test_an_item_that_said_no_weighs_more_than_one_that_broke_down(expanded) -> None:
    it = expanded(b"[1,2]", retry={"error": {"max_attempts": 1}})
    it.end("a", "error", index=0)
    _, failed, _ = it.end("a", "fail", index=1)
    assert failed.conclusion == "fail"


def test_items_are_retried_by_themselves(expanded) -> None:
    it = expanded(b"[1,2]", retry={"fail": {"max_attempts": 2}})
    (failed,) = it.end("a", "fail", index=1)
    it.end("a", index=0)
    assert it.phase("a", 1) == "backoff"
    (started,) = it.pass_time(failed.retry_at - it.now)
    assert (started.index, started.attempt, it.commands) == (1, 2, ["run a[1] 2"])
    it.end("a", index=1, result=b"2")
    assert it.state.result(0) == b"[1,2]"


def test_items_have_arguments_of_their_own(expanded) -> None:
    it = expanded(b"[1,2]", executor={"type": "python", "function": "f", "args": {"x": "{{ item }}"}})
    assert it.commands == ["evaluate args a[0]", "evaluate args a[1]"]
    (started,) = it.evaluated("args", "a", b'{"x":2}', index=1)
    assert (started.index, bytes(started.args)) == (1, b'{"x":2}')
    assert it.commands == ["run a[1] 1"]


def test_an_item_whose_arguments_cannot_be_evaluated_fails_before_its_first_attempt(expanded) -> None:
    it = expanded(b"[1,2]", executor={"type": "python", "function": "f", "args": {"x": "{{ item.x.y }}"}})
    (failed,) = it.evaluated("args", "a", b"!", index=0)
    assert (failed.index, failed.attempt, failed.retry_at) == (0, 0, None)
    it.evaluated("args", "a", b"{}", index=1)
    it.end("a", index=1)
    assert it.state.errors[0, -1].message == "1 of 2 items failed; item 0: attempt to index nil"


def test_when_is_evaluated_for_the_node_and_before_the_list(hand) -> None:
    it = hand([NODE | {"when": "inputs.go"}])
    it.begin()
    assert it.commands == ["evaluate when a"]
    it.evaluated("when", "a", b"true")
    assert it.commands == ["evaluate foreach a"]


class TestManyItems:
    COUNT = 5_000

    @pytest.fixture
    def plan(self, graph):
        return graph([NODE])

    def begun(self, plan, count: int = COUNT) -> tuple[Machine, list[Any], list[facts.Fact]]:
        machine = Machine(plan, execution="e-1", seed=7)
        made = list(machine.handle(Begin(at=1, inputs=b"{}")).facts)
        items = json.dumps(list(range(count))).encode()
        step = machine.handle(Evaluated(at=1, purpose="foreach", node=0, index=-1, serial=1, value=items))
        return machine, step.commands, made + step.facts

    @staticmethod
    def end(machine: Machine, run: Run) -> Any:
        result = b"%d" % run.index
        return machine.handle(AttemptEnded(1, run.node, run.index, run.attempt, "success", result, None, 1))

    @pytest.mark.parametrize("take", [0, -1], ids=["oldest first", "newest first"])
    def test_never_more_than_a_window_of_them_is_under_way(self, plan, take: int) -> None:
        machine, running, _ = self.begun(plan)
        assert len(running) == ITEM_WINDOW
        most = 0
        while running:
            most = max(most, len(running))
            running += self.end(machine, running.pop(take)).commands
        assert most == ITEM_WINDOW
        assert machine.state.status == "succeeded"
        assert json.loads(machine.state.result(0) or b"") == list(range(self.COUNT))

    def test_one_step_never_makes_more_than_a_window_of_facts(self, plan) -> None:
        machine, running, made = self.begun(plan)
        assert len(made) == ITEM_WINDOW + 2
        assert max(len(self.end(machine, run).facts) for run in running) < ITEM_WINDOW

    def test_the_window_is_full_again_after_a_crash(self, plan) -> None:
        machine, running, made = self.begun(plan)
        for run in running[:100]:
            made += self.end(machine, run).facts
        resumed = fold(plan, made, execution="e-1", seed=7)
        again = resumed.handle(Resume(at=1)).commands
        assert Counter(run.index for run in again) == Counter(range(100, 100 + ITEM_WINDOW))

    def test_an_item_costs_the_same_number_of_facts_whatever_their_number(self, plan, monkeypatch) -> None:
        applied = Counter[int]()
        apply = State.apply

        def counting(state: State, fact: facts.Fact) -> None:
            applied[size] += 1
            apply(state, fact)

        monkeypatch.setattr(State, "apply", counting)
        for size in (100, 1_000, self.COUNT):
            machine, running, _ = self.begun(plan, size)
            while running:
                running += self.end(machine, running.pop()).commands
        overhead = 4  # ExecutionStarted, NodeExpanded, NodeSucceeded, ExecutionSucceeded
        assert applied == {size: 2 * size + overhead for size in (100, 1_000, self.COUNT)}

    def test_an_item_looks_at_no_other_item(self, plan, monkeypatch) -> None:
        """Counts reads of the phases of items: each item's end may look at a few, never at all of them."""
        reads = Counter[int]()

        class Counting(bytearray):
            def __getitem__(self, at: Any) -> Any:
                reads[size] += 1
                return super().__getitem__(at)

            def __iter__(self) -> Any:
                reads[size] += len(self)
                return super().__iter__()

        for size in (100, self.COUNT):
            machine, running, _ = self.begun(plan, size)
            items = machine.state.items[0]
            items.phase = Counting(items.phase)
            while running:
                running += self.end(machine, running.pop()).commands
            assert set(bytes(items.phase)) == {Phase.SUCCEEDED}
        assert reads[self.COUNT] / self.COUNT <= reads[100] / 100 + 3

    def test_the_verdict_over_failed_items_looks_at_the_items_of_its_node_only(self, graph) -> None:
        """Many nodes with a failed item each: what one costs does not depend on how many failed before."""
        nodes = [{"id": f"n{number}", "foreach": "inputs.list", "run_if": "always"} for number in range(300)]
        machine = Machine(graph(nodes), execution="e-1")
        machine.state.failures = _Unwalkable()
        machine.handle(Begin(at=1, inputs=b"{}"))
        for number in range(300):
            step = machine.handle(
                Evaluated(at=1, purpose="foreach", node=number, index=-1, serial=number + 1, value=b"[1]")
            )
            (run,) = step.commands
            machine.handle(AttemptEnded(1, run.node, run.index, run.attempt, "fail", b"null", None, 1))
        assert machine.state.status == "failed"


class _Unwalkable(dict[Any, Any]):
    def __iter__(self) -> Any:
        raise AssertionError("walked over everything that ever failed")

    items = keys = values = __iter__  # type: ignore[assignment]  # nobody may call any of them
