"""What is shown as paused is what is paused: a time limit and a second life end pauses."""

from __future__ import annotations

import pytest
from msgspec import Raw

from dagengine.events import facts
from dagengine.events.facts import ErrorInfo
from orchestrator.progress import Board

STARTED = facts.ExecutionStarted(at=0, execution="x", workflow="w", version="1.0.0", digest="d", inputs=Raw(b"{}"))
OVER = facts.ExecutionFailed(at=5, error=ErrorInfo(type="NodeFailed", message="no"))


def after(*journal: facts.Fact) -> Board:
    shown = Board()
    for fact in (STARTED, *journal):
        shown.apply(fact)
    return shown


def test_a_time_limit_ends_them() -> None:
    paused = facts.Paused(at=1)
    assert after(paused).paused == {""}
    assert after(paused, facts.ExecutionTimedOut(at=2, timeout=1)).paused == set()


@pytest.mark.parametrize("node", ["", "a"])
def test_a_retry_after_the_end_ends_them(node: str) -> None:
    assert after(facts.Paused(at=1, node=node), OVER, facts.RerunRequested(at=6, nodes=("b",))).paused == set()


def test_a_retry_of_a_node_that_had_ended_ends_its_own() -> None:
    failed = facts.NodeFailed(at=3, node="a", attempt=1, conclusion="fail", error=ErrorInfo(type="X", message="no"))
    begun = facts.NodeStarted(at=1, node="a")
    pauses = facts.Paused(at=2, node="a"), facts.Paused(at=2, node="b")
    assert after(begun, *pauses, failed, facts.RerunRequested(at=6, nodes=("a",))).paused == {"b"}
