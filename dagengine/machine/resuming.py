"""Going on from a journal in a process that has nothing else: what ran is gone, what was asked is asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagengine.errors import MachineError
from dagengine.events.facts import ErrorInfo
from dagengine.machine import fanout, giving_up, retrying, waits
from dagengine.machine.commands import Admit, Run
from dagengine.machine.phases import Phase

if TYPE_CHECKING:
    from dagengine.machine.machine import Machine

__all__ = ["resume"]


def resume(machine: Machine, at: int) -> None:
    """Pure attempts that were running run again as they are; all others end as orphans, by facts.

    MachineError when the journal is empty.
    """
    state = machine.state
    if state.status == "new":
        raise MachineError(f"execution {state.execution} cannot go on: its journal is empty")
    for kept in (
        machine.asked,
        machine.admitting,
        machine.prepared,
        machine.parked,
        machine.next_item,
        machine.under_way,
    ):
        kept.clear()
    machine.failed_fast = False
    state.ready[:] = dict.fromkeys(state.ready)
    # What was committed may end between a fact and what followed from it.
    giving_up.enforce(machine, at)
    for position, index in list(state.units(Phase.RUNNING)):
        _take_up(machine, position, index, at)
    giving_up.fail_fast(machine, at)
    fanout.resume(machine)
    waits.resume(machine, at)
    fanout.go_on(machine, at)


def _take_up(machine: Machine, position: int, index: int, at: int) -> None:
    attempt, node = machine.state.attempt_of(position, index), machine.graph.nodes[position]
    if node.pure and node.gated:  # whoever counts room knows nothing of it any more
        machine.admitting.add((position, index))
        machine.command(Admit(position, index, attempt))
    elif node.pure:
        machine.command(Run(position, index, attempt))
    else:
        error = ErrorInfo(type="Orphaned", message="the engine that ran this attempt is gone")
        retrying.attempt_failed(machine, position, index, attempt, "error", error, at)
