"""A line in front of a limit: higher priority first, and waiting raises it, so nothing waits for ever.

Whoever has priority p and came at time s (microseconds) has, at time t, the effective priority

    p + (t - s) / AGEING

that is, a point for each second of waiting. The highest is first; among equals, who came first. The difference between
two that wait never changes, so the order is known when they come: that of `rank(s, p) = s - p * AGEING`, smallest
first. Who comes later than `AGEING * (2 * MAX_PRIORITY)` (33 minutes) is behind whoever waits already.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

__all__ = ["AGEING", "Line", "rank"]

AGEING: Final = 1_000_000
"""Microseconds of waiting that are worth a point of priority."""

_SLACK: Final = 64
"""Places of those who left that a line keeps before it closes up."""

T = TypeVar("T", bound=Hashable)


def rank(since: int, priority: int) -> int:
    """The place in a line, smallest first, of what has waited since `since` (microseconds) with `priority`."""
    return since - priority * AGEING


class Line(Generic[T]):
    """Things that wait, each once. All operations but iteration take logarithmic time at most."""

    __slots__ = ("_heap", "_last", "_numbers")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, T]] = []
        self._numbers: dict[T, int] = {}
        """The number under which each one waits; an entry of the heap with another number has left."""
        self._last = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, item: object) -> bool:
        return item in self._numbers

    def __iter__(self) -> Iterator[T]:
        """First to last."""
        return iter([item for _, number, item in sorted(self._heap, key=_place) if self._numbers.get(item) == number])

    @property
    def first(self) -> T | None:
        """Whose turn is next; None when nobody waits."""
        heap, numbers = self._heap, self._numbers
        while heap and numbers.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][2] if heap else None

    @property
    def first_rank(self) -> int | None:
        """The rank of the first; None when nobody waits."""
        return self._heap[0][0] if self.first is not None else None

    def put(self, item: T, at: int) -> None:
        """Let `item` wait at rank `at`, behind all of the same rank. One that waits already keeps its place."""
        if item in self._numbers:
            return
        self._last += 1
        self._numbers[item] = self._last
        heapq.heappush(self._heap, (at, self._last, item))

    def remove(self, item: T) -> bool:
        """Let `item` wait no more; False when it did not."""
        if self._numbers.pop(item, None) is None:
            return False
        if len(self._heap) > 2 * len(self._numbers) + _SLACK:
            self._heap = [entry for entry in self._heap if self._numbers.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)
        return True


def _place(entry: tuple[int, int, object]) -> tuple[int, int]:
    return entry[0], entry[1]
