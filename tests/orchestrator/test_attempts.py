"""Every try at a node, from the facts of its execution alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Raw

from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from orchestrator import journals
from orchestrator.store.base import StoredFact
from orchestrator.verbs import AttemptView

ERROR = ErrorInfo(type="T", message="no")


class Journal:
    """As much of a store as holds one journal."""

    def __init__(self, journal: Sequence[Fact]) -> None:
        self._payloads = [facts.encode(fact) for fact in journal]

    async def facts(self, execution: str, *, after: int = 0, limit: int = 1_000) -> list[StoredFact]:
        page = list(enumerate(self._payloads, 1))[after : after + min(limit, 3)]
        return [
            StoredFact(position=seq, execution=execution, epoch=1, seq=seq, payload=payload) for seq, payload in page
        ]


async def tries(*journal: Fact, node: str = "a", index: int | None = None) -> list[AttemptView]:
    store: Any = Journal(journal)
    return await journals.attempts(store, "x1", node, index)


async def test_an_attempt_has_its_times_inputs_and_outcome() -> None:
    first, second = await tries(
        facts.NodeQueued(at=1, node="a", pool="db"),
        facts.NodeStarted(at=2, node="a", args=Raw(b'{"n":1}')),
        facts.NodeStarted(at=2, node="ab"),
        facts.NodeFailed(at=5, node="a", attempt=1, conclusion="error", error=ERROR, elapsed=3, retry_at=9),
        facts.NodeStarted(at=9, node="a", attempt=2),
        facts.NodeSucceeded(at=11, node="a", attempt=2, result=Raw(b'{"a":[1]}'), elapsed=2),
    )
    assert (first.attempt, first.outcome, first.queued_at, first.started_at, first.finished_at) == (1, "error", 1, 2, 5)
    assert (first.args, first.error, first.elapsed, first.retry_at) == (Raw(b'{"n":1}'), ERROR, 3, 9)
    assert (second.attempt, second.outcome, second.result) == (2, "success", Raw(b'{"a":[1]}'))
    assert (second.args, second.queued_at) == (UNSET, None)


async def test_what_has_not_ended_runs_or_waits() -> None:
    running, waiting = await tries(
        facts.NodeStarted(at=1, node="a", index=0), facts.NodeWaiting(at=2, node="a", index=1, kind="duration")
    )
    assert (running.index, running.outcome, running.finished_at) == (0, "running", None)
    assert (waiting.index, waiting.outcome) == (1, "waiting")


async def test_items_are_told_apart() -> None:
    journal = (
        facts.NodeExpanded(at=1, node="a", count=2, items=Raw(b"[1,2]")),
        facts.NodeStarted(at=1, node="a", index=0),
        facts.NodeStarted(at=1, node="a", index=1),
        facts.NodeSucceeded(at=2, node="a", index=1, attempt=1, result=Raw(b"2")),
        facts.NodeFailed(at=3, node="a", index=0, attempt=1, conclusion="fail", error=ERROR),
        facts.NodeFailed(at=3, node="a", conclusion="fail", error=ERROR),
    )
    assert [(one.index, one.outcome) for one in await tries(*journal)] == [(0, "fail"), (1, "success"), (None, "fail")]
    assert [one.outcome for one in await tries(*journal, index=0)] == ["fail"]


async def test_a_result_that_was_found_is_one_nobody_ran() -> None:
    (found,) = await tries(
        facts.NodeSucceeded(at=4, node="a", attempt=0, result=Raw(b"1"), cached_from="x0", cache="digest")
    )
    assert (found.attempt, found.outcome, found.started_at, found.finished_at) == (0, "success", None, 4)
    assert (found.cached_from, found.result) == ("x0", Raw(b"1"))


async def test_what_others_end_is_told() -> None:
    ends: dict[str, Fact] = {
        "cancelled": facts.NodeCancelled(at=2, node="a", attempt=1),
        "overridden": facts.NodeOverridden(at=2, node="a"),
        "unknown": facts.ExecutionFailed(at=2, error=ERROR, given_up=True),
    }
    for outcome, end in ends.items():
        (one,) = await tries(facts.NodeStarted(at=1, node="a"), end)
        assert one.outcome == outcome
    rerun = facts.RerunRequested(at=2, nodes=("a", "b"))
    first, second = await tries(facts.NodeStarted(at=1, node="a"), rerun, facts.NodeStarted(at=3, node="a", attempt=2))
    assert (first.outcome, first.finished_at, second.outcome) == ("cancelled", 2, "running")


async def test_the_facts_of_others_change_nothing() -> None:
    (one,) = await tries(
        facts.NodeStarted(at=1, node="a"),
        facts.NodeCancelled(at=2, node="b", attempt=1),
        facts.RerunRequested(at=3, nodes=("b",)),
        facts.ExecutionFailed(at=4, error=ErrorInfo(type="T", message='node "a" failed')),
    )
    assert one.outcome == "running"
