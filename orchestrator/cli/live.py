"""The live table on a terminal: every node with its state, its items and its time.

Rich draws from a thread of its own, so the table goes on while something holds the event loop's thread.
"""

from __future__ import annotations

import time
from typing import Final, TextIO

import rich.console
import rich.live
import rich.spinner
import rich.table
import rich.text

from dagengine.events import facts
from dagengine.executors.base import LogLine
from orchestrator.cli import display, progress

__all__ = ["Live", "fitting"]

_MARKS: Final[dict[progress.Phase, tuple[str, str]]] = {
    "pending": ("·", "dim"),
    "queued": ("·", "yellow"),
    "waiting": ("…", "cyan"),
    "running": ("●", "cyan"),
    "retrying": ("↻", "yellow"),
    "succeeded": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("-", "dim"),
    "cancelled": ("■", "yellow"),
}
_FIRST: Final[tuple[progress.Phase, ...]] = (
    "failed",
    "running",
    "retrying",
    "waiting",
    "queued",
    "cancelled",
    "succeeded",
    "pending",
    "skipped",
)
"""Which nodes are shown when not all of them fit."""


class Live:
    """A table that is redrawn eight times a second."""

    def __init__(self, board: progress.Board, out: TextIO) -> None:
        self.board = board
        self._skew: int | None = None
        self._console = rich.console.Console(file=out, highlight=False)
        self._spinner = rich.spinner.Spinner("dots", style="cyan")
        self._live = rich.live.Live(
            get_renderable=self._draw, console=self._console, refresh_per_second=8, redirect_stdout=False
        )

    def __enter__(self) -> display.Display:
        self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._live.stop()

    def fact(self, fact: facts.Fact) -> None:
        self.board.apply(fact)
        if self._skew is None:
            # Durations go on between facts; on the clock of whoever sequences them, which may not be ours.
            self._skew = min(0, fact.at - _now())

    def log(self, line: LogLine) -> None:
        self._console.print(rich.text.Text(display.log_text(line), style="dim" if line.level == "debug" else ""))

    def say(self, text: str) -> None:
        self._console.print(rich.text.Text(text, style="yellow"))

    def _draw(self) -> rich.console.Group:
        now = _now() + (self._skew or 0)
        chosen, hidden = fitting(self.board, self._console.height - 4)
        rows = rich.table.Table.grid(padding=(0, 2))
        for node in chosen:
            rows.add_row(*_row(node, now))
        parts: list[rich.console.RenderableType] = [self._heading(now), rows]
        if hidden:
            parts.append(rich.text.Text(f"  … {hidden} more nodes", style="dim"))
        return rich.console.Group(*parts)

    def _heading(self, now: int) -> rich.console.RenderableType:
        board = self.board
        state = _state(board)
        took = progress.duration(max(0, (board.finished_at or now) - (board.started_at or now)))
        text = rich.text.Text.assemble(
            (board.plan.reference, "bold"),
            f"  {board.execution}  {state}  {board.done}/{len(board.nodes)} nodes  {took}",
        )
        if board.ended:
            mark, style = _MARKS[board.status]
            return rich.text.Text.assemble((f"{mark} ", style), text)
        heading = rich.table.Table.grid(padding=(0, 1))
        heading.add_row(self._spinner, text)
        return heading


def _state(board: progress.Board) -> str:
    if board.ended:
        return board.status
    if board.cancelling:
        return "cancelling"
    if board.concluded:
        return f"{board.concluded}, on exit"
    return "paused" if "" in board.paused else board.status


def _row(node: progress.NodeProgress, now: int) -> list[rich.text.Text]:
    mark, style = _MARKS[node.phase]
    elapsed = node.elapsed(now)
    items = ""
    if node.items is not None:
        items = f"{node.items_succeeded}/{node.items}"
        if node.items_failed:
            items += f", {node.items_failed} failed"
    attempt = f"attempt {node.attempt}" if node.attempt > 1 and node.items is None else ""
    return [
        rich.text.Text(f"  {mark}", style=style),
        rich.text.Text(node.id, style="dim" if node.phase in ("pending", "skipped") else ""),
        rich.text.Text(node.phase, style=style),
        rich.text.Text("" if elapsed is None else progress.duration(elapsed)),
        rich.text.Text(items or attempt),
        rich.text.Text(node.note, style="red" if node.phase == "failed" else "dim", overflow="ellipsis", no_wrap=True),
    ]


def fitting(board: progress.Board, height: int) -> tuple[list[progress.NodeProgress], int]:
    """The nodes that fit into `height` lines, in document order, and how many do not."""
    nodes = list(board.nodes.values())
    if len(nodes) <= height:
        return nodes, 0
    rank = {phase: position for position, phase in enumerate(_FIRST)}
    by_interest = sorted(range(len(nodes)), key=lambda at: (rank[nodes[at].phase], -(nodes[at].finished_at or 0), at))
    shown = sorted(by_interest[: max(1, height - 1)])
    return [nodes[at] for at in shown], len(nodes) - len(shown)


def _now() -> int:
    return time.time_ns() // 1_000
