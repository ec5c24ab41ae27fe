"""The state of one execution, and the only code that changes it: `State.apply(fact)`.

`Machine.handle` decides facts and applies them here; `fold` applies the same facts read from a journal. So the state
after a crash is the state before it, by construction.

Besides what facts determine there is one list, `ready`: nodes whose dependencies have ended and about which nothing
has been decided yet. It is derived (a node is on it at most once) and is worked off by the machine.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from msgspec import UNSET

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.graph.compiled import Graph
from dagengine.machine import story
from dagengine.machine.items import Items
from dagengine.machine.phases import ILLEGAL, Outcome, Phase, column

__all__ = ["State", "Status"]

Status = Literal["new", "running", "succeeded", "failed", "cancelled"]

ItemFact = facts.NodeStarted | facts.NodeSucceeded | facts.NodeFailed
NodeFact = ItemFact | facts.NodeExpanded | facts.NodeSkipped | facts.NodeCancelled

_EXPANDED = column("NodeExpanded")
_STARTED = column("NodeStarted")
_SUCCEEDED = column("NodeSucceeded")
_RETRIED = column("NodeFailed, to be retried")
_FAILED = column("NodeFailed")
_SKIPPED = column("NodeSkipped")
_CANCELLED = column("NodeCancelled")


class State:
    """What is known of one execution. Arrays are indexed by node position; dictionaries by `(position, item or -1)`."""

    __slots__ = (
        "args",
        "attempt",
        "cancel",
        "commands",
        "due",
        "error",
        "errors",
        "execution",
        "failures",
        "given_up",
        "graph",
        "inputs",
        "items",
        "now",
        "outcome",
        "outputs",
        "phase",
        "ready",
        "results",
        "seq",
        "status",
        "troubled",
        "unfinished",
        "waiting",
    )

    def __init__(self, graph: Graph, execution: str) -> None:
        count = len(graph)
        self.graph = graph
        self.execution = execution
        self.status: Status = "new"
        self.now = 0
        self.seq = 0
        self.inputs = b"{}"
        self.outputs: bytes | None = None
        self.error: ErrorInfo | None = None
        self.given_up = False
        """Whether the platform has ended it before its nodes had ended."""
        self.phase = bytearray(count)
        self.outcome = bytearray(count)
        self.waiting = [len(node.dependencies) for node in graph.nodes]
        self.attempt = [0] * count
        self.results: list[bytes | None] = [None] * count
        self.items: dict[int, Items] = {}
        self.args: dict[tuple[int, int], bytes] = {}
        self.failures: dict[tuple[int, int], tuple[int, int]] = {}
        """Attempts so far that ended as `fail` and as `error`; absent when there were none."""
        self.errors: dict[tuple[int, int], ErrorInfo] = {}
        self.due: list[tuple[int, int, int, int]] = []
        """Heap of `(retry_at, position, item, attempt)`; entries whose unit has left BACKOFF are stale."""
        self.cancel: facts.CancelRequested | None = None
        self.commands: set[str] = set()
        self.unfinished = count
        self.troubled = False
        """Whether any node ended otherwise than succeeded: as long as not, nobody's `run_if` can refuse."""
        self.ready: list[int] = []

    # --- reading ---

    @property
    def ended(self) -> bool:
        """Whether the last fact of the execution has been applied."""
        return self.status not in ("new", "running")

    def result(self, position: int) -> bytes | None:
        """The JSON result of a node that succeeded; of a node with `foreach`, the list of its items' results."""
        known = self.results[position]
        if (
            known is None
            and (items := self.items.get(position)) is not None
            and self.phase[position] == Phase.SUCCEEDED
        ):
            known = b"[" + b",".join(result or b"null" for result in items.results) + b"]"
            self.results[position] = known
        return known

    def phase_of(self, position: int, index: int) -> int:
        """The phase of a unit."""
        return self.phase[position] if index < 0 else self.items[position].phase[index]

    def attempt_of(self, position: int, index: int) -> int:
        """The number of the last attempt of a unit; 0 before the first."""
        return self.attempt[position] if index < 0 else self.items[position].attempt[index]

    def waits_for(self, entry: tuple[int, int, int, int]) -> bool:
        """Whether an entry of `due` still means something: its unit waits for the attempt after that one."""
        _, position, index, attempt = entry
        return (
            self.phase[position] in (Phase.BACKOFF, Phase.RUNNING)
            and self.phase_of(position, index) == Phase.BACKOFF
            and self.attempt_of(position, index) == attempt
        )

    def units(self, *phases: int) -> Iterator[tuple[int, int]]:
        """Every unit in one of `phases` that has attempts of its own: nodes without `foreach`, and items."""
        for position, phase in enumerate(self.phase):
            items = self.items.get(position)
            if items is None:
                if phase in phases:
                    yield position, -1
            elif phase == Phase.RUNNING:
                for index, item_phase in enumerate(items.phase):
                    if item_phase in phases:
                        yield position, index

    def snapshot(self) -> dict[str, object]:
        """Everything that facts determine, comparable: two states with equal snapshots behave the same."""
        return {
            "execution": self.execution,
            "status": self.status,
            "now": self.now,
            "seq": self.seq,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "error": self.error,
            "given_up": self.given_up,
            "phase": bytes(self.phase),
            "outcome": bytes(self.outcome),
            "waiting": list(self.waiting),
            "attempt": list(self.attempt),
            "results": [self.result(position) for position in range(len(self.graph))],
            "items": {position: items.snapshot() for position, items in self.items.items()},
            "args": dict(self.args),
            "failures": dict(self.failures),
            "errors": dict(self.errors),
            "due": sorted(filter(self.waits_for, self.due)),
            "cancel": self.cancel,
            "commands": set(self.commands),
            "unfinished": self.unfinished,
            "troubled": self.troubled,
        }

    # --- changing ---

    def apply(self, fact: Fact) -> None:
        """Take a fact in. Raises MachineError when it cannot follow what is known."""
        if fact.at < self.now:
            raise self._refuse(f"{type(fact).__name__} at {fact.at} lies before {self.now}")
        if self.status != "running" and (self.status != "new" or type(fact) is not facts.ExecutionStarted):
            raise self._refuse(f"{type(fact).__name__} cannot follow")
        try:
            _APPLIERS[type(fact)](self, fact)
        except KeyError as error:
            raise self._refuse(f"{type(fact).__name__} is about {error}, which the workflow does not have") from error
        self.now = fact.at
        self.seq += 1

    def _refuse(self, why: str) -> MachineError:
        return MachineError(f"{story.of_execution(self)}: {why}")

    def _illegal(self, fact: NodeFact, position: int) -> MachineError:
        kind, attempt, index = type(fact).__name__, getattr(fact, "attempt", 0), getattr(fact, "index", None)
        unit = story.of_unit(self, position, index)
        return self._refuse(f"{kind}{f' of attempt {attempt}' if attempt else ''} is illegal for {unit}")

    def _items_of(self, fact: ItemFact, position: int) -> tuple[Items, int]:
        """The items that a fact is about one of, and which. They live while their node runs."""
        items, index = self.items.get(position), fact.index
        if items is None or index is None or not 0 <= index < len(items.phase) or self.phase[position] != Phase.RUNNING:
            raise self._illegal(fact, position)
        return items, index

    def _execution_started(self, fact: facts.ExecutionStarted) -> None:
        if self.status != "new":
            raise self._refuse("it has started already")
        if fact.execution != self.execution:
            raise self._refuse(f"the journal is of execution {fact.execution}")
        if fact.digest != self.graph.digest:
            raise self._refuse(f"the journal is of {fact.digest}, the graph of {self.graph.digest}")
        self.status = "running"
        self.inputs = bytes(fact.inputs)
        self.ready.extend(self.graph.sources)

    def _expanded(self, fact: facts.NodeExpanded) -> None:
        position = self.graph.index[fact.node]
        after = _EXPANDED[self.phase[position]]
        if after == ILLEGAL or self.waiting[position]:
            raise self._illegal(fact, position)
        try:
            items = Items.of(fact)
        except ValueError as error:
            raise self._refuse(f"NodeExpanded of {fact.node}: {error}") from error
        self.phase[position] = after
        self.items[position] = items

    def _started(self, fact: facts.NodeStarted) -> None:
        position = self.graph.index[fact.node]
        if fact.index is None:
            after = _STARTED[self.phase[position]]
            if after == ILLEGAL or self.waiting[position] or fact.attempt != self.attempt[position] + 1:
                raise self._illegal(fact, position)
            self.phase[position] = after
            self.attempt[position] = fact.attempt
            unit = (position, -1)
        else:
            items, index = self._items_of(fact, position)
            after = _STARTED[items.phase[index]]
            if after == ILLEGAL or fact.attempt != items.attempt[index] + 1:
                raise self._illegal(fact, position)
            items.phase[index] = after
            items.attempt[index] = fact.attempt
            unit = (position, index)
        if fact.args is not UNSET:
            self.args[unit] = bytes(fact.args)

    def _succeeded(self, fact: facts.NodeSucceeded) -> None:
        position = self.graph.index[fact.node]
        result = None if fact.result is UNSET else bytes(fact.result)
        if fact.index is None:
            after, expanded = _SUCCEEDED[self.phase[position]], self.items.get(position)
            if expanded is None:
                fits = result is not None and fact.attempt == self.attempt[position]
            else:
                fits = result is None and not expanded.unfinished and not expanded.failed
            if after == ILLEGAL or not fits:
                raise self._illegal(fact, position)
            self.phase[position] = after
            self.results[position] = result
            self._node_ended(position, Outcome.SUCCEEDED)
        else:
            items, index = self._items_of(fact, position)
            after = _SUCCEEDED[items.phase[index]]
            if after == ILLEGAL or result is None or fact.attempt != items.attempt[index]:
                raise self._illegal(fact, position)
            items.phase[index] = after
            items.results[index] = result
            items.unfinished -= 1

    def _failed(self, fact: facts.NodeFailed) -> None:
        position = self.graph.index[fact.node]
        index = -1 if fact.index is None else self._items_of(fact, position)[1]
        table = _FAILED if fact.retry_at is None else _RETRIED
        after = table[self.phase_of(position, index)]
        expanded = self.items.get(position) if index < 0 else None
        fits = fact.attempt == self.attempt_of(position, index) and not self.waiting[position]
        if expanded is not None:
            fits = fits and fact.retry_at is None and not expanded.unfinished and expanded.failed > 0
        if after == ILLEGAL or not fits:
            raise self._illegal(fact, position)
        unit = (position, index)
        fails, errors = self.failures.get(unit, (0, 0))
        self.failures[unit] = (fails + 1, errors) if fact.conclusion == "fail" else (fails, errors + 1)
        self.errors[unit] = fact.error
        if fact.retry_at is not None:
            heapq.heappush(self.due, (fact.retry_at, position, index, fact.attempt))
        if index < 0:
            self.phase[position] = after
            if fact.retry_at is None:
                self._node_ended(position, Outcome.FAILED)
            return
        items = self.items[position]
        items.phase[index] = after
        if fact.retry_at is None:
            items.unfinished -= 1
            items.failed += 1
            if items.first_failed < 0:
                items.first_failed = index

    def _skipped(self, fact: facts.NodeSkipped) -> None:
        position = self.graph.index[fact.node]
        after = _SKIPPED[self.phase[position]]
        early = self.waiting[position] and fact.reason != "cancelled"
        if after == ILLEGAL or early or fact.index is not None:
            raise self._illegal(fact, position)
        self.phase[position] = after
        match fact.reason:
            case "upstream_failed":
                outcome = Outcome.FAILED
            case "cancelled":
                outcome = Outcome.CANCELLED
            case _:
                outcome = Outcome.SKIPPED
        self._node_ended(position, outcome)

    def _cancelled(self, fact: facts.NodeCancelled) -> None:
        position = self.graph.index[fact.node]
        after = _CANCELLED[self.phase[position]]
        if after == ILLEGAL or fact.index is not None or fact.attempt != self.attempt[position]:
            raise self._illegal(fact, position)
        self.phase[position] = after
        self._node_ended(position, Outcome.CANCELLED)

    def _node_ended(self, position: int, outcome: Outcome) -> None:
        self.outcome[position] = outcome
        self.unfinished -= 1
        if outcome != Outcome.SUCCEEDED:
            self.troubled = True
        waiting = self.waiting
        for dependent in self.graph.nodes[position].dependents:
            waiting[dependent] -= 1
            if not waiting[dependent]:
                self.ready.append(dependent)

    def _cancel_requested(self, fact: facts.CancelRequested) -> None:
        if self.cancel is None:
            self.cancel = fact
        if fact.command:
            self.commands.add(fact.command)

    def _execution_succeeded(self, fact: facts.ExecutionSucceeded) -> None:
        if Phase.FAILED in self.phase or self.cancel is not None:
            raise self._refuse("ExecutionSucceeded, but nodes failed or it was cancelled")
        self._end("succeeded", fact)
        self.outputs = bytes(fact.outputs)

    def _execution_failed(self, fact: facts.ExecutionFailed) -> None:
        if fact.given_up:
            self.status = "failed"
        else:
            self._end("failed", fact)
        self.given_up = fact.given_up
        self.error = fact.error

    def _execution_cancelled(self, fact: facts.ExecutionCancelled) -> None:
        if self.cancel is None:
            raise self._refuse("ExecutionCancelled, but nobody asked for it")
        self._end("cancelled", fact)

    def _end(self, status: Status, fact: Fact) -> None:
        if self.unfinished:
            raise self._refuse(f"{type(fact).__name__} while {self.unfinished} nodes have not ended")
        self.status = status


# Not bound methods: a state that refers to itself would outlive its execution until the garbage collector comes.
_APPLIERS: Final[Mapping[type, Callable[[State, Any], None]]] = {
    facts.ExecutionStarted: State._execution_started,
    facts.NodeExpanded: State._expanded,
    facts.NodeStarted: State._started,
    facts.NodeSucceeded: State._succeeded,
    facts.NodeFailed: State._failed,
    facts.NodeSkipped: State._skipped,
    facts.NodeCancelled: State._cancelled,
    facts.CancelRequested: State._cancel_requested,
    facts.ExecutionSucceeded: State._execution_succeeded,
    facts.ExecutionFailed: State._execution_failed,
    facts.ExecutionCancelled: State._execution_cancelled,
}
