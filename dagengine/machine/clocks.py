"""What is due and when, for one execution. Part of `state`; facts set the clocks, pauses stop them.

An entry is `(at, kind, position, item or -1, tag)`. It is not taken out when it has lost its meaning (its unit was
cancelled, say): `tag` tells, and whoever looks passes it over.

A pause stops the clocks of a node, or of the whole execution: their entries lie aside together with the time since
which they lie there, and come back later by just as much as they have lain.
"""

from __future__ import annotations

import heapq
from enum import IntEnum
from typing import TYPE_CHECKING

from dagengine.machine.phases import FINAL, Phase

if TYPE_CHECKING:
    from dagengine.machine.state import State

__all__ = ["Clocks", "Due", "Entry"]


class Due(IntEnum):
    """What an entry is for. `tag` is the attempt after which it is meant, or the round of the node or execution."""

    RETRY = 0
    WAIT = 1
    NODE_LIMIT = 2
    EXECUTION_LIMIT = 3
    GRACE = 4


Entry = tuple[int, int, int, int, int]


class Clocks:
    """The clocks of one execution."""

    __slots__ = ("_due", "_stopped")

    def __init__(self) -> None:
        self._due: list[Entry] = []
        self._stopped: list[tuple[int, Entry]] = []
        """Since when an entry lies aside, and the entry."""

    def set(self, state: State, at: int, kind: Due, position: int, index: int, tag: int, *, now: int) -> None:
        """Let something be due at `at`. `now` is the time of the fact that says so."""
        entry = (at, int(kind), position, index, tag)
        if state.paused and _stops(state, entry):
            self._stopped.append((now, entry))
        else:
            heapq.heappush(self._due, entry)

    def next(self, state: State) -> Entry | None:
        """The entry that is due first, if any means something still."""
        due = self._due
        while due:
            if _means_something(state, due[0]):
                return due[0]
            heapq.heappop(due)
        return None

    def pop(self) -> Entry:
        """Take out what `next` has told."""
        return heapq.heappop(self._due)

    def stop(self, state: State, *, now: int) -> None:
        """Lay aside what belongs to something paused."""
        kept = []
        for entry in self._due:
            if _stops(state, entry):
                self._stopped.append((now, entry))
            else:
                kept.append(entry)
        heapq.heapify(kept)
        self._due = kept

    def go_on(self, state: State, *, now: int) -> None:
        """Bring back what belongs to nothing paused any more, each later by as long as it has lain aside."""
        still = []
        for since, entry in self._stopped:
            if _stops(state, entry):
                still.append((since, entry))
            else:
                heapq.heappush(self._due, (entry[0] + now - since, *entry[1:]))
        self._stopped = still

    def grace(self, state: State) -> int | None:
        """When the grace of a cancel is over; None when nothing uses any."""
        found = (entry[0] for entry in self._due if entry[1] == Due.GRACE and _means_something(state, entry))
        return min(found, default=None)

    def entries(self, state: State) -> list[Entry]:
        """Every entry that means something still; those that a pause has stopped at the time that they had then."""
        known = [*self._due, *(entry for _, entry in self._stopped)]
        return [entry for entry in known if _means_something(state, entry)]

    def snapshot(self, state: State) -> tuple[object, ...]:
        """What means something, comparable. The retry of a node that asks for something before it begins (admission,
        the name of a signal) is left out: it asks when it is due, and then no clock runs for it any more, though no
        fact says so."""

        def told(entry: Entry) -> bool:
            return _means_something(state, entry) and not _asks(state, entry)

        due = [entry for entry in self._due if told(entry)]
        stopped = [(since, entry) for since, entry in self._stopped if told(entry)]
        return sorted(due), sorted(stopped)


def _stops(state: State, entry: Entry) -> bool:
    """Whether a pause stops this clock. The grace of a cancel goes on: a cancel ends every pause."""
    return entry[1] != Due.GRACE and (-1 in state.paused or entry[2] in state.paused)


def _asks(state: State, entry: Entry) -> bool:
    node = state.graph.nodes[entry[2]]
    return entry[1] == Due.RETRY and (node.gated or (node.wait is not None and node.args is not None))


def _means_something(state: State, entry: Entry) -> bool:
    _, kind, position, index, tag = entry
    match kind:
        case Due.RETRY:
            return position not in state.stopping and _is(state, position, index, Phase.BACKOFF, tag)
        case Due.WAIT:
            return _is(state, position, index, Phase.WAITING, tag)
        case Due.NODE_LIMIT:
            return state.phase[position] not in FINAL and state.reruns.get(position, 0) == tag
        case Due.EXECUTION_LIMIT:
            over = state.cancel is not None or state.timed_out is not None or state.concluded is not None
            return tag == state.rounds and not over and not state.ended
    return tag == state.rounds and bool(state.stopping)


def _is(state: State, position: int, index: int, phase: Phase, attempt: int) -> bool:
    if index >= 0:
        items = state.items.get(position)
        if items is None or index >= len(items.phase) or state.phase[position] != Phase.RUNNING:
            return False
    return state.phase_of(position, index) == phase and state.attempt_of(position, index) == attempt
