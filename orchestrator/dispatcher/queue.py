"""The admission queue: executions that wait for an engine.

Placement depends on what an execution needs and on which engines have said that they cannot run it. Executions alike
in that form a lane: when the first of a lane has no place, none behind it has one, so a pass costs one refusal per lane
however long the queue is.

In a lane, and among the first of the lanes, higher priority goes first, and waiting raises it
(`dagengine.admission.line`).
"""

from __future__ import annotations

from collections.abc import Iterator

from dagengine.admission.line import Line, rank
from orchestrator.dispatcher.placement import Needs
from orchestrator.dispatcher.tracked import Tracked

__all__ = ["Lane", "Queue"]

_Key = tuple[Needs, frozenset[str]]


class Lane:
    """Executions that need the same. `reason` says why the first one had no place; None before that."""

    __slots__ = ("excluded", "line", "needs", "reason", "waiting")

    def __init__(self, needs: Needs, excluded: frozenset[str]) -> None:
        self.needs = needs
        self.excluded = excluded
        self.reason: str | None = None
        self.waiting: dict[str, Tracked] = {}
        self.line: Line[str] = Line()

    def __iter__(self) -> Iterator[Tracked]:
        """First to last. Executions may be taken out meanwhile."""
        while (first := self.line.first) is not None:
            yield self.waiting[first]
            if first in self.waiting:
                return


class Queue:
    """Executions by lane."""

    def __init__(self) -> None:
        self._lanes: dict[_Key, Lane] = {}
        self._lane_of: dict[str, Lane] = {}
        self.size = 0
        """Bytes that the inputs of the executions here take."""

    def __len__(self) -> int:
        return len(self._lane_of)

    def __contains__(self, execution: str) -> bool:
        return execution in self._lane_of

    def __iter__(self) -> Iterator[Lane]:
        """Lanes, in the order of the first execution of each."""
        return iter(sorted(self._lanes.values(), key=lambda lane: lane.line.first_rank or 0))

    @property
    def any_exclusive(self) -> bool:
        """Whether an execution here wants an engine for itself."""
        return any(lane.needs.exclusive for lane in self._lanes.values())

    def add(self, tracked: Tracked) -> None:
        """Put an execution into its lane, where its priority and its waiting put it."""
        self.remove(tracked)
        key = (tracked.plan.needs, frozenset(tracked.excluded))
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(*key)
        lane.waiting[tracked.record.id] = tracked
        lane.line.put(tracked.record.id, rank(tracked.since, tracked.record.priority))
        self._lane_of[tracked.record.id] = lane
        self.size += len(tracked.record.inputs)

    def remove(self, tracked: Tracked) -> None:
        """Take an execution out, if it is in."""
        lane = self._lane_of.pop(tracked.record.id, None)
        if lane is None:
            return
        del lane.waiting[tracked.record.id]
        lane.line.remove(tracked.record.id)
        self.size -= len(tracked.record.inputs)
        if not lane.waiting:
            del self._lanes[lane.needs, lane.excluded]

    def clear(self) -> None:
        """Take all out."""
        self._lanes.clear()
        self._lane_of.clear()
        self.size = 0

    def lane_of(self, execution: str) -> Lane | None:
        """The lane in which an execution waits; None when it does not."""
        return self._lane_of.get(execution)

    def reason(self, execution: str) -> str | None:
        """Why an execution had no place when that was last looked at; None when it does not wait here."""
        lane = self._lane_of.get(execution)
        return lane.reason if lane is not None else None
