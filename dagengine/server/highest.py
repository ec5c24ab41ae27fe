"""The highest number that was heard of in each store: of positions that are committed, of terms of leaders.

Numbers of different stores (`OrchestratorHello.incarnation`) have nothing to do with each other. Used by the host.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

__all__ = ["Highest"]

STORES_KEPT: Final = 16


class Highest:
    """By incarnation of a store. Those not heard of for longest are forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, int] = OrderedDict()

    def of(self, incarnation: str) -> int:
        """The highest number heard of in a store; 0 when there was none."""
        return self._known.get(incarnation, 0)

    def note(self, incarnation: str, number: int) -> None:
        """A number was heard of."""
        self._known[incarnation] = max(number, self.of(incarnation))
        self._known.move_to_end(incarnation)
        if len(self._known) > STORES_KEPT:
            self._known.popitem(last=False)
