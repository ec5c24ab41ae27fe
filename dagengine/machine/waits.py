"""Nodes that wait: for a time, a signal, an approval. The machine itself performs them; they hold nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dagengine.events import facts
from dagengine.events.facts import ErrorInfo
from dagengine.machine import fanout, retrying
from dagengine.spec.duration import format_duration
from dagengine.spec.executors import WaitExecutor
from dagengine.spec.instant import parse_instant

if TYPE_CHECKING:
    from dagengine.machine.machine import Machine
    from dagengine.machine.state import Unit

__all__ = ["REJECTED", "begin", "decided", "match_signals", "over", "resume"]

REJECTED: Final = "Rejected"
"""The type of the error of a node that was not approved of."""

_encode = msgspec.json.Encoder().encode


def begin(machine: Machine, position: int, index: int, at: int) -> None:
    """A unit begins to wait."""
    node, unit = machine.graph.nodes[position], (position, index)
    wait = node.wait
    if wait is None:
        raise AssertionError("only `wait` nodes wait")
    args, _ = machine.prepared.pop(unit, (None, ""))
    try:
        kind, until, name = _aim(wait, args, at)
    except ValueError as error:
        retrying.before_attempts(machine, position, index, ErrorInfo(type="WaitError", message=str(error)), at)
        return
    machine.record(
        facts.NodeWaiting(
            at=at,
            node=node.id,
            index=None if index < 0 else index,
            attempt=machine.state.attempt_of(position, index) + 1,
            kind=kind,
            until=until,
            name=name,
        )
    )
    if kind == "signal":
        match_signals(machine, name, at)
    elif until is not None and until <= at and kind in ("duration", "until"):
        over(machine, position, index, at)


def _aim(wait: WaitExecutor, args: bytes | None, at: int) -> tuple[facts.WaitKind, int | None, str]:
    """What is waited for: kind, until when, name of the signal. ValueError when a template came to something else."""
    given = {} if args is None else msgspec.json.decode(args)
    if wait.duration is not None:
        return "duration", at + wait.duration, ""
    if wait.signal is not None:
        name = given.get("signal", wait.signal.name)
        if not isinstance(name, str) or not name:
            raise ValueError(f"the name of a signal must be a text, got {_encode(name).decode()}")
        return "signal", None if wait.signal.timeout is None else at + wait.signal.timeout, name
    if wait.approval is not None:
        return "approval", None if wait.approval.timeout is None else at + wait.approval.timeout, ""
    return "until", parse_instant(given.get("until", wait.until)), ""


def match_signals(machine: Machine, name: str, at: int) -> None:
    """Give signals that have come to the units that wait for them, each to the one that has waited longest."""
    state = machine.state
    while (listening := state.listening.get(name)) and (kept := state.signals.get(name)):
        _succeeded(machine, next(iter(listening)), bytes(kept[0].payload), at)


def decided(machine: Machine, unit: Unit, at: int) -> None:
    """Somebody has decided: see whether that is enough."""
    state = machine.state
    wait, approval = state.waits.get(unit), machine.graph.nodes[unit[0]].wait
    if wait is None or approval is None or approval.approval is None:
        return
    made = state.decisions.get(unit, [])
    if refusal := next((decision for decision in made if not decision.approved), None):
        words = f"{refusal.author or 'somebody'} rejected it" + (f": {refusal.reason}" if refusal.reason else "")
        _failed(machine, unit, REJECTED, words, at)
    elif len(made) >= approval.approval.quorum:
        by = [{"author": decision.author, "reason": decision.reason} for decision in made]
        _succeeded(machine, unit, _encode({"approved": True, "by": by}), at)


def over(machine: Machine, position: int, index: int, at: int) -> None:
    """The time of a unit that waits is over."""
    unit, wait = (position, index), machine.graph.nodes[position].wait
    if wait is None:
        raise AssertionError("only `wait` nodes wait")
    if wait.signal is not None:
        if wait.signal.default is not None:
            _succeeded(machine, unit, _encode(wait.signal.default), at)
        else:
            name = machine.state.waits[unit].name
            limit = format_duration(wait.signal.timeout or 0)
            _failed(machine, unit, "WaitTimeout", f"no signal '{name}' came within {limit}", at)
    elif wait.approval is not None:
        limit = format_duration(wait.approval.timeout or 0)
        if wait.approval.default == "approve":
            _succeeded(machine, unit, _encode({"approved": True, "by": []}), at)
        elif wait.approval.default == "reject":
            _failed(machine, unit, REJECTED, f"too few approved within {limit}, which counts as a refusal", at)
        else:
            _failed(machine, unit, "WaitTimeout", f"too few approved within {limit}", at)
    else:
        _succeeded(machine, unit, b"null", at)


def resume(machine: Machine, at: int) -> None:
    """Do what follows from signals and decisions that were committed without it."""
    state = machine.state
    for name in list(state.signals):
        match_signals(machine, name, at)
    for unit in list(state.decisions):
        decided(machine, unit, at)


def _succeeded(machine: Machine, unit: Unit, result: bytes, at: int) -> None:
    position, index = unit
    machine.record(
        facts.NodeSucceeded(
            at=at,
            node=machine.graph.nodes[position].id,
            index=None if index < 0 else index,
            attempt=machine.state.attempt_of(position, index),
            result=msgspec.Raw(result),
            elapsed=at - machine.state.waits[unit].at,
        )
    )
    if index >= 0:
        fanout.item_moved(machine, position, index, at)


def _failed(machine: Machine, unit: Unit, kind: str, message: str, at: int) -> None:
    position, index = unit
    attempt = machine.state.attempt_of(position, index)
    elapsed = at - machine.state.waits[unit].at
    error = ErrorInfo(type=kind, message=message)
    final = kind == REJECTED  # people have decided: asking them again is for people
    retrying.attempt_failed(machine, position, index, attempt, "fail", error, at, elapsed=elapsed, final=final)
    if index >= 0:
        fanout.item_moved(machine, position, index, at)
