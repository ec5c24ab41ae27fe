"""One execution of a scenario: a machine whose commands are performed at once, but for attempts, which somebody ends.

After every step the invariants of the machine are checked, and that the facts, encoded and decoded, fold to its state.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import scenario_words as words

from dagengine.driver.admissions import Admissions
from dagengine.driver.scope import ScopeFactory
from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.executors.base import Evaluation, Job, Question
from dagengine.graph import Graph
from dagengine.machine import Machine, fold
from dagengine.machine.check import check
from dagengine.machine.commands import Abandon, Admit, Command, Evaluate, Lookup, Run
from dagengine.machine.operations import Cancel, Operation
from dagengine.machine.stimuli import AttemptEnded, Begin, Evaluated, Found, Operate, Resume, Stimulus, TimePassed
from dagengine.spec.duration import format_duration

__all__ = ["Play"]

SEED = 7


class Play:
    """`name` is what the scenario calls the execution; `stage` is where it plays, with all it shares with others."""

    def __init__(self, stage: Any, graph: Graph, *, name: str, inputs: bytes, engine: Any, priority: int) -> None:
        self.stage = stage
        self.graph = graph
        self.name = name
        self.execution = name or "it"
        self.inputs = inputs
        self.engine = engine
        self.priority = priority
        self.facts: list[Fact] = []
        self.inbox: dict[str, Operation] = {}
        self.open: dict[tuple[int, int], Run] = {}
        """Attempts that have begun and not ended, in order."""
        self._stimuli: deque[Stimulus] = deque()
        self._busy = False
        self._start(Machine(graph, execution=self.execution, seed=SEED))

    def _start(self, machine: Machine) -> None:
        self.machine = machine
        self.shadow = fold(self.graph, self.facts, execution=self.execution, seed=SEED)
        self.scopes = ScopeFactory(machine.state)
        self.admissions = Admissions(machine, gate=self.engine, clock=self.stage.clock, priority=self.priority)

    # --- what happens to it ---

    def begin(self, cancel: Cancel | None = None) -> None:
        self.handle(Begin(at=self.stage.now, inputs=self.inputs, cancel=cancel))

    def operate(self, operation: Operation, command: str) -> None:
        self.inbox[command] = operation
        self.handle(Operate(at=self.stage.now, operation=operation, command=command))
        self.admissions.withdraw()

    def pass_time(self) -> None:
        if self.machine.wake_at is not None and self.machine.wake_at <= self.stage.now:
            self.handle(TimePassed(at=self.stage.now))

    def crash(self, keep: int | None) -> None:
        """Lose all facts but the first `keep`, and whatever was under way; go on elsewhere."""
        self.admissions.forget()
        self.facts = self.facts if keep is None else self.facts[:keep]
        self.open.clear()
        self.stage.say(self.name, f"the engine is gone; another goes on after {len(self.facts)} facts")
        self._start(fold(self.graph, self.facts, execution=self.execution, seed=SEED))
        if self.facts:
            self.handle(Resume(at=self.stage.now))
        else:
            self.begin()
        for command, operation in self.inbox.items():
            if command not in self.machine.state.commands:
                self.handle(Operate(at=self.stage.now, operation=operation, command=command))

    def end(self, unit: tuple[int, int], attempt: int | None, conclusion: Any, **how: Any) -> None:
        """An attempt ends: the one under way, or `attempt`, which may have been given up long ago."""
        run = self.open.get(unit)
        if run is not None and attempt in (None, run.attempt):
            del self.open[unit]
            self.admissions.release(run)
            attempt = run.attempt
        if attempt is None:
            raise ValueError("no attempt of it is under way")
        result, error = how.get("result", b"null"), how.get("error")
        ended = (self.stage.now, *unit, attempt, conclusion, result, error, 0, how.get("retry_after", 0))
        self.handle(AttemptEnded(*ended))

    def job(self, unit: tuple[int, int]) -> Job:
        """What an executor would be given for the attempt under way."""
        run, node = self.open[unit], self.graph.nodes[unit[0]]
        return Job(
            position=run.node,
            node=node.id,
            index=None if run.index < 0 else run.index,
            attempt=run.attempt,
            spec=node.executor,
            scope=self.scopes.scope(*unit),
            timeout=node.timeout,
            args=self.machine.state.args.get(unit),
            seed=SEED,
        )

    # --- what follows ---

    def handle(self, stimulus: Stimulus) -> None:
        """Take a stimulus in, and what follows from it."""
        self._stimuli.append(stimulus)
        if self._busy:
            return
        self._busy = True
        try:
            while self._stimuli:
                self._step(self._stimuli.popleft())
        finally:
            self._busy = False

    def _step(self, stimulus: Stimulus) -> None:
        ended = self.machine.ended
        made, commands = self.machine.handle(stimulus)
        self.facts += made
        for fact in made:
            self.shadow.state.apply(facts.decode(facts.encode(fact)))
        assert self.shadow.state.snapshot() == self.machine.state.snapshot(), "fold differs from the live state"
        check(self.machine)
        for fact in made:
            self.stage.say(self.name, words.of_fact(fact, self.machine.state))
            self.stage.results.note(self.execution, fact)
        begun = {
            (self.graph.index[fact.node], -1 if fact.index is None else fact.index)
            for fact in made
            if isinstance(fact, facts.NodeStarted)
        }
        for command in commands:
            self._perform(command, begun)
        if self.machine.ended and not ended:
            self.stage.ended(self)

    def _perform(self, command: Command, begun: set[tuple[int, int]]) -> None:
        unit = (command.node, command.index)
        match command:
            case Run():
                self.open[unit] = command
                if unit not in begun:
                    self.stage.say(self.name, f"{self.unit(unit)}: attempt {command.attempt} runs again")
            case Evaluate():
                evaluation = self.stage.evaluator.evaluate(self._question(command))
                self.handle(_evaluated(command, evaluation, self.stage.now))
            case Abandon():
                self._abandon(command)
            case Admit():
                self.admissions.ask(command, self.handle)
            case Lookup():
                self.stage.results.look_up(self.execution, command.key, lambda *found: self._found(command, *found))

    def _abandon(self, command: Abandon) -> None:
        unit = (command.node, command.index)
        asked = f"is asked to end within {format_duration(command.grace)}" if command.grace else "is stopped"
        self.stage.say(self.name, f"{self.unit(unit)}: attempt {command.attempt} {asked}")
        if command.grace:
            return
        if unit in self.open:
            self.admissions.release(self.open.pop(unit))
        error = ErrorInfo(type="Cancelled", message="the attempt was stopped")
        self.handle(AttemptEnded(self.stage.now, *unit, command.attempt, "error", b"null", error, 0))

    def _question(self, command: Evaluate) -> Question:
        scope = self.scopes.scope(command.node, command.index)
        if command.purpose == "outputs":
            return Question(scope=scope, template=dict(self.graph.document.spec.outputs))
        node = self.graph.nodes[command.node]
        match command.purpose:
            case "when":
                return Question(scope=scope, code=node.when)
            case "foreach":
                return Question(scope=scope, code=node.foreach)
            case "cache":
                return Question(scope=scope, template=node.cache.key if node.cache is not None else "")
        return Question(scope=scope, template=dict(node.args or {}))

    def _found(self, command: Lookup, result: bytes | None, execution: str) -> None:
        at, serial = self.stage.now, command.serial
        unit = {"node": command.node, "index": command.index}
        self.handle(Found(at=at, serial=serial, result=result, execution=execution, **unit))

    def unit(self, unit: tuple[int, int]) -> str:
        return words.unit(self.graph.nodes[unit[0]].id, None if unit[1] < 0 else unit[1])


def _evaluated(command: Evaluate, evaluation: Evaluation, at: int) -> Evaluated:
    return Evaluated(
        at=at,
        purpose=command.purpose,
        node=command.node,
        index=command.index,
        serial=command.serial,
        value=evaluation.value,
        error=evaluation.error,
    )
