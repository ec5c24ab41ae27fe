"""Why an execution did not succeed, for people: the node, what went wrong, and the line of their own code."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from dagengine.errors import DAGEngineError
from orchestrator.cli import progress

__all__ = ["explain", "failure"]

_SHOWN: Final = 10

_NODE_FAILED: Final = "NodeFailed"
"""The error of an execution that says no more than its nodes do."""


def explain(board: progress.Board) -> str:
    """The story of an execution that failed or was cancelled, in lines."""
    lines = [f"execution {board.execution} of {board.plan.reference} {_ended(board)}"]
    causes = list(board.causes())
    if board.error is not None and (not causes or board.error.type != _NODE_FAILED):
        lines.append(f"  {board.error.type}: {board.error.message}")
    for failure in islice(causes, _SHOWN):
        lines.extend(_failure(board, failure))
    if len(causes) > _SHOWN:
        lines.append(f"  … and {len(causes) - _SHOWN} more failures")
    return "\n".join(lines)


def failure(board: progress.Board, exc: DAGEngineError) -> dict[str, Any]:
    """The same for programs: `error` is what ended the execution, `nodes` the state of each node by its id."""
    kind = board.error.type if board.error is not None else type(exc).__name__
    message = board.error.message if board.error is not None else board.cancelled_because or str(exc)
    return {
        "error": {
            "type": kind,
            "message": message,
            "status": board.status if board.ended else "failed",
            "execution": board.execution,
        },
        "nodes": {
            node.id: {"state": node.phase, "attempt": node.attempt, "note": node.note} for node in board.nodes.values()
        },
    }


def _ended(board: progress.Board) -> str:
    if board.status == "cancelled":
        return f"was cancelled: {board.cancelled_because}" if board.cancelled_because else "was cancelled"
    return "failed" if board.status == "failed" else f"is {board.status}"


def _failure(board: progress.Board, failure: progress.Failure) -> Iterator[str]:
    error = failure.error
    tries = f" after {failure.attempt} attempts" if failure.attempt > 1 else ""
    first, *rest = error.message.split("\n")
    yield f"  node {progress.label(failure.node, failure.index)}{tries}: {error.type}: {first}"
    yield from (f"    {line}" for line in rest)
    code = board.plan.code(failure.node).splitlines()
    if 0 < error.line <= len(code):
        yield f"    line {error.line}: {code[error.line - 1].strip()}"
    elif error.line:
        yield f"    line {error.line}"
    told = error.traceback.splitlines()
    single = len(told) == 1 or (len(told) == 2 and not told[0].startswith(" ") and told[1].startswith("  "))
    if not error.line or not single:  # a single frame says no more than the line above
        yield from (f"    {line}" for line in told)
