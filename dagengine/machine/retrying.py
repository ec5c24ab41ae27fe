"""Attempts that did not succeed: are they tried again, and when?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagengine.events import facts
from dagengine.events.facts import ErrorInfo
from dagengine.machine import backoff, conclusion, fanout
from dagengine.spec import pattern
from dagengine.spec.model import RetryPolicy

if TYPE_CHECKING:
    from dagengine.machine.machine import Machine

__all__ = ["attempt_failed", "before_attempts"]


def attempt_failed(
    machine: Machine,
    position: int,
    index: int,
    attempt: int,
    verdict: facts.Conclusion,
    error: ErrorInfo,
    at: int,
    *,
    elapsed: int = 0,
    retry_after: int = 0,
    final: bool = False,
) -> None:
    """Record how an attempt ended: to be tried again, or (`final`, or nothing grants another) as the unit's end."""
    node, state = machine.graph.nodes[position], machine.state
    retry_at = None
    if not final and not _stopped(machine, position):
        fails, errors = state.failures.get((position, index), (0, 0))
        ended = 1 + (fails if verdict == "fail" else errors)
        policy = node.retry.fail if verdict == "fail" else node.retry.error
        if ended < policy.max_attempts and _allowed(policy, error):
            wait = backoff.wait(policy.backoff, ended, seed=machine.seed, unit=(position, index, attempt))
            retry_at = at + max(wait, retry_after)
    machine.record(
        facts.NodeFailed(
            at=at,
            node=node.id,
            index=None if index < 0 else index,
            attempt=attempt,
            conclusion=verdict,
            error=conclusion.shortened(error),
            elapsed=elapsed,
            retry_at=retry_at,
        )
    )


def before_attempts(machine: Machine, position: int, index: int, error: ErrorInfo, at: int) -> None:
    """A unit failed before it began: an expression of it could not be evaluated, or makes no sense."""
    attempt = machine.state.attempt_of(position, index)
    attempt_failed(machine, position, index, attempt, "fail", error, at, final=True)
    machine.prepared.pop((position, index), None)
    if index >= 0:
        fanout.item_moved(machine, position, index, at)


def _stopped(machine: Machine, position: int) -> bool:
    """Whether nothing of a node begins any more; nodes that clean up after a cancel or timeout go on as ever."""
    state, node = machine.state, machine.graph.nodes[position]
    if state.terminated or position in state.stopping:
        return True
    ending = state.cancel is not None or state.timed_out is not None
    return ending and not node.exit and node.run_if != "always"


def _allowed(policy: RetryPolicy, error: ErrorInfo) -> bool:
    """Whether the policy has anything against trying again after this error."""
    if policy.stop_on and pattern.matches_any(policy.stop_on, error.type):
        return False
    return not policy.retry_on or pattern.matches_any(policy.retry_on, error.type)
