"""`check` notices a state that is not what it must be. Each corruption breaks one invariant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from dagengine.errors import MachineError
from dagengine.events.facts import CancelRequested, ErrorInfo, NodeExpanded
from dagengine.machine.check import check
from dagengine.machine.items import Items
from dagengine.machine.phases import Outcome, Phase
from dagengine.machine.state import State


@pytest.fixture
def it(hand) -> Any:
    """`a` has succeeded, `b` runs, `c` waits for it, `list` has two items: one has succeeded, one runs."""
    it = hand(
        [
            {"id": "a"},
            {"id": "b", "dependencies": ["a"]},
            {"id": "c", "dependencies": ["b"]},
            {"id": "list", "foreach": "inputs.list"},
        ]
    )
    it.begin()
    it.evaluated("foreach", "list", b"[1,2]")
    it.end("a")
    it.end("list", index=0)
    check(it.machine)
    return it


def unfinished(state: State) -> None:
    state.unfinished += 1


def troubled(state: State) -> None:
    state.troubled = True


def waiting(state: State) -> None:
    state.waiting[2] = 0


def began_too_early(state: State) -> None:
    state.phase[2] = Phase.RUNNING


def began_after_a_failure(state: State) -> None:
    state.phase[0], state.outcome[0], state.troubled = Phase.FAILED, Outcome.FAILED, True
    state.errors[0, -1] = ErrorInfo(type="X", message="x")


def outcome_without_an_end(state: State) -> None:
    state.outcome[1] = Outcome.SUCCEEDED


def success_without_a_result(state: State) -> None:
    state.results[0] = None


def failure_without_an_error(state: State) -> None:
    state.phase[1], state.outcome[1], state.troubled = Phase.FAILED, Outcome.FAILED, True
    state.unfinished, state.waiting[2] = 2, 0


def too_many_attempts(state: State) -> None:
    state.attempt[1] = 4


def too_many_fails(state: State) -> None:
    state.failures[1, -1] = (2, 0)


def too_many_errors(state: State) -> None:
    state.failures[1, -1] = (0, 4)


def open_items(state: State) -> None:
    state.items[3].unfinished = 2


def failed_items(state: State) -> None:
    state.items[3].failed = 1


def success_with_open_items(state: State) -> None:
    state.phase[3], state.outcome[3], state.unfinished = Phase.SUCCEEDED, Outcome.SUCCEEDED, 2
    state.results[3] = b"[]"


def end_with_unfinished_nodes(state: State) -> None:
    state.status, state.outputs = "succeeded", b"{}"


def cancel_without_consequences(state: State) -> None:
    state.cancel = CancelRequested(at=1)


CORRUPTIONS: dict[Callable[[State], None], str] = {
    unfinished: "`unfinished` counts the nodes that have not ended",
    troubled: "`troubled` tells whether a node ended otherwise than succeeded",
    waiting: "`waiting` of c counts open dependencies",
    began_too_early: "c has begun, so its dependencies have ended",
    began_after_a_failure: "b has begun, so its dependencies have succeeded",
    outcome_without_an_end: "b has an outcome at its end",
    success_without_a_result: "a succeeded, so it has a result",
    failure_without_an_error: "b failed, so it has an error",
    too_many_attempts: "b was tried no more often than allowed",
    too_many_fails: "b failed no more often than allowed",
    too_many_errors: "b broke no more often than allowed",
    open_items: "`unfinished` of list counts its open items",
    failed_items: "`failed` of list counts its failed items",
    success_with_open_items: "list succeeded, so its items have, but for those that may fail",
    end_with_unfinished_nodes: "an ended execution has no unfinished node",
    cancel_without_consequences: "after a cancel, only what may end, `always` nodes and `on_exit` go on",
}


@pytest.mark.parametrize("corrupt", list(CORRUPTIONS), ids=lambda corrupt: corrupt.__name__)
def test_it_names_the_invariant_that_does_not_hold(it, corrupt: Callable[[State], None]) -> None:
    corrupt(it.state)
    with pytest.raises(MachineError) as caught:
        check(it.machine)
    assert str(caught.value).endswith(f"not true: {CORRUPTIONS[corrupt]}")
    assert str(caught.value).startswith(f"execution e-1 ({it.state.status}, 8 facts): ")


@pytest.mark.parametrize(
    ("field", "value", "invariant"),
    [
        ("outputs", None, "outputs belong to success"),
        ("error", ErrorInfo(type="X", message="x"), "an error belongs to failure"),
        ("cancel", CancelRequested(at=1), "a cancel ends as cancelled"),
    ],
)
def test_it_checks_how_an_execution_ended(hand, field: str, value: Any, invariant: str) -> None:
    it = hand([{"id": "a"}])
    it.begin()
    it.end("a")
    check(it.machine)
    setattr(it.state, field, value)
    with pytest.raises(MachineError, match=invariant):
        check(it.machine)


def test_the_snapshot_of_a_state_tells_every_difference(it) -> None:
    """What `fold` is compared by would be blind if a field were missing from it."""
    assert set(it.state.snapshot()) == set(State.__slots__) - {"graph", "ready"}
    fact = NodeExpanded(at=1, node="list", count=1, items=Raw(b"[1]"))
    assert len(Items.of(fact).snapshot()) == len(Items.__slots__)


def nobody_asked(machine: Any) -> None:
    machine.asked.clear()


def two_things(machine: Any) -> None:
    machine.parked[3, -1] = None


def begun_and_asked(machine: Any) -> None:
    machine.parked[1, -1] = None


def waits_too_early(machine: Any) -> None:
    machine.parked[2, -1] = None


def too_few_items(machine: Any) -> None:
    machine.under_way[4] = 1


def prepared_for_nothing(machine: Any) -> None:
    machine.prepared[0, -1] = (b"{}", "")


def kept_for_nothing(machine: Any) -> None:
    machine.state.args[0, -1] = b"{}"


def idle_item(machine: Any) -> None:
    machine.state.items[4].phase[0] = Phase.PENDING
    machine.under_way[4] = 1


def no_clock(machine: Any) -> None:
    machine.state.phase[1] = Phase.BACKOFF


def left_over(machine: Any) -> None:
    machine.state.ready.append(3)
    machine.asked.clear()


STUCK: dict[Callable[[Any], None], str] = {
    nobody_asked: "asks waits for something when its turn has come",
    two_things: "a unit waits for one thing at once",
    begun_and_asked: "b waits for nothing when it has begun or ended",
    waits_too_early: "c waits for something when its turn has come",
    too_few_items: "`under_way` of list counts its items that have begun",
    prepared_for_nothing: "what was prepared belongs to units that are about to begin",
    kept_for_nothing: "nothing is kept of the attempts of units that have ended",
    idle_item: "as many items of list are under way as may be",
    no_clock: "b waits for its next attempt",
    left_over: "asks is decided about unless all is paused",
}


@pytest.mark.parametrize("corrupt", list(STUCK), ids=lambda corrupt: corrupt.__name__)
def test_it_names_what_waits_for_nothing(hand, corrupt: Callable[[Any], None]) -> None:
    it = hand(
        [
            {"id": "a"},
            {"id": "b", "dependencies": ["a"]},
            {"id": "c", "dependencies": ["b"]},
            {"id": "asks", "when": "inputs.go"},
            {"id": "list", "foreach": "inputs.list", "max_parallel": 2},
        ]
    )
    it.begin()
    it.evaluated("foreach", "list", b"[1,2,3]")
    it.end("a")
    corrupt(it.machine)
    with pytest.raises(MachineError) as caught:
        check(it.machine)
    assert str(caught.value).endswith(f"not true: {STUCK[corrupt]}")


def test_when_all_has_ended_the_outputs_are_asked_for(hand) -> None:
    it = hand([{"id": "a"}], outputs={"x": "{{ nodes.a }}"})
    it.begin()
    it.end("a")
    it.machine.asked.clear()
    with pytest.raises(MachineError, match="their outputs are asked for"):
        check(it.machine)
