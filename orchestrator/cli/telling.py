"""What facts say, in one line each: progress on standard error, and what became of an operation."""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET

from dagengine.events import facts
from orchestrator.cli import progress

__all__ = ["because", "describe", "operation"]

_KINDS: Final = {
    "cancel": "cancelling",
    "pause": "pausing",
    "resume": "resuming",
    "retry": "the retry",
    "skip": "skipping",
    "signal": "the signal",
    "decide": "the decision",
    "edit": "editing",
}


def because(reason: str) -> str:
    """A reason after a line, if there is one."""
    return f": {reason}" if reason else ""


def describe(fact: facts.Fact, board: progress.Board) -> str:
    """What a fact says, in one line; empty when it is not worth one. `board` has taken the fact already."""
    match fact:
        case facts.Operation():
            return operation(fact)
        case facts.ExecutionStarted():
            return f"execution {fact.execution} of {fact.workflow}@{fact.version} started"
        case facts.ExecutionTimedOut():
            return f"execution took longer than {progress.duration(fact.timeout)}: what has not ended is given up"
        case facts.ExecutionConcluded():
            return f"all nodes have ended ({fact.status}); on_exit follows"
        case facts.ExecutionSucceeded():
            return f"execution succeeded in {_total(board)}"
        case facts.ExecutionFailed():
            return f"execution failed after {_total(board)}"
        case facts.ExecutionCancelled():
            return f"execution cancelled after {_total(board)}{because(fact.reason)}"
        case _:
            return _describe_node(fact, board.nodes[fact.node])


def operation(fact: facts.Operation) -> str:
    """What became of an operation: who did what, and why."""
    by = f" by {fact.author}" if fact.author else ""
    why = because(fact.reason)
    match fact:
        case facts.CommandRefused():
            return f"{_KINDS.get(fact.kind, fact.kind)}{by} was refused: {fact.why}"
        case facts.CancelRequested():
            return f"{'terminated' if fact.terminate else 'cancel requested'}{by}{_grace(fact.grace)}{why}"
        case facts.Paused():
            return f"{_whole(fact.node)}paused{by}{why}"
        case facts.Resumed():
            return f"{_whole(fact.node)}resumed{by}{why}"
        case facts.RerunRequested():
            return f"to run again{by}: {', '.join([*fact.nodes, *fact.items])}{why}"
        case facts.NodeOverridden():
            what = "skipped" if fact.result is UNSET else "given a result"
            return f"{fact.node} {what}{by}{why}"
        case facts.Signalled():
            return f"signal {fact.name} received{by}{why}"
        case facts.Decided():
            what = "approved" if fact.approved else "rejected"
            return f"{progress.label(fact.node, fact.index)} {what}{by}{why}"
        case facts.InputsEdited():
            return f"inputs of {fact.node} edited{by}{why}"
        case _:
            return f"{type(fact).__name__}{by}{why}"


def _whole(node: str) -> str:
    return f"{node} " if node else ""


def _grace(grace: int) -> str:
    return f" (effects have {progress.duration(grace)})" if grace else ""


def _describe_node(fact: Any, node: progress.NodeProgress) -> str:
    name = progress.label(fact.node, fact.index if hasattr(fact, "index") else None)
    match fact:
        case facts.NodeExpanded():
            return f"{name} started: {fact.count} {'item' if fact.count == 1 else 'items'}"
        case facts.NodeQueued(index=None):
            return f"{name} waits: {node.note}"
        case facts.NodeStarted(index=None):
            return f"{name} started" + (f" (attempt {fact.attempt})" if fact.attempt > 1 else "")
        case facts.NodeWaiting(index=None):
            return f"{name} waits {node.note}".rstrip()
        case facts.NodeSucceeded(index=None) if fact.cached_from:
            return f"{name} succeeded: {node.note}"
        case facts.NodeSucceeded(index=None):
            items = "" if node.items is None else f": {node.items} items"
            return f"{name} succeeded{items} in {_took(fact, node)}"
        case facts.NodeFailed() if fact.retry_at is not None:
            wait = progress.duration(max(0, fact.retry_at - fact.at))
            return (
                f"{name} attempt {fact.attempt} failed, next one in {wait}: {progress.first_line(fact.error.message)}"
            )
        case facts.NodeFailed():
            return f"{name} failed: {progress.first_line(fact.error.message)}"
        case facts.NodeSkipped(index=None):
            return f"{name} skipped: {node.note}"
        case facts.NodeCancelled(index=None):
            return f"{name} cancelled{because(node.note)}"
    return ""


def _took(fact: facts.NodeSucceeded, node: progress.NodeProgress) -> str:
    return progress.duration(fact.elapsed if node.items is None else node.elapsed(fact.at) or 0)


def _total(board: progress.Board) -> str:
    return progress.duration((board.finished_at or 0) - (board.started_at or board.finished_at or 0))
