"""Whether a machine can go on: everything that has not ended waits for exactly one thing that will come.

Part of `check`. A unit that waits for nothing would hold its execution for ever; one that waits for two things would
begin twice. Whether what was asked for is indeed answered is up to the driver.
"""

from __future__ import annotations

from dagengine.errors import MachineError
from dagengine.machine import fanout
from dagengine.machine.clocks import Due
from dagengine.machine.items import Items
from dagengine.machine.machine import Machine
from dagengine.machine.phases import FINAL, Phase
from dagengine.machine.state import Unit

__all__ = ["check"]


def check(machine: Machine) -> None:
    """Raise MachineError when something in `machine`, whose execution has not ended, waits for nothing."""
    if machine.state.status == "running":
        _Places(machine).check()


class _Places:
    """Where each unit is that has not ended and is not under way."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.state = machine.state
        self.asked: list[Unit] = [(position, index) for _, position, index in machine.asked if position >= 0]
        known = self.state.clocks.entries(self.state)
        self.retried = {(position, index) for _, kind, position, index, _ in known if kind == Due.RETRY}
        running = {unit for unit in machine.admitting if self.state.phase_of(*unit) == Phase.RUNNING}
        self.places: dict[Unit, int] = {}
        for units in (self.asked, machine.admitting - running, machine.parked):
            for unit in units:
                self.places[unit] = self.places.get(unit, 0) + 1

    def check(self) -> None:
        state, machine = self.state, self.machine
        for position in range(len(state.graph)):
            self._node(position)
        self._require(all(count == 1 for count in self.places.values()), "a unit waits for one thing at once")
        stale = [unit for unit in machine.prepared if unit not in self.places and unit not in self.retried]
        self._require(not stale, "what was prepared belongs to units that are about to begin")
        if not state.unfinished and state.concluded is None and -1 not in state.paused:
            self._require(
                ("outputs", -1, -1) in machine.asked, "when all nodes have ended, their outputs are asked for"
            )

    def _node(self, position: int) -> None:
        state, name = self.state, self.state.graph.nodes[position].id
        phase, items = state.phase[position], state.items.get(position)
        placed = (position, -1) in self.places
        if phase == Phase.PENDING:
            turn = not state.waiting[position] and (position < state.graph.main or state.concluded is not None)
            listed = turn and position in state.ready
            if listed:
                self._require(-1 in state.paused, f"{name} is decided about unless all is paused")
            self._require(placed == (turn and not listed), f"{name} waits for something when its turn has come")
        elif phase == Phase.BACKOFF:
            self._require(placed != ((position, -1) in self.retried), f"{name} waits for its next attempt")
        else:
            self._require(not placed, f"{name} waits for nothing when it has begun or ended")
        if items is not None and phase == Phase.RUNNING:
            self._items(position, items)
        elif items is not None:
            left = any(unit[0] == position for unit in self.places)
            self._require(not left, f"no item of {name} waits for anything after its end")

    def _items(self, position: int, items: Items) -> None:
        state, node = self.state, self.state.graph.nodes[position]
        under_way = idle = 0
        for index, phase in enumerate(items.phase):
            placed = (position, index) in self.places
            if phase == Phase.PENDING and not placed:
                idle += 1
                continue
            under_way += phase not in FINAL
            if phase == Phase.BACKOFF:
                waits = placed != ((position, index) in self.retried) or position in state.stopping
                self._require(waits, f"{node.id}[{index}] waits for its next attempt")
            elif phase != Phase.PENDING:
                self._require(not placed, f"{node.id}[{index}] waits for nothing when it has begun or ended")
        if position in state.stopping:
            self._require(Phase.RUNNING in items.phase, f"an item of {node.id} runs, as long as it uses its grace")
            return
        limit = fanout.window(node)
        refilled = limit if node.max_parallel is not None else limit - fanout.REFILL + 1
        known = self.machine.under_way.get(position)
        self._require(known == under_way, f"`under_way` of {node.id} counts its items that have begun")
        self._require(under_way <= limit, f"no more items of {node.id} are under way than may be")
        busy = not idle or under_way >= refilled or state.is_paused(position)
        self._require(busy, f"as many items of {node.id} are under way as may be")
        self._require(items.unfinished > 0, f"{node.id} ends with the last of its items")

    def _require(self, holds: bool, invariant: str) -> None:
        if not holds:
            state = self.state
            words = f"execution {state.execution} ({state.status}, {state.seq} facts): not true: {invariant}"
            raise MachineError(words)
