"""What discovery by pods and by endpoint slices have in common: objects at hand, from which addresses are read.

Whenever an object changes all of them are read again: that is cheap, and nothing that was missed stays missed. While
the Kubernetes API is away, the set stays as it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Iterable

import structlog

from dagengine.clock import Clock
from orchestrator.discovery.base import Address
from orchestrator.discovery.level import Level
from orchestrator.kubernetes.base import Cluster, Object, Resource
from orchestrator.kubernetes.reflector import Reflector

__all__ = ["ClusterDiscovery", "host_and_port"]

_log = structlog.get_logger("orchestrator.discovery")


class ClusterDiscovery(ABC):
    """Engines that objects of one kind tell of. Adapters implement `addresses` and `departing`."""

    def __init__(self, cluster: Cluster, resource: Resource, clock: Clock, *, labels: str, interval: float) -> None:
        """`interval`: seconds after which everything is listed anew."""
        self._what = resource.plural
        self._level: Level[frozenset[Address] | None] = Level(None)
        self._warned: frozenset[str] = frozenset()
        self._frozen = False
        self._reflector = Reflector(
            cluster, resource, clock=clock, labels=labels, resync=interval, changed=self._look, told=self._told
        )

    @abstractmethod
    def addresses(self, objects: Collection[Object], complaints: set[str]) -> Iterable[Address]:
        """The engines that objects tell of. What is wrong with an object is added to `complaints`."""

    @abstractmethod
    def departing(self, objects: Collection[Object]) -> Iterable[Address]:
        """The engines that are about to end, as objects tell."""

    @property
    def leaving(self) -> frozenset[Address]:
        """Engines that are about to end."""
        return frozenset(self.departing(self._reflector.objects.values()))

    @property
    def trouble(self) -> str:
        """Why the set may be out of date; empty while it is not."""
        reason = self._reflector.trouble
        return f"the engines are those that were known before: {reason}" if reason else ""

    async def watch(self) -> AsyncIterator[frozenset[Address]]:
        """The set as soon as the API has told it; then the set after each change."""
        async for addresses in self._level.watch():
            if addresses is not None:
                yield addresses

    async def run(self) -> None:
        """Follow the API until the discovery is closed."""
        await self._level.while_open(self._reflector.run())

    async def close(self) -> None:
        """End every watch."""
        self._level.close()

    def _look(self, _: frozenset[str]) -> None:
        complaints: set[str] = set()
        self._level.set(frozenset(self.addresses(self._reflector.objects.values(), complaints)))
        for complaint in sorted(complaints - self._warned):
            _log.warning("engine_described_wrongly", problem=complaint)
        self._warned = frozenset(complaints)

    def _told(self, trouble: str) -> None:
        known = len(self._level.value or ())
        if trouble and not self._frozen:
            _log.warning("discovery_frozen", of=self._what, engines=known, reason=trouble)
        elif not trouble:
            _log.info("discovery_goes_on", of=self._what, engines=known)
        self._frozen = bool(trouble)


def host_and_port(address: str, port: int) -> str:
    """As it is dialled: IPv6 addresses in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
