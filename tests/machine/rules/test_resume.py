"""Resuming from committed facts: what was pure runs again as it was, what was not ends as an orphan."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import pytest

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.machine.machine import Machine, fold
from dagengine.machine.stimuli import Resume

OPAQUE: dict[str, Any] = {"executor": {"type": "python", "function": "f"}}
PURE: dict[str, Any] = {"executor": {"type": "python", "function": "f", "pure": True}}


def test_a_pure_attempt_runs_again_as_the_same_attempt(hand) -> None:
    it = hand([{"id": "a"}, {"id": "b"} | PURE])
    it.begin()
    assert it.crash() == []
    assert it.commands == ["run a 1", "run b 1"]


def test_an_opaque_attempt_ends_as_an_orphan_and_is_tried_again_by_its_policy(hand) -> None:
    it = hand([{"id": "a"} | OPAQUE])
    it.begin()
    (failed,) = it.crash()
    assert (failed.conclusion, failed.attempt, failed.error.type) == ("error", 1, "Orphaned")
    assert it.commands == []
    it.pass_time(failed.retry_at - it.now)
    assert it.commands == ["run a 2"]


def test_an_orphan_fails_when_its_policy_is_used_up(hand, kinds) -> None:
    once = {"retry": {"error": {"max_attempts": 1}}}
    it = hand([{"id": "a"} | OPAQUE | once, {"id": "b", "dependencies": ["a"]}])
    it.begin()
    made = it.crash()
    assert kinds(made) == ["NodeFailed a", "NodeSkipped b", "ExecutionFailed"]
    assert made[-1].error.message == "node 'a' failed: the engine that ran this attempt is gone"


def test_the_third_crash_in_a_row_uses_up_the_default_policy(hand) -> None:
    it = hand([{"id": "a"} | OPAQUE])
    it.begin()
    for _ in range(2):
        (failed,) = it.crash()
        it.pass_time(failed.retry_at - it.now)
    it.crash()
    assert it.state.status == "failed"


def test_a_node_that_has_ended_is_not_run_again(hand) -> None:
    it = hand([{"id": "a"} | OPAQUE, {"id": "b", "dependencies": ["a"]}])
    it.begin()
    it.end("a", result=b'"kept"')
    it.crash()
    assert it.commands == ["run b 1"]
    assert it.state.result(0) == b'"kept"'


def test_a_result_that_was_not_committed_never_happened(hand) -> None:
    it = hand([{"id": "a"}, {"id": "b", "dependencies": ["a"]}])
    it.begin()
    it.end("a")
    it.crash(keep=2)
    assert it.commands == ["run a 1"]
    assert it.phases == {"a": "running", "b": "pending"}


def test_what_was_decided_about_but_not_committed_is_decided_again(hand) -> None:
    it = hand([{"id": "a"}, {"id": "b", "dependencies": ["a"]}, {"id": "c", "dependencies": ["a"]}])
    it.begin()
    it.end("a")
    assert [fact.node for fact in it.crash(keep=4)] == ["c"]  # a and b have started, a has ended
    assert it.commands == ["run b 1", "run c 1"]


def test_expressions_that_were_awaited_are_asked_for_again(hand) -> None:
    it = hand([{"id": "a", "when": "inputs.go"}, {"id": "b", "foreach": "inputs.list"}])
    it.begin()
    it.crash()
    assert it.commands == ["evaluate when a", "evaluate foreach b"]


def test_a_retry_that_is_due_stays_due(hand) -> None:
    it = hand([{"id": "a", "retry": {"fail": {"max_attempts": 2}}}])
    it.begin()
    (failed,) = it.end("a", "fail")
    assert it.crash() == []
    assert it.machine.wake_at == failed.retry_at
    it.pass_time(failed.retry_at - it.now)
    assert it.commands == ["run a 2"]


def test_items_go_on_where_they_were(hand) -> None:
    it = hand([{"id": "a", "foreach": "inputs.list"}])
    it.begin()
    it.evaluated("foreach", "a", b"[1,2,3]")
    it.end("a", index=1)
    it.crash(keep=4)  # started, expanded, item 0 and item 1 have started
    assert it.commands == ["run a[0] 1", "run a[1] 1", "run a[2] 1"]


def test_opaque_items_end_as_orphans_one_by_one(hand) -> None:
    it = hand([{"id": "a", "foreach": "inputs.list"} | OPAQUE])
    it.begin()
    it.evaluated("foreach", "a", b"[1,2]")
    it.end("a", index=0)
    (failed,) = it.crash()
    assert (failed.index, failed.error.type) == (1, "Orphaned")


def test_a_node_whose_items_have_all_ended_ends(hand, kinds) -> None:
    it = hand([{"id": "a", "foreach": "inputs.list"}])
    it.begin()
    it.evaluated("foreach", "a", b"[1]")
    it.end("a", index=0)
    assert kinds(it.crash(keep=4)) == ["NodeSucceeded a", "ExecutionSucceeded"]


def test_the_last_fact_is_made_when_only_it_is_missing(hand, kinds) -> None:
    it = hand([{"id": "a"}])
    it.begin()
    it.end("a")
    assert kinds(it.crash(keep=3)) == ["ExecutionSucceeded"]


def test_outputs_are_evaluated_again(hand) -> None:
    it = hand([{"id": "a"}], outputs={"x": "{{ nodes.a }}"})
    it.begin()
    it.end("a")
    it.crash()
    assert it.commands == ["evaluate outputs"]


def test_an_execution_that_has_ended_stays_as_it_is(hand) -> None:
    it = hand([{"id": "a"}])
    it.begin()
    it.end("a")
    assert it.crash() == []
    assert it.state.status == "succeeded"


def test_an_empty_journal_cannot_go_on(graph) -> None:
    machine = Machine(graph([{"id": "a"}]), execution="e-1")
    with pytest.raises(MachineError, match="execution e-1 cannot go on: its journal is empty"):
        machine.handle(Resume(at=1))


class TestCancelledInTheMiddleOfAStep:
    """What is committed may end right after the request to cancel, before anything that follows from it."""

    NODES: ClassVar[list[dict[str, Any]]] = [
        {"id": "a"},
        {"id": "b", "dependencies": ["a"]},
        {"id": "keep", "run_if": "always"},
    ]

    @pytest.mark.parametrize("keep", [4, 5, 6])
    def test_what_followed_from_it_follows_again(self, hand, keep: int) -> None:
        it = hand(self.NODES)
        it.begin()
        it.cancel()
        assert isinstance(it.world.facts[3], facts.CancelRequested)
        assert len(it.world.facts) == 6
        it.crash(keep=keep)
        assert it.phases == {"a": "cancelled", "b": "skipped", "keep": "running"}
        assert it.commands == ["run keep 1"]
        it.end("keep")
        assert it.state.status == "cancelled"

    def test_an_opaque_attempt_is_given_up_and_not_tried_again(self, hand, kinds) -> None:
        it = hand([{"id": "a"} | OPAQUE])
        it.begin()
        it.cancel()
        assert kinds(it.crash(keep=3)) == ["NodeCancelled a", "ExecutionCancelled"]

    def test_a_retry_that_is_due_is_given_up(self, hand, kinds) -> None:
        it = hand([{"id": "a", "retry": {"fail": {"max_attempts": 3}}}])
        it.begin()
        it.end("a", "fail")
        it.cancel()
        assert kinds(it.crash(keep=4)) == ["NodeCancelled a", "ExecutionCancelled"]
        assert it.machine.wake_at is None

    def test_its_delivery_again_changes_nothing(self, hand) -> None:
        it = hand(self.NODES)
        it.begin()
        it.cancel("c-1")
        it.crash(keep=4)
        assert it.cancel("c-1") == []


def test_folding_gives_a_machine_that_goes_on_like_the_one_that_made_the_facts(hand, graph) -> None:
    it = hand([{"id": "a", "retry": {"fail": {"max_attempts": 3}}}, {"id": "b"}])
    it.begin()
    it.end("a", "fail")
    folded = fold(it.machine.graph, it.world.facts, execution="e-1", seed=7)
    assert folded.state.snapshot() == it.state.snapshot()
    assert folded.wake_at == it.machine.wake_at
    assert folded.seed == it.machine.seed


def test_every_committed_prefix_leads_to_the_same_end(hand) -> None:
    """The journal of one run, cut at every fact: whatever is lost is done again and ends the same."""
    nodes = [
        {"id": "a"},
        {"id": "b", "dependencies": ["a"], "foreach": "nodes.a"},
        {"id": "c", "dependencies": ["a"], "when": "nodes.a"},
        {"id": "d", "dependencies": ["b", "c"], "run_if": "all_done"},
    ]
    whole = hand(nodes)
    assert whole.world.run() == "succeeded"
    journal = list(whole.world.facts)
    ends = Counter[tuple[str, ...]]()
    for keep in range(len(journal)):
        it = hand(nodes)
        it.now = journal[-1].at
        it.world.facts = list(journal)
        it.world.crash(keep=keep)
        it.world.run()
        ends[it.state.status, str(it.state.outputs)] += 1
    assert ends == {("succeeded", str(whole.state.outputs)): len(journal)}
