"""What operations, waits and second lives of executions look like to those who watch."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from dagengine.events import facts
from orchestrator.cli import plan, progress, telling

AT = 1_000_000


@pytest.fixture
def board(sample: plan.Plan) -> progress.Board:
    """A board on which the execution has begun."""
    made = progress.Board(sample)
    made.apply(
        facts.ExecutionStarted(at=0, execution="x1", workflow="sample", version="1.2.0", digest="d", inputs=Raw(b"{}"))
    )
    return made


def told(board: progress.Board, *journal: facts.Fact) -> list[str]:
    lines = []
    for fact in journal:
        board.apply(fact)
        lines.append(telling.describe(fact, board))
    return lines


BY: dict[str, Any] = {"author": "ada", "reason": "why not"}


@pytest.mark.parametrize(
    ("fact", "line"),
    [
        (facts.CancelRequested(at=AT, grace=10_000_000, **BY), "cancel requested by ada (effects have 10.0s): why not"),
        (facts.CancelRequested(at=AT, terminate=True), "terminated"),
        (facts.Paused(at=AT, **BY), "paused by ada: why not"),
        (facts.Paused(at=AT, node="load", author="ada"), "load paused by ada"),
        (facts.Resumed(at=AT), "resumed"),
        (
            facts.RerunRequested(at=AT, nodes=("map",), items=("check",), author="ada"),
            "to run again by ada: map, check",
        ),
        (facts.NodeOverridden(at=AT, node="load", **BY), "load skipped by ada: why not"),
        (facts.NodeOverridden(at=AT, node="load", result=Raw(b"1")), "load given a result"),
        (facts.Signalled(at=AT, name="paid", payload=Raw(b"null"), author="shop"), "signal paid received by shop"),
        (facts.Decided(at=AT, node="load", index=2, approved=False, **BY), "load[2] rejected by ada: why not"),
        (facts.InputsEdited(at=AT, node="load", inputs=Raw(b"{}"), author="ada"), "inputs of load edited by ada"),
        (facts.CommandRefused(at=AT, kind="retry", why="it runs"), "the retry was refused: it runs"),
        (facts.ExecutionTimedOut(at=AT, timeout=90_000_000), "execution took longer than 1m30s: "),
        (facts.ExecutionConcluded(at=AT, status="failed"), "all nodes have ended (failed); on_exit follows"),
        (facts.NodeQueued(at=AT, node="load", pool="db"), "load waits: no room in the pool 'db'"),
        (facts.NodeQueued(at=AT, node="load", rate="10/s"), "load waits: begins too often (10/s)"),
        (facts.NodeQueued(at=AT, node="map", index=1, pool="db"), ""),
        (facts.NodeWaiting(at=AT, node="load", kind="signal", name="paid"), "load waits for the signal 'paid'"),
        (facts.NodeWaiting(at=AT, node="load", kind="approval"), "load waits for an approval"),
        (facts.NodeWaiting(at=AT, node="load", kind="duration", until=2 * AT), "load waits"),
        (facts.NodeSucceeded(at=AT, node="load", cached_from="x0"), "load succeeded: found by execution x0"),
        (facts.NodeSkipped(at=AT, node="load", reason="fail_fast"), "load skipped: another node failed (`fail_fast`)"),
        (facts.NodeCancelled(at=AT, node="load", reason="timeout"), "load cancelled: the execution took too long"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, facts.Fact) else "",
)
def test_a_fact_is_told_in_a_line(board: progress.Board, fact: facts.Fact, line: str) -> None:
    (said,) = told(board, fact)
    assert said == line or (line.endswith(": ") and said.startswith(line))


def test_a_waiting_node_waits_until_it_ends(board: progress.Board) -> None:
    told(board, facts.NodeWaiting(at=AT, node="load", kind="signal", name="paid"))
    assert (board.nodes["load"].phase, board.nodes["load"].started_at) == ("waiting", AT)
    told(board, facts.NodeSucceeded(at=2 * AT, node="load"))
    assert (board.nodes["load"].phase, board.nodes["load"].note) == ("succeeded", "")


def test_pauses_are_known_until_they_are_lifted(board: progress.Board) -> None:
    told(board, facts.Paused(at=AT), facts.Paused(at=AT, node="load"))
    assert board.paused == {"", "load"}
    told(board, facts.Resumed(at=AT))
    assert board.paused == {"load"}
    told(board, facts.CancelRequested(at=AT))
    assert board.paused == set()


def test_an_execution_that_goes_on_is_as_if_parts_had_never_run(board: progress.Board) -> None:
    error = facts.ErrorInfo(type="T", message="no")
    failed: dict[str, Any] = {"conclusion": "fail", "error": error}
    told(
        board,
        facts.NodeStarted(at=AT, node="load"),
        facts.NodeFailed(at=AT, node="load", attempt=1, **failed),
        facts.NodeExpanded(at=AT, node="map", count=3, items=Raw(b"[1,2,3]")),
        facts.NodeSucceeded(at=AT, node="map", index=0, attempt=1, result=Raw(b"1")),
        facts.NodeFailed(at=AT, node="map", index=1, attempt=1, **failed),
        facts.NodeFailed(at=AT, node="map", **failed),
        facts.NodeSkipped(at=AT, node="end", reason="upstream_failed"),
        facts.ExecutionConcluded(at=AT, status="failed", error=error),
        facts.ExecutionFailed(at=AT, error=error),
    )
    assert (board.status, len(board.failures)) == ("failed", 3)
    told(board, facts.RerunRequested(at=2 * AT, nodes=("load", "end"), items=("map",)))
    assert (board.status, board.finished_at, board.error, board.failures) == ("running", None, None, [])
    assert board.concluded == ""
    load, mapped = board.nodes["load"], board.nodes["map"]
    assert (load.phase, load.attempt, load.started_at) == ("pending", 1, None)
    assert (mapped.phase, mapped.items, mapped.items_succeeded, mapped.items_failed) == ("running", 3, 1, 0)
    assert list(board.nodes) == ["end", "load", "split", "map", "check"]
    assert board.done == 0
