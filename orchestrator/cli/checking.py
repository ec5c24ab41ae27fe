"""What `dagctl validate` finds in each document, for people (`file:line:column: path: message`) and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dagengine import errors
from orchestrator.cli import documents, failures, printing
from orchestrator.cli.options import Format

__all__ = ["check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """One document and what is wrong with it."""

    file: str
    valid: bool
    workflow: str | None = None
    nodes: int = 0
    summary: str = ""
    problems: tuple[errors.Problem, ...] = ()
    omitted: int = 0
    """Problems beyond those."""


def check(names: Sequence[str], form: Format) -> int:
    """Print the verdict on every document; the exit code."""
    verdicts = [_judge(name) for name in documents.expand(names)]
    if form is Format.TABLE:
        for verdict in verdicts:
            printing.write(_lines(verdict))
    else:
        printing.structured(verdicts, form)
    return 0 if all(verdict.valid for verdict in verdicts) else failures.USAGE


def _judge(name: str) -> _Verdict:
    try:
        loaded = documents.load(name, registrable=True)
    except errors.SpecError as exc:
        return _Verdict(file=name, valid=False, summary=exc.summary, problems=exc.problems, omitted=exc.omitted)
    document = loaded.document
    return _Verdict(file=name, valid=True, workflow=document.reference, nodes=len(document.spec.nodes))


def _lines(verdict: _Verdict) -> str:
    if verdict.valid:
        count = "1 node" if verdict.nodes == 1 else f"{verdict.nodes} nodes"
        return f"{verdict.file}: {verdict.workflow} is valid ({count})"
    if not verdict.problems:
        return verdict.summary
    more = [f"{verdict.file}: … and {verdict.omitted:,} more problems"] if verdict.omitted else []
    return "\n".join([*(_line(verdict.file, problem) for problem in verdict.problems), *more])


def _line(file: str, problem: errors.Problem) -> str:
    place = f":{problem.line}:{problem.column}" if problem.line else ""
    path = f"{problem.path}: " if problem.path else ""
    return f"{file}{place}: {path}{problem.message}"
