"""Progress on standard error while an execution runs: a live table on a terminal, one line per event elsewhere.

Both take the same calls, so that the commands need not know which one they feed. Rich is imported for a live table
only. Log lines go between, or above the table.
"""

from __future__ import annotations

import sys
from typing import Protocol, TextIO

from dagengine.events import facts
from dagengine.executors.base import LogLine
from orchestrator.cli import progress, telling

__all__ = ["Display", "Plain", "Silent", "choose"]


class Display(Protocol):
    """Shows how far an execution has come. Used as a context manager around it."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *exc: object) -> None: ...

    def fact(self, fact: facts.Fact) -> None:
        """Take the next fact, fold it into the board and show what it changed."""

    def log(self, line: LogLine) -> None:
        """Show a line that a node printed. May be called from any thread."""

    def say(self, text: str) -> None:
        """Show a line about the execution that no fact tells, such as why it does not begin."""


def choose(board: progress.Board, *, quiet: bool, stream: TextIO | None = None) -> Display:
    """The display that suits standard error (or `stream`)."""
    out = stream or sys.stderr
    if quiet:
        return Silent(board, out)
    if out.isatty():
        from orchestrator.cli.live import Live

        return Live(board, out)
    return Plain(board, out)


class Silent:
    """Shows log lines only."""

    def __init__(self, board: progress.Board, out: TextIO) -> None:
        self.board = board
        self.out = out

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.out.flush()

    def fact(self, fact: facts.Fact) -> None:
        self.board.apply(fact)

    def log(self, line: LogLine) -> None:
        self.out.write(log_text(line) + "\n")

    def say(self, text: str) -> None:
        self.out.write(text + "\n")
        self.out.flush()


class Plain(Silent):
    """One line per event; of the items of a `foreach` only those that fail or are tried again are told one by one."""

    def fact(self, fact: facts.Fact) -> None:
        self.board.apply(fact)
        if line := telling.describe(fact, self.board):
            since = fact.at - (self.board.started_at or fact.at)
            self.out.write(f"{since / 1e6:8.3f}s  {line}\n")
            self.out.flush()


def log_text(line: LogLine) -> str:
    """A log line with the node it comes from."""
    level = "" if line.level == "info" else f"{line.level}: "
    return f"{progress.label(line.node, line.index)} | {level}{line.text}"
