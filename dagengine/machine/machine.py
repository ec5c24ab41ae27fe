"""The machine: one execution as a pure state machine. `handle(stimulus)` answers with facts and commands.

Contract with the driver: facts first, commands after. The driver hands the facts of a step to the journal and then
performs its commands; a command whose work the outside can see waits until the facts up to it are committed. The
machine reads no clock and draws no random number: time comes on stimuli, jitter from the execution's seed.

Stale answers (of an attempt that was abandoned meanwhile, of a doubled delivery) are expected and change nothing; a
fact that does not fit the table in `phases` is a bug and raises MachineError.

Here is what happens to every node: it is decided about, prepared, begun, ended. The rest lives next door: `answers` to
what was asked before a node could begin, items of `foreach` in `fanout`, `wait` nodes in `waits`, attempts that did not
succeed in `retrying`, what is due in `timers`, the ends that come early in `giving_up`, what people ask for in
`operating` (its pauses in `pausing`), what goes on after a crash in `resuming`, and what is given up without contact
in `contact`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, assert_never

import msgspec
from msgspec import UNSET

from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.graph.compiled import Graph
from dagengine.machine import (
    answers,
    conclusion,
    contact,
    fanout,
    giving_up,
    memo,
    operating,
    permission,
    resuming,
    retrying,
    timers,
    waits,
)
from dagengine.machine.applying import units_in
from dagengine.machine.commands import Abandon, Admit, Command, Evaluate, Run, Step
from dagengine.machine.phases import FINAL, Phase
from dagengine.machine.state import State, Unit
from dagengine.machine.stimuli import (
    Admitted,
    AttemptEnded,
    Begin,
    ContactLost,
    Evaluated,
    Found,
    Operate,
    Purpose,
    Queued,
    Resume,
    Stimulus,
    TimePassed,
)

__all__ = ["Machine", "fold"]

_QUESTIONS: Final = ("when", "foreach", "args", "cache", "lookup")
"""What may be asked about a unit."""

# Python 3.11 takes 80 ns to find a member of an enumeration: too long where every node comes by.
_PENDING: Final = Phase.PENDING
_RUNNING: Final = Phase.RUNNING


class Machine:
    """One execution of one workflow version.

    What is not in `state` is what was asked for and not answered yet. It is not known after a crash: then it is asked
    for again.
    """

    __slots__ = (
        "_commands",
        "_facts",
        "_serial",
        "admitting",
        "asked",
        "failed_fast",
        "filling",
        "graph",
        "next_item",
        "parked",
        "prepared",
        "seed",
        "state",
        "under_way",
    )

    def __init__(self, graph: Graph, *, execution: str, seed: int = 0) -> None:
        self.graph = graph
        self.seed = seed
        self.state = State(graph, execution)
        self._facts: list[Fact] = []
        self._commands: list[Command] = []
        self._serial = 0
        self.asked: dict[tuple[str, int, int], int] = {}
        """Questions (evaluations, look-ups) whose answer is awaited: `(purpose, position, item)`, and its serial."""
        self.admitting: set[Unit] = set()
        """Units that wait to be admitted."""
        self.prepared: dict[Unit, tuple[bytes | None, str]] = {}
        """What is known already of units that have not begun: their arguments and the digest of their result."""
        self.parked: dict[Unit, None] = {}
        """Units whose turn came while they were paused."""
        self.next_item: dict[int, int] = {}
        """First item of each expanded node that has not been asked for."""
        self.under_way: dict[int, int] = {}
        """Items of each expanded node that have been asked for and have not ended."""
        self.filling: set[int] = set()
        """Expanded nodes whose items are being begun, in this very step."""
        self.failed_fast = False

    @property
    def wake_at(self) -> int | None:
        """When something is due next (microseconds since the epoch), or None."""
        due = None if self.state.ended else self.state.clocks.next(self.state)
        return None if due is None else due[0]

    @property
    def ended(self) -> bool:
        """Whether the last fact of the execution has been made."""
        return self.state.ended

    def handle(self, stimulus: Stimulus) -> Step:
        """Take one stimulus in; the facts it leads to, and the commands that follow from them."""
        state = self.state
        at = stimulus.at if stimulus.at > state.now else state.now
        if isinstance(stimulus, Operate):
            operating.operate(self, stimulus.operation, stimulus.command, at)
        elif not state.ended:
            match stimulus:
                case AttemptEnded():
                    self.attempt_ended(stimulus, at)
                case Evaluated():
                    answers.evaluated(self, stimulus, at)
                case TimePassed():
                    timers.time_passed(self, at)
                case Admitted():
                    answers.admitted(self, stimulus, at)
                case Queued():
                    answers.queued(self, stimulus, at)
                case Found():
                    answers.found(self, stimulus, at)
                case Begin():
                    self._begin(stimulus, at)
                case Resume():
                    resuming.resume(self, at)
                case ContactLost():
                    contact.lost(self, stimulus, at)
                case _:
                    assert_never(stimulus)
        self._settle(at)
        step = Step(self._facts, self._commands)
        self._facts, self._commands = [], []  # not kept until the next stimulus, which may be long in coming
        return step

    def wants(self, run: Run | AttemptEnded) -> bool:
        """Whether the outcome of an attempt is still awaited; not when it was abandoned, or has ended."""
        state = self.state
        if state.phase[run.node] != _RUNNING:
            return False
        if run.index < 0:
            return state.attempt[run.node] == run.attempt
        items = state.items.get(run.node)
        if items is None or run.index >= len(items.phase) or items.phase[run.index] != _RUNNING:
            return False
        return items.attempt[run.index] == run.attempt

    def wants_room(self, admit: Admit | Admitted) -> bool:
        """Whether a unit still waits to be admitted, for this attempt."""
        unit = (admit.node, admit.index)
        if unit not in self.admitting:
            return False
        running = self.state.phase_of(*unit) == Phase.RUNNING
        return admit.attempt == self.state.attempt_of(*unit) + (0 if running else 1)

    def awaited(self) -> list[Evaluate]:
        """The evaluations that were asked for and are still needed."""
        return [
            Evaluate(purpose, position, index, serial)  # type: ignore[arg-type]  # look-ups are left out below
            for (purpose, position, index), serial in self.asked.items()
            if purpose == "outputs" or (purpose != "lookup" and self.state.phase[position] not in FINAL)
        ]

    # --- what the modules of this room share ---

    def record(self, fact: Fact) -> None:
        """A fact is made: it changes the state and goes to the journal."""
        self.state.apply(fact)
        self._facts.append(fact)

    def command(self, command: Command) -> None:
        """Have something done, after the facts."""
        self._commands.append(command)

    def ask(self, purpose: Purpose, position: int, index: int) -> None:
        """Have an expression evaluated."""
        serial = self.asked[purpose, position, index] = self.next_serial()
        self._commands.append(Evaluate(purpose, position, index, serial))

    def next_serial(self) -> int:
        """What tells the next question from all others."""
        self._serial += 1
        return self._serial

    def forget(self, position: int) -> None:
        """Expect no answer any more about any unit of a node, and nothing of what was prepared."""
        state, asked = self.state, self.asked
        if asked:
            items = state.items.get(position)
            count = 0 if items is None else len(items.phase)
            if count < len(asked):  # whichever are fewer, as in `units_in`
                keys = [(purpose, position, index) for index in range(-1, count) for purpose in _QUESTIONS]
            else:
                keys = [key for key in asked if key[1] == position]
            for key in keys:
                asked.pop(key, None)
        self.admitting.difference_update(units_in(state, self.admitting, position))
        for kept in (self.prepared, self.parked):
            for unit in units_in(state, kept, position):
                del kept[unit]

    def prepare(self, position: int, index: int, at: int, *, after: Purpose | None = None) -> None:
        """Do the next thing that must be done before a unit can begin; begin it when there is none.

        In this order: `when`, `foreach` (whose items go on from there), arguments, the cache, admission.
        """
        node = self.graph.nodes[position]
        if self.state.paused and self.state.is_paused(position):
            self.parked[position, index] = None
            return
        if index < 0:
            if after is None and node.when is not None:
                self.ask("when", position, -1)
                return
            if after in (None, "when") and node.foreach is not None:
                self.ask("foreach", position, -1)
                return
        if after not in ("args", "cache") and node.args is not None:
            self.ask("args", position, index)
        elif after != "cache" and node.cache is not None:
            self.ask("cache", position, index)
        else:
            self.begin(position, index, at)

    def begin(self, position: int, index: int, at: int) -> None:
        """Begin the next attempt of a unit about which nothing is left to find out."""
        node, unit = self.graph.nodes[position], (position, index)
        if self.state.paused and self.state.is_paused(position):
            self.parked[unit] = None
        elif node.wait is not None:
            if node.args is not None and unit not in self.prepared:
                self.ask("args", position, index)  # an attempt before this one had them, and no fact keeps them
            else:
                waits.begin(self, position, index, at)
        elif node.gated:
            self.admitting.add(unit)
            self._commands.append(Admit(position, index, self.state.attempt_of(position, index) + 1))
        else:
            self.start(position, index, self.state.attempt_of(position, index) + 1, at)

    def start(self, position: int, index: int, attempt: int, at: int) -> None:
        """An attempt begins."""
        args, cache = None, ""
        node = self.graph.nodes[position]
        if node.args is not None or node.cache is not None:
            unit = (position, index)
            args, cache = self.prepared.pop(unit, (None, ""))
            args = args if args is not None else self.state.args.get(unit)
            cache = cache or self.state.cache.get(unit, "")
        self.record(
            facts.NodeStarted(
                at=at,
                node=node.id,
                index=None if index < 0 else index,
                attempt=attempt,
                args=UNSET if args is None else msgspec.Raw(args),
                cache=cache,
            )
        )
        self._commands.append(Run(position, index, attempt))

    def abandon(self, position: int, *, grace: int = 0) -> None:
        """Stop whatever runs of a node."""
        if self.state.phase[position] != Phase.RUNNING:
            return  # items that were under way when their node ended were stopped then
        for _, index in self.state.units_of(position, Phase.RUNNING):
            self._commands.append(Abandon(position, index, self.state.attempt_of(position, index), grace))

    # --- stimuli ---

    def _begin(self, stimulus: Begin, at: int) -> None:
        document = self.graph.document
        self.record(
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
            operating.operate(self, stimulus.cancel, stimulus.command, at)

    def attempt_ended(self, stimulus: AttemptEnded, at: int) -> None:
        """An attempt has ended: record how, unless nobody waits for it any more, and do what follows for its node."""
        if not self.wants(stimulus):
            return
        position, index = stimulus.node, stimulus.index
        state = self.state
        if stimulus.conclusion == "success":
            cache, until = memo.kept(self, position, index, at) if state.cache else ("", None)
            self.record(
                facts.NodeSucceeded(
                    at=at,
                    node=self.graph.nodes[position].id,
                    index=None if index < 0 else index,
                    attempt=stimulus.attempt,
                    result=msgspec.Raw(stimulus.result),
                    elapsed=stimulus.elapsed,
                    cache=cache,
                    cache_until=until,
                )
            )
        elif index < 0 and position in state.stopping:
            giving_up.stopped(self, position, at)
        else:
            error = stimulus.error or ErrorInfo(type="Unknown", message="the attempt ended without saying why")
            retrying.attempt_failed(
                self,
                position,
                index,
                stimulus.attempt,
                stimulus.conclusion,
                error,
                at,
                elapsed=stimulus.elapsed,
                retry_after=stimulus.retry_after,
            )
        if index >= 0:
            fanout.item_moved(self, position, index, at)

    # --- decisions ---

    def _settle(self, at: int) -> None:
        """Decide about whatever can be decided about now; conclude when nothing is left."""
        state = self.state
        if state.status != "running" or -1 in state.paused:
            return
        fast = self.graph.fail_fast
        if fast and state.failing and not self.failed_fast:
            giving_up.fail_fast(self, at)
        if state.ready:
            self._advance(at)
            if fast and state.failing and not self.failed_fast:
                giving_up.fail_fast(self, at)
                self._advance(at)
        if not state.unfinished:
            conclusion.conclude(self, at)
            if state.ready:
                self._advance(at)
                conclusion.conclude(self, at)

    def _advance(self, at: int) -> None:
        """Decide about every node whose dependencies have ended; skipping one may make others ready."""
        state = self.state
        ready, nodes = state.ready, self.graph.nodes
        for position in ready:  # grows while it is walked
            if state.phase[position] != _PENDING:
                continue
            if state.troubled:
                refusal = permission.refusal(state, position, at)
                if refusal is not None:
                    self.record(refusal)
                    continue
            elif nodes[position].run_if == "any_failed":
                self.record(facts.NodeSkipped(at=at, node=nodes[position].id, reason="run_if"))
                continue
            if nodes[position].plain and not state.paused:
                self.start(position, -1, state.attempt[position] + 1, at)
            else:
                self.prepare(position, -1, at)
        ready.clear()


def fold(graph: Graph, journal: Iterable[Fact], *, execution: str, seed: int = 0) -> Machine:
    """The machine that has made exactly these facts. Raises MachineError when they do not follow from each other."""
    machine = Machine(graph, execution=execution, seed=seed)
    for fact in journal:
        machine.state.apply(fact)
    return machine
