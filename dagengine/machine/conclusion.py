"""How things end: a node with `foreach` by its items, an execution by its nodes, and then by those of `on_exit`.

What is too large to be told ends otherwise: a fact must fit the messages and transactions that carry it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dagengine.events.facts import (
    ErrorInfo,
    ExecutionCancelled,
    ExecutionConcluded,
    ExecutionFailed,
    ExecutionSucceeded,
    NodeFailed,
    NodeSucceeded,
)
from dagengine.graph.compiled import NodePlan
from dagengine.machine.phases import Outcome, Phase
from dagengine.spec.duration import format_duration

if TYPE_CHECKING:
    from dagengine.machine.machine import Machine
    from dagengine.machine.state import State

__all__ = ["MAX_ERROR_TEXT", "MAX_OUTPUTS", "conclude", "of_items", "outputs_known", "shortened"]

Last = ExecutionSucceeded | ExecutionFailed | ExecutionCancelled

MAX_OUTPUTS: Final = 16 << 20
"""Bytes that the outputs of an execution may take as JSON."""

MAX_ERROR_TEXT: Final = 64 << 10
"""Characters of an error's message, and of its traceback, that facts keep."""


def of_items(state: State, position: int, at: int) -> NodeSucceeded | NodeFailed:
    """The fact that ends a node whose items have ended, or of which too many have failed."""
    items, node = state.items[position], state.graph.nodes[position]
    if items.failed <= (node.fail_after or 0):
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


def conclude(machine: Machine, at: int) -> None:
    """Every node has ended, perhaps but for those of `on_exit`: say so, or ask for the outputs that it needs."""
    state = machine.state
    if state.ended or state.unfinished:
        return
    if state.concluded is None:
        last = _of_nodes(state, at)
        if last is not None:
            machine.asked.pop(("outputs", -1, -1), None)  # it was about to succeed when it was cancelled
            _record(machine, last)
        elif ("outputs", -1, -1) not in machine.asked:
            machine.ask("outputs", -1, -1)
    elif not state.exit_unfinished:
        machine.record(_of_exit(state, state.concluded, at))


def outputs_known(machine: Machine, value: bytes, error: ErrorInfo | None, at: int) -> None:
    """The outputs of an execution whose nodes have ended were evaluated."""
    if error is None:
        last: Last = _succeeded(value, at)
    else:
        message = f"the outputs cannot be evaluated: {error.message}"
        info = shortened(ErrorInfo(type=error.type, message=message, line=error.line))
        last = ExecutionFailed(at=at, error=info)
    _record(machine, last)


def _record(machine: Machine, last: Last) -> None:
    """The end of an execution, or with `on_exit` the end of its main part."""
    if not machine.state.exit_unfinished:
        machine.record(last)
        return
    match last:
        case ExecutionSucceeded():
            fact = ExecutionConcluded(at=last.at, status="succeeded", outputs=last.outputs)
        case ExecutionFailed():
            fact = ExecutionConcluded(at=last.at, status="failed", error=last.error)
        case ExecutionCancelled():
            fact = ExecutionConcluded(at=last.at, status="cancelled")
    machine.record(fact)


def _of_nodes(state: State, at: int) -> Last | None:
    """How an execution ends whose nodes have ended; None when its outputs must be evaluated first."""
    if state.cancelled:
        return _cancelled(state, at)
    if state.timed_out is not None:
        limit = format_duration(state.timed_out.timeout)
        message = f"the execution took longer than its timeout of {limit}"
        return ExecutionFailed(at=at, error=ErrorInfo(type="ExecutionTimeout", message=message))
    failed = _failure(state, state.graph.nodes[: state.graph.main], "node")
    if failed is not None:
        return ExecutionFailed(at=at, error=failed)
    if state.graph.document.spec.outputs:
        return None
    return _succeeded(_last_results(state), at)


def _cancelled(state: State, at: int) -> ExecutionCancelled:
    return ExecutionCancelled(at=at, reason="" if state.cancel is None else state.cancel.reason)


def _of_exit(state: State, concluded: ExecutionConcluded, at: int) -> Last:
    """How an execution ends after its `on_exit`: as its nodes have, unless one of `on_exit` failed.

    Whoever terminates `on_exit` changes nothing about that: its nodes have been told how the others had ended.
    """
    if state.cancelled:
        return _cancelled(state, at)
    error = concluded.error or _failure(state, state.graph.nodes[state.graph.main :], "on_exit node")
    if error is not None:
        return ExecutionFailed(at=at, error=error)
    if isinstance(concluded.outputs, msgspec.Raw):
        return ExecutionSucceeded(at=at, outputs=concluded.outputs)
    raise AssertionError("an execution that concluded without an error has outputs")


def _failure(state: State, nodes: tuple[NodePlan, ...], kind: str) -> ErrorInfo | None:
    """What failed among `nodes`: the first of them, and how many more.

    Nor can it succeed with nodes that were given up: somebody may have had others run again, and not those.
    """
    failed = [node for node in nodes if state.phase[node.position] == Phase.FAILED]
    if not failed:
        if state.terminated:
            return None
        left = [node for node in nodes if state.outcome[node.position] == Outcome.CANCELLED]
        if not left:
            return None
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        message = f"{kind} '{left[0].id}' was given up, and has not been run again{more}"
        return ErrorInfo(type="NodeCancelled", message=message)
    error = state.errors[failed[0].position, -1]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return shortened(ErrorInfo(type="NodeFailed", message=f"{kind} '{failed[0].id}' failed: {error.message}{more}"))


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
