"""Without contact: whoever keeps the execution may have given it to another engine, which would do everything again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dagengine.events.facts import ErrorInfo
from dagengine.machine.commands import Abandon
from dagengine.machine.phases import Phase
from dagengine.machine.stimuli import AttemptEnded, ContactLost

if TYPE_CHECKING:
    from dagengine.machine.machine import Machine

__all__ = ["lost"]

_ERROR: Final = ErrorInfo(
    type="Orphaned", message="contact with the orchestrator was lost for longer than the lease while this attempt ran"
)


def lost(machine: Machine, stimulus: ContactLost, at: int) -> None:
    """Every attempt that the outside can see is stopped, and ends as an orphan; but those whose nodes may go on."""
    state, nodes = machine.state, machine.graph.nodes
    for position, index in list(state.units(Phase.RUNNING)):
        attempt = state.attempt_of(position, index)
        if not nodes[position].cut_off or (position, index, attempt) in stimulus.unbegun:
            continue
        ended = AttemptEnded(at, position, index, attempt, "error", b"null", _ERROR, 0)
        if machine.wants(ended):  # not when the item before it was one too many, and has ended the node
            machine.command(Abandon(position, index, attempt))
            machine.attempt_ended(ended, at)
