"""The state of one execution, and the only code that changes it: `State.apply(fact)`.

`Machine.handle` decides facts and applies them here; `fold` applies the same facts read from a journal. So the state
after a crash is the state before it, by construction.

Besides what facts determine there is one list, `ready`: nodes whose dependencies have ended and about which nothing
has been decided yet. It is derived (a node is on it at most once) and is worked off by the machine.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec import UNSET

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.graph.compiled import Graph
from dagengine.machine.phases import ILLEGAL, Outcome, Phase, column

__all__ = ["Items", "State", "Status"]

Status = Literal["new", "running", "succeeded", "failed", "cancelled"]

_EXPANDED = column("NodeExpanded")
_STARTED = column("NodeStarted")
_SUCCEEDED = column("NodeSucceeded")
_RETRIED = column("NodeFailed, to be retried")
_FAILED = column("NodeFailed")
_SKIPPED = column("NodeSkipped")
_CANCELLED = column("NodeCancelled")

_item_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class Items:
    """The items of one node with `foreach`: parallel arrays indexed by item, so that an item costs bytes."""

    __slots__ = ("attempt", "failed", "first_failed", "phase", "results", "unfinished", "values")

    def __init__(self, values: list[msgspec.Raw]) -> None:
        count = len(values)
        self.values = values
        self.phase = bytearray(count)
        self.attempt = [0] * count
        self.results: list[bytes | None] = [None] * count
        self.unfinished = count
        self.failed = 0
        self.first_failed = -1

    def snapshot(self) -> tuple[object, ...]:
        """Everything, comparable."""
        values = [bytes(value) for value in self.values]
        return (
            values,
            bytes(self.phase),
            list(self.attempt),
            list(self.results),
            self.unfinished,
            self.failed,
            self.first_failed,
        )


class State:
    """What is known of one execution. Arrays are indexed by node position; dictionaries by `(position, item or -1)`."""

    __slots__ = (
        "_appliers",
        "args",
        "attempt",
        "cancel",
        "commands",
        "due",
        "error",
        "errors",
        "execution",
        "failures",
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
        self._appliers = {
            facts.ExecutionStarted: self._execution_started,
            facts.NodeExpanded: self._expanded,
            facts.NodeStarted: self._started,
            facts.NodeSucceeded: self._succeeded,
            facts.NodeFailed: self._failed,
            facts.NodeSkipped: self._skipped,
            facts.NodeCancelled: self._cancelled,
            facts.CancelRequested: self._cancel_requested,
            facts.ExecutionSucceeded: self._execution_succeeded,
            facts.ExecutionFailed: self._execution_failed,
            facts.ExecutionCancelled: self._execution_cancelled,
        }

    # --- reading ---

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
            raise MachineError(f"{self._story()}: {type(fact).__name__} at {fact.at} lies before {self.now}")
        if self.status != "running" and (self.status != "new" or type(fact) is not facts.ExecutionStarted):
            raise MachineError(f"{self._story()}: {type(fact).__name__} cannot follow")
        self.now = fact.at
        self.seq += 1
        self._appliers[type(fact)](fact)  # type: ignore[operator]  # the table pairs each type with its method

    def _story(self) -> str:
        return f"execution {self.execution} ({self.status}, {self.seq} facts)"

    def _illegal(self, fact: Fact, position: int, index: int) -> MachineError:
        unit = self.graph.nodes[position].id + (f"[{index}]" if index >= 0 else "")
        phase = Phase(self.phase_of(position, index)).name
        return MachineError(f"{self._story()}: {type(fact).__name__} is illegal for {unit}, which is {phase}")

    def _execution_started(self, fact: facts.ExecutionStarted) -> None:
        if self.status != "new":
            raise MachineError(f"{self._story()}: it has started already")
        if fact.digest != self.graph.digest:
            raise MachineError(f"{self._story()}: the journal is of {fact.digest}, the graph of {self.graph.digest}")
        self.status = "running"
        self.inputs = bytes(fact.inputs)
        self.ready.extend(self.graph.sources)

    def _expanded(self, fact: facts.NodeExpanded) -> None:
        position = self.graph.index[fact.node]
        after = _EXPANDED[self.phase[position]]
        if after == ILLEGAL or self.waiting[position]:
            raise self._illegal(fact, position, -1)
        self.phase[position] = after
        self.items[position] = Items(_item_decoder.decode(fact.items))

    def _started(self, fact: facts.NodeStarted) -> None:
        position = self.graph.index[fact.node]
        if fact.index is None:
            after = _STARTED[self.phase[position]]
            if after == ILLEGAL or self.waiting[position]:
                raise self._illegal(fact, position, -1)
            self.phase[position] = after
            self.attempt[position] = fact.attempt
            unit = (position, -1)
        else:
            items = self.items[position]
            after = _STARTED[items.phase[fact.index]]
            if after == ILLEGAL:
                raise self._illegal(fact, position, fact.index)
            items.phase[fact.index] = after
            items.attempt[fact.index] = fact.attempt
            unit = (position, fact.index)
        if fact.args is not UNSET:
            self.args[unit] = bytes(fact.args)

    def _succeeded(self, fact: facts.NodeSucceeded) -> None:
        position = self.graph.index[fact.node]
        result = None if fact.result is UNSET else bytes(fact.result)
        if fact.index is None:
            after = _SUCCEEDED[self.phase[position]]
            if after == ILLEGAL or ((items := self.items.get(position)) and items.unfinished):
                raise self._illegal(fact, position, -1)
            self.phase[position] = after
            self.results[position] = result
            self._node_ended(position, Outcome.SUCCEEDED)
        else:
            items = self.items[position]
            after = _SUCCEEDED[items.phase[fact.index]]
            if after == ILLEGAL:
                raise self._illegal(fact, position, fact.index)
            items.phase[fact.index] = after
            items.results[fact.index] = result
            items.unfinished -= 1

    def _failed(self, fact: facts.NodeFailed) -> None:
        position = self.graph.index[fact.node]
        index = -1 if fact.index is None else fact.index
        table = _FAILED if fact.retry_at is None else _RETRIED
        after = table[self.phase_of(position, index)]
        if after == ILLEGAL:
            raise self._illegal(fact, position, index)
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
        if after == ILLEGAL:
            raise self._illegal(fact, position, -1)
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
        if after == ILLEGAL or fact.index is not None:
            raise self._illegal(fact, position, -1)
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
        self._end("succeeded", fact)
        self.outputs = bytes(fact.outputs)

    def _execution_failed(self, fact: facts.ExecutionFailed) -> None:
        self._end("failed", fact)
        self.error = fact.error

    def _execution_cancelled(self, fact: facts.ExecutionCancelled) -> None:
        self._end("cancelled", fact)

    def _end(self, status: Status, fact: Fact) -> None:
        if self.unfinished:
            raise MachineError(f"{self._story()}: {type(fact).__name__} while {self.unfinished} nodes have not ended")
        self.status = status
