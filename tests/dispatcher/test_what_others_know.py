"""What discovery and health checks know of engines, beside what engines say themselves."""

from __future__ import annotations

import asyncio
from typing import Any

from structlog.testing import capture_logs

from orchestrator.verbs import EngineView

INTERVAL = 987_654
"""Microseconds between two health checks: a time at which nobody else does anything."""


def view(bench: Any) -> EngineView:
    (only,) = bench.dispatcher.engines()
    return only


async def started(engine: Any, count: int) -> None:
    await engine.until(lambda: len(engine.told("starts")) == count)


async def checked(bench: Any, rounds: int = 1) -> None:
    """Let so many health checks happen."""
    for _ in range(rounds):
        await bench.clock.asleep(until=bench.clock.now() + INTERVAL)
        bench.clock.advance(INTERVAL)
    await bench.clock.asleep(until=bench.clock.now() + INTERVAL)


class Checking:
    """Health checks, one after the other."""

    def __init__(self, bench: Any) -> None:
        self._bench = bench

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._bench.dispatcher.links.check(interval=INTERVAL / 1e6))

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_an_engine_gets_no_more_than_it_should(bench: Any, document: Any) -> None:
    engine = await bench.engine(capacity=10)
    bench.dispatcher.links.describe(engine.address, capacity=2, draining="")
    assert view(bench).capacity == 2
    for _ in range(3):
        await bench.start(document([{"id": "a"}]))
    await started(engine, 2)
    assert bench.dispatcher.queued == 1
    bench.dispatcher.links.describe(engine.address, capacity=0, draining="")
    await started(engine, 3)


async def test_an_engine_never_gets_more_than_it_says_it_can_take(bench: Any) -> None:
    engine = await bench.engine(capacity=3)
    bench.dispatcher.links.describe(engine.address, capacity=50, draining="")
    assert view(bench).capacity == 3


async def test_what_is_known_of_an_address_holds_for_the_engine_that_answers_there_later(bench: Any) -> None:
    engine = bench.dial("engine-1:1")
    bench.dispatcher.links.describe("engine-1:1", capacity=2, draining="it is marked")
    await engine.hello("engine-1")
    assert (view(bench).capacity, view(bench).state, view(bench).reason) == (2, "draining", "it is marked")


async def test_what_is_known_goes_with_the_link(bench: Any) -> None:
    engine = await bench.engine()
    bench.dispatcher.links.describe(engine.address, capacity=2, draining="it is marked")
    await bench.dispatcher.remove_link(engine.address)
    await bench.engine()
    assert (view(bench).capacity, view(bench).state) == (10, "ready")


async def test_an_engine_that_drains_gets_nothing_and_keeps_what_it_has(bench: Any, document: Any) -> None:
    engine = await bench.engine()
    await bench.start(document([{"id": "a"}]))
    await started(engine, 1)
    bench.dispatcher.links.describe(engine.address, capacity=0, draining="it is marked")
    waiting = await bench.start(document([{"id": "a"}]))
    assert await bench.waiting_on(waiting) == "all_draining"
    assert bench.dispatcher.running == 1
    bench.dispatcher.links.describe(engine.address, capacity=0, draining="")
    await started(engine, 2)


async def test_two_bad_checks_in_a_row_make_an_engine_unhealthy_and_a_good_one_well(bench: Any, document: Any) -> None:
    engine = await bench.engine()
    async with Checking(bench):
        for bad in ("it says NOT_SERVING", None):
            engine.health = bad
            await checked(bench)
            assert view(bench).state == "ready", "once may be chance"
            await checked(bench)
            assert view(bench).state == "unhealthy"
            assert (bad or "does not say how it is") in view(bench).reason
            waiting = await bench.start(document([{"id": "a"}]))
            assert await bench.waiting_on(waiting) == "no_engine"
            engine.health = ""
            await checked(bench)
            assert view(bench).state == "ready"
    await started(engine, 2)


async def test_an_engine_without_a_session_is_unreachable_whatever_its_health(bench: Any) -> None:
    engine = await bench.engine()
    async with Checking(bench):
        engine.health = "it says NOT_SERVING"
        await checked(bench, 2)
        engine.cut("it is gone")
        assert view(bench).state == "unreachable"
        assert view(bench).reason == "it is gone"


async def test_what_was_said_of_a_process_does_not_hold_for_the_next_one_at_its_address(bench: Any) -> None:
    engine = await bench.engine(incarnation="first")
    async with Checking(bench):
        engine.health = "it says NOT_SERVING"
        await checked(bench, 3)
        engine.cut()
        await engine.hello("engine-1", incarnation="first")
        assert view(bench).state == "unhealthy"
        engine.cut()
        await engine.hello("engine-1", incarnation="second")
        assert view(bench).state == "ready"
        await checked(bench, 2)
        assert view(bench).state == "unhealthy", "it is no better"


async def test_an_engine_that_says_it_ends_is_not_asked_how_it_is(bench: Any) -> None:
    engine = await bench.engine(draining=True)
    async with Checking(bench):
        engine.health = "it says NOT_SERVING"
        with capture_logs() as logs:
            await checked(bench, 3)
    assert [line["event"] for line in logs] == []
    assert (view(bench).state, view(bench).reason) == ("draining", "it is shutting down")
