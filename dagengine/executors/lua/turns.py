"""Jobs that wait for Lua, by execution: executions take turns, so that a long one does not hold up its neighbours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from dagengine.executors import base

__all__ = ["Done", "Turns", "Waiting"]

Done = Callable[[base.Job, base.Outcome], None]
Waiting = tuple[base.Job, Done]


class Turns:
    """Not thread-safe: whoever shares it between threads locks it."""

    __slots__ = ("_lanes", "_last")

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Waiting]] = {}
        """Jobs by execution; the first one has its turn. No lane is empty."""
        self._last = ""
        """The execution of the last job that was taken."""

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def add(self, execution: str, jobs: Iterable[Waiting]) -> None:
        """Put jobs behind those of the same execution."""
        lane = self._lanes.get(execution)
        if lane is None:
            self._lanes[execution] = deque(jobs)
        else:
            lane.extend(jobs)

    def add_first(self, jobs: Sequence[Waiting]) -> None:
        """Put jobs back that were taken and not begun: before those of their executions, whose turn it then is."""
        for waiting in reversed(jobs):
            execution = waiting[0].scope.execution
            lane = self._lanes.get(execution)
            if lane is None:
                self._lanes = {execution: deque([waiting]), **self._lanes}
            else:
                lane.appendleft(waiting)

    def remove(self, unwanted: Callable[[base.Job], bool], executions: Iterable[str]) -> list[Waiting]:
        """Take the jobs of `executions` out that are `unwanted`."""
        removed: list[Waiting] = []
        for execution in executions:
            lane = self._lanes.pop(execution, None)
            if lane is None:
                continue
            removed += [waiting for waiting in lane if unwanted(waiting[0])]
            kept = deque(waiting for waiting in lane if not unwanted(waiting[0]))
            if kept:
                self._lanes[execution] = kept
        return removed

    def pop(self) -> Waiting:
        """The next job of the execution whose turn it is. IndexError when there is none."""
        for execution, lane in self._lanes.items():
            job = lane.popleft()
            self._last = execution
            if not lane:
                del self._lanes[execution]
            return job
        raise IndexError("nothing waits")

    def pass_on(self) -> None:
        """End the turn of the execution that had the last job."""
        if len(self._lanes) > 1 and (first := next(iter(self._lanes))) == self._last:
            self._lanes[first] = self._lanes.pop(first)

    def clear(self) -> None:
        """Forget all jobs."""
        self._lanes.clear()
