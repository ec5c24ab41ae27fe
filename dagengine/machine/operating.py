"""What people ask for, as facts. Every operation leads to exactly one fact that cites its `command`.

What cannot be done leads to `CommandRefused`, whose words say why and what else there is to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

import msgspec
from msgspec import UNSET

from dagengine.events import facts
from dagengine.machine import fanout, giving_up, operations, pausing, story, waits
from dagengine.machine.operations import (
    Cancel,
    Decide,
    EditInputs,
    Operation,
    Pause,
    Rerun,
    Signal,
    Skip,
    Unpause,
)
from dagengine.machine.phases import FINAL, Outcome, Phase

if TYPE_CHECKING:
    from dagengine.machine.machine import Machine

__all__ = ["MOST_SIGNALS", "operate"]

_PENDING = Phase.PENDING
_UNDER_WAY = (Phase.RUNNING, Phase.BACKOFF, Phase.WAITING)


MOST_SIGNALS: Final = 1_000
"""Signals of one name that are kept for nodes that do not wait yet."""


class _Refused(Exception):  # noqa: N818 - it never leaves this module
    """The operation cannot be done; the message says why."""


class _Asked:
    """One operation under way: makes its facts, which all say who asked for it and why."""

    def __init__(self, operation: Operation, command: str, at: int) -> None:
        self.at = at
        self.author = operation.author
        self.reason = operation.reason
        self.command = command

    def by(self) -> dict[str, str]:
        return {"author": self.author, "reason": self.reason, "command": self.command}


def operate(machine: Machine, operation: Operation, command: str, at: int) -> None:
    """Do what was asked for. A second delivery of a command changes nothing."""
    state = machine.state
    if state.status == "new" or (command and command in state.commands):
        return
    if state.ended and not isinstance(operation, Rerun):
        return  # the journal has ended, and whoever keeps the inbox knows it
    asked = _Asked(operation, command, at)
    try:
        _perform(machine, operation, asked)
    except _Refused as refusal:
        kind = operations.kind_of(operation)
        machine.record(facts.CommandRefused(at=at, kind=kind, why=str(refusal), **asked.by()))


def _perform(machine: Machine, operation: Operation, asked: _Asked) -> None:
    match operation:
        case Cancel():
            _cancel(machine, operation, asked)
        case Pause():
            _pause(machine, operation, asked)
        case Unpause():
            _unpause(machine, operation, asked)
        case Rerun():
            _rerun(machine, operation, asked)
        case Skip():
            _skip(machine, operation, asked)
        case Signal():
            _signal(machine, operation, asked)
        case Decide():
            _decide(machine, operation, asked)
        case EditInputs():
            _edit(machine, operation, asked)
        case _:
            assert_never(operation)


def _node(machine: Machine, node: str) -> int:
    position = machine.graph.index.get(node)
    if position is None:
        raise _Refused(f"the workflow has no node '{node}'")
    return position


def _value(data: msgspec.Raw, what: str) -> object:
    """What `data` holds as JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _Refused(f"{what} must be JSON: {error}") from error


def _cancel(machine: Machine, operation: Cancel, asked: _Asked) -> None:
    state = machine.state
    if state.concluded is not None and not operation.terminate:
        raise _Refused("it is ending already: only `on_exit` still runs, which only terminate stops")
    already, terminated, left = state.cancel is not None, state.terminated, state.clocks.grace(state)
    grace = 0 if operation.terminate else operation.grace
    machine.record(facts.CancelRequested(at=asked.at, grace=grace, terminate=operation.terminate, **asked.by()))
    if not grace:
        giving_up.end_grace(machine, asked.at)
    elif left is None or asked.at + grace < left:  # asked once more: only less time than before counts
        for position in sorted(state.stopping):
            machine.abandon(position, grace=grace)
    if already and (terminated or not operation.terminate):
        return
    giving_up.give_up(machine, asked.at, "cancelled")
    for position in state.stopping:
        machine.forget(position)
    pausing.go_on(machine, asked.at)


def _pause(machine: Machine, operation: Pause, asked: _Asked) -> None:
    state = machine.state
    position = _node(machine, operation.node) if operation.node else -1
    if state.cancel is not None:
        raise _Refused("it is being cancelled")
    if state.timed_out is not None:
        raise _Refused("it has taken longer than its timeout, and is ending")
    if position in state.paused:
        raise _Refused(f"{operation.node or 'it'} is paused already")
    if position >= 0 and state.phase[position] in FINAL:
        raise _Refused(f"{story.of_unit(state, position, None)}, has ended already")
    machine.record(facts.Paused(at=asked.at, node=operation.node, **asked.by()))
    pausing.hold(machine)


def _unpause(machine: Machine, operation: Unpause, asked: _Asked) -> None:
    state = machine.state
    position = _node(machine, operation.node) if operation.node else -1
    if position not in state.paused:
        raise _Refused(f"{operation.node or 'it'} is not paused")
    machine.record(facts.Resumed(at=asked.at, node=operation.node, **asked.by()))
    giving_up.fail_fast(machine, asked.at)
    pausing.go_on(machine, asked.at)


