"""From what discoveries name to links of the dispatcher: exactly those, whoever names them.

An address that two discoveries name is linked once, as the first of them describes it. With another identity (`uid`) at
the same place, the link to what was there before is ended and a new one begun; a change of what else is known of an
engine breaks nothing.

An address that is named no more gets no more work at once, and its link ends when the engine there has nothing left
(`dispatcher.links`). Engines that were about to end before this process began are asked, once, whether they have
something that only they can finish. Made by `app.Orchestrator`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Final

from dagengine.clock import Clock
from orchestrator.discovery.base import Address, Discovery
from orchestrator.discovery.dns import DnsDiscovery
from orchestrator.dispatcher.dispatcher import Dispatcher
from orchestrator.in_kubernetes import InKubernetes
from orchestrator.monitor.counts import Discovered
from orchestrator.options import Options
from orchestrator.transport.base import Transport

__all__ = ["Linking", "discoveries"]

_NOBODY: Final = Address("grpc", "")
_DRAINING: Final = "its pod is marked workflow-engine/drain"


def discoveries(
    options: Options, static: Discovery, local: Discovery, kubernetes: InKubernetes | None, clock: Clock
) -> dict[str, Discovery]:
    """All that options ask for, by a name for people; those that are made elsewhere first."""
    found = {"static": static, "in-process": local}
    if options.dns:
        host, _, port = options.dns.rpartition(":")
        found["dns"] = DnsDiscovery(host, int(port), clock, interval=options.discovery_interval)
    return found | (kubernetes.discoveries if kubernetes is not None else {})


class Linking:
    """Follows discoveries, by name; of two that name the same address the first holds."""

    def __init__(self, discoveries: Mapping[str, Discovery], dispatcher: Dispatcher) -> None:
        self._discoveries = dict(discoveries)
        self._dispatcher = dispatcher
        self._transports: Mapping[str, Transport] = {}
        self._named: dict[str, dict[str, Address]] = {name: {} for name in discoveries}
        self._linked: dict[str, Address] = {}
        self._left: dict[str, Address] = {}
        """Those that are named no more and may have a link still, or have had one."""
        self._changes: Counter[str] = Counter()
        self._mending = asyncio.Lock()

    def works(self, transports: Mapping[str, Transport]) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What is to be run until `close`, each with a name for people."""
        self._transports = transports
        for name in self._discoveries:
            yield f"{name} discovery", self._follow(name)

    async def close(self) -> None:
        """End the discoveries. Links stay: they are the dispatcher's."""
        await asyncio.gather(*(discovery.close() for discovery in self._discoveries.values()))

    def troubles(self) -> list[str]:
        """Why engines may be missing, or be there no more, for people."""
        return [
            f"{name} discovery: {discovery.trouble}"
            for name, discovery in self._discoveries.items()
            if discovery.trouble
        ]

    def levels(self) -> list[Discovered]:
        """How each discovery stands, for metrics."""
        return [
            Discovered(
                source=name,
                engines=len(self._named[name]),
                frozen=bool(discovery.trouble),
                changes=self._changes[name],
            )
            for name, discovery in self._discoveries.items()
        ]

    async def _follow(self, name: str) -> None:
        """Keep a discovery up to date, and the links with it."""
        discovery = self._discoveries[name]
        async with asyncio.TaskGroup() as group:
            group.create_task(discovery.run())
            async for level in discovery.watch():
                # In order: that of the set differs from process to process, and links are made in it.
                self._named[name] = {address.target: address for address in sorted(level)}
                self._changes[name] += 1
                await self._mend()

    async def _mend(self) -> None:
        """Make the links what they should be."""
        async with self._mending:
            wanted: dict[str, Address] = {}
            for named in reversed(self._named.values()):
                wanted.update(named)
            self._leave(wanted)
            replaced = [
                target for target, address in wanted.items() if self._left.get(target, address).key != address.key
            ]
            await asyncio.gather(*map(self._dispatcher.remove_link, replaced))
            for target, address in wanted.items():
                self._link(target, address)

    def _leave(self, wanted: Mapping[str, Address]) -> None:
        """Let engines that are wanted no more come to their end."""
        leaving = {address.target: address for found in self._discoveries.values() for address in found.leaving}
        for target, address in list(self._linked.items()):
            if target not in wanted or wanted[target].key != address.key:
                self._left[target] = self._linked.pop(target)
                self._dispatcher.links.retire(target)
        for target, address in leaving.items():
            if target not in wanted and self._left.get(target, _NOBODY).key != address.key:
                self._left[target] = address
                if target not in self._dispatcher.links:
                    self._dispatcher.add_link(self._transports[address.transport], target)
                    self._dispatcher.links.retire(target)
        for target in [target for target in self._left if target not in self._dispatcher.links]:
            if target not in leaving:
                del self._left[target]

    def _link(self, target: str, address: Address) -> None:
        before = self._linked.get(target)
        if before == address:
            return
        self._linked[target] = address
        self._left.pop(target, None)
        if before is None:
            self._dispatcher.add_link(self._transports[address.transport], target)
        draining = _DRAINING if address.draining else ""
        self._dispatcher.links.describe(target, capacity=address.capacity, draining=draining)
