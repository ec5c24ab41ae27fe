"""A world for machines: it answers their commands in any order, and checks them after every step."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest

from dagengine.events.facts import ErrorInfo, ExecutionFailed, Fact
from dagengine.graph import Graph
from dagengine.machine import Machine, fold
from dagengine.machine.check import check
from dagengine.machine.commands import Abandon, Admit, Evaluate, Lookup, Run, Step
from dagengine.machine.operations import Cancel, Operation
from dagengine.machine.phases import Phase
from dagengine.machine.stimuli import (
    Admitted,
    AttemptEnded,
    Begin,
    Evaluated,
    Found,
    Operate,
    Queued,
    Resume,
    Stimulus,
    TimePassed,
)

Verdict = str
"""`success`, `fail` or `error`."""


class World:
    """Runs one machine. `verdict(node, item, attempt)` says how attempts end; `values` what expressions come to.

    `hits` is how many of its look-ups find something. Some of what asks for room is queued before it is admitted.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        verdict: Callable[[str, int, int], Verdict] = lambda node, index, attempt: "success",
        values: Mapping[tuple[str, str], bytes] | None = None,
        chance: random.Random | None = None,
        hits: float = 0.0,
    ) -> None:
        self.graph = graph
        self.machine = Machine(graph, execution="e-1", seed=7)
        self.shadow = Machine(graph, execution="e-1", seed=7)
        self.verdict = verdict
        self.values = values or {}
        self.chance = chance or random.Random(0)
        self.hits = hits
        self.now = 1_000
        self.facts: list[Fact] = []
        self.open: list[Run | Evaluate | Admit | Lookup] = []
        self.attempts: list[tuple[str, int, int]] = []

    def handle(self, stimulus: Stimulus) -> Step:
        """One step, with everything that must hold after it."""
        step = self.machine.handle(stimulus)
        self.facts += step.facts
        for fact in step.facts:
            self.shadow.state.apply(fact)
        assert self.shadow.state.snapshot() == self.machine.state.snapshot(), "fold differs from the live state"
        check(self.machine)
        assert self.machine.state.runs == any(True for _ in self.machine.state.units(Phase.RUNNING))
        for command in step.commands:
            if isinstance(command, Abandon):
                if not command.grace:  # else it may still end by itself
                    self._stop(command)
            else:
                self.open.append(command)
                if isinstance(command, Run):
                    self.attempts.append((self.graph.nodes[command.node].id, command.index, command.attempt))
        self._everything_awaited_will_come()
        return step

    def _stop(self, command: Abandon) -> None:
        abandoned = (command.node, command.index, command.attempt)
        self.open = [
            run for run in self.open if not isinstance(run, Run) or (run.node, run.index, run.attempt) != abandoned
        ]

    def _everything_awaited_will_come(self) -> None:
        """What the machine waits for from outside was asked for, and has not been answered."""
        if self.machine.state.status != "running":
            return
        state, runs, rooms, serials = self.machine.state, set(), set(), set()
        for command in self.open:
            match command:
                case Run():
                    runs.add((command.node, command.index, command.attempt))
                case Admit():
                    rooms.add((command.node, command.index, command.attempt))
                case _:
                    serials.add(command.serial)
        assert set(self.machine.asked.values()) <= serials, "a question is awaited that nobody answers"
        for unit in self.machine.admitting:
            again = state.phase_of(*unit) == Phase.RUNNING
            assert (*unit, state.attempt_of(*unit) + (not again)) in rooms, f"{unit} waits for room, but not asked for"
        for unit in state.units(Phase.RUNNING):
            run = (*unit, state.attempt_of(*unit))
            assert run in runs or unit in self.machine.admitting, f"{unit} runs, but nobody performs it"

    def begin(self, inputs: bytes = b"{}") -> None:
        self.handle(Begin(at=self.now, inputs=inputs))

    def cancel(self, command: str = "c-1") -> None:
        self.operate(Cancel(author="test", reason="enough"), command)

    def operate(self, operation: Operation, command: str = "") -> Step:
        return self.handle(Operate(at=self.now, operation=operation, command=command))

    def crash(self, keep: int | None = None) -> None:
        """Everything but the first `keep` facts is lost, and so is whatever was under way."""
        self.facts = self.facts[: len(self.facts) if keep is None else keep]
        self.machine = fold(self.graph, self.facts, execution="e-1", seed=7)
        self.shadow = fold(self.graph, self.facts, execution="e-1", seed=7)
        self.open = []
        if self.machine.state.status == "new":
            self.begin()
        else:
            self.handle(Resume(at=self.now))

    def give_up(self) -> None:
        """Whoever keeps the execution ends it; another engine reads that."""
        fault = ErrorInfo(type="Broken", message="engine-1 broke down")
        self.facts.append(ExecutionFailed(at=self.now, error=fault, given_up=True))
        self.crash()

    def answer(self) -> None:
        """Answer one open command, any of them; when there is none, let time pass."""
        self.now += self.chance.randrange(1_000)
        if not self.open:
            due = self.machine.wake_at
            assert due is not None, "nothing is under way and nothing is due, but the execution has not ended"
            self.now = max(self.now, due)
            self.handle(TimePassed(at=self.now))
            return
        command = self.open.pop(self.chance.randrange(len(self.open)))
        if isinstance(command, Evaluate):
            self._evaluate(command)
        elif isinstance(command, Admit):
            self._admit(command)
        elif isinstance(command, Lookup):
            hit = self.hits > 0 and self.chance.random() < self.hits
            self.handle(
                Found(
                    at=self.now,
                    node=command.node,
                    index=command.index,
                    serial=command.serial,
                    result=b'"found"' if hit else None,
                    execution="e-0" if hit else "",
                )
            )
        else:
            node = self.graph.nodes[command.node].id
            verdict = self.verdict(node, command.index, command.attempt)
            error = None if verdict == "success" else ErrorInfo(type="Scripted", message=f"{node} said {verdict}")
            result = b'"%s"' % node.encode()
            self.handle(AttemptEnded(self.now, command.node, command.index, command.attempt, verdict, result, error, 5))

    def _admit(self, command: Admit) -> None:
        if self.chance.random() < 0.3:
            self.open.append(command)
            self.handle(Queued(at=self.now, node=command.node, index=command.index, pool="db"))
        else:
            self.handle(Admitted(at=self.now, node=command.node, index=command.index, attempt=command.attempt))

    def _evaluate(self, command: Evaluate) -> None:
        node = "" if command.node < 0 else self.graph.nodes[command.node].id
        default = {"when": b"true", "foreach": b"[1,2]", "args": b"{}", "cache": b'"k"', "outputs": b'{"done":true}'}
        value = self.values.get((command.purpose, node), default[command.purpose])
        error = ErrorInfo(type="LuaError", message="no") if value == b"!" else None
        self.handle(
            Evaluated(
                at=self.now,
                purpose=command.purpose,
                node=command.node,
                index=command.index,
                serial=command.serial,
                value=value,
                error=error,
            )
        )

    def run(self) -> str:
        """Go on until the end; its status."""
        if self.machine.state.status == "new":
            self.begin()
        while not self.machine.ended:
            self.answer()
        return self.machine.state.status


@pytest.fixture(scope="session")
def world() -> type[World]:
    return World
