"""A machine driven by hand, one stimulus at a time, with nodes called by their ids.

Every step goes through the `World` above, which checks the invariants and that folding the facts gives the live state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dagengine.events.facts import ErrorInfo, Fact
from dagengine.graph import Graph
from dagengine.machine.commands import Abandon, Admit, Command, Evaluate, Lookup, Run, Step
from dagengine.machine.operations import Cancel, Operation
from dagengine.machine.phases import Phase
from dagengine.machine.state import State
from dagengine.machine.stimuli import AttemptEnded, Begin, Evaluated, Operate, Purpose, Resume, Stimulus, TimePassed


class Hand:
    """`world` holds the machine; `facts` of all steps are there, `last` is the last step."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.last = Step([], [])

    @property
    def machine(self) -> Any:
        return self.world.machine

    @property
    def state(self) -> State:
        return self.machine.state

    @property
    def now(self) -> int:
        return self.world.now

    @now.setter
    def now(self, at: int) -> None:
        self.world.now = at

    @property
    def facts(self) -> list[Fact]:
        return self.last.facts

    @property
    def commands(self) -> list[str]:
        """The commands of the last step, as words: `run a 1`, `run b[0] 2`, `abandon a 1`, `evaluate when a`."""
        return [self._word(command) for command in self.last.commands]

    @property
    def phases(self) -> dict[str, str]:
        return {node.id: Phase(self.state.phase[node.position]).name.lower() for node in self.machine.graph.nodes}

    def phase(self, node: str, index: int = -1) -> str:
        return Phase(self.state.phase_of(self.position(node), index)).name.lower()

    def position(self, node: str) -> int:
        return self.machine.graph.index[node] if node else -1

    def handle(self, stimulus: Stimulus) -> list[Fact]:
        self.last = self.world.handle(stimulus)
        return self.last.facts

    def begin(self, inputs: bytes = b"{}", *, cancel: Cancel | None = None, command: str = "") -> list[Fact]:
        return self.handle(Begin(at=self.now, inputs=inputs, cancel=cancel, command=command))

    def end(
        self,
        node: str,
        conclusion: Any = "success",
        *,
        index: int = -1,
        attempt: int | None = None,
        result: bytes = b"1",
        error: ErrorInfo | None = None,
    ) -> list[Fact]:
        """The attempt under way (or `attempt`) of a unit ends."""
        position = self.position(node)
        if attempt is None:
            attempt = self.state.attempt_of(position, index)
        if conclusion != "success" and error is None:
            error = ErrorInfo(type="Scripted", message=f"{node} says {conclusion}")
        return self.handle(AttemptEnded(self.now, position, index, attempt, conclusion, result, error, 5))

    def evaluated(self, purpose: Purpose, node: str = "", value: bytes = b"null", *, index: int = -1) -> list[Fact]:
        """An expression has the value; `!` is an error."""
        error = ErrorInfo(type="LuaError", message="attempt to index nil", line=1) if value == b"!" else None
        position = self.position(node)
        return self.handle(
            Evaluated(
                at=self.now,
                purpose=purpose,
                node=position,
                index=index,
                serial=self.machine.asked.get((purpose, position, index), 0),
                value=value,
                error=error,
            )
        )

    def cancel(self, command: str = "c-1", reason: str = "enough") -> list[Fact]:
        return self.operate(Cancel(author="ada", reason=reason), command)

    def operate(self, operation: Operation, command: str = "") -> list[Fact]:
        return self.handle(Operate(at=self.now, operation=operation, command=command))

    def pass_time(self, by: int) -> list[Fact]:
        self.now += by
        return self.handle(TimePassed(at=self.now))

    def crash(self, keep: int | None = None) -> list[Fact]:
        """All but the first `keep` facts are lost; the step that resumes from them."""
        before = len(self.world.facts) if keep is None else keep
        self.world.crash(keep=before)
        self.last = Step(self.world.facts[before:], list(self.world.open))
        return self.last.facts

    def resume_again(self) -> list[Fact]:
        return self.handle(Resume(at=self.now))

    def _word(self, command: Command) -> str:
        node = "" if command.node < 0 else self.machine.graph.nodes[command.node].id
        unit = node if command.index < 0 else f"{node}[{command.index}]"
        match command:
            case Run():
                return f"run {unit} {command.attempt}"
            case Abandon():
                return f"abandon {unit} {command.attempt}"
            case Evaluate():
                return f"evaluate {command.purpose} {unit}".rstrip()
            case Admit():
                return f"admit {unit} {command.attempt}"
            case Lookup():
                return f"look up {unit}"


@pytest.fixture
def hand(graph: Callable[..., Graph], world: Callable[..., Any]) -> Callable[..., Hand]:
    """`hand(nodes, **spec)`: a machine that has not begun."""

    def make(nodes: list[dict[str, Any]], **spec: Any) -> Hand:
        return Hand(world(graph(nodes, **spec)))

    return make


@pytest.fixture(scope="session")
def kinds() -> Callable[[list[Fact]], list[str]]:
    """`kinds(facts)`: `NodeStarted a`, `NodeFailed b[0]`, `ExecutionSucceeded`, …"""

    def words(facts: list[Fact]) -> list[str]:
        found = []
        for fact in facts:
            index = getattr(fact, "index", None)
            unit = getattr(fact, "node", "") + (f"[{index}]" if index is not None else "")
            found.append(f"{type(fact).__name__} {unit}".rstrip())
        return found

    return words
