"""The discovery port: the set of engines that should be connected, now and whenever it changes.

Discovery is level-triggered: it always gives the whole set, never a difference, and a reader that is slow sees the
latest set only. What is dialled, and whether an engine answers, is the dispatcher's business. When the source of what
it knows cannot be asked, the set stays as it is, and `trouble` says why: an outage empties nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, Protocol

import msgspec

__all__ = ["Address", "Discovery"]


class Address(msgspec.Struct, frozen=True, order=True):
    """Where an engine is: `target` is `host:port` for `grpc`, the engine's name for `in-process`.

    `uid` is the identity of what runs there, where somebody gives it one (a pod's UID): with another one, it is another
    engine at the same place. `capacity` is the most executions it should be given at a time (0: as many as it says).
    Who is `draining` should get no more.
    """

    transport: Literal["grpc", "in-process"]
    target: str
    uid: str = ""
    capacity: int = 0
    draining: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What a link is for: addresses with the same key are those of one engine, described otherwise."""
        return (self.transport, self.target, self.uid)

    def __str__(self) -> str:
        return self.target if self.transport == "grpc" else f"{self.transport}:{self.target}"


class Discovery(Protocol):
    """Names the engines that should be connected, no two at the same place."""

    @property
    def trouble(self) -> str:
        """Why the set may be out of date, for people; empty while it is not."""

    @property
    def leaving(self) -> frozenset[Address]:
        """Engines that are about to end, where that is known. They belong to no set; what they have can be finished."""

    def watch(self) -> AsyncIterator[frozenset[Address]]:
        """The set as soon as it is known; then the set after each change. Ends when the discovery is closed.

        Any number of readers may watch at the same time; each gets every level that it is quick enough to see.
        """

    async def run(self) -> None:
        """Keep the set up to date until the discovery is closed; returns at once where there is nothing to do."""

    async def close(self) -> None:
        """End every watch. Idempotent."""
