"""What must be true, whatever happens: watched while a world runs, and judged at its end.

The oracle reads what was committed straight from the disk after every commit, and hears of every effect when it
begins. It believes nobody else.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from simulation import workflows

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.executors.base import Job
from dagengine.graph.compiled import Graph
from dagengine.machine.check import check
from dagengine.machine.machine import fold
from dagengine.machine.state import State

__all__ = ["Effect", "Journal", "Oracle", "Violation", "outcome_of", "state_of"]

_NEW: Final = """
    SELECT facts.position, executions.id, facts.seq, facts.epoch, facts.payload
    FROM facts JOIN executions ON executions.number = facts.execution WHERE position > ? ORDER BY position"""
_EXECUTIONS: Final = """
    SELECT id, workflow, digest, status, epoch, last_seq, outputs, idempotency_key, occurrence, seed FROM executions"""
_LEFT: Final = """
    SELECT count(*) FROM inbox JOIN executions ON executions.number = inbox.execution WHERE executions.id = ?"""

_Unit = tuple[str, int | None]


class Violation(AssertionError):  # noqa: N818 - it is what has happened
    """Something that must be true is not."""


@dataclass(slots=True)
class Journal:
    """The committed facts of one execution."""

    facts: list[facts.Fact] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    started: set[tuple[str, int | None, int]] = field(default_factory=set)
    broken: set[tuple[str, int | None, int]] = field(default_factory=set)
    """Attempts that ended as `error`, orphans among them."""
    succeeded: dict[_Unit, bytes | None] = field(default_factory=dict)
    """Units that have succeeded since somebody last had them run again, with their results."""
    items: dict[str, tuple[int, list[str] | None]] = field(default_factory=dict)
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Effect:
    """An attempt that the outside has seen."""

    at: float
    execution: str
    node: str
    index: int | None
    attempt: int
    key: str
    engine: str


class Oracle:
    """`now()` is the virtual time. `excused(engine)` says whether an engine may be late with what it was allowed."""

    def __init__(self, driver: sqlite3.Connection, now: Callable[[], float], excused: Callable[[str], bool]) -> None:
        self._driver = driver
        self._now = now
        self._excused = excused
        self._position = 0
        self.journals: defaultdict[str, Journal] = defaultdict(Journal)
        self.effects: dict[tuple[str, int], Effect] = {}
        self.by_key: defaultdict[str, list[Effect]] = defaultdict(list)
        self.running: dict[tuple[str, int], Effect] = {}
        """Those of the effects that have not ended, whoever still wants to know."""
        self.late = 0
        """Effects of engines that were stopped, and went on after others had taken over."""
        self.cited: Counter[str] = Counter()
        """How often each command was cited."""
        self.last_end: dict[str, int] = {}
        """By execution: the global position of the last fact that ended it."""
        self._workflows: dict[str, str] = {}

    # --- while it runs ---

    def workflow(self, execution: str) -> str:
        """The workflow of an execution, as the store has it."""
        if execution not in self._workflows:
            row = self._driver.execute("SELECT workflow FROM executions WHERE id = ?", (execution,)).fetchone()
            self._workflows[execution] = row[0]
        return self._workflows[execution]

    def committed(self) -> Iterator[tuple[str, int, int, facts.Fact]]:
        """Read what is new: `(execution, seq, epoch, fact)`."""
        for position, execution, seq, epoch, payload in self._driver.execute(_NEW, (self._position,)).fetchall():
            if position != self._position + 1:
                raise Violation(f"fact {position} of the store follows fact {self._position}")
            self._position = position
            fact = facts.decode(payload)
            self._take(execution, seq, epoch, fact)
            yield execution, seq, epoch, fact

    def _take(self, execution: str, seq: int, epoch: int, fact: facts.Fact) -> None:
        journal = self.journals[execution]
        if seq != len(journal.facts) + 1:
            raise Violation(f"fact {seq} of {execution} follows fact {len(journal.facts)}")
        if journal.epochs and epoch < journal.epochs[-1]:
            raise Violation(f"fact {seq} of {execution} has epoch {epoch}, the one before {journal.epochs[-1]}")
        journal.facts.append(fact)
        journal.epochs.append(epoch)
        command = getattr(fact, "command", "")
        if command:
            self.cited[command] += 1
            if self.cited[command] > 1:
                raise Violation(f"{type(fact).__name__} {seq} of {execution} cites {command}, which was cited before")
        match fact:
            case facts.NodeStarted():
                journal.started.add((fact.node, fact.index, fact.attempt))
            case facts.NodeExpanded():
                items = msgspec.json.decode(bytes(fact.items))
                journal.items[fact.node] = fact.count, list(items) if isinstance(items, dict) else None
            case facts.NodeFailed(conclusion="error"):
                journal.broken.add((fact.node, fact.index, fact.attempt))
            case facts.NodeSucceeded():
                if (fact.node, fact.index) in journal.succeeded:
                    raise Violation(f"{fact.node}[{fact.index}] of {execution} succeeded twice (fact {seq})")
                result = None if fact.result is msgspec.UNSET else bytes(fact.result)  # type: ignore[arg-type]
                journal.succeeded[fact.node, fact.index] = result
            case facts.NodeOverridden():
                result = None if fact.result is msgspec.UNSET else bytes(fact.result)  # type: ignore[arg-type]
                journal.items.pop(fact.node, None)
                journal.succeeded[fact.node, None] = result
            case facts.RerunRequested():
                journal.ended = False
                for unit in [unit for unit in journal.succeeded if unit[0] in {*fact.nodes, *fact.items}]:
                    if unit[1] is None or unit[0] not in fact.items:
                        del journal.succeeded[unit]
            case facts.CommandRefused() if journal.ended:
                self.last_end[execution] = self._position  # a retry was refused: then it has ended again
            case facts.ExecutionSucceeded() | facts.ExecutionFailed() | facts.ExecutionCancelled():
                journal.ended = True
                self.last_end[execution] = self._position

    def effect_begins(self, job: Job, engine: str, *, lasting: bool) -> str:
        """An effect begins at an engine; a text that no other effect has. `lasting` ones go on without contact."""
        execution = job.scope.execution
        effect = Effect(self._now(), execution, job.node, job.index, job.attempt, job.key, engine)
        journal = self.journals[execution]
        if (job.node, job.index, job.attempt) not in journal.started:
            raise Violation(f"{effect} begins, and its start is not committed")
        if (job.key, job.attempt) in self.effects:
            raise Violation(f"{effect} begins, and so did {self.effects[job.key, job.attempt]}")
        over = (job.node, job.index, job.attempt) in journal.broken
        if over or (job.node, job.index) in journal.succeeded:
            if not self._excused(engine):
                raise Violation(f"{effect} begins, and the journal says that the attempt, or the node, has ended")
            self.late += 1
        for other in self.by_key[job.key]:
            if (job.key, other.attempt) in self.running and not (lasting or self._excused(other.engine)):
                raise Violation(f"{effect} begins, and {other} has not ended")
            if (other.node, other.index, min(other.attempt, job.attempt)) not in journal.broken:
                raise Violation(f"{effect} repeats {other}, and no committed fact says that the first one broke")
        if not over:
            self._require_committed(effect, job, journal)
        self.effects[job.key, job.attempt] = self.running[job.key, job.attempt] = effect
        self.by_key[job.key].append(effect)
        return f"{len(self.effects)}"

    def effect_ends(self, job: Job) -> None:
        """An effect has ended, one way or the other."""
        self.running.pop((job.key, job.attempt), None)

    def engine_dies(self, engine: str) -> None:
        """All effects of an engine end with it."""
        for key in [key for key, effect in self.running.items() if effect.engine == engine]:
            del self.running[key]

    def _require_committed(self, effect: Effect, job: Job, journal: Journal) -> None:
        """All that the effect sees is committed."""
        for node, value in job.scope.nodes.items():
            known = journal.succeeded.get((node, None), b"")
            if known is None:
                count, keys = journal.items[node]
                results = [_value(journal.succeeded.get((node, index))) for index in range(count)]
                same = (results if keys is None else dict(zip(keys, results, strict=True))) == _value(bytes(value))
            else:
                same = known == bytes(value)
            if not same:
                raise Violation(f"{effect} sees {value!r} of {node}, but {known!r} is committed")

    # --- at the end ---

    def records(self) -> dict[str, dict[str, Any]]:
        """The executions as the store has them."""
        cursor = self._driver.execute(_EXECUTIONS)
        names = [column[0] for column in cursor.description]
        return {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}

    def judge(self, execution: str, record: dict[str, Any], graph: Graph) -> None:
        """Raise Violation unless an execution has ended as it should."""
        journal = self.journals[execution]
        if record["last_seq"] != len(journal.facts):
            raise Violation(f"{execution} has {len(journal.facts)} facts, and last_seq is {record['last_seq']}")
        if record["status"] not in ("succeeded", "failed", "cancelled"):
            raise Violation(f"{execution} has not ended: it is {record['status']}")
        try:
            machine = fold(graph, journal.facts, execution=execution, seed=record["seed"] & (1 << 64) - 1)
            check(machine)
        except MachineError as error:
            raise Violation(f"the journal of {execution} makes no sense: {error}") from error
        state = machine.state
        if state.status != record["status"] or (state.outputs or None) != record["outputs"]:
            raise Violation(f"{execution} ended as {state.status} ({state.outputs!r}), its record says {record}")
        (left,) = self._driver.execute(_LEFT, (execution,)).fetchone()
        if left:
            raise Violation(f"{execution} has ended, and {left} commands are left in its inbox")

    def unanswered(self, command: str, execution: str, asked_at: int) -> bool:
        """Whether a command that is acknowledged, and was asked for after so many facts of the store, was neither cited
        nor overtaken by the end of its execution."""
        return not self.cited[command] and self.last_end.get(execution, 0) <= asked_at

    @property
    def position(self) -> int:
        """Global position of the last committed fact."""
        return self._position


def _value(data: bytes | None) -> Any:
    return None if data is None else msgspec.json.decode(data)


def outcome_of(journal: Journal) -> tuple[str, Any]:
    """How an execution ended, comparable between runs."""
    match next((fact for fact in reversed(journal.facts) if isinstance(fact, facts.TERMINAL)), None):
        case facts.ExecutionSucceeded(outputs=outputs):
            return "succeeded", workflows.stripped(msgspec.json.decode(bytes(outputs)))
        case facts.ExecutionFailed(error=error, given_up=given_up):
            return "failed", (error.type, given_up)
        case facts.ExecutionCancelled():
            return "cancelled", None
    return "going on", None


def state_of(graph: Graph, journal: list[facts.Fact], execution: str) -> State | None:
    """What is known of an execution from what is committed; None before its first fact."""
    return fold(graph, journal, execution=execution, seed=0).state if journal else None
