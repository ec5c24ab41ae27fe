"""The consistent-hash ring: which engine is home to which key, and who comes after it.

A ring is built from the names of engines alone, so every orchestrator replica that knows the same engines sees the
same ring, whatever the order in which they came. `uhashring` lays out the points; they are read once into two flat
sequences, because a placement walks them for every execution and the library's own walk is made for the rare case.

A ring over other engines is made of the one before: what lies between the points that come or go is copied as it is.
So an engine that comes to 1,000 others costs some milliseconds; engines come one by one, each as its session begins.

Called by `placement` only.
"""

from __future__ import annotations

import bisect
import hashlib
from array import array
from collections.abc import Iterable, Iterator
from typing import Final

import uhashring

__all__ = ["POINTS_PER_ENGINE", "Ring"]

POINTS_PER_ENGINE: Final = 512
"""Points that each engine has on the ring.

An engine's share of the keys spreads by about 1/√points around the mean: 4 % here, so that no engine of twenty comes
near 1.3 times its fair share.
"""


def _position(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def _points(engines: Iterable[str]) -> list[tuple[int, str]]:
    """Points of engines, sorted. Those of one engine do not depend on which others there are."""
    ring = uhashring.HashRing(sorted(engines), vnodes=POINTS_PER_ENGINE, hash_fn=_position)
    points: list[tuple[int, str]] = ring.get_points()
    return sorted(points)


class Ring:
    """An immutable ring over a set of engine names."""

    __slots__ = ("_owners", "_positions", "engines")

    def __init__(self, engines: Iterable[str] = (), *, previous: Ring | None = None) -> None:
        """A ring over `engines`; what `previous` shares with it is taken over and not computed again."""
        self.engines = frozenset(engines)
        self._positions: array[int] = array("Q")
        self._owners: list[str] = []
        if previous is not None and previous.engines & self.engines:
            self._positions, self._owners = previous._positions, previous._owners
            self._replace(_points(previous.engines - self.engines), gone=True)
        self._replace(_points(self.engines - previous.engines if previous is not None else self.engines))

    def _replace(self, points: list[tuple[int, str]], *, gone: bool = False) -> None:
        """Have new sequences with `points`, or without those."""
        if not self._owners:
            self._positions, self._owners = array("Q", (at for at, _ in points)), [owner for _, owner in points]
            return
        positions, owners, at = array("Q"), list[str](), 0
        for position, owner in points:
            upto = self._find(position, owner, at)
            positions += self._positions[at:upto]
            owners += self._owners[at:upto]
            if gone:
                upto += 1
            else:
                positions.append(position)
                owners.append(owner)
            at = upto
        if points:
            self._positions, self._owners = positions + self._positions[at:], owners + self._owners[at:]

    def _find(self, position: int, owner: str, after: int) -> int:
        """Where a point is, or belongs. Of several at one position the first by name comes first."""
        at = bisect.bisect_left(self._positions, position, after)
        while at < len(self._positions) and self._positions[at] == position and self._owners[at] < owner:
            at += 1
        return at

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
