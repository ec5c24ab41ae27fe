"""The machine: one execution as a pure state machine. `handle(stimulus)` answers with facts and commands.

Contract with the driver: facts first, commands after. The driver hands the facts of a step to the journal and then
performs its commands; a command whose work the outside can see waits until the facts up to it are committed. The
machine reads no clock and draws no random number: time comes on stimuli, jitter from the execution's seed.

Stale answers (of an attempt that was abandoned meanwhile, of a doubled delivery) are expected and change nothing; a
fact that does not fit the table in `phases` is a bug and raises MachineError.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import assert_never

import msgspec
from msgspec import UNSET

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.graph.compiled import Graph
from dagengine.machine import backoff, conclusion, permission
from dagengine.machine.commands import Abandon, Command, Evaluate, Run, Step
from dagengine.machine.phases import Phase
from dagengine.machine.state import State
from dagengine.machine.stimuli import AttemptEnded, Begin, Cancel, Evaluated, Purpose, Resume, Stimulus, TimePassed

__all__ = ["ITEM_WINDOW", "Machine", "fold"]

ITEM_WINDOW = 1_024
"""Items of one node that may run at once: bounds what one step makes, whatever the length of the list."""

_FALSE = frozenset({b"false", b"null"})


class Machine:
    """One execution of one workflow version."""

    __slots__ = ("_commands", "_evaluating", "_facts", "_next_item", "graph", "seed", "state")

    def __init__(self, graph: Graph, *, execution: str, seed: int = 0) -> None:
        self.graph = graph
        self.seed = seed
        self.state = State(graph, execution)
        self._facts: list[Fact] = []
        self._commands: list[Command] = []
        self._evaluating: set[tuple[Purpose, int, int]] = set()
        """Expressions whose value is awaited. Not part of the state: after a crash they are asked for again."""
        self._next_item: dict[int, int] = {}
        """First item of each expanded node that has not been asked for. Derived likewise."""

    @property
    def wake_at(self) -> int | None:
        """When something is due next (microseconds since the epoch), or None."""
        due = self.state.due
        while due:
            if self.state.waits_for(due[0]):
                return due[0][0]
            heapq.heappop(due)
        return None

    @property
    def ended(self) -> bool:
        """Whether the last fact of the execution has been made."""
        return self.state.ended

    def handle(self, stimulus: Stimulus) -> Step:
        """Take one stimulus in; the facts it leads to, and the commands that follow from them."""
        self._facts, self._commands = [], []
        state = self.state
        if not state.ended:
            at = max(stimulus.at, state.now)
            match stimulus:
                case AttemptEnded():
                    self._attempt_ended(stimulus, at)
                case Evaluated():
                    self._evaluated(stimulus, at)
                case TimePassed():
                    self._time_passed(at)
                case Cancel():
                    self._cancel(stimulus, at)
                case Begin():
                    self._begin(stimulus, at)
                case Resume():
                    self._resume(at)
                case _:
                    assert_never(stimulus)
            if state.ready:
                self._advance(at)
            if not state.unfinished and not state.ended:
                self._conclude(at)
        return Step(self._facts, self._commands)

    def wants(self, run: Run | AttemptEnded) -> bool:
        """Whether the outcome of an attempt is still awaited; not when it was abandoned, or has ended."""
        state = self.state
        return (
            state.phase[run.node] == Phase.RUNNING
            and state.phase_of(run.node, run.index) == Phase.RUNNING
            and state.attempt_of(run.node, run.index) == run.attempt
        )

    def awaited(self) -> list[Evaluate]:
        """The evaluations that were asked for and are still needed."""
        return [
            Evaluate(purpose, position, index)
            for purpose, position, index in sorted(self._evaluating)
            if purpose == "outputs" or self.state.phase[position] <= Phase.BACKOFF
        ]

    def _record(self, fact: Fact) -> None:
        self.state.apply(fact)
        self._facts.append(fact)

    # --- stimuli ---

    def _begin(self, stimulus: Begin, at: int) -> None:
        document = self.graph.document
        self._record(
            facts.ExecutionStarted(
                at=at,
                execution=self.state.execution,
                workflow=document.id,
                version=document.version,
                digest=document.digest,
                inputs=msgspec.Raw(stimulus.inputs),
            )
        )
        if stimulus.cancel is not None:
            self._cancel(stimulus.cancel, at)

    def _resume(self, at: int) -> None:
        """Pure attempts that were running run again as they are; all others end as orphans, by facts."""
        state = self.state
        if state.status == "new":
            raise MachineError(f"execution {state.execution} cannot go on: its journal is empty")
        self._evaluating.clear()
        self._next_item = {}
        if state.cancel is not None:
            # What was committed may end between the request to cancel and what followed from it.
            self._give_up(at)
        for position, index in list(state.units(Phase.RUNNING)):
            attempt = state.attempt_of(position, index)
            if self.graph.nodes[position].pure:
                self._commands.append(Run(position, index, attempt))
            else:
                error = ErrorInfo(type="Orphaned", message="the engine that ran this attempt is gone")
                self._attempt_failed(position, index, attempt, "error", error, 0, at)
        for position in state.items:
            if state.phase[position] == Phase.RUNNING:
                self._next_item[position] = _first_pending(state.items[position].phase)
                self._start_items(position, at)
                self._items_ended(position, at)

    def _attempt_ended(self, stimulus: AttemptEnded, at: int) -> None:
        if not self.wants(stimulus):
            return
        position, index = stimulus.node, stimulus.index
        if stimulus.conclusion == "success":
            self._record(
                facts.NodeSucceeded(
                    at=at,
                    node=self.graph.nodes[position].id,
                    index=None if index < 0 else index,
                    attempt=stimulus.attempt,
                    result=msgspec.Raw(stimulus.result),
                    elapsed=stimulus.elapsed,
                )
            )
        else:
            error = stimulus.error or ErrorInfo(type="Unknown", message="the attempt ended without saying why")
            self._attempt_failed(position, index, stimulus.attempt, stimulus.conclusion, error, stimulus.elapsed, at)
        if index >= 0:
            self._start_items(position, at)
            self._items_ended(position, at)

    def _evaluated(self, stimulus: Evaluated, at: int) -> None:
        key = (stimulus.purpose, stimulus.node, stimulus.index)
        if key not in self._evaluating:
            return
        self._evaluating.discard(key)
        position, index = stimulus.node, stimulus.index
        match stimulus.purpose:
            case "outputs":
                self._record(conclusion.of_outputs(stimulus.value, stimulus.error, at))
            case "when" | "foreach" | "args" if self.state.phase[position] > Phase.BACKOFF:
                pass  # it was cancelled meanwhile
            case "when" | "foreach" | "args" if stimulus.error is not None:
                self._attempt_failed(position, index, 0, "fail", stimulus.error, 0, at)
                if index >= 0:
                    self._start_items(position, at)
                    self._items_ended(position, at)
            case "when" if stimulus.value in _FALSE:
                self._record(facts.NodeSkipped(at=at, node=self.graph.nodes[position].id, reason="when_false"))
            case "when":
                self._prepare(position, at, after="when")
            case "foreach":
                self._expand(position, stimulus.value, at)
            case "args":
                self._start(position, index, 1, at, stimulus.value)
            case _:
                assert_never(stimulus.purpose)

    def _time_passed(self, at: int) -> None:
        while (due := self.wake_at) is not None and due <= at:
            _, position, index, attempt = heapq.heappop(self.state.due)
            self._start(position, index, attempt + 1, at, self.state.args.get((position, index)))

    def _cancel(self, stimulus: Cancel, at: int) -> None:
        state = self.state
        if state.status == "new" or (stimulus.command and stimulus.command in state.commands):
            return
        already = state.cancel is not None
        self._record(
            facts.CancelRequested(at=at, author=stimulus.author, reason=stimulus.reason, command=stimulus.command)
        )
        if already:
            return
        running = [unit for unit in state.units(Phase.RUNNING) if self.graph.nodes[unit[0]].run_if != "always"]
        self._commands.extend(
            Abandon(position, index, state.attempt_of(position, index)) for position, index in running
        )
        self._give_up(at)

    def _give_up(self, at: int) -> None:
        """End every node that has not ended, but those that run always."""
        state = self.state
        for node in self.graph.nodes:
            phase = state.phase[node.position]
            if node.run_if == "always":
                continue
            if phase in (Phase.RUNNING, Phase.BACKOFF):
                self._record(facts.NodeCancelled(at=at, node=node.id, attempt=state.attempt[node.position]))
            elif phase == Phase.PENDING:
                self._record(facts.NodeSkipped(at=at, node=node.id, reason="cancelled"))

    # --- decisions ---

    def _advance(self, at: int) -> None:
        """Decide about every node whose dependencies have ended; skipping one may make others ready."""
        state = self.state
        ready, nodes = state.ready, self.graph.nodes
        for position in ready:  # grows while it is walked
            if state.phase[position] != Phase.PENDING:
                continue
            if state.troubled:
                refusal = permission.refusal(state, position, at)
                if refusal is not None:
                    self._record(refusal)
                    continue
            elif nodes[position].run_if == "any_failed":
                self._record(facts.NodeSkipped(at=at, node=nodes[position].id, reason="run_if"))
                continue
            if nodes[position].plain:
                self._start(position, -1, 1, at, None)
            else:
                self._prepare(position, at)
        ready.clear()

    def _prepare(self, position: int, at: int, *, after: Purpose | None = None) -> None:
        """Ask for the next thing that must be evaluated before the node can start; start it when there is none."""
        node = self.graph.nodes[position]
        if node.when is not None and after is None:
            self._evaluate("when", position, -1)
        elif node.foreach is not None:
            self._evaluate("foreach", position, -1)
        elif node.args is not None:
            self._evaluate("args", position, -1)
        else:
            self._start(position, -1, 1, at, None)

    def _evaluate(self, purpose: Purpose, position: int, index: int) -> None:
        self._evaluating.add((purpose, position, index))
        self._commands.append(Evaluate(purpose, position, index))

    def _start(self, position: int, index: int, attempt: int, at: int, args: bytes | None) -> None:
        self._record(
            facts.NodeStarted(
                at=at,
                node=self.graph.nodes[position].id,
                index=None if index < 0 else index,
                attempt=attempt,
                args=UNSET if args is None else msgspec.Raw(args),
            )
        )
        self._commands.append(Run(position, index, attempt))

    def _expand(self, position: int, value: bytes, at: int) -> None:
        node = self.graph.nodes[position]
        if value == b"{}":  # an empty Lua table: whether it is a list cannot be told, and it has no items either way
            value = b"[]"
        try:
            count = len(msgspec.json.decode(value, type=list[msgspec.Raw]))
        except msgspec.ValidationError:
            shown = value[:40].decode(errors="replace") + ("…" if len(value) > 40 else "")
            error = ErrorInfo(type="ForeachError", message=f"`foreach: {node.foreach}` must give a list, got {shown}")
            self._attempt_failed(position, -1, 0, "fail", error, 0, at)
            return
        self._record(facts.NodeExpanded(at=at, node=node.id, count=count, items=msgspec.Raw(value)))
        self._next_item[position] = 0
        self._start_items(position, at)
        self._items_ended(position, at)

    def _start_items(self, position: int, at: int) -> None:
        """Start the next items of a node, in order, as far as the window reaches."""
        state = self.state
        if state.phase[position] != Phase.RUNNING:
            return
        items = state.items[position]
        count = len(items.phase)
        following = self._next_item[position]
        ended = count - items.unfinished
        needs_args = self.graph.nodes[position].args is not None
        while following < count and following - ended < ITEM_WINDOW:
            if items.phase[following] == Phase.PENDING:
                if needs_args:
                    self._evaluate("args", position, following)
                else:
                    self._start(position, following, 1, at, None)
            following += 1
        self._next_item[position] = following

    def _items_ended(self, position: int, at: int) -> None:
        """Conclude a node with `foreach` when its last item has ended."""
        if self.state.phase[position] == Phase.RUNNING and not self.state.items[position].unfinished:
            self._record(conclusion.of_items(self.state, position, at))

    def _attempt_failed(
        self,
        position: int,
        index: int,
        attempt: int,
        verdict: facts.Conclusion,
        error: ErrorInfo,
        elapsed: int,
        at: int,
    ) -> None:
        node = self.graph.nodes[position]
        retry_at = None
        if attempt and self.state.cancel is None:
            fails, errors = self.state.failures.get((position, index), (0, 0))
            ended = 1 + (fails if verdict == "fail" else errors)
            policy = node.retry.fail if verdict == "fail" else node.retry.error
            if ended < policy.max_attempts:
                retry_at = at + backoff.wait(policy.backoff, ended, seed=self.seed, unit=(position, index, attempt))
        self._record(
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

    def _conclude(self, at: int) -> None:
        """Every node has ended: make the last fact, or ask for the outputs that it needs."""
        last = conclusion.of_execution(self.state, at)
        if last is not None:
            self._record(last)
        elif ("outputs", -1, -1) not in self._evaluating:
            self._evaluate("outputs", -1, -1)


def fold(graph: Graph, journal: Iterable[Fact], *, execution: str, seed: int = 0) -> Machine:
    """The machine that has made exactly these facts. Raises MachineError when they do not follow from each other."""
    machine = Machine(graph, execution=execution, seed=seed)
    for fact in journal:
        machine.state.apply(fact)
    return machine


def _first_pending(phases: bytearray) -> int:
    found = phases.find(Phase.PENDING)
    return len(phases) if found < 0 else found
