"""How far an execution has come: the fold of its facts that people look at while it runs.

Pure. `service` answers `nodes` with it; `dagctl` feeds it with facts as they come (`orchestrator.cli.progress`). Times
are microseconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec import UNSET

from dagengine.events import facts

__all__ = ["Board", "Failure", "NodeProgress", "Phase", "first_line"]

Phase = Literal["pending", "queued", "running", "waiting", "retrying", "succeeded", "failed", "skipped", "cancelled"]

_SKIPPED: Final = {
    "when_false": "its `when` is not true",
    "run_if": "its `run_if` does not hold",
    "upstream_skipped": "skipped upstream",
    "upstream_failed": "failed upstream",
    "cancelled": "cancelled",
    "fail_fast": "another node failed (`fail_fast`)",
    "timeout": "the execution took too long",
}
_GIVEN_UP: Final = {"cancelled": "", "fail_fast": _SKIPPED["fail_fast"], "timeout": _SKIPPED["timeout"]}


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

    def end(self, phase: Phase, at: int, note: str | None = None) -> None:
        """It has ended as `phase`."""
        self.phase, self.finished_at = phase, at
        if note is not None:
            self.note = note


@dataclass(slots=True)
class Board:
    """The nodes of one execution, in document order, and the execution as a whole.

    Nodes that are not known in advance (the version was deleted) are added as facts name them.
    """

    nodes: dict[str, NodeProgress] = field(default_factory=dict)
    execution: str = ""
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"] = "queued"
    cancelling: bool = False
    cancelled_because: str = ""
    """The reason that was given with the request to cancel."""
    paused: set[str] = field(default_factory=set)
    """Nodes that are paused; the empty text among them: all of it is."""
    concluded: str = ""
    """How its nodes have ended while those of `on_exit` still run."""
    started_at: int | None = None
    finished_at: int | None = None
    outputs: bytes | None = None
    error: facts.ErrorInfo | None = None
    failures: list[Failure] = field(default_factory=list)

    def expect(self, nodes: Iterable[str]) -> None:
        """These are the nodes, in this order."""
        for node in nodes:
            self.nodes.setdefault(node, NodeProgress(id=node))

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
            case facts.ExecutionConcluded():
                self.concluded = fact.status
            case facts.ExecutionSucceeded():
                self._end("succeeded", fact.at)
                self.outputs = bytes(fact.outputs)
            case facts.ExecutionFailed():
                self._end("failed", fact.at)
                self.error = fact.error
            case facts.ExecutionCancelled():
                self._end("cancelled", fact.at)
                self.cancelled_because = fact.reason or self.cancelled_because
            case facts.ExecutionTimedOut():
                self.paused.clear()
            case facts.Operation():
                self._apply_operation(fact)
            case _:
                self._apply_to_node(fact, self._node(fact.node))

    def _node(self, node: str) -> NodeProgress:
        return self.nodes.setdefault(node, NodeProgress(id=node))

    def _end(self, status: Literal["succeeded", "failed", "cancelled"], at: int) -> None:
        self.status, self.finished_at = status, at

    def _apply_operation(self, fact: facts.Operation) -> None:
        match fact:
            case facts.CancelRequested():
                self.cancelling, self.cancelled_because = True, fact.reason
                self.paused.clear()
            case facts.Paused():
                self.paused.add(fact.node)
            case facts.Resumed():
                self.paused.discard(fact.node)
            case facts.RerunRequested():
                self._go_on(fact)
            case facts.NodeOverridden():
                who = f" by {fact.author}" if fact.author else ""
                if fact.result is UNSET:
                    self._node(fact.node).end("skipped", fact.at, f"skipped{who}")
                else:
                    self._node(fact.node).end("succeeded", fact.at, f"result given{who}")
            case _:
                pass  # signals, decisions, edits and refusals show by what follows from them

    def _go_on(self, fact: facts.RerunRequested) -> None:
        if self.finished_at is not None:
            self.paused.clear()
        self.status, self.finished_at, self.outputs, self.error = "running", None, None, None
        self.cancelling, self.cancelled_because, self.concluded = False, "", ""
        again = {*fact.nodes, *fact.items}
        self.paused -= {name for name in again if self._node(name).finished_at is not None}
        self.failures = [failure for failure in self.failures if failure.node not in again]
        for name in fact.nodes:
            self.nodes[name] = NodeProgress(id=name, attempt=self._node(name).attempt)
        for name in fact.items:
            node = self._node(name)
            node.phase, node.finished_at, node.items_failed, node.note = "running", None, 0, ""

    def _apply_to_node(
        self,
        fact: facts.NodeExpanded
        | facts.NodeQueued
        | facts.NodeStarted
        | facts.NodeWaiting
        | facts.NodeSucceeded
        | facts.NodeFailed
        | facts.NodeSkipped
        | facts.NodeCancelled,
        node: NodeProgress,
    ) -> None:
        match fact:
            case facts.NodeExpanded():
                node.phase, node.items, node.started_at = "running", fact.count, fact.at
            case facts.NodeQueued(index=None):
                node.phase = "queued"
                node.note = f"no room in the pool '{fact.pool}'" if fact.pool else f"begins too often ({fact.rate})"
            case facts.NodeStarted() | facts.NodeWaiting():
                _begin(fact, node)
            case facts.NodeSucceeded(index=None):
                note = f"found by execution {fact.cached_from}" if fact.cached_from else ""
                node.end("succeeded", fact.at, note)
            case facts.NodeSucceeded():
                node.items_succeeded += 1
            case facts.NodeFailed():
                self._fail(fact, node)
            case facts.NodeSkipped(index=None):
                node.end("skipped", fact.at, _skipped(fact))
            case facts.NodeCancelled(index=None):
                node.end("cancelled", fact.at, _GIVEN_UP[fact.reason])
            case _:
                pass  # of single items only those that end by themselves are counted

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
            node.end("failed", fact.at)
        else:
            node.items_failed += 1


def first_line(text: str) -> str:
    """The first line of a message."""
    return text.strip().split("\n", 1)[0]


def _begin(fact: facts.NodeStarted | facts.NodeWaiting, node: NodeProgress) -> None:
    node.attempt = max(node.attempt, fact.attempt)
    if node.started_at is None:
        node.started_at = fact.at
    if isinstance(fact, facts.NodeStarted) or fact.index is not None:
        node.phase, node.note = "running", ""
    else:
        node.phase, node.note = "waiting", _awaited(fact)


def _awaited(fact: facts.NodeWaiting) -> str:
    match fact.kind:
        case "signal":
            return f"for the signal '{fact.name}'"
        case "approval":
            return "for an approval"
        case _:
            return ""


def _skipped(fact: facts.NodeSkipped) -> str:
    because = f" ({', '.join(fact.because)})" if fact.because else ""
    return _SKIPPED[fact.reason] + because
