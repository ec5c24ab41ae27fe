"""The consistent-hash ring: which engine is home to which key, and who comes after it.

A ring is built from the names of engines alone, so every orchestrator replica that knows the same engines sees the
same ring, whatever the order in which they came. `uhashring` lays out the points; they are read once into two flat
lists, because a placement walks them for every execution and the library's own walk is made for the rare case.

Called by `placement` only.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

import uhashring

__all__ = ["POINTS_PER_ENGINE", "Ring"]

POINTS_PER_ENGINE: Final = 512
"""Points that each engine has on the ring.

An engine's share of the keys spreads by about 1/√points around the mean: 4 % here, so that no engine of twenty comes
near 1.3 times its fair share. A further engine among 100 takes some 10 ms, once, when it comes.
"""


def _position(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def _points(engines: Iterable[str]) -> list[tuple[int, str]]:
    """Points of engines, sorted. Those of one engine do not depend on which others there are."""
    ring = uhashring.HashRing(sorted(engines), vnodes=POINTS_PER_ENGINE, hash_fn=_position)
    points: list[tuple[int, str]] = ring.get_points()
    return points


class Ring:
    """An immutable ring over a set of engine names."""

    __slots__ = ("_owners", "_points", "_positions", "engines")

    def __init__(self, engines: Iterable[str] = (), *, previous: Ring | None = None) -> None:
        """A ring over `engines`; what `previous` shares with it is taken over and not computed again."""
        self.engines = frozenset(engines)
        kept = previous.engines & self.engines if previous is not None else frozenset[str]()
        points = [point for point in previous._points if point[1] in kept] if previous is not None else []
        points += _points(self.engines - kept)
        points.sort()
        self._points: list[tuple[int, str]] = points
        self._positions: list[int] = [position for position, _ in points]
        self._owners: list[str] = [owner for _, owner in points]

    def with_engines(self, engines: Iterable[str]) -> Ring:
        """The ring over `engines`: this very one when they are the same."""
        wanted = frozenset(engines)
        return self if wanted == self.engines else Ring(wanted, previous=self)

    def walk(self, key: str) -> Iterator[str]:
        """Owners of the points from the key on, once around; engines come up again and again."""
        start = self._start(key) if self._owners else 0
        owners = self._owners
        for at in range(start, len(owners)):
            yield owners[at]
        for at in range(start):
            yield owners[at]

    def _start(self, key: str) -> int:
        at = bisect.bisect(self._positions, _position(key))
        return at if at < len(self._positions) else 0
