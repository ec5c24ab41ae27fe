"""What `dagctl replay` does: fold a journal again, tell its story, and say whether it can be true."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dagengine.events import facts
from orchestrator.cli import failures, plan, printing, progress, telling
from orchestrator.cli.options import Format
from orchestrator.errors import RequestError
from orchestrator.history import lines
from orchestrator.history import replay as folding

__all__ = ["replay"]

Told = tuple[int, int, int, str]
"""Position and epoch of a fact, microseconds since the first one, and what it says."""


def replay(file: str, *, every: int | None, quiet: bool, form: Format) -> int:
    """Replay the journal in `file` (`-`: on standard input); the exit code. RequestError when it is none."""
    name = "standard input" if file == "-" else file
    history = _read(file, name)
    result = folding.replay(history, every=every)
    told = None if quiet else list(_story(history, result.folded))
    if form is Format.TABLE:
        _print(history, result, told or [])
    else:
        printing.structured(_plain(history, result, told), form)
    if result.problem is None:
        return 0
    failures.complain(f"{name}:{result.problem.line}: {_where(history, result.problem)}: {result.problem.message}")
    return failures.FAILURE


def _read(file: str, name: str) -> lines.History:
    if file == "-":
        return lines.read(sys.stdin.buffer, name=name)
    try:
        with Path(file).open("rb") as source:
            return lines.read(source, name=name)
    except OSError as exc:
        raise RequestError(f"{file} cannot be read: {exc.strerror}") from exc


def _story(history: lines.History, folded: int) -> Iterator[Told]:
    """Each fact that was folded."""
    board = progress.Board(plan.read(history.document.to_dict()))
    for entry, fact in zip(history.entries[:folded], history.facts[:folded], strict=True):
        board.apply(fact)
        since = fact.at - history.facts[0].at
        yield entry.seq, entry.epoch, since, telling.describe(fact, board) or _of_item(fact)


def _of_item(fact: Any) -> str:
    """What happened to an item of a `foreach`, which other displays only count."""
    name = progress.label(fact.node, fact.index)
    match fact:
        case facts.NodeStarted():
            return f"{name} started" + (f" (attempt {fact.attempt})" if fact.attempt > 1 else "")
        case facts.NodeSucceeded() if fact.cached_from:
            return f"{name} succeeded: found by execution {fact.cached_from}"
        case facts.NodeSucceeded():
            return f"{name} succeeded in {progress.duration(fact.elapsed)}"
        case facts.NodeQueued():
            return f"{name} waits for room"
        case facts.NodeWaiting():
            return f"{name} waits"
        case facts.NodeCancelled():
            return f"{name} cancelled"
        case facts.NodeSkipped():
            return f"{name} skipped"
    return f"{name}: {type(fact).__name__}"


def _print(history: lines.History, result: folding.Replayed, told: list[Told]) -> None:
    header, epoch = history.header, 0
    printing.write(
        f"execution {header.execution} of {header.workflow}@{header.version}: "
        f"{printing.colored(header.status)}, {header.last_seq} facts, exported by dagengine {header.release}"
    )
    if history.facts:
        printing.write(f"began {printing.moment(history.facts[0].at)}")
    width = len(str(header.last_seq))
    for seq, of, since, words in told:
        if of != epoch:
            printing.write(f"{'':{width}}  epoch {of}")
            epoch = of
        printing.write(f"{seq:{width}}  {since / 1e6:10.3f}s  {words}")
    if result.problem is None:
        printing.write(_verdict(result))


def _verdict(result: folding.Replayed) -> str:
    if result.checked == result.folded:
        return f"{result.folded} facts folded: {result.status}; all invariants hold after each of them"
    return f"{result.folded} facts folded: {result.status}; all invariants hold at {result.checked} of them"


def _where(history: lines.History, problem: folding.Problem) -> str:
    if problem.seq == 0:
        return "the execution"
    if problem.seq > len(history.facts):
        return "the end"
    return f"fact {problem.seq} ({type(history.facts[problem.seq - 1]).__name__})"


def _plain(history: lines.History, result: folding.Replayed, told: list[Told] | None) -> dict[str, Any]:
    header, problem = history.header, result.problem
    plain = {
        "execution": header.execution,
        "workflow": header.workflow,
        "version": header.version,
        "status": result.status,
        "facts": len(history.facts),
        "folded": result.folded,
        "checked": result.checked,
        "epochs": sorted({entry.epoch for entry in history.entries}),
        "problem": None if problem is None else {"line": problem.line, "seq": problem.seq, "message": problem.message},
    }
    if told is not None:
        plain["story"] = [
            {"seq": seq, "epoch": epoch, "at": fact.at, "fact": type(fact).__name__, "words": words}
            for (seq, epoch, _, words), fact in zip(told, history.facts, strict=False)
        ]
    return plain
