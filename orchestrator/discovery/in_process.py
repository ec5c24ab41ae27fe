"""In-process discovery: engines that live in the orchestrator's own process and are registered by name."""

from __future__ import annotations

from collections.abc import AsyncIterator

from orchestrator.discovery.base import Address
from orchestrator.discovery.level import Level
from orchestrator.errors import Conflict, NotFound

__all__ = ["InProcessDiscovery"]


class InProcessDiscovery:
    """A set of names that grows and shrinks by `register` and `unregister`.

    Both may be called before an event loop runs, and after that on its thread only.
    """

    def __init__(self) -> None:
        self._level: Level[frozenset[Address]] = Level(frozenset())

    def register(self, name: str) -> Address:
        """Add an engine. Conflict when the name is taken."""
        address = Address("in-process", name)
        if address in self._level.value:
            raise Conflict(f"an engine named {name!r} is registered already: give each engine its own name")
        self._level.set(self._level.value | {address})
        return address

    def unregister(self, name: str) -> Address:
        """Take an engine out. NotFound when there is none of that name."""
        address = Address("in-process", name)
        if address not in self._level.value:
            raise NotFound(f"no engine named {name!r} is registered")
        self._level.set(self._level.value - {address})
        return address

    @property
    def trouble(self) -> str:
        """Nothing: who registers an engine says so."""
        return ""

    @property
    def leaving(self) -> frozenset[Address]:
        """None: who is taken out has nothing left."""
        return frozenset()

    async def run(self) -> None:
        """Nothing to do."""

    def watch(self) -> AsyncIterator[frozenset[Address]]:
        """The registered engines, now and after each change."""
        return self._level.watch()

    async def close(self) -> None:
        """End every watch."""
        self._level.close()
