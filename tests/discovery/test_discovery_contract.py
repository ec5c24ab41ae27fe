"""What every discovery promises, over every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from orchestrator.discovery.base import Address, Discovery
from orchestrator.discovery.in_process import InProcessDiscovery
from orchestrator.discovery.static import StaticDiscovery

TWO = frozenset({Address("in-process", "a"), Address("in-process", "b")})


def _static() -> Discovery:
    return StaticDiscovery(TWO)


def _in_process() -> Discovery:
    discovery = InProcessDiscovery()
    for address in TWO:
        discovery.register(address.target)
    return discovery


@pytest.fixture(params=[_static, _in_process], ids=["static", "in-process"])
async def discovery(request: pytest.FixtureRequest) -> AsyncIterator[Discovery]:
    make: Callable[[], Discovery] = request.param
    made = make()
    yield made
    await made.close()


async def test_gives_the_whole_set_at_once(discovery: Discovery) -> None:
    assert await anext(discovery.watch()) == TWO


async def test_every_reader_gets_the_set(discovery: Discovery) -> None:
    assert [await anext(discovery.watch()) for _ in range(3)] == [TWO] * 3


async def test_close_ends_a_watch_that_waits_for_a_change(discovery: Discovery) -> None:
    seen: list[frozenset[Address]] = []
    first = asyncio.Event()

    async def read() -> None:
        async for level in discovery.watch():
            seen.append(level)
            first.set()

    reader = asyncio.create_task(read())
    await first.wait()
    await discovery.close()
    await asyncio.wait_for(reader, timeout=5)
    assert seen == [TWO]


async def test_a_watch_after_close_is_empty_and_close_can_be_repeated(discovery: Discovery) -> None:
    await discovery.close()
    await discovery.close()
    assert [level async for level in discovery.watch()] == []


async def test_a_cancelled_reader_does_not_disturb_the_others(discovery: Discovery) -> None:
    async def read(gone: asyncio.Event) -> list[frozenset[Address]]:
        seen = []
        async for level in discovery.watch():
            seen.append(level)
            gone.set()
        return seen

    first, second = asyncio.Event(), asyncio.Event()
    cancelled, stays = asyncio.create_task(read(first)), asyncio.create_task(read(second))
    await asyncio.gather(first.wait(), second.wait())
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await discovery.close()
    assert await asyncio.wait_for(stays, timeout=5) == [TWO]
