"""A bounded cache whose hits cost one dictionary look-up.

Two generations: new entries go into the young one; when that is full, the old one is dropped and the young one becomes
old. An entry found in the old generation moves back into the young one, so that what is in use stays.
"""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Generations"]

K = TypeVar("K")
V = TypeVar("V")


class Generations(Generic[K, V]):
    """Keeps entries until two generations of `capacity` have been put in after their last use.

    Capacity is counted in the sizes given to `put`. Nothing is dropped but by `rotate`, so that an entry found stays
    valid until its finder allows it to go.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}
        self._size = 0

    def get(self, key: K) -> V | None:
        """The value kept under `key`, or None."""
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.pop(key, None)
            if entry is None:
                return None
            self._young[key] = entry
            self._size += entry[1]
        return entry[0]

    def put(self, key: K, value: V, size: int = 1) -> None:
        """Keep `value`, which takes `size` of the capacity. `key` must not be kept yet."""
        self._young[key] = (value, size)
        self._size += size

    def rotate(self) -> list[V]:
        """The values that were dropped to make room; call it before a series of `get` and `put`."""
        if self._size <= self._capacity:
            return []
        dropped = [value for value, _ in self._old.values()]
        self._old, self._young, self._size = self._young, {}, 0
        return dropped
