"""What facts about the whole execution, and about what people asked for, do to a state. `State.apply` calls it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET, Raw

from dagengine.events import facts
from dagengine.events.facts import Fact
from dagengine.machine import applying
from dagengine.machine.clocks import Due
from dagengine.machine.phases import FINAL, ILLEGAL, Outcome, Phase, column

if TYPE_CHECKING:
    from dagengine.machine.state import State, Status

__all__ = ["APPLIERS"]

_OVERRIDDEN = column("NodeOverridden, skipped")
_GIVEN = column("NodeOverridden, with a result")


def _execution_started(state: State, fact: facts.ExecutionStarted) -> None:
    if state.status != "new":
        raise state.refuse("it has started already")
    if fact.execution != state.execution:
        raise state.refuse(f"the journal is of execution {fact.execution}")
    if fact.digest != state.graph.digest:
        raise state.refuse(f"the journal is of {fact.digest}, the graph of {state.graph.digest}")
    state.status = "running"
    state.inputs = bytes(fact.inputs)
    state.ready.extend(state.graph.sources)
    _limit(state, fact.at)


def _limit(state: State, now: int) -> None:
    timeout = state.graph.document.spec.timeout
    if timeout is not None:
        state.clocks.set(state, now + timeout, Due.EXECUTION_LIMIT, -1, -1, state.rounds, now=now)


def _noted(state: State, fact: facts.Operation) -> None:
    if fact.command:
        state.commands.add(fact.command)


def _cancel_requested(state: State, fact: facts.CancelRequested) -> None:
    _noted(state, fact)
    if state.cancel is None:
        state.cancel = fact
        _lift_pauses(state, fact.at)
        if fact.grace:
            nodes = state.graph.nodes
            state.stopping = {
                position
                for position, _ in state.units(Phase.RUNNING)
                if not nodes[position].pure and nodes[position].run_if != "always" and not nodes[position].exit
            }
    if fact.grace and state.stopping:
        state.clocks.set(state, fact.at + fact.grace, Due.GRACE, -1, -1, state.rounds, now=fact.at)
    if fact.terminate:
        state.terminated = True


def _lift_pauses(state: State, now: int) -> None:
    if state.paused:
        state.paused.clear()
        state.clocks.go_on(state, now=now)


def _paused(state: State, fact: facts.Paused) -> None:
    _noted(state, fact)
    state.paused[state.graph.index[fact.node] if fact.node else -1] = fact.at
    state.clocks.stop(state, now=fact.at)


def _resumed(state: State, fact: facts.Resumed) -> None:
    _noted(state, fact)
    position = state.graph.index[fact.node] if fact.node else -1
    if position not in state.paused:
        raise state.refuse(f"Resumed, but {fact.node or 'it'} is not paused")
    del state.paused[position]
    state.clocks.go_on(state, now=fact.at)


def _signalled(state: State, fact: facts.Signalled) -> None:
    _noted(state, fact)
    state.signals.setdefault(fact.name, deque()).append(fact)


def _decided(state: State, fact: facts.Decided) -> None:
    _noted(state, fact)
    unit = (state.graph.index[fact.node], -1 if fact.index is None else fact.index)
    wait = state.waits.get(unit)
    if wait is None or wait.kind != "approval":
        raise state.refuse(f"Decided, but {fact.node} waits for no approval")
    state.decisions.setdefault(unit, []).append(fact)


def _inputs_edited(state: State, fact: facts.InputsEdited) -> None:
    _noted(state, fact)
    state.edits[state.graph.index[fact.node]] = bytes(fact.inputs)


def _overridden(state: State, fact: facts.NodeOverridden) -> None:
    _noted(state, fact)
    position = state.graph.index[fact.node]
    given = fact.result is not UNSET
    after = (_GIVEN if given else _OVERRIDDEN)[state.phase[position]]
    if after == ILLEGAL:
        raise applying.illegal(state, fact, position)
    _forget_units(state, position)
    state.overridden[position] = fact
    state.phase[position] = after
    if isinstance(fact.result, Raw):
        state.results[position] = bytes(fact.result)
    applying.node_ended(state, position, Outcome.SUCCEEDED if given else Outcome.SKIPPED)


def _forget_units(state: State, position: int) -> None:
    """Drop what is known of a node's units, but for how far their attempts have been counted."""
    state.skipped.pop(position, None)
    state.overridden.pop(position, None)
    for kept in (state.args, state.cache, state.failures, state.errors, state.queued, state.waits):
        for unit in applying.units_in(state, kept, position):
            if kept is state.waits:
                applying.forget_wait(state, unit)
            else:
                del kept[unit]
    items = state.items.pop(position, None)
    if items is not None:  # perhaps none: those before them have been counted all the same
        state.base[position] = max(state.base.get(position, 0), max(items.attempt, default=0))


