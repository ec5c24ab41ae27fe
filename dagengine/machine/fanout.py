"""The items of a node with `foreach`: which begin when, and when they are enough to end their node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dagengine.events import facts
from dagengine.events.facts import ErrorInfo
from dagengine.machine import conclusion, retrying
from dagengine.machine.phases import FINAL, Phase

if TYPE_CHECKING:
    from dagengine.graph.compiled import NodePlan
    from dagengine.machine.machine import Machine

__all__ = ["ITEM_WINDOW", "REFILL", "expand", "go_on", "item_moved", "restart", "resume", "window"]

ITEM_WINDOW: Final = 1_024
"""Items of one node that may be under way at once: bounds what one step makes, whatever the length of the list."""

REFILL: Final = 128
"""So much of the window is empty before it is filled up again: items begin in batches, not one by one."""

_SHOWN: Final = 40

# Python 3.11 takes 80 ns to find a member of an enumeration: too long where every item comes by.
_PENDING: Final = Phase.PENDING
_RUNNING: Final = Phase.RUNNING


def expand(machine: Machine, position: int, value: bytes, at: int) -> None:
    """The `foreach` of a node has come to `value`."""
    node = machine.graph.nodes[position]
    if value == b"{}":  # an empty Lua table: whether it is a list cannot be told, and it has no items either way
        value = b"[]"
    try:
        if value.startswith(b"{"):  # in the order of the keys: Lua keeps none
            members = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
            count, value = len(members), msgspec.json.encode(members, order="sorted")
        else:
            count = len(msgspec.json.decode(value, type=list[msgspec.Raw]))
    except msgspec.ValidationError:
        shown = value[:_SHOWN].decode(errors="replace") + ("…" if len(value) > _SHOWN else "")
        message = f"`foreach: {node.foreach}` must give a list or a map, got {shown}"
        retrying.before_attempts(machine, position, -1, ErrorInfo(type="ForeachError", message=message), at)
        return
    machine.record(facts.NodeExpanded(at=at, node=node.id, count=count, items=msgspec.Raw(value)))
    machine.next_item[position] = 0
    machine.under_way[position] = 0
    start_items(machine, position, at)
    end_node(machine, position, at)


def start_items(machine: Machine, position: int, at: int) -> None:
    """Let the next items of a node begin, in order, as far as the window reaches."""
    state = machine.state
    if state.phase[position] != _RUNNING or position in state.stopping or state.is_paused(position):
        return
    if position in machine.filling:  # an item that has just begun has ended at once: the loop that began it goes on
        return
    machine.filling.add(position)
    try:
        _fill(machine, position, at)
    finally:
        machine.filling.discard(position)


def window(node: NodePlan) -> int:
    """How many items of a node may be under way at once."""
    return min(ITEM_WINDOW, node.max_parallel or ITEM_WINDOW)


def _fill(machine: Machine, position: int, at: int) -> None:
    state = machine.state
    items, node = state.items[position], machine.graph.nodes[position]
    count = len(items.phase)
    limit = window(node)
    plain = node.args is None and node.cache is None and not node.gated and node.wait is None
    while machine.under_way[position] < limit and (following := machine.next_item[position]) < count:
        if state.phase[position] != _RUNNING:  # an item that has just begun has ended its node
            return
        machine.next_item[position] = following + 1
        if items.phase[following] != _PENDING:
            continue
        machine.under_way[position] += 1
        if plain:
            machine.start(position, following, items.attempt[following] + 1, at)
        else:
            machine.prepare(position, following, at, after="foreach")


def item_moved(machine: Machine, position: int, index: int, at: int) -> None:
    """Something happened to an item that may have ended it: see what follows."""
    state = machine.state
    items = state.items.get(position)
    if items is None or state.phase[position] != _RUNNING:
        return
    node = machine.graph.nodes[position]
    if items.phase[index] in FINAL:
        machine.under_way[position] -= 1
        if position in state.stopping:
            _stop_node(machine, position, at)
            return
        tolerated = node.fail_after
        if tolerated is not None and items.failed > tolerated:
            machine.abandon(position)
            machine.forget(position)
            machine.record(conclusion.of_items(state, position, at))
            return
    if machine.under_way[position] <= ITEM_WINDOW - REFILL or node.max_parallel is not None:
        start_items(machine, position, at)
    if not items.unfinished:
        end_node(machine, position, at)


def _stop_node(machine: Machine, position: int, at: int) -> None:
    """After a cancel, a node whose last running item has ended is over."""
    if not machine.state.items[position].unfinished:
        end_node(machine, position, at)
    elif machine.state.items[position].phase.find(_RUNNING) < 0:
        node = machine.graph.nodes[position].id
        machine.record(facts.NodeCancelled(at=at, node=node, attempt=machine.state.attempt[position]))


def end_node(machine: Machine, position: int, at: int) -> None:
    """Conclude a node when its last item has ended."""
    if machine.state.phase[position] == Phase.RUNNING and not machine.state.items[position].unfinished:
        machine.record(conclusion.of_items(machine.state, position, at))


def resume(machine: Machine) -> None:
    """Find out where the items of each node stand, after a crash."""
    for position, phase in enumerate(machine.state.phase):
        if phase == Phase.RUNNING and position in machine.state.items:
            restart(machine, position)


def restart(machine: Machine, position: int) -> None:
    """Find out where the items of a node stand."""
    phases = machine.state.items[position].phase
    first = phases.find(Phase.PENDING)
    machine.next_item[position] = len(phases) if first < 0 else first
    machine.under_way[position] = sum(phase not in FINAL and phase != Phase.PENDING for phase in phases)


def go_on(machine: Machine, at: int) -> None:
    """Let items of all nodes begin as far as they may; end the nodes that have ended."""
    for position in list(machine.state.items):
        if machine.state.phase[position] == Phase.RUNNING and position in machine.next_item:
            tolerated = machine.graph.nodes[position].fail_after
            if tolerated is not None and machine.state.items[position].failed > tolerated:
                machine.abandon(position)
                machine.record(conclusion.of_items(machine.state, position, at))
                continue
            start_items(machine, position, at)
            end_node(machine, position, at)
