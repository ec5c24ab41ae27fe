from __future__ import annotations

import io

import pytest
from msgspec import Raw

from dagengine.events import facts
from dagengine.executors.base import LogLine
from orchestrator.cli import display, live, plan, progress, report

T0 = 1_700_000_000_000_000
BOOM = facts.ErrorInfo(type="LuaError", message="boom\nbadly", line=2)


@pytest.fixture
def story() -> list[facts.Fact]:
    """`load` is tried twice, `map` has an item that fails, `check` is skipped, `end` never runs."""
    raw = Raw(b"null")
    return [
        facts.ExecutionStarted(at=T0, execution="x1", workflow="sample", version="1.2.0", digest="", inputs=Raw(b"{}")),
        facts.NodeStarted(at=T0 + 10, node="load"),
        facts.NodeFailed(at=T0 + 20, node="load", attempt=1, conclusion="error", error=BOOM, retry_at=T0 + 1_020),
        facts.NodeStarted(at=T0 + 1_020, node="load", attempt=2),
        facts.NodeSucceeded(at=T0 + 2_000, node="load", attempt=2, result=raw, elapsed=980),
        facts.NodeSkipped(at=T0 + 2_000, node="check", reason="when_false"),
        facts.NodeStarted(at=T0 + 2_000, node="split"),
        facts.NodeSucceeded(at=T0 + 3_000, node="split", attempt=1, result=raw, elapsed=1_000),
        facts.NodeExpanded(at=T0 + 3_000, node="map", count=2, items=Raw(b"[1,2]")),
        facts.NodeStarted(at=T0 + 3_100, node="map", index=0),
        facts.NodeStarted(at=T0 + 3_100, node="map", index=1),
        facts.NodeSucceeded(at=T0 + 4_000, node="map", index=0, attempt=1, result=raw, elapsed=900),
        facts.NodeFailed(at=T0 + 5_000, node="map", index=1, attempt=1, conclusion="fail", error=BOOM),
        facts.NodeFailed(
            at=T0 + 5_000, node="map", conclusion="fail", error=facts.ErrorInfo(type="ItemsFailed", message="1 of 2")
        ),
        facts.NodeSkipped(at=T0 + 5_000, node="end", reason="upstream_failed", because=("map",)),
        facts.ExecutionFailed(at=T0 + 6_000, error=facts.ErrorInfo(type="NodeFailed", message="map failed")),
    ]


def test_the_board_is_the_fold_of_the_facts(sample: plan.Plan, story: list[facts.Fact]) -> None:
    board = progress.Board(sample)
    assert board.status == "queued"
    for fact in story[:3]:
        board.apply(fact)
    assert (board.status, board.nodes["load"].phase, board.nodes["load"].note) == (
        "running",
        "retrying",
        "attempt 1: boom",
    )
    for fact in story[3:]:
        board.apply(fact)
    assert {node.id: node.phase for node in board.nodes.values()} == {
        "end": "skipped",
        "load": "succeeded",
        "split": "succeeded",
        "map": "failed",
        "check": "skipped",
    }
    mapped = board.nodes["map"]
    assert (mapped.items, mapped.items_succeeded, mapped.items_failed, mapped.elapsed(0)) == (2, 1, 1, 2_000)
    assert board.nodes["load"].attempt == 2
    assert (board.status, board.done, board.ended) == ("failed", 5, True)
    assert [(cause.node, cause.index) for cause in board.causes()] == [("map", 1)]


def test_nodes_that_the_plan_does_not_know_are_added(story: list[facts.Fact]) -> None:
    board = progress.Board(plan.Plan(reference="sample@1.2.0", steps=(), inputs={}))
    for fact in story:
        board.apply(fact)
    assert set(board.nodes) == {"load", "check", "split", "map", "end"}


