"""What happens when something is due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagengine.events import facts
from dagengine.events.facts import ErrorInfo
from dagengine.machine import applying, giving_up, pausing, retrying, waits
from dagengine.machine.clocks import Due
from dagengine.spec.duration import format_duration

if TYPE_CHECKING:
    from dagengine.machine.machine import Machine

__all__ = ["time_passed"]


def time_passed(machine: Machine, at: int) -> None:
    """Do whatever is due by `at`, in the order of its times."""
    state = machine.state
    while not state.ended and (due := state.clocks.next(state)) is not None and due[0] <= at:
        _, kind, position, index, _ = state.clocks.pop()
        match kind:
            case Due.RETRY:
                machine.begin(position, index, at)
            case Due.WAIT:
                waits.over(machine, position, index, at)
            case Due.NODE_LIMIT:
                _node_took_too_long(machine, position, at)
            case Due.EXECUTION_LIMIT:
                timeout = machine.graph.document.spec.timeout or 0
                machine.record(facts.ExecutionTimedOut(at=at, timeout=timeout))
                giving_up.give_up(machine, at, "timeout")
                pausing.go_on(machine, at)
            case Due.GRACE:
                giving_up.end_grace(machine, at)
        giving_up.fail_fast(machine, at)


def _node_took_too_long(machine: Machine, position: int, at: int) -> None:
    node = machine.graph.nodes[position]
    limit = format_duration(node.total_timeout or 0)
    machine.abandon(position)
    machine.forget(position)
    error = ErrorInfo(type=applying.NODE_TIMEOUT, message=f"the node took longer than its total_timeout of {limit}")
    attempt = machine.state.attempt[position]
    retrying.attempt_failed(machine, position, -1, attempt, "error", error, at, final=True)
