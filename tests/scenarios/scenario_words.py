"""Facts, and reasons why nodes do not run, in words that somebody can read who has never seen the code."""

from __future__ import annotations

import json

from msgspec import UNSET

from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.machine.state import State
from dagengine.machine.why import Why
from dagengine.spec.duration import format_duration
from dagengine.testing import START

__all__ = ["clock", "line", "of_fact", "of_why", "shown", "unit"]

_SKIPPED = {
    "when_false": "its `when` is false",
    "run_if": "its `run_if` wants an outcome that no dependency had",
    "upstream_skipped": "a dependency was skipped",
    "upstream_failed": "a dependency failed",
    "upstream_cancelled": "a dependency was given up",
    "cancelled": "the execution was cancelled",
    "fail_fast": "the workflow fails fast",
    "timeout": "the execution took too long",
}


def clock(at: int) -> str:
    """A time as what has passed since the scenario began."""
    return format_duration(at - START) if at >= START else f"-{format_duration(START - at)}"


def line(at: int, what: str) -> str:
    """A line of a scenario: when, and what."""
    return f"{clock(at):<5} {what}".replace("\n", " ")


def shown(value: object) -> str:
    """JSON with spaces."""
    return json.dumps(json.loads(bytes(value)), ensure_ascii=False)  # type: ignore[call-overload]  # bytes or Raw


def unit(node: str, index: int | None) -> str:
    return node if index is None else f"{node}[{index}]"


def error(info: ErrorInfo) -> str:
    details = "" if info.details is UNSET else f" {shown(info.details)}"
    return f"{info.type}: {info.message}{details}"


def of_fact(fact: Fact, state: State) -> str:
    """What happened. `state` is that of the execution after it."""
    if isinstance(fact, facts.Operation):
        return _of_operation(fact)
    if hasattr(fact, "node"):
        return f"{unit(fact.node, fact.index if hasattr(fact, 'index') else None)}: {_of_node(fact, state)}"
    match fact:
        case facts.ExecutionStarted():
            return "the execution begins" + ("" if bytes(fact.inputs) == b"{}" else f" with {shown(fact.inputs)}")
        case facts.ExecutionTimedOut():
            return f"the execution takes longer than {format_duration(fact.timeout)}"
        case facts.ExecutionConcluded():
            told = f" ({error(fact.error)})" if fact.error is not None else ""
            return f"all nodes but those of on_exit have ended: {fact.status}{told}"
        case facts.ExecutionSucceeded():
            return f"the execution succeeded with {shown(fact.outputs)}"
        case facts.ExecutionFailed():
            return f"the execution failed ({error(fact.error)})"
        case facts.ExecutionCancelled():
            return "the execution was cancelled" + (f": {fact.reason}" if fact.reason else "")
    raise AssertionError(f"no words for {fact}")


def _of_node(fact: Fact, state: State) -> str:
    match fact:
        case facts.NodeExpanded():
            return f"has {fact.count} items: {shown(fact.items)}" if fact.count else "has no items"
        case facts.NodeQueued():
            return f"waits for room in the pool {fact.pool}" if fact.pool else f"waits for its turn, at {fact.rate}"
        case facts.NodeStarted():
            given = "" if fact.args is UNSET else f" with {shown(fact.args)}"
            return f"attempt {fact.attempt} began{given}"
        case facts.NodeWaiting():
            return (
                f"attempt {fact.attempt} waits {_waited_for(fact)}"
                if fact.attempt > 1
                else f"waits {_waited_for(fact)}"
            )
        case facts.NodeSucceeded():
            return _success(fact, state)
        case facts.NodeFailed():
            return _failure(fact)
        case facts.NodeSkipped():
            because = f" ({', '.join(fact.because)})" if fact.because else ""
            return f"skipped: {_SKIPPED[fact.reason]}{because}"
        case facts.NodeCancelled():
            which = f"attempt {fact.attempt}" if fact.attempt else "it"
            return f"{which} is given up: {_SKIPPED[fact.reason]}"
    raise AssertionError(f"no words for {fact}")


def _waited_for(fact: facts.NodeWaiting) -> str:
    until = "" if fact.until is None else f" until {clock(fact.until)}"
    match fact.kind:
        case "signal":
            return f"for the signal {fact.name}{until}"
        case "approval":
            return f"for an approval{until}"
    return until.strip()


def _success(fact: facts.NodeSucceeded, state: State) -> str:
    if fact.result is UNSET:
        result = state.result(state.graph.index[fact.node])
        return f"all items have ended: {shown(result)}"
    if fact.cached_from:
        return f"succeeded with {shown(fact.result)}, which {fact.cached_from} has found before"
    kept = (
        "" if not fact.cache else " (kept)" if fact.cache_until is None else f" (kept until {clock(fact.cache_until)})"
    )
    which = "" if state.graph.nodes[state.graph.index[fact.node]].wait else f"attempt {fact.attempt} "
    return f"{which}succeeded with {shown(fact.result)}{kept}"


def _failure(fact: facts.NodeFailed) -> str:
    verb = "failed" if fact.conclusion == "fail" else "broke"
    which = f"attempt {fact.attempt} {verb}" if fact.attempt else "failed" if fact.conclusion == "fail" else "broke"
    then = "for good" if fact.retry_at is None else f"again at {clock(fact.retry_at)}"
    return f"{which} ({error(fact.error)}), {then}"


def _of_operation(fact: facts.Operation) -> str:
    words = _operation(fact)
    return f"{fact.author or 'somebody'} {words}" + (f", because {fact.reason}" if fact.reason else "")


def _operation(fact: facts.Operation) -> str:
    match fact:
        case facts.CancelRequested():
            grace = f", with a grace of {format_duration(fact.grace)}" if fact.grace else ""
            return ("terminates" if fact.terminate else "cancels") + f" the execution{grace}"
        case facts.Paused():
            return f"pauses {fact.node or 'the execution'}"
        case facts.Resumed():
            return f"resumes {fact.node or 'the execution'}"
        case facts.RerunRequested():
            parts = [", ".join(fact.nodes)] if fact.nodes else []
            if fact.items:
                parts.append(f"of {', '.join(fact.items)} the items that did not succeed")
            return f"has run again: {'; '.join(parts)}"
        case facts.NodeOverridden():
            return f"skips {fact.node}" + (
                "" if fact.result is UNSET else f", giving it the result {shown(fact.result)}"
            )
        case facts.Signalled():
            return f"sends the signal {fact.name} with {shown(fact.payload)}"
        case facts.Decided():
            return f"{'approves of' if fact.approved else 'rejects'} {unit(fact.node, fact.index)}"
        case facts.InputsEdited():
            return f"sets inputs of {fact.node}: {shown(fact.inputs)}"
        case facts.CommandRefused():
            return f"asks in vain to {fact.kind}: {fact.why}"
    raise AssertionError(f"no words for {fact}")


def of_why(why: Why) -> str:
    """`load: waiting_on: it waits for extract`, and what there is to be known besides."""
    more = [f"since {clock(why.since)}"] if why.since is not None else []
    more += [f"until {clock(why.until)}"] if why.until is not None else []
    told = f" ({', '.join(more)})" if more else ""
    return f"{unit(why.node, why.index)}: {why.code}: {why.words}{told}"
