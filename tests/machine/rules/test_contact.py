"""Contact is lost for longer than the lease: what the outside can see is given up, by facts, unless it may go on."""

from __future__ import annotations

from typing import Any

import pytest

from dagengine.machine.operations import Cancel, Pause
from dagengine.machine.stimuli import ContactLost

OPAQUE: dict[str, Any] = {"executor": {"type": "python", "function": "f"}}
PURE: dict[str, Any] = {"executor": {"type": "python", "function": "f", "pure": True}}


def lose(it: Any, *unbegun: tuple[int, int, int]) -> Any:
    return it.handle(ContactLost(at=it.now, unbegun=frozenset(unbegun)))


def test_an_effect_under_way_ends_as_an_orphan_and_is_tried_again_by_its_policy(hand) -> None:
    it = hand([{"id": "a"} | OPAQUE])
    it.begin()
    (failed,) = lose(it)
    assert (failed.conclusion, failed.attempt, failed.error.type) == ("error", 1, "Orphaned")
    assert failed.error.message == (
        "contact with the orchestrator was lost for longer than the lease while this attempt ran"
    )
    assert it.commands == ["abandon a 1"]
    it.pass_time(failed.retry_at - it.now)
    assert it.commands == ["run a 2"]


def test_its_key_stays_for_the_next_attempt_of_the_same_effect(hand) -> None:
    it = hand([{"id": "a"} | OPAQUE])
    it.begin()
    before = it.state.generation_of(0, -1)
    lose(it)
    assert it.state.generation_of(0, -1) == before


def test_an_orphan_fails_when_its_policy_is_used_up(hand, kinds) -> None:
    once = {"retry": {"error": {"max_attempts": 1}}}
    it = hand([{"id": "a"} | OPAQUE | once, {"id": "b", "dependencies": ["a"]}])
    it.begin()
    assert kinds(lose(it)) == ["NodeFailed a", "NodeSkipped b", "ExecutionFailed"]


@pytest.mark.parametrize(
    "node", [{}, PURE, OPAQUE | {"on_partition": "continue"}], ids=["lua", "pure", "effects that may go on"]
)
def test_what_is_pure_or_may_go_on_is_left_alone(hand, node: dict[str, Any]) -> None:
    it = hand([{"id": "a"} | node])
    it.begin()
    assert lose(it) == []
    assert it.commands == []
    it.end("a")
    assert it.state.status == "succeeded"


def test_an_effect_that_has_not_begun_loses_nothing(hand) -> None:
    it = hand([{"id": "a"} | OPAQUE, {"id": "b"} | OPAQUE])
    it.begin()
    assert [fact.node for fact in lose(it, (1, -1, 1))] == ["a"]
    assert it.phases == {"a": "backoff", "b": "running"}


def test_every_item_under_way_ends_and_the_others_go_on(hand) -> None:
    it = hand([{"id": "a", "foreach": "inputs.list", "max_parallel": 2} | OPAQUE])
    it.begin()
    it.evaluated("foreach", "a", b"[1,2,3]")
    it.end("a", index=0)
    made = lose(it)
    assert [(fact.index, fact.error.type) for fact in made] == [(1, "Orphaned"), (2, "Orphaned")]
    assert sorted(it.commands) == ["abandon a[1] 1", "abandon a[2] 1"]
    it.pass_time(10_000_000)
    it.end("a", index=1)
    it.end("a", index=2)
    assert it.state.status == "succeeded"


def test_items_that_are_one_too_many_end_their_node_once(hand, kinds) -> None:
    once = {"retry": {"error": {"max_attempts": 1}}, "fail_after": 0}
    it = hand([{"id": "a", "foreach": "inputs.list"} | OPAQUE | once])
    it.begin()
    it.evaluated("foreach", "a", b"[1,2,3]")
    assert kinds(lose(it)) == ["NodeFailed a[0]", "NodeFailed a", "ExecutionFailed"]
    assert sorted(it.commands) == ["abandon a[0] 1", "abandon a[1] 1", "abandon a[2] 1"]


def test_an_attempt_that_uses_its_grace_ends_as_cancelled(hand, kinds) -> None:
    it = hand([{"id": "a"} | OPAQUE])
    it.begin()
    it.operate(Cancel(grace=1_000_000))
    assert kinds(lose(it)) == ["NodeCancelled a", "ExecutionCancelled"]


def test_what_is_paused_begins_again_once_it_may(hand) -> None:
    it = hand([{"id": "a"} | OPAQUE])
    it.begin()
    it.operate(Pause())
    (failed,) = lose(it)
    assert failed.retry_at is not None
    it.pass_time(60_000_000)
    assert it.phases == {"a": "backoff"}


def test_what_waits_or_has_ended_notices_nothing(hand) -> None:
    it = hand([{"id": "w", "executor": {"type": "wait", "signal": {"name": "go"}}}, {"id": "a"} | OPAQUE])
    it.begin()
    it.end("a")
    assert lose(it) == []
    assert it.phases == {"w": "waiting", "a": "succeeded"}
