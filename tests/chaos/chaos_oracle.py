"""What must hold for every execution, whatever was killed: one function per promise, over a journal and its effects.

Pure: it is given what was read, and answers with everything that is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import chaos_work
import msgspec

from dagengine.events import facts as codec
from dagengine.events.facts import Fact, NodeExpanded, NodeFailed, NodeStarted, NodeSucceeded
from dagengine.graph import Graph
from dagengine.machine import fold
from dagengine.machine.check import check
from orchestrator.verbs import ExecutionView, FactView

__all__ = ["Effect", "Story", "effects_of", "wrong_with"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One line of the file of effects."""

    key: str
    execution: str
    node: str
    index: int | None
    attempt: int
    given: str


@dataclass(slots=True, kw_only=True)
class Story:
    """All that is known of one execution that has ended."""

    job: chaos_work.Job
    view: ExecutionView
    journal: Sequence[FactView]
    effects: Sequence[Effect]
    shown: Sequence[FactView] | None = None
    """The events that somebody was shown while it ran, if somebody watched."""
    facts: list[Fact] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.facts = [codec.decode(bytes(item.fact)) for item in self.journal]

    def told(self) -> str:
        """The story, for people."""
        lines = [f"{self.view.id} of {self.job.workflow} ({self.job.key}) is {self.view.status}: {self.view.outputs}"]
        lines += [f"  {item.seq:3} epoch {item.epoch}  {bytes(item.fact).decode()}" for item in self.journal]
        lines += [f"  effect: {effect}" for effect in self.effects]
        return "\n".join(lines)


def effects_of(text: str) -> list[Effect]:
    """The effects that a file tells of."""
    made = []
    for line in text.splitlines():
        key, execution, node, index, attempt, given = line.split(" ")
        place = None if index == "-" else int(index)
        made.append(Effect(key=key, execution=execution, node=node, index=place, attempt=int(attempt), given=given))
    return made


def wrong_with(story: Story, graph: Graph) -> list[str]:
    """Everything that is wrong with an execution that has ended; empty when every promise was kept."""
    return [
        *_end(story),
        *_numbers(story),
        *_state(story, graph),
        *_attempts(story),
        *_effects(story),
        *_grounds(story),
        *_shown(story),
    ]


def _end(story: Story) -> Iterator[str]:
    """It ends, as an undisturbed run does."""
    if story.view.status != "succeeded":
        yield f"it is {story.view.status}: {story.view.error}"
    elif story.view.outputs != story.job.expected:
        yield f"its outputs are {story.view.outputs}, those of an undisturbed run {story.job.expected}"
    ends = [position for position, fact in enumerate(story.facts, 1) if isinstance(fact, codec.TERMINAL)]
    if ends != [len(story.facts)]:
        yield f"its journal of {len(story.facts)} facts ends at {ends}"


def _numbers(story: Story) -> Iterator[str]:
    """No fact is lost, doubled or out of order."""
    seqs = [item.seq for item in story.journal]
    if seqs != list(range(1, story.view.last_seq + 1)):
        yield f"its facts are numbered {seqs}, and the last is {story.view.last_seq}"
    epochs = [item.epoch for item in story.journal]
    if epochs != sorted(epochs) or (epochs and not 1 <= epochs[0] <= epochs[-1] <= story.view.epoch):
        yield f"its epochs are {epochs}, and the one in force is {story.view.epoch}"
    times = [fact.at for fact in story.facts]
    if times != sorted(times):
        yield f"its time runs backwards: {times}"


def _state(story: Story, graph: Graph) -> Iterator[str]:
    """Its journal makes sense to the machine, and leads to what the orchestrator says of it."""
    try:
        machine = fold(graph, story.facts, execution=story.view.id)
        check(machine)
    except Exception as exc:  # whatever the machine objects to is what is wrong
        yield f"its journal cannot be folded: {exc!r}"
        return
    if machine.state.status != story.view.status:
        yield f"its journal leads to {machine.state.status}, but it is {story.view.status}"


