"""Engines that register by name."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.discovery.base import Address
from orchestrator.discovery.in_process import InProcessDiscovery
from orchestrator.errors import Conflict, NotFound


async def test_a_reader_sees_engines_come_and_go() -> None:
    discovery = InProcessDiscovery()
    levels = discovery.watch()
    assert await anext(levels) == frozenset()
    a = discovery.register("a")
    assert await anext(levels) == {a}
    waiting = asyncio.ensure_future(anext(levels))
    await asyncio.sleep(0)
    b = discovery.register("b")
    assert await waiting == {a, b}
    discovery.unregister("a")
    assert await anext(levels) == {b}
    await discovery.close()


async def test_a_slow_reader_sees_the_latest_level_only() -> None:
    discovery = InProcessDiscovery()
    levels = discovery.watch()
    await anext(levels)
    for name in ("a", "b", "c"):
        discovery.register(name)
    discovery.unregister("b")
    assert await anext(levels) == {Address("in-process", "a"), Address("in-process", "c")}
    await discovery.close()


def test_works_before_an_event_loop_runs() -> None:
    discovery = InProcessDiscovery()
    address = discovery.register("engine-1")

    async def first() -> frozenset[Address]:
        return await anext(discovery.watch())

    assert asyncio.run(first()) == {address}
    assert str(address) == "in-process:engine-1"


def test_a_taken_name_and_an_unknown_name_are_refused() -> None:
    discovery = InProcessDiscovery()
    discovery.register("a")
    with pytest.raises(Conflict, match="'a' is registered already"):
        discovery.register("a")
    with pytest.raises(NotFound, match="no engine named 'b'"):
        discovery.unregister("b")
