"""`run_if`: may a node run, given how its dependencies ended?"""

from __future__ import annotations

from typing import assert_never

from dagengine.events.facts import NodeSkipped, SkipReason
from dagengine.machine.phases import Outcome
from dagengine.machine.state import State

__all__ = ["refusal"]

_NAMED = 5
"""How many dependencies a refusal names at most."""


def refusal(state: State, position: int, at: int) -> NodeSkipped | None:
    """None when the node may run, else the fact that says why it is skipped. All its dependencies have ended.

    =============== =====================================================================
    `all_succeeded` every dependency succeeded (the default)
    `none_failed`   none failed; skipped ones do not matter
    `any_succeeded` at least one succeeded
    `any_failed`    at least one failed
    `all_done`      in any case, unless the execution was cancelled or took too long
    `always`        in any case, also when the execution was cancelled or took too long
    =============== =====================================================================

    A dependency that was skipped because something further up failed counts as failed here. One that was given up
    (when the workflow failed fast, or before somebody had a part of it run again) has neither succeeded nor failed.
    """
    # Nobody asks about nodes of a cancelled execution but those that run always: the others were given up at once.
    node = state.graph.nodes[position]
    if node.run_if == "always":
        return None
    outcome = state.outcome
    failed = [needed for needed in node.dependencies if outcome[needed] == Outcome.FAILED]
    given_up = [needed for needed in node.dependencies if outcome[needed] == Outcome.CANCELLED]
    reason: SkipReason | None = None
    because = failed
    match node.run_if:
        case "all_succeeded":
            skipped = [needed for needed in node.dependencies if outcome[needed] == Outcome.SKIPPED]
            if failed:
                reason = "upstream_failed"
            elif given_up:
                reason, because = "upstream_cancelled", given_up
            elif skipped:
                reason, because = "upstream_skipped", skipped
        case "none_failed":
            if failed:
                reason = "upstream_failed"
            elif given_up:
                reason, because = "upstream_cancelled", given_up
        case "any_succeeded":
            if node.dependencies and not any(outcome[needed] == Outcome.SUCCEEDED for needed in node.dependencies):
                reason = "upstream_failed" if failed else "run_if"
        case "any_failed":
            reason = None if failed else "run_if"
        case "all_done":
            pass
        case _:
            assert_never(node.run_if)
    if reason is None:
        return None
    names = tuple(state.graph.nodes[needed].id for needed in because[:_NAMED])
    return NodeSkipped(at=at, node=node.id, reason=reason, because=names)
