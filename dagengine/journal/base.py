"""The journal port: facts in, commit positions out.

A journal keeps the facts of one execution in order. The driver appends and goes on; an effect waits until
`committed` has reached the position of its own start fact. Commits are contiguous prefixes: when position n is
committed, so is everything before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from dagengine.events.facts import Fact

__all__ = ["Journal"]


class Journal(Protocol):
    """The ordered facts of one execution."""

    @property
    def committed(self) -> int:
        """Position (counted from 1) of the last fact that is known to be committed; 0 when none is."""

    @property
    def congested(self) -> bool:
        """Whether so much is uncommitted that the driver should hold back what it has not begun."""

    def append(self, facts: Sequence[Fact]) -> None:
        """Take facts in order. Does not wait. Raises JournalError when the journal cannot take any more at all."""

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called on the event loop's thread when `committed` has grown or congestion has ended.

        That congestion begins is not told: ask `congested` before beginning anything.
        """
