"""What must be true of every machine after every step. Tests run it all the time; replay runs it in production.

Raises MachineError naming the invariant that does not hold. Costs O(nodes + edges + items): not for hot paths. Facts
are committed in prefixes that may end in the middle of a step, so a folded machine is checked after it has resumed.
"""

from __future__ import annotations

from dagengine.errors import MachineError
from dagengine.machine import liveness
from dagengine.machine.machine import Machine
from dagengine.machine.phases import FINAL, Outcome, Phase
from dagengine.machine.state import State

__all__ = ["check"]


def check(machine: Machine) -> None:
    """Raise MachineError when an invariant of `machine` does not hold."""
    state = machine.state
    _counts(state)
    for position in range(len(state.graph)):
        _node(state, position)
    for position in state.items:
        _items(state, position)
    _waits(state)
    _kept(state)
    if (state.cancel is not None or state.timed_out is not None) and not state.given_up:
        left = (node for node in state.graph.nodes if state.phase[node.position] not in FINAL)
        allowed = all(node.run_if == "always" or node.exit or node.position in state.stopping for node in left)
        _require(allowed, state, "after a cancel, only what may end, `always` nodes and `on_exit` go on")
        _require(not state.terminated or state.ended, state, "after a termination, nothing goes on")
    if state.concluded is not None:
        _require(not state.unfinished or state.given_up, state, "`on_exit` begins when all others have ended")
    if state.ended:
        _end(state)
    else:
        liveness.check(machine)


def _end(state: State) -> None:
    if not state.given_up:
        _require(state.unfinished + state.exit_unfinished == 0, state, "an ended execution has no unfinished node")
        _require((state.status == "cancelled") == state.cancelled, state, "a cancel ends as cancelled")
    _require((state.status == "succeeded") == (state.outputs is not None), state, "outputs belong to success")
    _require((state.status == "failed") == (state.error is not None), state, "an error belongs to failure")
    _require(not state.given_up or state.status == "failed", state, "what was given up has failed")


def _waits(state: State) -> None:
    waiting = set(state.units(Phase.WAITING))
    _require(waiting == set(state.waits), state, "`waits` holds the units that wait")
    listening = {unit for units in state.listening.values() for unit in units}
    signals = {unit for unit, wait in state.waits.items() if wait.kind == "signal"}
    _require(listening == signals, state, "`listening` holds the units that wait for a signal")
    unheard = [name for name, kept in state.signals.items() if kept and state.listening.get(name)]
    _require(not unheard, state, "no signal is kept that somebody waits for")


def _kept(state: State) -> None:
    for kept in (state.args, state.cache, state.queued):
        over = [unit for unit in kept if not _is_open(state, *unit)]
        _require(not over, state, "nothing is kept of the attempts of units that have ended")


def _is_open(state: State, position: int, index: int) -> bool:
    return state.phase[position] not in FINAL and state.phase_of(position, index) not in FINAL


def _counts(state: State) -> None:
    main = state.graph.main
    ended = sum(phase in FINAL for phase in state.phase[:main])
    _require(state.unfinished == main - ended, state, "`unfinished` counts the nodes that have not ended")
    left = sum(phase not in FINAL for phase in state.phase[main:])
    _require(state.exit_unfinished == left, state, "`exit_unfinished` counts those of `on_exit`")
    troubled = any(outcome not in (Outcome.NONE, Outcome.SUCCEEDED) for outcome in state.outcome)
    _require(state.troubled == troubled, state, "`troubled` tells whether a node ended otherwise than succeeded")


def _node(state: State, position: int) -> None:
    node, phase = state.graph.nodes[position], state.phase[position]
    open_dependencies = sum(state.phase[needed] not in FINAL for needed in node.dependencies)
    _require(state.waiting[position] == open_dependencies, state, f"`waiting` of {node.id} counts open dependencies")
    if phase in (Phase.RUNNING, Phase.BACKOFF, Phase.WAITING):
        _require(not open_dependencies, state, f"{node.id} has begun, so its dependencies have ended")
        if node.run_if == "all_succeeded":
            fine = all(state.outcome[needed] == Outcome.SUCCEEDED for needed in node.dependencies)
            _require(fine, state, f"{node.id} has begun, so its dependencies have succeeded")
    _require(
        (phase in FINAL) == (state.outcome[position] != Outcome.NONE), state, f"{node.id} has an outcome at its end"
    )
    if phase == Phase.SUCCEEDED:
        _require(state.result(position) is not None, state, f"{node.id} succeeded, so it has a result")
    if phase == Phase.FAILED:
        _require((position, -1) in state.errors, state, f"{node.id} failed, so it has an error")
    fails, errors = state.failures.get((position, -1), (0, 0))
    if position not in state.items:
        limit = node.retry.fail.max_attempts + node.retry.error.max_attempts - 1
        again = state.reruns.get(position, 0) + 1
        _require(state.attempt[position] <= limit * again, state, f"{node.id} was tried no more often than allowed")
        _require(fails <= node.retry.fail.max_attempts, state, f"{node.id} failed no more often than allowed")
        _require(errors <= node.retry.error.max_attempts, state, f"{node.id} broke no more often than allowed")


def _items(state: State, position: int) -> None:
    items, node = state.items[position], state.graph.nodes[position]
    ended = sum(phase in FINAL for phase in items.phase)
    failed = sum(phase == Phase.FAILED for phase in items.phase)
    _require(items.unfinished == len(items.phase) - ended, state, f"`unfinished` of {node.id} counts its open items")
    _require(items.failed == failed, state, f"`failed` of {node.id} counts its failed items")
    if state.phase[position] == Phase.SUCCEEDED:
        fine = ended == len(items.phase) and failed <= (node.fail_after or 0)
        _require(fine, state, f"{node.id} succeeded, so its items have, but for those that may fail")


def _require(holds: bool, state: State, invariant: str) -> None:
    if not holds:
        raise MachineError(f"execution {state.execution} ({state.status}, {state.seq} facts): not true: {invariant}")
