"""Pauses: what is held up by one, and what happens when it is over. `operating` and `timers` call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagengine.machine import fanout
from dagengine.machine.phases import Phase

if TYPE_CHECKING:
    from dagengine.machine.machine import Machine

__all__ = ["go_on", "hold"]


def hold(machine: Machine) -> None:
    """A pause begins: what waits to be admitted waits no longer. Attempts that have begun do."""
    state = machine.state
    for unit in [unit for unit in machine.admitting if state.is_paused(unit[0])]:
        if state.phase_of(*unit) != Phase.RUNNING:
            machine.admitting.discard(unit)
            machine.parked[unit] = None


def go_on(machine: Machine, at: int) -> None:
    """A pause is over: what it has held up goes on."""
    for unit in list(machine.parked):
        if unit in machine.parked and not machine.state.is_paused(unit[0]):
            del machine.parked[unit]
            _take_up(machine, unit, at)
    fanout.go_on(machine, at)


def _take_up(machine: Machine, unit: tuple[int, int], at: int) -> None:
    """A unit whose turn came while it was paused."""
    position, index = unit
    phase = machine.state.phase_of(position, index)
    if phase == Phase.BACKOFF:
        machine.begin(position, index, at)
    elif phase == Phase.PENDING:
        machine.prepared.pop(unit, None)
        machine.prepare(position, index, at, after=None if index < 0 else "foreach")
