"""How far an execution has come: the fold of its facts that people look at while it runs.

Pure. `dagctl run` feeds it with the engine's own facts, `watch` and `describe` with those the orchestrator serves;
the displays read it. Times are microseconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, assert_never

from dagengine.events import facts
from orchestrator.cli.plan import Plan

__all__ = ["Board", "Failure", "NodeProgress", "Phase", "duration", "first_line", "label"]

Phase = Literal["pending", "running", "retrying", "succeeded", "failed", "skipped", "cancelled"]

_SKIPPED: Final = {
    "when_false": "its `when` is not true",
    "run_if": "its `run_if` does not hold",
    "upstream_skipped": "skipped upstream",
    "upstream_failed": "failed upstream",
    "cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An attempt that ended a node (or an item of it). `index` counts from 0; attempt 0: before the first one."""

    node: str
    index: int | None
    attempt: int
    conclusion: facts.Conclusion
    error: facts.ErrorInfo


@dataclass(slots=True, kw_only=True)
class NodeProgress:
    """One node. `items` is None unless the node has a `foreach` that was expanded."""

    id: str
    phase: Phase = "pending"
    attempt: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    items: int | None = None
    items_succeeded: int = 0
    items_failed: int = 0
    note: str = ""

    def elapsed(self, now: int) -> int | None:
        """Microseconds from its start to its end, or to `now`; None when it has not started."""
        if self.started_at is None:
            return None
        return max(0, (self.finished_at or now) - self.started_at)


@dataclass(slots=True)
class Board:
    """The nodes of one execution, in document order, and the execution as a whole.

    Nodes that the plan does not know (its version was deleted) are added as facts name them.
    """

    plan: Plan
    nodes: dict[str, NodeProgress] = field(init=False)
    execution: str = ""
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"] = "queued"
    cancelling: bool = False
    cancelled_because: str = ""
    """The reason that was given with the request to cancel."""
    started_at: int | None = None
    finished_at: int | None = None
    outputs: bytes | None = None
    error: facts.ErrorInfo | None = None
    failures: list[Failure] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nodes = {step.id: NodeProgress(id=step.id) for step in self.plan.steps}

    def count(self, phase: Phase) -> int:
        """How many nodes are in `phase`."""
        return sum(node.phase == phase for node in list(self.nodes.values()))

    @property
    def done(self) -> int:
        """How many nodes have ended."""
        return sum(node.finished_at is not None for node in list(self.nodes.values()))

    @property
    def ended(self) -> bool:
        return self.status in ("succeeded", "failed", "cancelled")

    def causes(self) -> Iterator[Failure]:
        """The failures to show: a `foreach` node that failed because of its items is told by its items."""
        with_items = {failure.node for failure in self.failures if failure.index is not None}
        for failure in self.failures:
            if failure.index is not None or failure.node not in with_items:
                yield failure

    def apply(self, fact: facts.Fact) -> None:
        """Take the next fact."""
        match fact:
            case facts.ExecutionStarted():
                self.execution, self.started_at, self.status = fact.execution, fact.at, "running"
            case facts.CancelRequested():
                self.cancelling, self.cancelled_because = True, fact.reason
            case facts.ExecutionSucceeded():
                self.status, self.finished_at, self.outputs = "succeeded", fact.at, bytes(fact.outputs)
            case facts.ExecutionFailed():
                self.status, self.finished_at, self.error = "failed", fact.at, fact.error
            case facts.ExecutionCancelled():
                self.status, self.finished_at = "cancelled", fact.at
                self.cancelled_because = fact.reason or self.cancelled_because
            case _:
                self._apply_to_node(fact, self.nodes.setdefault(fact.node, NodeProgress(id=fact.node)))

    def _apply_to_node(
        self,
        fact: facts.NodeExpanded
        | facts.NodeStarted
        | facts.NodeSucceeded
        | facts.NodeFailed
        | facts.NodeSkipped
        | facts.NodeCancelled,
        node: NodeProgress,
    ) -> None:
        match fact:
            case facts.NodeExpanded():
                node.phase, node.items, node.started_at = "running", fact.count, fact.at
            case facts.NodeStarted():
                node.phase, node.note = "running", ""
                node.attempt = max(node.attempt, fact.attempt)
                if node.started_at is None:
                    node.started_at = fact.at
            case facts.NodeSucceeded(index=None):
                node.phase, node.finished_at = "succeeded", fact.at
            case facts.NodeSucceeded():
                node.items_succeeded += 1
            case facts.NodeFailed():
                self._fail(fact, node)
            case facts.NodeSkipped(index=None):
                node.phase, node.finished_at, node.note = "skipped", fact.at, _skipped(fact)
            case facts.NodeCancelled(index=None):
                node.phase, node.finished_at = "cancelled", fact.at
            case facts.NodeSkipped() | facts.NodeCancelled():
                pass
            case _:
                assert_never(fact)

    def _fail(self, fact: facts.NodeFailed, node: NodeProgress) -> None:
        if fact.retry_at is not None:
            node.note = f"attempt {fact.attempt}: {first_line(fact.error.message)}"
            if fact.index is None:
                node.phase = "retrying"
            return
        self.failures.append(
            Failure(
                node=fact.node,
                index=fact.index,
                attempt=fact.attempt,
                conclusion=fact.conclusion,
                error=fact.error,
            )
        )
        node.note = first_line(fact.error.message)
        if fact.index is None:
            node.phase, node.finished_at = "failed", fact.at
        else:
            node.items_failed += 1


def label(node: str, index: int | None) -> str:
    """How a node, or one item of it, is written for people: `clean`, `clean[2]` (the third item)."""
    return node if index is None else f"{node}[{index}]"


def first_line(text: str) -> str:
    """The first line of a message."""
    return text.strip().split("\n", 1)[0]


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


def _skipped(fact: facts.NodeSkipped) -> str:
    because = f" ({', '.join(fact.because)})" if fact.because else ""
    return _SKIPPED[fact.reason] + because
