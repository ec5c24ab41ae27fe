"""A rate, counted exactly: no more than `count` begins in any span of `per` microseconds, and never fewer needlessly.

A token bucket lets up to twice as many begin in one span (a full bucket, and what flows in meanwhile), and even spacing
(GCRA without a burst) makes work wait that the rate allows at once. So the times of the latest begins are kept. Of
rates above `_KEPT` a span, so many neighbours are counted together, at the time of the last of them, that no more than
`_KEPT` times are kept: then the limit is kept, and at most a thousandth of it is given away.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from dagengine.spec.rate import Rate

__all__ = ["Window"]

_KEPT: Final = 1_000


class Window:
    """The begins of the last span. Time never goes backwards from one call to the next."""

    __slots__ = ("_begins", "_total", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        """May be replaced at any time: what has begun before counts on."""
        self._begins: deque[tuple[int, int]] = deque()
        """Times and how many began up to each, since the one before."""
        self._total = 0

    @property
    def last(self) -> int | None:
        """When something began last, unless that was so long ago that it counts no more."""
        return self._begins[-1][0] if self._begins else None

    def add(self, at: int) -> None:
        """Something begins at `at`. Whoever lets it begin has asked `room` or `next_at`."""
        grain = -(-self.rate.count // _KEPT)
        if self._begins and self._begins[-1][1] < grain:
            _, number = self._begins.pop()
            self._begins.append((at, number + 1))
        else:
            self._begins.append((at, 1))
        self._total += 1

    def room(self, at: int) -> int:
        """How many may begin at `at`. Negative after the rate was lowered."""
        self._forget(at)
        return self.rate.count - self._total

    def next_at(self, at: int, *, ahead: int = 0) -> int:
        """The earliest time, `at` or later, at which one more may begin, `ahead` (fewer than `count`) having begun."""
        total = self._total + ahead
        for began, number in self._begins:
            if began + self.rate.per > at:
                if total < self.rate.count:
                    break
                at = began + self.rate.per
            total -= number
        return at

    def _forget(self, at: int) -> None:
        while self._begins and self._begins[0][0] + self.rate.per <= at:
            self._total -= self._begins.popleft()[1]
