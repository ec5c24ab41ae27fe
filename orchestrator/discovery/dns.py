"""Discovery by a name that resolves to the addresses of all engines, such as that of a headless service.

Needs nothing but a resolver. The name is asked for every `interval` seconds; a name that cannot be resolved leaves the
set as it was, because a name server that is away and a service without endpoints look the same.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final

import structlog

from dagengine.clock import Clock
from orchestrator.discovery.base import Address
from orchestrator.discovery.in_cluster import host_and_port
from orchestrator.discovery.level import Level

__all__ = ["DnsDiscovery", "Resolver", "resolve"]

_log = structlog.get_logger("orchestrator.discovery")

_SECOND: Final = 1_000_000
_SOONER: Final = 5.0
"""Seconds between two attempts while the name cannot be resolved, if that is sooner."""

_PATIENCE: Final = 30.0
"""Seconds after which a resolver is not waited for any more."""

Resolver = Callable[[str], Awaitable[Iterable[str]]]
"""The IP addresses of a host name. Raises OSError when it has none, or nobody can tell."""


async def resolve(host: str) -> list[str]:
    """Ask the system's resolver. Of a name that has addresses of both families, those of IPv4."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    by_family = {family: [str(entry[4][0]) for entry in found if entry[0] == family] for family, *_ in found}
    return by_family.get(socket.AF_INET) or by_family.get(socket.AF_INET6) or []


class DnsDiscovery:
    """The engines at the addresses of `host`, at the same port each."""

    def __init__(self, host: str, port: int, clock: Clock, *, interval: float, resolver: Resolver = resolve) -> None:
        """`interval`: seconds between two looks."""
        self._host = host
        self._port = port
        self._clock = clock
        self._interval = interval
        self._resolver = resolver
        self._level: Level[frozenset[Address] | None] = Level(None)
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """Why the set may be out of date; empty while it is not."""
        return self._trouble

    @property
    def leaving(self) -> frozenset[Address]:
        """None: a name does not tell."""
        return frozenset()

    async def watch(self) -> AsyncIterator[frozenset[Address]]:
        """The set as soon as the name is resolved; then the set after each change."""
        async for addresses in self._level.watch():
            if addresses is not None:
                yield addresses

    async def run(self) -> None:
        """Ask again and again until the discovery is closed."""
        await self._level.while_open(self._poll())

    async def close(self) -> None:
        """End every watch."""
        self._level.close()

    async def _poll(self) -> None:
        while True:
            await self._look()
            wait = min(self._interval, _SOONER) if self._trouble else self._interval
            await self._clock.sleep_until(self._clock.now() + round(wait * _SECOND))

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                hosts = await self._resolver(self._host)
        except (OSError, UnicodeError) as exc:  # a TimeoutError is an OSError; a name that is none a UnicodeError
            known = self._level.value or ()
            if not self._trouble:
                _log.warning("discovery_frozen", of=self._host, engines=len(known), reason=str(exc))
            self._trouble = f"the engines are those that were known before: cannot resolve '{self._host}': {exc}"
            return
        self._level.set(frozenset(Address("grpc", host_and_port(host, self._port)) for host in hosts))
        if self._trouble:
            self._trouble = ""
            _log.info("discovery_goes_on", of=self._host, engines=len(self._level.value or ()))
