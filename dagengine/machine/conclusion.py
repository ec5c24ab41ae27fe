"""How things end: a node with `foreach` by its items, an execution by its nodes.

What is too large to be told ends otherwise: a fact must fit the messages and transactions that carry it.
"""

from __future__ import annotations

from typing import Final

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

__all__ = ["MAX_ERROR_TEXT", "MAX_OUTPUTS", "of_execution", "of_items", "of_outputs", "shortened"]

MAX_OUTPUTS: Final = 16 << 20
"""Bytes that the outputs of an execution may take as JSON."""

MAX_ERROR_TEXT: Final = 64 << 10
"""Characters of an error's message, and of its traceback, that facts keep."""


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
        error=shortened(ErrorInfo(type="ItemsFailed", message=message, line=first.line)),
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
        return ExecutionFailed(at=at, error=shortened(ErrorInfo(type="NodeFailed", message=message)))
    if state.graph.document.spec.outputs:
        return None
    return _succeeded(_last_results(state), at)


def of_outputs(value: bytes, error: ErrorInfo | None, at: int) -> ExecutionSucceeded | ExecutionFailed:
    """The last fact of an execution, from the evaluation of its `outputs`."""
    if error is None:
        return _succeeded(value, at)
    message = f"the outputs cannot be evaluated: {error.message}"
    return ExecutionFailed(at=at, error=shortened(ErrorInfo(type=error.type, message=message, line=error.line)))


def shortened(error: ErrorInfo) -> ErrorInfo:
    """The error with what a fact keeps of its texts."""
    if len(error.message) <= MAX_ERROR_TEXT and len(error.traceback) <= MAX_ERROR_TEXT:
        return error
    return msgspec.structs.replace(error, message=_cut(error.message), traceback=_cut(error.traceback))


def _cut(text: str) -> str:
    if len(text) <= MAX_ERROR_TEXT:
        return text
    note = f"… ({len(text):,} characters)"
    return text[: MAX_ERROR_TEXT - len(note)] + note


def _succeeded(outputs: bytes, at: int) -> ExecutionSucceeded | ExecutionFailed:
    if len(outputs) <= MAX_OUTPUTS:
        return ExecutionSucceeded(at=at, outputs=msgspec.Raw(outputs))
    message = (
        f"the outputs take {len(outputs):,} bytes as JSON, and {MAX_OUTPUTS:,} are the most: "
        "name less in `spec.outputs`, and keep large values elsewhere"
    )
    return ExecutionFailed(at=at, error=ErrorInfo(type="OutputsTooLarge", message=message))


def _last_results(state: State) -> bytes:
    """The default outputs: the result of every node that nothing depends on and that ran, by node id."""
    members = []
    for position in state.graph.sinks:
        result = state.result(position)
        if result is not None:
            # Ids match [a-zA-Z0-9_-]+, so they need no escaping.
            members.append(b'"' + state.graph.nodes[position].id.encode() + b'":' + result)
    return b"{" + b",".join(members) + b"}"
