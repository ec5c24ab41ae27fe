"""The discovery port: the set of engines that should be connected, now and whenever it changes.

Discovery is level-triggered: it always gives the whole set, never a difference, and a reader that is slow sees the
latest set only. What is dialled, and whether an engine answers, is the dispatcher's business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, Protocol

import msgspec

__all__ = ["Address", "Discovery"]


class Address(msgspec.Struct, frozen=True, order=True):
    """Where an engine is: `target` is `host:port` for `grpc`, the engine's name for `in-process`."""

    transport: Literal["grpc", "in-process"]
    target: str

    def __str__(self) -> str:
        return self.target if self.transport == "grpc" else f"{self.transport}:{self.target}"


class Discovery(Protocol):
    """Names the engines that should be connected."""

    def watch(self) -> AsyncIterator[frozenset[Address]]:
        """The set as it is, at once; then the set after each change. Ends when the discovery is closed.

        Any number of readers may watch at the same time; each gets every level that it is quick enough to see.
        """

    async def close(self) -> None:
        """End every watch. Idempotent."""
