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
    success_with_open_items: "list succeeded, so all its items have",
    end_with_unfinished_nodes: "an ended execution has no unfinished node",
    cancel_without_consequences: "after a cancel, only `always` nodes go on",
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
