"""Attempts that wait for room, by execution: executions take turns, so that a large one does not hold up the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from dagengine.executors.base import Done, Job

__all__ = ["Queue", "Waiting"]

Waiting = tuple[Job, Done]


class Queue:
    """First come, first served within an execution; one at a time among executions."""

    __slots__ = ("_lanes",)

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Waiting]] = {}
        """None is empty; the first one has its turn."""

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def add(self, execution: str, jobs: Iterable[Waiting]) -> None:
        """Put jobs behind those of the same execution."""
        lane = self._lanes.setdefault(execution, deque())
        lane.extend(jobs)
        if not lane:
            del self._lanes[execution]

    def pop(self) -> Waiting:
        """The next job; then it is the next execution's turn. StopIteration when there is none."""
        execution = next(iter(self._lanes))
        lane = self._lanes.pop(execution)
        waiting = lane.popleft()
        if lane:
            self._lanes[execution] = lane
        return waiting

    def remove(self, execution: str, node: str, index: int | None, attempt: int) -> list[Waiting]:
        """Take an attempt out; what was taken."""
        lane = self._lanes.pop(execution, None)
        if lane is None:
            return []
        wanted = (node, index, attempt)
        removed = [entry for entry in lane if (entry[0].node, entry[0].index, entry[0].attempt) == wanted]
        if len(removed) < len(lane):
            kept = (entry for entry in lane if (entry[0].node, entry[0].index, entry[0].attempt) != wanted)
            self._lanes[execution] = deque(kept)
        return removed

    def clear(self) -> None:
        """Forget all jobs."""
        self._lanes.clear()
