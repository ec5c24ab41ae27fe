"""JSON values on their way into Lua: packed, and kept converted where they are big.

A runtime has one of these, and Lua code of the sandbox asks it for the results of nodes whose names only running a
script tells (`host`). Lua holds it, so it must not hold the runtime.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dagengine.executors import base
from dagengine.executors.lua.cache import Generations

__all__ = ["SMALL", "Values"]

SMALL: Final = 1024
"""Bytes below which a value is converted for every call that reads it."""


class Values:
    """`capacity` is the bytes of JSON that are kept converted, about; `allowed` those that the call may use."""

    __slots__ = ("_ids", "_kept", "_packed", "_waiting", "allowed", "last_slot", "nodes")

    def __init__(self, *, capacity: int, allowed: int) -> None:
        self.allowed = allowed
        self.last_slot = 0
        self.nodes: base.Results | None = None
        """What the running script may read by name."""
        self._kept: Generations[bytes, int] = Generations(capacity)
        self._ids: list[str] = []
        self._packed = b""
        self._waiting = b""

    def rotate(self) -> list[int]:
        """The slots that can be emptied; call it before a series of `packed`."""
        return self._kept.rotate()

    def packed(self, value: bytes) -> bytes | int:
        """The value as MessagePack, or the slot where it lies converted. Raises MemoryError for one that is too big."""
        if len(value) < SMALL:
            return _pack(_unpack(value))
        slot = self._kept.get(value)
        if slot is not None:
            return slot
        packed = _pack(_unpack(value))
        self.must_fit(len(packed))
        return packed

    def new_slot(self, value: bytes) -> int:
        """The slot that `value` is kept in from now on."""
        self.last_slot = slot = self.last_slot + 1
        self._kept.put(value, slot, len(value))
        return slot

    def must_fit(self, size: int) -> None:
        """Lua aborts the process when it has no memory for an argument: refuse before it has to."""
        if size > self.allowed // 8:
            raise MemoryError

    # --- asked by Lua ---

    def fetch(self, id: bytes) -> int | bool | None:
        """The size of node `id`'s result, for `take`; or minus the slot where it lies converted. None without one.

        False is for a result that Lua cannot hold.
        """
        value = None if self.nodes is None else self.nodes.get(id.decode("utf-8", "replace"))
        if value is None:
            return None
        try:
            packed = self.packed(value)
        except OverflowError:
            return False
        if isinstance(packed, int):
            return -packed
        self._packed, self._waiting = packed, value
        return len(packed)

    def take(self) -> bytes:
        """What `fetch` found, as MessagePack."""
        packed, self._packed = self._packed, b""
        return packed

    def converted(self) -> int | None:
        """What was taken last has been converted: the slot to keep it in, or None when it is not worth it."""
        value, self._waiting = self._waiting, b""
        return None if len(value) < SMALL else self.new_slot(value)

    def count(self) -> int:
        """How many nodes have a result; `name` tells their ids."""
        self._ids = [] if self.nodes is None else list(self.nodes)
        return len(self._ids)

    def name(self, position: int) -> bytes:
        """The id of a node, by its position from 1."""
        return self._ids[position - 1].encode()


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.json.Decoder().decode
