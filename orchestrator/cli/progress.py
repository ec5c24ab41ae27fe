"""How far an execution has come, with the plan of its workflow: what the displays and reports of `dagctl` read.

`dagctl run` feeds it with the engine's own facts, `watch` and `describe` with those the orchestrator serves. Times are
microseconds since the Unix epoch.
"""

from __future__ import annotations

from orchestrator import progress
from orchestrator.cli.plan import Plan
from orchestrator.progress import Failure, NodeProgress, Phase, first_line

__all__ = ["Board", "Failure", "NodeProgress", "Phase", "duration", "first_line", "label"]


class Board(progress.Board):
    """The nodes of one execution of a `plan`."""

    __slots__ = ("plan",)

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.expect(step.id for step in plan.steps)


def label(node: str, index: int | None) -> str:
    """How a node, or one item of it, is written for people: `clean`, `clean[2]` (the third item)."""
    return node if index is None else f"{node}[{index}]"


def duration(microseconds: int) -> str:
    """A duration rounded for people: `340µs`, `12ms`, `3.2s`, `2m05s`, `1h02m`."""
    if microseconds < 1_000:
        return f"{microseconds}µs"
    if microseconds < 1_000_000:
        return f"{microseconds // 1_000}ms"
    seconds = microseconds / 1e6
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"
