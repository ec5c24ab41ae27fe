"""How things end: a node with `foreach` by its items, an execution by its nodes."""

from __future__ import annotations

import msgspec

from dagengine.events.facts import (
    ErrorInfo,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionSucceeded,
    NodeFailed,
    NodeSucceeded,
)
from dagengine.machine.phases import Phase
from dagengine.machine.state import State

__all__ = ["of_execution", "of_items", "of_outputs"]


def of_items(state: State, position: int, at: int) -> NodeSucceeded | NodeFailed:
    """The fact that ends a node whose items have all ended."""
    items, node = state.items[position], state.graph.nodes[position]
    if not items.failed:
        return NodeSucceeded(at=at, node=node.id)
    first = state.errors[position, items.first_failed]
    message = f"{items.failed} of {len(items.phase)} items failed; item {items.first_failed}: {first.message}"
    # An item that the code refused weighs more than one that the platform lost: it would be refused again.
    refused = any(
        phase == Phase.FAILED and state.failures[position, index][0] for index, phase in enumerate(items.phase)
    )
    return NodeFailed(
        at=at,
        node=node.id,
        conclusion="fail" if refused else "error",
        error=ErrorInfo(type="ItemsFailed", message=message, line=first.line),
    )


def of_execution(state: State, at: int) -> ExecutionSucceeded | ExecutionFailed | ExecutionCancelled | None:
    """The last fact of an execution whose nodes have all ended; None when its outputs must be evaluated first."""
    if state.cancel is not None:
        return ExecutionCancelled(at=at, reason=state.cancel.reason)
    failed = [node for node in state.graph.nodes if state.phase[node.position] == Phase.FAILED]
    if failed:
        first = failed[0]
        error = state.errors[first.position, -1]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        message = f"node '{first.id}' failed: {error.message}{more}"
        return ExecutionFailed(at=at, error=ErrorInfo(type="NodeFailed", message=message))
    if state.graph.document.spec.outputs:
        return None
    return ExecutionSucceeded(at=at, outputs=msgspec.Raw(_last_results(state)))


def of_outputs(value: bytes, error: ErrorInfo | None, at: int) -> ExecutionSucceeded | ExecutionFailed:
    """The last fact of an execution, from the evaluation of its `outputs`."""
    if error is None:
        return ExecutionSucceeded(at=at, outputs=msgspec.Raw(value))
    message = f"the outputs cannot be evaluated: {error.message}"
    return ExecutionFailed(at=at, error=ErrorInfo(type=error.type, message=message, line=error.line))


def _last_results(state: State) -> bytes:
    """The default outputs: the result of every node that nothing depends on and that ran, by node id."""
    members = []
    for position in state.graph.sinks:
        result = state.result(position)
        if result is not None:
            # Ids match [a-zA-Z0-9_-]+, so they need no escaping.
            members.append(b'"' + state.graph.nodes[position].id.encode() + b'":' + result)
    return b"{" + b",".join(members) + b"}"
