"""Answers to what the machine asked for before an attempt could begin: values, results found before, room.

An answer that is not awaited any more (the node has ended meanwhile, or the question was asked anew) changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.machine import conclusion, fanout, memo, retrying
from dagengine.machine.commands import Run
from dagengine.machine.phases import FINAL, Phase
from dagengine.machine.stimuli import Admitted, Evaluated, Found, Purpose, Queued

if TYPE_CHECKING:
    from dagengine.machine.machine import Machine

__all__ = ["admitted", "evaluated", "found", "queued"]

_FALSE: Final = frozenset({b"false", b"null"})


def evaluated(machine: Machine, stimulus: Evaluated, at: int) -> None:
    """An expression has a value, or cannot be evaluated."""
    position, index = stimulus.node, stimulus.index
    if not _awaited(machine, stimulus.purpose, position, index, stimulus.serial):
        return
    if stimulus.purpose == "outputs":
        conclusion.outputs_known(machine, stimulus.value, stimulus.error, at)
    elif stimulus.error is not None:
        retrying.before_attempts(machine, position, index, stimulus.error, at)
    elif machine.state.paused and machine.state.is_paused(position):
        machine.parked[position, index] = None
    else:
        _evaluated_to(machine, stimulus.purpose, position, index, stimulus.value, at)


def _awaited(machine: Machine, purpose: str, position: int, index: int, serial: int) -> bool:
    """Whether this is the answer to the last question of its kind, and still needed."""
    key = (purpose, position, index)
    if machine.asked.get(key) != serial:
        return False
    del machine.asked[key]
    return purpose == "outputs" or machine.state.phase[position] not in FINAL


def _evaluated_to(machine: Machine, purpose: Purpose, position: int, index: int, value: bytes, at: int) -> None:
    match purpose:
        case "when" if value in _FALSE:
            node = machine.graph.nodes[position].id
            machine.record(facts.NodeSkipped(at=at, node=node, reason="when_false"))
        case "when":
            machine.prepare(position, -1, at, after="when")
        case "foreach":
            fanout.expand(machine, position, value, at)
        case "args":
            machine.prepared[position, index] = (value, "")
            machine.prepare(position, index, at, after="args")
        case "cache":
            memo.look_up(machine, position, index, value, machine.next_serial(), at)
        case "outputs":
            raise MachineError("outputs are known elsewhere")
        case _:
            assert_never(purpose)


def found(machine: Machine, stimulus: Found, at: int) -> None:
    """A result was found that was kept before, or none was."""
    position, index = stimulus.node, stimulus.index
    if not _awaited(machine, "lookup", position, index, stimulus.serial):
        return
    if stimulus.result is None:
        machine.prepare(position, index, at, after="cache")
    else:
        memo.found(machine, position, index, stimulus.result, stimulus.execution, at)
        if index >= 0:
            fanout.item_moved(machine, position, index, at)


def admitted(machine: Machine, stimulus: Admitted, at: int) -> None:
    """There is room for an attempt."""
    if not machine.wants_room(stimulus):
        return
    unit = (stimulus.node, stimulus.index)
    machine.admitting.discard(unit)
    if machine.state.phase_of(*unit) == Phase.RUNNING:  # it had begun before a crash
        machine.command(Run(*unit, stimulus.attempt))
    else:
        machine.start(*unit, stimulus.attempt, at)


def queued(machine: Machine, stimulus: Queued, at: int) -> None:
    """An attempt has to wait for its room."""
    unit = (stimulus.node, stimulus.index)
    if unit in machine.admitting and machine.state.phase_of(*unit) != Phase.RUNNING:
        node = machine.graph.nodes[stimulus.node].id
        index = None if stimulus.index < 0 else stimulus.index
        machine.record(facts.NodeQueued(at=at, node=node, index=index, pool=stimulus.pool, rate=stimulus.rate))
