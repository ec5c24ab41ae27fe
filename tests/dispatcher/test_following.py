"""Who follows what this replica does not own hears of it; comparing takes a small part of the time at most."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dagengine.spec.model import Document

Journal = Callable[..., list[bytes]]


@pytest.fixture
async def followed(bench: Any, lua: Document, journal: Journal) -> str:
    """An execution that is parked."""
    engine = await bench.engine()
    execution: str = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution)[:3])
    await engine.says(parks=[{"execution": execution, "epoch": 1, "last_seq": 3, "wake_at": 0}])
    await engine.gets("drops")
    return execution


async def test_a_comparison_that_takes_long_is_followed_by_a_longer_pause(bench: Any, followed: str) -> None:
    changed = [bench.dispatcher.feed.change(followed)]
    gate = bench.store.hold("heads")
    bench.dispatcher.heard("facts")
    await bench.advance(0.5)
    async with asyncio.timeout(10):
        await bench.store.reached("heads")
    await bench.advance(1)
    gate.set()
    await bench.quiet()
    assert changed[0].done()  # nothing was known of it before
    changed.append(bench.dispatcher.feed.change(followed))
    again = bench.store.hold("heads")
    again.set()
    bench.dispatcher.heard("facts")
    await bench.advance(3.5)
    assert not bench.store.was_reached("heads")
    await bench.advance(1)
    assert bench.store.was_reached("heads")
    changed[1].cancel()
