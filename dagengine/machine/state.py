"""The state of one execution. `State.apply(fact)` is the only thing that changes it.

`Machine.handle` decides facts and applies them here; `fold` applies the same facts read from a journal. So the state
after a crash is the state before it, by construction. What each fact does is told in `applying` (nodes) and
`applying_operations` (the execution, and what people asked for).

Besides what facts determine there is one list, `ready`: nodes whose dependencies have ended and about which nothing
has been decided yet. It is derived and is worked off by the machine.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any, Final, Literal, get_args

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.graph.compiled import Graph
from dagengine.machine import applying, applying_operations, clocks, story
from dagengine.machine.items import Items
from dagengine.machine.phases import Phase

__all__ = ["State", "Status", "Unit"]

Status = Literal["new", "running", "succeeded", "failed", "cancelled"]

_RUNNING: Final = int(Phase.RUNNING)

Unit = tuple[int, int]
"""Whatever has attempts of its own: `(position, item)`; the item is -1 for a node without `foreach`."""


class State:
    """What is known of one execution. Arrays are indexed by node position; dictionaries by unit, unless they say so."""

    __slots__ = (
        "args",
        "attempt",
        "base",
        "cache",
        "cancel",
        "clocks",
        "commands",
        "concluded",
        "decisions",
        "edits",
        "error",
        "errors",
        "execution",
        "exit_unfinished",
        "failing",
        "failures",
        "fresh",
        "given_up",
        "graph",
        "inputs",
        "items",
        "listening",
        "now",
        "outcome",
        "outputs",
        "overridden",
        "paused",
        "phase",
        "queued",
        "ready",
        "refusals",
        "reruns",
        "results",
        "rounds",
        "seq",
        "signals",
        "skipped",
        "status",
        "stopping",
        "terminated",
        "timed_out",
        "troubled",
        "unfinished",
        "waiting",
        "waits",
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
        """By position: the items of an expanded node."""
        self.base: dict[int, int] = {}
        """By position: where the attempts of its items count from, when they were run before."""
        self.args: dict[Unit, bytes] = {}
        """Of units that have begun and not ended: their arguments."""
        self.cache: dict[Unit, str] = {}
        """Of units that have begun and not ended: under which digest their result may be found again."""
        self.failures: dict[Unit, tuple[int, int]] = {}
        """Attempts so far that ended as `fail` and as `error`; absent when there were none."""
        self.errors: dict[Unit, ErrorInfo] = {}
        self.refusals: dict[Unit, int] = {}
        """Attempts that ever ended as `fail`; not forgotten when the unit is run again."""
        self.queued: dict[Unit, facts.NodeQueued] = {}
        self.waits: dict[Unit, facts.NodeWaiting] = {}
        self.listening: dict[str, OrderedDict[Unit, None]] = {}
        """By name: the units that wait for a signal, the one first that has waited longest.

        Ordered dictionaries, because the first one is taken out again and again: in others what was taken out before
        is passed over each time.
        """
        self.signals: dict[str, deque[facts.Signalled]] = {}
        """By name: signals that no unit has taken yet."""
        self.decisions: dict[Unit, list[facts.Decided]] = {}
        self.clocks = clocks.Clocks()
        self.paused: dict[int, int] = {}
        """By position, -1 for the whole execution: since when."""
        self.edits: dict[int, bytes] = {}
        """By position: inputs that a node sees in place of those of the execution."""
        self.skipped: dict[int, tuple[str, tuple[str, ...]]] = {}
        """By position: why a node was skipped or given up, and which dependencies decided it."""
        self.overridden: dict[int, facts.NodeOverridden] = {}
        """By position: what somebody decided about a node."""
        self.reruns: dict[int, int] = {}
        """By position: how often somebody had the node run again."""
        self.fresh: set[int] = set()
        """Positions of the nodes that somebody named to be run again, and that have not succeeded since: their results
        are not looked for among those that were found before."""
        self.rounds = 0
        """How often the execution was taken up again after its end."""
        self.cancel: facts.CancelRequested | None = None
        self.terminated = False
        self.stopping: set[int] = set()
        """Positions of the nodes that may use the grace of a cancel."""
        self.timed_out: facts.ExecutionTimedOut | None = None
        self.concluded: facts.ExecutionConcluded | None = None
        self.commands: set[str] = set()
        self.unfinished = graph.main
        self.exit_unfinished = count - graph.main
        self.troubled = False
        """Whether any node ended otherwise than succeeded: as long as not, nobody's `run_if` can refuse."""
        self.failing = False
        """Whether a node (none of `on_exit`) has failed since somebody last had any run again: reason to fail fast."""
        self.ready: list[int] = []

    # --- reading ---

    @property
    def ended(self) -> bool:
        """Whether the last fact of the execution has been applied."""
        return self.status not in ("new", "running")

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled it before its nodes had ended. Whoever terminates its `on_exit` comes later: then
        it ends as it was said to have ended before those."""
        return self.cancel is not None and (self.concluded is None or self.concluded.status == "cancelled")

    def result(self, position: int) -> bytes | None:
        """The JSON result of a node that succeeded; of a node with `foreach`, the results of its items."""
        known = self.results[position]
        if (
            known is None
            and (items := self.items.get(position)) is not None
            and self.phase[position] == Phase.SUCCEEDED
        ):
            known = self.results[position] = items.result()
        return known

    def phase_of(self, position: int, index: int) -> int:
        """The phase of a unit."""
        return self.phase[position] if index < 0 else self.items[position].phase[index]

    def attempt_of(self, position: int, index: int) -> int:
        """The number of the last attempt of a unit; 0 before the first."""
        return self.attempt[position] if index < 0 else self.items[position].attempt[index]

    def generation_of(self, position: int, index: int) -> int:
        """How often a unit was refused by its code or run again by somebody: what its idempotency key ends in."""
        return self.reruns.get(position, 0) + self.refusals.get((position, index), 0)

    @property
    def runs(self) -> bool:
        """Whether any attempt is under way. As fast as looking through bytes: it is asked after every commit."""
        position = self.phase.find(_RUNNING)
        while position >= 0:
            items = self.items.get(position)
            if items is None or items.phase.find(_RUNNING) >= 0:
                return True
            position = self.phase.find(_RUNNING, position + 1)
        return False

    def is_paused(self, position: int) -> bool:
        """Whether nothing new may begin at a node."""
        return bool(self.paused) and (-1 in self.paused or position in self.paused)

    def units(self, *phases: int) -> Iterator[Unit]:
        """Every unit in one of `phases` that has attempts of its own: nodes without `foreach`, and items."""
        for position, phase in enumerate(self.phase):
            items = self.items.get(position)
            if items is None:
                if phase in phases:
                    yield position, -1
            elif phase == Phase.RUNNING:
                yield from self.units_of(position, *phases)

    def units_of(self, position: int, *phases: int) -> Iterator[Unit]:
        """Every unit of one node in one of `phases`."""
        items = self.items.get(position)
        if items is None:
            if self.phase[position] in phases:
                yield position, -1
            return
        for index, phase in enumerate(items.phase):
            if phase in phases:
                yield position, index

    def snapshot(self) -> dict[str, object]:
        """Everything that facts determine, comparable: two states with equal snapshots behave the same."""
        derived = ("graph", "ready", "clocks", "results", "items", "phase", "outcome", "listening")
        plain: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__ if name not in derived}
        return {
            **{name: value.copy() if hasattr(value, "copy") else value for name, value in plain.items()},
            "phase": bytes(self.phase),
            "outcome": bytes(self.outcome),
            "results": [self.result(position) for position in range(len(self.graph))],
            "items": {position: items.snapshot() for position, items in self.items.items()},
            "signals": {name: list(kept) for name, kept in self.signals.items() if kept},
            "decisions": {unit: list(made) for unit, made in self.decisions.items()},
            "listening": {name: list(units) for name, units in self.listening.items() if units},
            "clocks": self.clocks.snapshot(self),
        }

    # --- changing ---

    def apply(self, fact: Fact) -> None:
        """Take a fact in. Raises MachineError when it cannot follow what is known."""
        if fact.at < self.now:
            raise self.refuse(f"{type(fact).__name__} at {fact.at} lies before {self.now}")
        if self.status != "running" and type(fact) not in _ELSEWHERE[self.status]:
            raise self.refuse(f"{type(fact).__name__} cannot follow")
        try:
            _APPLIERS[type(fact)](self, fact)
        except KeyError as error:
            raise self.refuse(f"{type(fact).__name__} is about {error}, which the workflow does not have") from error
        self.now = fact.at
        self.seq += 1

    def refuse(self, why: str) -> MachineError:
        """The error that says why a fact cannot be true."""
        return MachineError(f"{story.of_execution(self)}: {why}")


_AFTER_THE_END: Final = (facts.RerunRequested, facts.CommandRefused)
_ELSEWHERE: Final[dict[Status, tuple[type, ...]]] = {
    "new": (facts.ExecutionStarted,),
    "succeeded": _AFTER_THE_END,
    "failed": _AFTER_THE_END,
    "cancelled": _AFTER_THE_END,
}
"""What may follow where not everything may."""

# Not bound methods: a state that refers to itself would outlive its execution until the garbage collector comes.
_APPLIERS: Final = {**applying.APPLIERS, **applying_operations.APPLIERS}

if missing := set(get_args(Fact)) - set(_APPLIERS):
    raise TypeError(f"nothing applies {missing}")
