"""Why an execution did not succeed, for people: the node, what went wrong, and the line of their own code."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from dagengine.errors import DAGEngineError
from orchestrator.cli import progress

__all__ = ["explain", "failure"]

_SHOWN: Final = 10


def explain(board: progress.Board) -> str:
    """The story of an execution that failed or was cancelled, in lines."""
    lines = [f"execution {board.execution} of {board.plan.reference} {_ended(board)}"]
    causes = list(board.causes())
    for failure in islice(causes, _SHOWN):
        lines.extend(_failure(board, failure))
    if len(causes) > _SHOWN:
        lines.append(f"  … and {len(causes) - _SHOWN} more failures")
    if not causes and board.error is not None:
        lines.append(f"  {board.error.type}: {board.error.message}")
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
    frames = error.traceback.splitlines()
    if len(frames) > 1 or not error.line:  # a single frame says no more than the line above
        yield from (f"    {line}" for line in frames)
