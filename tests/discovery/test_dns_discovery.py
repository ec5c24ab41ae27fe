"""Engines at all addresses of a name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from structlog.testing import capture_logs

from dagengine.testing import VirtualClock
from orchestrator.discovery import dns
from orchestrator.discovery.base import Address
from orchestrator.discovery.dns import DnsDiscovery

INTERVAL = 30.0
SECOND = 1_000_000


class NameServer:
    """Answers what it is told to."""

    def __init__(self, *addresses: str) -> None:
        self.answer: Iterable[str] | OSError = addresses
        self.asked: list[str] = []

    async def resolve(self, host: str) -> Iterable[str]:
        self.asked.append(host)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@asynccontextmanager
async def running(names: NameServer, clock: VirtualClock) -> AsyncIterator[DnsDiscovery]:
    discovery = DnsDiscovery("engines", 50051, clock, interval=INTERVAL, resolver=names.resolve)
    task = asyncio.create_task(discovery.run())
    try:
        await clock.asleep()
        yield discovery
    finally:
        await discovery.close()
        await task


async def later(clock: VirtualClock, seconds: float) -> None:
    clock.advance(round(seconds * SECOND))
    await asyncio.sleep(0)
    await clock.asleep()


def grpc(*targets: str) -> frozenset[Address]:
    return frozenset(Address("grpc", target) for target in targets)


async def test_each_address_is_an_engine_and_changes_are_seen_at_the_next_look() -> None:
    names, clock = NameServer("10.0.0.1", "fd00::1"), VirtualClock()
    async with running(names, clock) as discovery:
        assert await anext(discovery.watch()) == grpc("10.0.0.1:50051", "[fd00::1]:50051")
        names.answer = ["10.0.0.2"]
        await later(clock, INTERVAL - 1)
        assert names.asked == ["engines"]
        await later(clock, 1)
        assert await anext(discovery.watch()) == grpc("10.0.0.2:50051")


async def test_a_name_that_does_not_resolve_any_more_leaves_the_engines_as_they_were() -> None:
    names, clock = NameServer("10.0.0.1"), VirtualClock()
    async with running(names, clock) as discovery:
        names.answer = OSError("name server is away")
        with capture_logs() as logs:
            await later(clock, INTERVAL)
            await later(clock, INTERVAL)
            assert await anext(discovery.watch()) == grpc("10.0.0.1:50051")
            assert "name server is away" in discovery.trouble
            names.answer = ["10.0.0.2"]
            await later(clock, INTERVAL)
        assert await anext(discovery.watch()) == grpc("10.0.0.2:50051")
        assert discovery.trouble == ""
        assert [entry["event"] for entry in logs] == ["discovery_frozen", "discovery_goes_on"]


async def test_nothing_is_said_of_engines_before_the_name_has_resolved_once() -> None:
    names, clock = NameServer(), VirtualClock()
    names.answer = OSError("no such name")
    async with running(names, clock) as discovery:
        reader = asyncio.ensure_future(anext(discovery.watch()))
        await later(clock, 6)
        assert not reader.done()
        names.answer = ["10.0.0.1"]
        await later(clock, 6)
        assert await reader == grpc("10.0.0.1:50051")


async def test_the_systems_resolver_knows_this_host() -> None:
    assert await dns.resolve("localhost") == ["127.0.0.1"]
