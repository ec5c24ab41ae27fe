"""Ends that come early: an execution is cancelled, takes too long, or fails fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagengine.events import facts
from dagengine.machine.phases import Phase

if TYPE_CHECKING:
    from dagengine.graph.compiled import NodePlan
    from dagengine.machine.machine import Machine

__all__ = ["end_grace", "enforce", "fail_fast", "give_up", "stopped"]

_HANDLERS = ("any_failed", "all_done", "always")
"""The `run_if` of nodes that are there for failures: failing fast does not stop them."""


def give_up(machine: Machine, at: int, reason: facts.CancelReason) -> None:
    """End every node that has not ended, but those that run in this case and those that may use their grace."""
    state = machine.state
    for node in machine.graph.nodes:
        if _goes_on(machine, node, reason) or node.position in state.stopping:
            continue
        phase = state.phase[node.position]
        if phase in (Phase.RUNNING, Phase.BACKOFF, Phase.WAITING):
            machine.abandon(node.position)
            attempt = state.attempt[node.position]
            machine.record(facts.NodeCancelled(at=at, node=node.id, attempt=attempt, reason=reason))
        elif phase == Phase.PENDING:
            machine.record(facts.NodeSkipped(at=at, node=node.id, reason=reason))
        else:
            continue
        machine.forget(node.position)


def _goes_on(machine: Machine, node: NodePlan, reason: facts.CancelReason) -> bool:
    if reason == "cancelled" and machine.state.terminated:
        return False
    if node.exit:
        return True
    return node.run_if in _HANDLERS if reason == "fail_fast" else node.run_if == "always"


def fail_fast(machine: Machine, at: int) -> None:
    """When a node has failed, in a workflow with that policy: give up the others, unless all is paused."""
    state = machine.state
    if machine.graph.fail_fast and state.failing and not machine.failed_fast and -1 not in state.paused:
        machine.failed_fast = True
        give_up(machine, at, "fail_fast")


def stopped(machine: Machine, position: int, at: int) -> None:
    """An attempt has ended within the grace of a cancel, without success."""
    node = machine.graph.nodes[position].id
    machine.record(facts.NodeCancelled(at=at, node=node, attempt=machine.state.attempt[position]))


def end_grace(machine: Machine, at: int) -> None:
    """The grace of a cancel is over: what has not ended is stopped by force."""
    state = machine.state
    for position in sorted(state.stopping):
        machine.abandon(position)
        node = machine.graph.nodes[position].id
        machine.record(facts.NodeCancelled(at=at, node=node, attempt=state.attempt[position]))
        machine.forget(position)


def enforce(machine: Machine, at: int) -> None:
    """Do what must follow from facts that are known, as far as it has not been done: after a crash."""
    state = machine.state
    if state.cancel is not None:
        end_grace(machine, at)
        give_up(machine, at, "cancelled")
    elif state.timed_out is not None:
        give_up(machine, at, "timeout")
    fail_fast(machine, at)
