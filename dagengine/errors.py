"""Every error the engine raises on purpose, under one root.

::

    DAGEngineError
    ├── SpecError              the workflow document or builder is wrong (carries every Problem at once)
    ├── InputError             the inputs of an execution do not fit the workflow's `spec.inputs`
    ├── MachineError           an illegal transition or a broken invariant: a bug in us, never the user's fault
    ├── ExecutorError          an executor is missing or cannot do what the workflow asks of it
    ├── ExecutionFailed        an execution ended as `failed` or `cancelled` (raised to whoever awaits its result)
    ├── JournalError           the journal refused facts, or holds facts that do not follow from each other
    ├── WireError              the peer broke the session protocol, or speaks another version of it
    └── SettingsError          a flag, environment variable or file holds a value that cannot be used

Whose fault an error is decides how a door reports it: `SpecError`, `InputError` and `SettingsError` are the
caller's (exit code 2, HTTP 422/400, `INVALID_ARGUMENT`); `ExecutionFailed` is the workflow's (exit code 1); the
rest are ours or the platform's (exit code 1, HTTP 500/503, `INTERNAL`/`UNAVAILABLE`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = [
    "DAGEngineError",
    "ExecutionFailed",
    "ExecutorError",
    "InputError",
    "JournalError",
    "MachineError",
    "Problem",
    "SettingsError",
    "SpecError",
    "WireError",
]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """One thing that is wrong with a document or with inputs, and where.

    `line` and `column` count from 1; both are 0 where the source has no lines (a builder, a JSON value).
    `path` is dotted, list positions in brackets: `spec.nodes[2].executor.code`.
    """

    line: int = 0
    column: int = 0
    path: str = ""
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class DAGEngineError(Exception):
    """Root of everything `dagengine` raises on purpose."""


MOST_PROBLEMS: Final = 1_000
"""Problems that one error carries: a document that is wrong all over must not become an answer larger than itself."""


class _ProblemsError(DAGEngineError):
    """An error that carries the problems found, in document order; `omitted` of them are left out."""

    def __init__(self, summary: str, problems: Sequence[Problem] = (), *, omitted: int = 0) -> None:
        self.summary = summary
        self.problems = tuple(sorted(problems)[:MOST_PROBLEMS])
        self.omitted = omitted + max(0, len(problems) - MOST_PROBLEMS)
        lines = [f"  {problem}" for problem in self.problems]
        if self.omitted:
            lines.append(f"  … and {self.omitted:,} more")
        super().__init__("\n".join([summary, *lines]))


class SpecError(_ProblemsError):
    """A workflow document (or builder) is wrong. `problems` holds its errors: the first 1,000 of them."""


class InputError(_ProblemsError):
    """The inputs of an execution do not fit its workflow. `problems` holds their errors: the first 1,000 of them."""


class MachineError(DAGEngineError):
    """The machine was asked for an illegal transition, or an invariant of it does not hold."""


class ExecutorError(DAGEngineError):
    """An executor is missing, or cannot do what is asked of it."""


class ExecutionFailed(DAGEngineError):  # noqa: N818 - it names a conclusion, as the journal does
    """An execution did not succeed.

    `status` is `failed` or `cancelled`; `nodes` maps the id of each failed node to its error message.
    """

    def __init__(self, message: str, *, execution: str, status: str, nodes: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.execution = execution
        self.status = status
        self.nodes = nodes or {}


class JournalError(DAGEngineError):
    """The journal refused facts, or holds facts that do not follow from each other."""


class WireError(DAGEngineError):
    """The peer broke the session protocol, or speaks a version of it that this side does not."""


class SettingsError(DAGEngineError):
    """A flag, environment variable or configuration file holds a value that cannot be used."""
