"""From an execution that has ended to its outputs, or to the error that tells why there are none.

Shared by the embedded orchestrator and the client: what they raise is the same, and so is what it says.
"""

from __future__ import annotations

from typing import Any

from dagengine.errors import ExecutionFailed
from dagengine.events import facts
from orchestrator.verbs import ExecutionView, Verbs

__all__ = ["outputs_of"]

_PAGE = 1_000
_ENDINGS = {"failed": "has failed", "cancelled": "was cancelled"}


async def outputs_of(verbs: Verbs, view: ExecutionView) -> dict[str, Any]:
    """The outputs of an execution that has ended. Raises ExecutionFailed with the failed nodes unless it succeeded."""
    if view.status == "succeeded":
        return view.outputs or {}
    reason = view.error.message if view.error is not None else await _reason(verbs, view)
    why = f": {reason}" if reason else ""
    raise ExecutionFailed(
        f"execution {view.id} of {view.workflow}@{view.version} {_ENDINGS[view.status]}{why}",
        execution=view.id,
        status=view.status,
        nodes=await _failed_nodes(verbs, view.id),
    )


async def _reason(verbs: Verbs, view: ExecutionView) -> str:
    """Why an execution was cancelled, as its last fact tells; empty when nobody gave a reason."""
    for entry in await verbs.facts(view.id, after=max(0, view.last_seq - 1), limit=1):
        fact = facts.decode(bytes(entry.fact))
        if isinstance(fact, facts.ExecutionCancelled):
            return fact.reason
    return ""


async def _failed_nodes(verbs: Verbs, execution: str) -> dict[str, str]:
    """The error message of each node that failed for good, in the order of their failing."""
    failed: dict[str, str] = {}
    after = 0
    while page := await verbs.facts(execution, after=after, limit=_PAGE):
        after = page[-1].seq
        for entry in page:
            if bytes(entry.fact).startswith(b'{"type":"NodeFailed"'):
                fact = facts.decode(bytes(entry.fact))
                if isinstance(fact, facts.NodeFailed) and fact.retry_at is None and fact.index is None:
                    failed[fact.node] = fact.error.message
    return failed
