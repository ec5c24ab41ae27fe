"""What facts about nodes do to a state. `state.State.apply` calls the appliers; nobody else changes a state."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.machine import story
from dagengine.machine.clocks import Due
from dagengine.machine.items import Items
from dagengine.machine.phases import ILLEGAL, Outcome, Phase, column

if TYPE_CHECKING:
    from dagengine.machine.state import State

__all__ = ["APPLIERS", "NODE_TIMEOUT", "forget_wait", "illegal", "node_ended", "units_in"]

NODE_TIMEOUT: Final = "NodeTimeout"
"""The type of the error of a node that took longer than its `total_timeout`."""

UnitFact = facts.NodeStarted | facts.NodeSucceeded | facts.NodeFailed | facts.NodeQueued | facts.NodeWaiting
NodeFact = UnitFact | facts.NodeExpanded | facts.NodeSkipped | facts.NodeCancelled | facts.NodeOverridden

# Python 3.11 takes 80 ns to find a member of an enumeration: too long where every node comes by.
_IS_PENDING: Final = Phase.PENDING
_IS_RUNNING: Final = Phase.RUNNING
_GOOD: Final = Outcome.SUCCEEDED

_EXPANDED = column("NodeExpanded")
_QUEUED = column("NodeQueued")
_STARTED = column("NodeStarted")
_WAITING = column("NodeWaiting")
_SUCCEEDED = column("NodeSucceeded")
_FOUND = column("NodeSucceeded, from the cache")
_RETRIED = column("NodeFailed, to be retried")
_FAILED = column("NodeFailed")
_SKIPPED = column("NodeSkipped")
_CANCELLED = column("NodeCancelled")


def illegal(state: State, fact: NodeFact, position: int) -> MachineError:
    """The error that says what a fact cannot be true of."""
    kind, attempt, index = type(fact).__name__, getattr(fact, "attempt", 0), getattr(fact, "index", None)
    unit = story.of_unit(state, position, index)
    return state.refuse(f"{kind}{f' of attempt {attempt}' if attempt else ''} is illegal for {unit}")


def node_ended(state: State, position: int, outcome: Outcome) -> None:
    """What follows from the end of a node for those that depend on it."""
    state.outcome[position] = outcome
    if position < state.graph.main:
        state.unfinished -= 1
    else:
        state.exit_unfinished -= 1
    if outcome is not _GOOD:
        state.troubled = True
    if state.stopping:
        state.stopping.discard(position)
    waiting = state.waiting
    for dependent in state.graph.nodes[position].dependents:
        waiting[dependent] -= 1
        if not waiting[dependent]:
            state.ready.append(dependent)


def forget_wait(state: State, unit: tuple[int, int]) -> None:
    """The unit waits for nothing any more."""
    wait = state.waits.pop(unit, None)
    if wait is not None and wait.kind == "signal":
        del state.listening[wait.name][unit]
    state.decisions.pop(unit, None)


def units_in(state: State, kept: Collection[tuple[int, int]], position: int) -> list[tuple[int, int]]:
    """The units of one node among `kept`: looks at all of `kept` or at each item of the node, whichever are fewer."""
    if not kept:
        return []
    items = state.items.get(position)
    count = 0 if items is None else len(items.phase)
    if count < len(kept):
        return [unit for index in range(-1, count) if (unit := (position, index)) in kept]
    return [unit for unit in kept if unit[0] == position]


def _items_of(state: State, fact: UnitFact, position: int) -> tuple[Items, int]:
    """The items that a fact is about one of, and which. They live while their node runs."""
    items, index = state.items.get(position), fact.index
    if items is None or index is None or not 0 <= index < len(items.phase) or state.phase[position] != _IS_RUNNING:
        raise illegal(state, fact, position)
    return items, index


def _limit(state: State, position: int, now: int) -> None:
    """The node has begun: let its own limit run."""
    limit = state.graph.nodes[position].total_timeout
    if limit is not None:
        tag = state.reruns.get(position, 0)
        state.clocks.set(state, now + limit, Due.NODE_LIMIT, position, -1, tag, now=now)


def _expanded(state: State, fact: facts.NodeExpanded) -> None:
    position = state.graph.index[fact.node]
    after = _EXPANDED[state.phase[position]]
    if after == ILLEGAL or state.waiting[position]:
        raise illegal(state, fact, position)
    try:
        items = Items.of(fact, attempt=state.base.get(position, 0))
    except ValueError as error:
        raise state.refuse(f"NodeExpanded of {fact.node}: {error}") from error
    state.phase[position] = after
    state.items[position] = items
    _limit(state, position, fact.at)


def _started(state: State, fact: facts.NodeStarted) -> None:
    position = state.graph.index[fact.node]
    if fact.index is None:
        before = state.phase[position]
        after = _STARTED[before]
        if after == ILLEGAL or state.waiting[position] or fact.attempt != state.attempt[position] + 1:
            raise illegal(state, fact, position)
        state.phase[position] = after
        state.attempt[position] = fact.attempt
        unit = (position, -1)
        if before == _IS_PENDING:
            _limit(state, position, fact.at)
    else:
        items, index = _items_of(state, fact, position)
        after = _STARTED[items.phase[index]]
        if after == ILLEGAL or fact.attempt != items.attempt[index] + 1:
            raise illegal(state, fact, position)
        items.phase[index] = after
        items.attempt[index] = fact.attempt
        unit = (position, index)
    if fact.args is not UNSET:
        state.args[unit] = bytes(fact.args)
    if fact.cache:
        state.cache[unit] = fact.cache
    if state.queued:
        state.queued.pop(unit, None)


def _queued(state: State, fact: facts.NodeQueued) -> None:
    position = state.graph.index[fact.node]
    index = -1 if fact.index is None else _items_of(state, fact, position)[1]
    if _QUEUED[state.phase_of(position, index)] == ILLEGAL or state.waiting[position]:
        raise illegal(state, fact, position)
    state.queued[position, index] = fact


def _waiting(state: State, fact: facts.NodeWaiting) -> None:
    position = state.graph.index[fact.node]
    index = -1 if fact.index is None else _items_of(state, fact, position)[1]
    before = state.phase_of(position, index)
    fits = fact.attempt == state.attempt_of(position, index) + 1 and not state.waiting[position]
    if _WAITING[before] == ILLEGAL or not fits:
        raise illegal(state, fact, position)
    if index < 0:
        state.phase[position] = _WAITING[before]
        state.attempt[position] = fact.attempt
        if before == Phase.PENDING:
            _limit(state, position, fact.at)
    else:
        state.items[position].phase[index] = _WAITING[before]
        state.items[position].attempt[index] = fact.attempt
    unit = (position, index)
    state.waits[unit] = fact
    if fact.kind == "signal":
        state.listening.setdefault(fact.name, OrderedDict())[unit] = None
    if fact.until is not None:
        state.clocks.set(state, fact.until, Due.WAIT, position, index, fact.attempt, now=fact.at)


def _succeeded(state: State, fact: facts.NodeSucceeded) -> None:
    position = state.graph.index[fact.node]
    result = None if fact.result is UNSET else bytes(fact.result)
    table = _FOUND if fact.cached_from else _SUCCEEDED
    if fact.index is None:
        after, expanded = table[state.phase[position]], state.items.get(position)
        if expanded is None:
            fits = result is not None and fact.attempt == state.attempt[position]
        else:
            tolerated = state.graph.nodes[position].fail_after or 0
            fits = result is None and not expanded.unfinished and expanded.failed <= tolerated
        if after == ILLEGAL or not fits:
            raise illegal(state, fact, position)
        state.phase[position] = after
        state.results[position] = result
        if state.waits or state.args or state.cache or state.queued:
            _unit_succeeded(state, (position, -1))
        node_ended(state, position, _GOOD)
    else:
        items, index = _items_of(state, fact, position)
        after = table[items.phase[index]]
        if after == ILLEGAL or result is None or fact.attempt != items.attempt[index]:
            raise illegal(state, fact, position)
        items.phase[index] = after
        items.results[index] = result
        items.unfinished -= 1
        if state.waits or state.args or state.cache or state.queued:
            _unit_succeeded(state, (position, index))


def _unit_succeeded(state: State, unit: tuple[int, int]) -> None:
    """A unit has its result. A signal that is there is what it has taken: it would not have waited otherwise."""
    wait = state.waits.get(unit)
    if wait is not None and wait.kind == "signal" and state.signals.get(wait.name):
        state.signals[wait.name].popleft()
    _close_unit(state, unit)


def _close_unit(state: State, unit: tuple[int, int]) -> None:
    """The unit has ended, and needs nothing any more of what its attempts did."""
    forget_wait(state, unit)
    for kept in (state.args, state.cache, state.queued):
        kept.pop(unit, None)


def _failed(state: State, fact: facts.NodeFailed) -> None:
    position = state.graph.index[fact.node]
    index = -1 if fact.index is None else _items_of(state, fact, position)[1]
    table = _FAILED if fact.retry_at is None else _RETRIED
    after = table[state.phase_of(position, index)]
    expanded = state.items.get(position) if index < 0 else None
    fits = fact.attempt == state.attempt_of(position, index) and not state.waiting[position]
    if expanded is not None:
        tolerated = state.graph.nodes[position].fail_after
        early = fact.error.type == NODE_TIMEOUT or (tolerated is not None and expanded.failed > tolerated)
        fits = fits and fact.retry_at is None and (early or (not expanded.unfinished and expanded.failed > 0))
    if after == ILLEGAL or not fits:
        raise illegal(state, fact, position)
    unit = (position, index)
    fails, errors = state.failures.get(unit, (0, 0))
    if fact.conclusion == "fail":
        state.failures[unit] = (fails + 1, errors)
        state.refusals[unit] = state.refusals.get(unit, 0) + 1
    else:
        state.failures[unit] = (fails, errors + 1)
    state.errors[unit] = fact.error
    if fact.retry_at is None:
        _close_unit(state, unit)
    else:
        forget_wait(state, unit)
        state.queued.pop(unit, None)
        state.clocks.set(state, fact.retry_at, Due.RETRY, position, index, fact.attempt, now=fact.at)
    if index < 0:
        state.phase[position] = after
        if fact.retry_at is None:
            _close_units(state, position)
            node_ended(state, position, Outcome.FAILED)
            state.failing = state.failing or position < state.graph.main
        return
    items = state.items[position]
    items.phase[index] = after
    if fact.retry_at is None:
        items.unfinished -= 1
        items.failed += 1
        if items.first_failed < 0:
            items.first_failed = index


def _skipped(state: State, fact: facts.NodeSkipped) -> None:
    position = state.graph.index[fact.node]
    after = _SKIPPED[state.phase[position]]
    given_up = fact.reason in ("cancelled", "fail_fast", "timeout")
    if after == ILLEGAL or (state.waiting[position] and not given_up) or fact.index is not None:
        raise illegal(state, fact, position)
    state.phase[position] = after
    state.skipped[position] = (fact.reason, fact.because)
    state.queued.pop((position, -1), None)
    outcome = Outcome.CANCELLED if given_up else Outcome.FAILED if fact.reason == "upstream_failed" else Outcome.SKIPPED
    node_ended(state, position, outcome)


def _cancelled(state: State, fact: facts.NodeCancelled) -> None:
    position = state.graph.index[fact.node]
    after = _CANCELLED[state.phase[position]]
    if after == ILLEGAL or fact.index is not None or fact.attempt != state.attempt[position]:
        raise illegal(state, fact, position)
    state.phase[position] = after
    state.skipped[position] = (fact.reason, ())
    _close_units(state, position)
    node_ended(state, position, Outcome.CANCELLED)


def _close_units(state: State, position: int) -> None:
    """The node has ended, and with it all its units."""
    for kept in (state.args, state.cache, state.queued, state.waits):
        for unit in units_in(state, kept, position):
            _close_unit(state, unit)


APPLIERS: Final[Mapping[type, Callable[[State, Any], None]]] = {
    facts.NodeExpanded: _expanded,
    facts.NodeQueued: _queued,
    facts.NodeStarted: _started,
    facts.NodeWaiting: _waiting,
    facts.NodeSucceeded: _succeeded,
    facts.NodeFailed: _failed,
    facts.NodeSkipped: _skipped,
    facts.NodeCancelled: _cancelled,
}