def test_without_a_terminal_there_is_one_line_per_event(sample: plan.Plan, story: list[facts.Fact]) -> None:
    out = io.StringIO()
    with display.choose(progress.Board(sample), quiet=False, stream=out) as shown:
        for fact in story:
            shown.fact(fact)
        shown.log(LogLine(execution="x1", node="map", index=1, attempt=1, line=1, at=T0, level="warning", text="hm"))
    assert [line[11:] for line in out.getvalue().splitlines()[:-1]] == [
        "execution x1 of sample@1.2.0 started",
        "load started",
        "load attempt 1 failed, next one in 1ms: boom",
        "load started (attempt 2)",
        "load succeeded in 980µs",
        "check skipped: its `when` is not true",
        "split started",
        "split succeeded in 1ms",
        "map started: 2 items",
        "map[1] failed: boom",
        "map failed: 1 of 2",
        "end skipped: failed upstream (map)",
        "execution failed after 6ms",
    ]
    assert out.getvalue().splitlines()[-1] == "map[1] | warning: hm"


def test_quiet_shows_nothing_but_logs(sample: plan.Plan, story: list[facts.Fact]) -> None:
    out = io.StringIO()
    board = progress.Board(sample)
    with display.choose(board, quiet=True, stream=out) as shown:
        for fact in story:
            shown.fact(fact)
        shown.log(LogLine(execution="x1", node="load", attempt=1, line=1, at=T0, text="hello"))
    assert out.getvalue() == "load | hello\n"
    assert board.status == "failed"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_table_of_all_nodes(
    sample: plan.Plan, story: list[facts.Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    out = _Terminal()
    with display.choose(progress.Board(sample), quiet=False, stream=out) as shown:
        assert isinstance(shown, live.Live)
        for fact in story:
            shown.fact(fact)
    text = out.getvalue()
    for expected in ("sample@1.2.0", "5/5 nodes", "1/2, 1 failed", "its `when` is not true"):
        assert expected in text


def test_no_color_is_respected_on_a_terminal(
    sample: plan.Plan, story: list[facts.Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    out = _Terminal()
    with display.choose(progress.Board(sample), quiet=False, stream=out) as shown:
        for fact in story:
            shown.fact(fact)
    assert "\x1b[3" not in out.getvalue()


def test_of_too_many_nodes_the_ones_that_matter_are_shown() -> None:
    steps = tuple(plan.Step(id=f"n{number}", executor="lua") for number in range(100))
    board = progress.Board(plan.Plan(reference="many@1.0.0", steps=steps, inputs={}))
    board.nodes["n70"].phase = "failed"
    board.nodes["n90"].phase = "running"
    shown, hidden = live.fitting(board, 5)
    assert [node.id for node in shown] == ["n0", "n1", "n70", "n90"]
    assert hidden == 96


def test_a_failure_is_told_with_the_line_of_the_code(sample: plan.Plan, story: list[facts.Fact]) -> None:
    board = progress.Board(sample)
    for fact in story:
        board.apply(fact)
    assert report.explain(board).splitlines() == [
        "execution x1 of sample@1.2.0 failed",
        "  node map[1]: LuaError: boom",
        "    badly",
        "    line 2: return rows",
    ]


def test_what_ended_the_execution_is_told_before_the_failures_of_its_nodes(
    sample: plan.Plan, story: list[facts.Fact]
) -> None:
    board = progress.Board(sample)
    for fact in story:
        board.apply(fact)
    board.error = facts.ErrorInfo(type="ExecutionTimeout", message="the execution took longer than its timeout of 3s")
    assert report.explain(board).splitlines()[:3] == [
        "execution x1 of sample@1.2.0 failed",
        "  ExecutionTimeout: the execution took longer than its timeout of 3s",
        "  node map[1]: LuaError: boom",
    ]


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [
        (0, "0µs"),
        (340, "340µs"),
        (12_900, "12ms"),
        (3_240_000, "3.2s"),
        (59_990_000, "1m00s"),
        (125_000_000, "2m05s"),
        (3_725_000_000, "1h02m"),
    ],
)
def test_durations_are_rounded_for_people(microseconds: int, expected: str) -> None:
    assert progress.duration(microseconds) == expected