def _rerun(machine: Machine, operation: Rerun, asked: _Asked) -> None:
    state, graph = machine.state, machine.graph
    if not state.ended and (state.cancel or state.timed_out or state.concluded):
        raise _Refused("it is ending; retry it once it has ended")
    named = {_node(machine, node) for node in operation.nodes}
    roots = named | _roots(machine, operation)
    partly = _keeping_items(machine, roots - named, roots)
    again = set(graph.downstream(roots))
    if state.ended and min(again, default=graph.main) < graph.main:
        again.update(range(graph.main, len(graph)))
    # Nobody performs any more what had begun when it was given up, nor answers what had been asked.
    for position in range(len(graph)) if state.given_up else sorted(again):
        if not state.given_up:
            machine.abandon(position)
        machine.forget(position)
    machine.record(
        facts.RerunRequested(
            at=asked.at,
            nodes=_ids(machine, again.difference(partly)),
            items=_ids(machine, partly),
            fresh=_ids(machine, named),
            **asked.by(),
        )
    )
    machine.failed_fast = False
    machine.asked.pop(("outputs", -1, -1), None)
    for position in sorted(partly):
        fanout.restart(machine, position)
        fanout.start_items(machine, position, asked.at)


def _ids(machine: Machine, positions: set[int]) -> tuple[str, ...]:
    return tuple(machine.graph.nodes[position].id for position in sorted(positions))


def _roots(machine: Machine, operation: Rerun) -> set[int]:
    """What runs again besides the nodes that are named: when none are, all that has not succeeded.

    In an execution that was given up it is also whatever was under way: nobody performs it any more.
    """
    state, everything = machine.state, range(len(machine.graph))
    lost = {at for at in everything if state.phase[at] in _UNDER_WAY} if state.given_up else set()
    if operation.nodes:
        if not state.given_up and all(state.phase[machine.graph.index[node]] == _PENDING for node in operation.nodes):
            raise _Refused(f"{', '.join(operation.nodes)} has not run yet")
        return lost
    roots = {at for at in everything if state.outcome[at] in (Outcome.FAILED, Outcome.CANCELLED)}
    if not roots and not state.given_up:
        raise _Refused("nothing has failed; name the nodes that are to run again")
    return roots | lost


def _keeping_items(machine: Machine, positions: set[int], roots: set[int]) -> set[int]:
    """Those of `positions` whose items that succeeded are kept: their list is there, and nothing above them changes."""
    state, graph = machine.state, machine.graph
    phases = (Phase.FAILED, Phase.CANCELLED, Phase.RUNNING)
    found = {at for at in positions if at < graph.main and at in state.items and state.phase[at] in phases}
    if found:
        found.difference_update(graph.downstream(below for root in roots for below in graph.nodes[root].dependents))
    return found


def _skip(machine: Machine, operation: Skip, asked: _Asked) -> None:
    state = machine.state
    position = _node(machine, operation.node)
    if state.phase[position] in FINAL:
        raise _Refused(f"{story.of_unit(state, position, None)}, has ended already; retry runs it again")
    if position >= machine.graph.main and state.concluded is None:
        raise _Refused(f"'{operation.node}' belongs to `on_exit`, which has not begun")
    if operation.result is not UNSET:
        _value(operation.result, "a result")
    machine.abandon(position)
    machine.forget(position)
    machine.record(facts.NodeOverridden(at=asked.at, node=operation.node, result=operation.result, **asked.by()))


def _signal(machine: Machine, operation: Signal, asked: _Asked) -> None:
    names = machine.graph.signals
    if not names:
        raise _Refused("no node of the workflow waits for a signal")
    if operation.name not in names and not any("{{" in name for name in names):
        raise _Refused(f"no node waits for a signal '{operation.name}'; there are: {', '.join(sorted(names))}")
    _value(operation.payload, "what comes with a signal")
    if len(machine.state.signals.get(operation.name, ())) >= MOST_SIGNALS:
        raise _Refused(f"{MOST_SIGNALS:,} signals '{operation.name}' are kept already, and nobody has taken them")
    machine.record(facts.Signalled(at=asked.at, name=operation.name, payload=operation.payload, **asked.by()))
    waits.match_signals(machine, operation.name, asked.at)


def _decide(machine: Machine, operation: Decide, asked: _Asked) -> None:
    state = machine.state
    position = _node(machine, operation.node)
    if operation.index is not None and operation.index < 0:
        raise _Refused(f"items are counted from 0: '{operation.node}' has no item {operation.index}")
    unit = (position, -1 if operation.index is None else operation.index)
    wait, node = state.waits.get(unit), machine.graph.nodes[position].wait
    if wait is None or node is None or node.approval is None:
        raise _Refused(f"{story.of_unit(state, position, operation.index)}, does not wait for an approval")
    if node.approval.who and operation.author not in node.approval.who:
        who = ", ".join(node.approval.who)
        raise _Refused(f"'{operation.author}' may not decide about '{operation.node}'; these may: {who}")
    if any(decision.author == operation.author for decision in state.decisions.get(unit, [])):
        raise _Refused(f"'{operation.author}' has decided about '{operation.node}' already")
    machine.record(
        facts.Decided(
            at=asked.at, node=operation.node, index=operation.index, approved=operation.approved, **asked.by()
        )
    )
    waits.decided(machine, unit, asked.at)


def _edit(machine: Machine, operation: EditInputs, asked: _Asked) -> None:
    state = machine.state
    position = _node(machine, operation.node)
    if state.phase[position] != Phase.PENDING:
        raise _Refused(f"{story.of_unit(state, position, None)}, has begun already; retry runs it again")
    if not isinstance(_value(operation.inputs, "the inputs"), dict):
        raise _Refused("inputs are an object: the value of each input, by name")
    unit = (position, -1)
    awaited = any(key[1] == position for key in machine.asked) or unit in machine.admitting or unit in machine.parked
    machine.forget(position)
    machine.record(facts.InputsEdited(at=asked.at, node=operation.node, inputs=operation.inputs, **asked.by()))
    if awaited:
        machine.prepare(position, -1, asked.at)
