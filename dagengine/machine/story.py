"""What is known of one unit, in words: for errors that say why a fact about it cannot be true. `state` calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagengine.machine.phases import FINAL, Phase

if TYPE_CHECKING:
    from dagengine.machine.state import State

__all__ = ["of_execution", "of_unit"]

_NAMED = 5
"""How many open dependencies a story names at most."""


def of_execution(state: State) -> str:
    """`execution e-1 (running, 12 facts)`."""
    return f"execution {state.execution} ({state.status}, {state.seq} facts)"


def of_unit(state: State, position: int, index: int | None) -> str:
    """`load, which is BACKOFF after attempt 2 (1 failed, 1 broke down; last: no such table)`."""
    node, items = state.graph.nodes[position], state.items.get(position)
    if index is not None and (items is None or not 0 <= index < len(items.phase)):
        return f"{node.id}[{index}], an item that there is not ({_of_items(state, position)})"
    key = (position, -1 if index is None else index)
    attempt = state.attempt_of(*key)
    phase = Phase(state.phase_of(*key)).name + (f" after attempt {attempt}" if attempt else "")
    known = []
    if key in state.failures:
        fails, errors = state.failures[key]
        known.append(f"{fails} failed, {errors} broke down; last: {state.errors[key].message}")
    waited_for = [state.graph.nodes[needed].id for needed in node.dependencies if state.phase[needed] not in FINAL]
    if waited_for:
        known.append(f"waits for {', '.join(waited_for[:_NAMED])}{', …' if len(waited_for) > _NAMED else ''}")
    if key in state.waits:
        wait = state.waits[key]
        known.append(f"waits for {wait.kind}" + (f" '{wait.name}'" if wait.name else ""))
    if items is not None:
        known.append(_of_items(state, position))
    unit = node.id if index is None else f"{node.id}[{index}]"
    return f"{unit}, which is {phase}" + (f" ({'; '.join(known)})" if known else "")


def _of_items(state: State, position: int) -> str:
    node, items = state.graph.nodes[position].id, state.items.get(position)
    if items is None:
        return f"{node} has no items"
    phase = Phase(state.phase[position]).name
    return f"{node} is {phase}, {items.unfinished} of its {len(items.phase)} items have not ended"