def _rerun_requested(state: State, fact: facts.RerunRequested) -> None:
    _noted(state, fact)
    index = state.graph.index
    again = [index[node] for node in fact.nodes]
    partly = [index[node] for node in fact.items]
    listed = dict.fromkeys((*state.ready, *again))
    state.failing = False
    if state.ended:
        if state.given_up:  # nodes about which nothing had been decided yet may be anywhere
            listed = dict.fromkeys(range(state.graph.main))
        state.status, state.outputs, state.error, state.given_up = "running", None, None, False
        state.rounds += 1
        _lift_pauses(state, fact.at)
        _limit(state, fact.at)
    elif state.paused:
        _lift_pauses_of_ended(state, (*again, *partly), fact.at)
    state.cancel = state.timed_out = state.concluded = None
    state.terminated = False
    state.stopping = set()
    state.fresh.difference_update(at for at in (*again, *partly) if state.phase[at] == Phase.SUCCEEDED)
    state.fresh.update(index[node] for node in fact.fresh)
    for position in again:
        _forget_units(state, position)
        state.results[position] = None
        state.phase[position], state.outcome[position] = Phase.PENDING, Outcome.NONE
        state.reruns[position] = state.reruns.get(position, 0) + 1
    for position in partly:
        _restart_items(state, position, fact.at)
    main, phase = state.graph.main, state.phase
    state.unfinished = sum(phase[position] not in FINAL for position in range(main))
    state.exit_unfinished = sum(phase[position] not in FINAL for position in range(main, len(phase)))
    state.troubled = any(outcome not in (Outcome.NONE, Outcome.SUCCEEDED) for outcome in state.outcome)
    for position in again:
        needed = sum(phase[dependency] not in FINAL for dependency in state.graph.nodes[position].dependencies)
        state.waiting[position] = needed
    # Nodes may be listed that were ready before, and wait again for those above them, or for all (`on_exit`).
    state.ready[:] = [at for at in listed if at < main and phase[at] == Phase.PENDING and not state.waiting[at]]


def _lift_pauses_of_ended(state: State, positions: tuple[int, ...], now: int) -> None:
    """A pause of a node is about what it does now, and not about what it does when it is run again after its end."""
    for position in positions:
        if state.phase[position] in FINAL:
            state.paused.pop(position, None)
    state.clocks.go_on(state, now=now)


def _restart_items(state: State, position: int, now: int) -> None:
    """Let those items of a node run again that have not succeeded."""
    items = state.items.get(position)
    if items is None or state.phase[position] in (Phase.PENDING, Phase.SUCCEEDED):
        raise state.refuse(f"RerunRequested, but {state.graph.nodes[position].id} has no items that failed")
    again = {index for index, phase in enumerate(items.phase) if phase != Phase.SUCCEEDED}
    items.restart()
    state.skipped.pop(position, None)
    for kept in (state.args, state.cache, state.failures, state.errors, state.queued, state.waits):
        for unit in [unit for unit in applying.units_in(state, kept, position) if unit[1] < 0 or unit[1] in again]:
            if kept is state.waits:
                applying.forget_wait(state, unit)
            else:
                del kept[unit]
    state.results[position] = None
    state.phase[position], state.outcome[position] = Phase.RUNNING, Outcome.NONE
    state.reruns[position] = state.reruns.get(position, 0) + 1
    limit = state.graph.nodes[position].total_timeout
    if limit is not None:
        tag = state.reruns[position]
        state.clocks.set(state, now + limit, Due.NODE_LIMIT, position, -1, tag, now=now)


def _timed_out(state: State, fact: facts.ExecutionTimedOut) -> None:
    state.timed_out = fact
    _lift_pauses(state, fact.at)


def _concluded(state: State, fact: facts.ExecutionConcluded) -> None:
    if state.unfinished or state.concluded is not None or not state.exit_unfinished:
        raise state.refuse("ExecutionConcluded, but nodes have not ended, or none of `on_exit` is left")
    state.concluded = fact
    later = range(state.graph.main, len(state.graph))
    state.ready.extend(at for at in later if state.phase[at] == Phase.PENDING and not state.waiting[at])


def _execution_succeeded(state: State, fact: facts.ExecutionSucceeded) -> None:
    if Phase.FAILED in state.phase or state.cancelled or state.timed_out is not None:
        raise state.refuse("ExecutionSucceeded, but nodes failed, or it was cancelled or took too long")
    _end(state, "succeeded", fact)
    state.outputs = bytes(fact.outputs)


def _execution_failed(state: State, fact: facts.ExecutionFailed) -> None:
    if fact.given_up:
        state.status = "failed"
    else:
        _end(state, "failed", fact)
    state.given_up = fact.given_up
    state.error = fact.error


def _execution_cancelled(state: State, fact: facts.ExecutionCancelled) -> None:
    if not state.cancelled:
        raise state.refuse("ExecutionCancelled, but nobody asked for it before all nodes had ended")
    _end(state, "cancelled", fact)


def _end(state: State, status: Status, fact: Fact) -> None:
    left = state.unfinished + state.exit_unfinished
    if left:
        raise state.refuse(f"{type(fact).__name__} while {left} nodes have not ended")
    state.status = status


APPLIERS: Final[Mapping[type, Callable[[State, Any], None]]] = {
    facts.ExecutionStarted: _execution_started,
    facts.CancelRequested: _cancel_requested,
    facts.Paused: _paused,
    facts.Resumed: _resumed,
    facts.RerunRequested: _rerun_requested,
    facts.Signalled: _signalled,
    facts.Decided: _decided,
    facts.InputsEdited: _inputs_edited,
    facts.CommandRefused: _noted,
    facts.NodeOverridden: _overridden,
    facts.ExecutionTimedOut: _timed_out,
    facts.ExecutionConcluded: _concluded,
    facts.ExecutionSucceeded: _execution_succeeded,
    facts.ExecutionFailed: _execution_failed,
    facts.ExecutionCancelled: _execution_cancelled,
}
