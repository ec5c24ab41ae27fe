"""Folding an exported journal fact by fact, and holding it against everything that is promised about journals.

What was committed may end anywhere, also between a fact and what follows from it: that is where crashes happen. So
after a fact a copy of the state goes on as if its engine had gone right there (`Resume`), and the invariants are
checked of that: each place in a journal is one that an execution could have gone on from. No clock, no server, no
effects.
"""

from __future__ import annotations

import copy
import hashlib
from typing import Final

import msgspec

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.graph.compiled import Graph, compile_document
from dagengine.machine.check import check
from dagengine.machine.machine import Machine
from dagengine.machine.state import State
from dagengine.machine.stimuli import Resume
from orchestrator.history.lines import History
from orchestrator.reports import JournalHeader

__all__ = ["Problem", "Replayed", "replay"]

_BUDGET: Final = 1_500_000
"""Units (nodes and items) looked at in one replay, unless somebody says how often to look: ten seconds or so."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a journal: at the fact `seq`, or (0) with what is said of the execution."""

    seq: int
    message: str

    @property
    def line(self) -> int:
        """The line of the file."""
        return self.seq + 1


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay came to. `folded` facts were taken in, after `checked` of them all invariants were looked at.

    `status` is that of the state they lead to.
    """

    folded: int
    checked: int
    status: str
    problem: Problem | None


def replay(history: History, *, every: int | None = None) -> Replayed:
    """Fold `history`; stops at the first thing that is wrong.

    The invariants are checked after every fact; of a journal so large that this would take minutes, after so many that
    it does not; with `every`, after each so many. In any case after the last.
    """
    if (wrong := _in_general(history)) is not None:
        return Replayed(folded=0, checked=0, status="new", problem=wrong)
    graph = compile_document(history.document)
    state = State(graph, history.header.execution)
    checked, epoch, before = 0, 0, 0
    last = len(history.facts)
    for seq, (entry, fact) in enumerate(zip(history.entries, history.facts, strict=True), 1):
        try:
            _require(entry.seq == seq, f"its position is {entry.seq}, and should be {seq}")
            _require(entry.epoch >= epoch, f"its epoch is {entry.epoch}, after {epoch}")
            if isinstance(fact, facts.ExecutionStarted):
                _same_execution(fact, history.header)
            state.apply(fact)
            if seq == last or seq - before >= (every or _stride(state, last)):
                _check(graph, state, seed=history.header.seed)
                checked, before = checked + 1, seq
        except MachineError as error:
            problem = Problem(seq=seq, message=str(error))
            return Replayed(folded=seq - 1, checked=checked, status=state.status, problem=problem)
        epoch = entry.epoch
    return Replayed(folded=last, checked=checked, status=state.status, problem=_at_the_end(history, state))


def _in_general(history: History) -> Problem | None:
    header = history.header
    plain = msgspec.json.decode(header.document)
    digest = "sha256:" + hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()
    if digest != header.digest:
        return Problem(seq=0, message=f"its document has the digest {digest}, and should have {header.digest}")
    if history.document.reference != f"{header.workflow}@{header.version}":
        wanted = f"{header.workflow}@{header.version}"
        return Problem(seq=0, message=f"its document is that of {history.document.reference}, not of {wanted}")
    return None


def _same_execution(fact: facts.ExecutionStarted, header: JournalHeader) -> None:
    begun = (fact.execution, fact.workflow, fact.version, fact.digest)
    meant = (header.execution, header.workflow, header.version, header.digest)
    _require(begun == meant, f"it begins {' '.join(begun)}, and this is {' '.join(meant)}")


def _at_the_end(history: History, state: State) -> Problem | None:
    header, count = history.header, len(history.facts)
    if count != header.last_seq:
        there = f"there are {count} facts, and should be {header.last_seq}: lines are missing, or too many"
        return Problem(seq=count, message=there)
    # One that is queued for a retry has ended, as far as its facts know.
    expected = (header.status,) if header.status != "queued" else ("new", "succeeded", "failed", "cancelled")
    if state.status not in expected:
        return Problem(seq=count, message=f"its facts lead to '{state.status}', and it is said to be '{header.status}'")
    return None


def _stride(state: State, total: int) -> int:
    """Facts between two checks, so that all of them together stay within the budget."""
    units = len(state.graph) + sum(len(items.phase) for items in state.items.values())
    return -(-units * total // _BUDGET)


def _check(graph: Graph, state: State, *, seed: int) -> None:
    """Check a copy of `state` that goes on from here."""
    machine = Machine(graph, execution=state.execution, seed=seed)
    machine.state = copy.deepcopy(state, {id(graph): graph})
    if not state.ended:
        machine.handle(Resume(at=state.now))
    check(machine)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise MachineError(otherwise)
