"""A scenario under a real driver, with a journal that commits when the scenario says so: for what commits decide.

Lua nodes run by themselves here. Nodes with effects are handed to an executor that says so, and end when told to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import scenario_operations
import scenario_words as words
from scenario_script import Script
from scenario_stage import graph_of, settle

from dagengine.driver import Driver
from dagengine.driver.local_gate import LocalGate
from dagengine.driver.results import RememberedResults
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.executors.base import Done, Job, Outcome
from dagengine.executors.lua.evaluator import LuaEvaluator
from dagengine.executors.lua.inline import InlineLua
from dagengine.machine import fold
from dagengine.machine.operations import Operation
from dagengine.spec.duration import format_duration, parse_duration
from dagengine.testing import VirtualClock

__all__ = ["DriverStage"]

_COMMIT = re.compile(r"commit(?: up to (\d+))?")
_END = re.compile(r"([\w-]+)(?:\[(\d+)\])? (succeeds|fails|breaks)(?: (.+))?")
_SEED = 7


class Journal:
    """A `dagengine.journal.base.Journal` of one execution: all its facts, of which the first `committed` are safe."""

    def __init__(self, told: Callable[[Sequence[Fact]], None], kept: Sequence[Fact] = ()) -> None:
        self.facts = list(kept)
        self.committed = len(self.facts)
        self.congested = False
        self._told = told
        self._callbacks: list[Callable[[], None]] = []

    def append(self, made: Sequence[Fact]) -> None:
        self.facts.extend(made)
        self._told(made)

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def commit(self, upto: int) -> None:
        self.committed = upto
        for callback in self._callbacks:
            callback()


class Effects:
    """A `dagengine.executors.base.Executor` for whatever the outside can see. Says what it is given to do."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._open: dict[tuple[str, int | None], tuple[Job, Done]] = {}

    def submit(self, jobs: Sequence[Job], done: Done) -> None:
        for job in jobs:
            unit = words.unit(job.node, job.index)
            self._say(f"{unit}: attempt {job.attempt} is performed, under the key {job.key}")
            self._open[job.node, job.index] = (job, done)

    def cancel(self, execution: str, node: str, index: int | None, attempt: int, *, grace: int = 0) -> None:
        asked = f"asked to end within {format_duration(grace)}" if grace else "stopped"
        self._say(f"{words.unit(node, index)}: attempt {attempt} is {asked}")

    async def close(self) -> None:
        self._open.clear()

    def end(self, node: str, index: int | None, outcome: Outcome) -> None:
        job, done = self._open.pop((node, index))
        done(job, outcome)


class DriverStage:
    """`perform(line)` does what a line says; what came of it, in words."""

    def __init__(self, script: Script) -> None:
        if script.setting["journal"] != "commits when told":
            raise ValueError("there is one way to write this: 'journal: commits when told'")
        self.clock = VirtualClock()
        self._graph = graph_of("", script.workflows[""])
        self._lua = InlineLua(log=[].append, clock=self.clock)
        self._effects = Effects(self._say)
        self._gate = LocalGate({}, self.clock)
        self._inbox: dict[str, Operation] = {}
        self._lines: list[str] = []
        self._driver: Driver | None = None
        self._journal = Journal(self._tell)

    async def close(self) -> None:
        if self._driver is not None:
            self._driver.stop()
        self._gate.close()
        await self._lua.close()
        await settle()

    async def perform(self, line: str) -> list[str]:
        self._lines = []
        verb, _, rest = line.partition(" ")
        operation = scenario_operations.parse(line)
        commit, ended = _COMMIT.fullmatch(line), _END.fullmatch(line)
        if verb == "begin":
            self._open(self._journal).start((rest or "{}").encode())
        elif verb == "wait":
            await self._wait(self.clock.now() + parse_duration(rest))
        elif commit:
            self._commit(len(self._journal.facts) if commit[1] is None else int(commit[1]))
        elif line == "crash":
            self._crash()
        elif operation is not None:
            self._inbox[f"c-{len(self._inbox)}"] = operation
            self._running.operate(operation, command=f"c-{len(self._inbox) - 1}")
        elif ended:
            self._end(*ended.groups())
        else:
            raise ValueError(f"nobody knows how to do this: {line}")
        await settle()
        return self._lines or [words.line(self.clock.now(), "nothing happens")]

    @property
    def _running(self) -> Driver:
        assert self._driver is not None, "the execution has not begun"
        return self._driver

    def _open(self, journal: Journal) -> Driver:
        self._driver = Driver(
            self._graph,
            execution="it",
            seed=_SEED,
            executors={"lua": self._lua, "python": self._effects, "shell": self._effects, "http": self._effects},
            evaluator=LuaEvaluator(),
            gate=self._gate,
            results=RememberedResults(self.clock),
            journal=journal,
            clock=self.clock,
        )
        return self._driver

    def _say(self, what: str) -> None:
        self._lines.append(words.line(self.clock.now(), what))

    def _tell(self, made: Sequence[Fact]) -> None:
        state = self._running.state
        folded = fold(self._graph, self._journal.facts, execution="it", seed=_SEED)
        assert folded.state.snapshot() == state.snapshot(), "fold differs from the live state"
        for place, fact in enumerate(made, len(self._journal.facts) - len(made) + 1):
            self._say(f"({place}) {words.of_fact(fact, state)}")

    def _commit(self, upto: int) -> None:
        self._say(f"committed: the first {upto} of {len(self._journal.facts)}")
        self._journal.commit(upto)

    def _crash(self) -> None:
        self._running.stop()
        kept = self._journal.facts[: self._journal.committed]
        self._lines = []  # what an engine that is gone would still have said
        self._say(f"gone: the engine, and all but the first {len(kept)} facts")
        self._journal = Journal(self._tell, kept)
        self._open(self._journal)
        self._running.resume(kept)
        for command, operation in self._inbox.items():
            self._running.operate(operation, command=command)

    async def _wait(self, until: int) -> None:
        await settle()
        while (due := self.clock.next_wake) is not None and due <= until:
            self.clock.advance(due - self.clock.now())
            await settle()
        self.clock.advance(until - self.clock.now())

    def _end(self, node: str, index: str | None, how: str, said: str | None) -> None:
        if how == "succeeds":
            outcome = Outcome(conclusion="success", result=json.dumps(json.loads(said or "null")).encode())
        else:
            kind, _, message = (said or "Failed: it did not work").partition(": ")
            conclusion: Any = "fail" if how == "fails" else "error"
            outcome = Outcome(conclusion=conclusion, error=ErrorInfo(type=kind, message=message))
        self._effects.end(node, None if index is None else int(index), outcome)