def _attempts(story: Story) -> Iterator[str]:
    """What is committed does not run again, and each attempt follows one that has ended."""
    done: set[tuple[str, int | None]] = set()
    started: Counter[tuple[str, int | None]] = Counter()
    failed: Counter[tuple[str, int | None]] = Counter()
    for seq, fact in enumerate(story.facts, 1):
        match fact:
            case NodeStarted():
                at = (fact.node, fact.index)
                started[at] += 1
                if at in done:
                    yield f"fact {seq}: {at} begins again after it has succeeded"
                if fact.attempt != started[at] or started[at] != failed[at] + 1:
                    yield f"fact {seq}: {at} begins attempt {fact.attempt} after {failed[at]} that have failed"
            case NodeSucceeded():
                at = (fact.node, fact.index)
                if at in done:
                    yield f"fact {seq}: {at} succeeds again"
                done.add(at)
            case NodeFailed():
                failed[fact.node, fact.index] += 1
                expected = ("fail", "ExitCode") if fact.conclusion == "fail" else ("error", "Orphaned")
                if (fact.conclusion, fact.error.type) != expected:
                    yield f"fact {seq}: {fact.node} failed as {fact.conclusion} of {fact.error.type}"


def _effects(story: Story) -> Iterator[str]:
    """Every effect has a start that is committed; a key and an attempt come once; a key comes again after an orphan."""
    journal = _Attempts(story.facts)
    for (key, attempt), count in Counter((effect.key, effect.attempt) for effect in story.effects).items():
        if count > 1:
            yield f"attempt {attempt} of {key} was performed {count} times"
    for effect in story.effects:
        at = (effect.node, effect.index, effect.attempt)
        if at not in journal.started:
            yield f"{effect} was performed, but its start is not committed"
            continue
        item = "" if effect.index is None else f"[{effect.index}]"
        expected = f"{effect.execution}/{effect.node}{item}/{journal.generation(at)}"
        if effect.key != expected:
            yield f"{effect} should have the key {expected}"
        for earlier in range(1, effect.attempt):
            before = journal.failed.get((effect.node, effect.index, earlier))
            if before is None or before[0] > journal.started[at]:
                yield f"{effect} began before attempt {earlier} had ended"
    performed = {(effect.node, effect.index, effect.attempt) for effect in story.effects}
    concluded = journal.succeeded | {at for at, (_, conclusion) in journal.failed.items() if conclusion == "fail"}
    for at in concluded - performed:
        if (story.job.workflow, at[0]) in chaos_work.GIVEN:
            yield f"{at} has ended by itself, but was never performed"


def _grounds(story: Story) -> Iterator[str]:
    """No effect was based on a result that is not committed."""
    results = _results(story.facts)
    for effect in story.effects:
        rule = chaos_work.GIVEN.get((story.job.workflow, effect.node))
        if rule is None:
            yield f"{effect} is none of {story.job.workflow}"
            continue
        try:
            expected = _text(rule(results, effect.index or 0))
        except (LookupError, TypeError) as exc:
            yield f"{effect} is based on a result that is not committed: {exc!r}"
            continue
        if effect.given != expected:
            yield f"{effect} should have been given {expected}, which is what is committed"


def _shown(story: Story) -> Iterator[str]:
    """Nobody has seen what is not committed, and whoever watched has seen everything, in order."""
    if story.shown is not None and list(story.shown) != list(story.journal):
        shown = [f"{item.seq}/{item.epoch} {bytes(item.fact).decode()}" for item in story.shown]
        yield f"somebody was shown something else than its journal: {shown}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _results(facts: Sequence[Fact]) -> Mapping[str, Any]:
    """The committed results, those of items by their index."""
    results: dict[str, Any] = {}
    for fact in facts:
        if isinstance(fact, NodeSucceeded) and isinstance(fact.result, msgspec.Raw):
            value = msgspec.json.decode(fact.result)
            if fact.index is None:
                results[fact.node] = value
            else:
                results.setdefault(fact.node, {})[fact.index + 1] = value
    return results


class _Attempts:
    """Where attempts begin and end in a journal, by node, index and number."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.started: dict[tuple[str, int | None, int], int] = {}
        self.failed: dict[tuple[str, int | None, int], tuple[int, str]] = {}
        self.succeeded: set[tuple[str, int | None, int]] = set()
        maps: set[str] = set()
        for seq, fact in enumerate(facts, 1):
            match fact:
                case NodeExpanded():
                    maps.add(fact.node)
                case NodeStarted():
                    self.started[fact.node, fact.index, fact.attempt] = seq
                case NodeFailed(attempt=attempt) if attempt:
                    self.failed[fact.node, fact.index, attempt] = (seq, fact.conclusion)
                case NodeSucceeded() if fact.index is not None or fact.node not in maps:
                    self.succeeded.add((fact.node, fact.index, fact.attempt))

    def generation(self, at: tuple[str, int | None, int]) -> int:
        """How often the node had failed by its own word before an attempt."""
        node, index, attempt = at
        ends = (self.failed.get((node, index, earlier)) for earlier in range(1, attempt))
        return sum(end is not None and end[1] == "fail" for end in ends)
