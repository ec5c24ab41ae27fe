"""Time that moves when it is told to."""

from __future__ import annotations

import asyncio

import pytest

from dagengine.clock import Clock
from dagengine.testing import START, VirtualClock


async def test_stands_still_until_it_is_advanced() -> None:
    clock: Clock = VirtualClock()
    assert clock.now() == clock.now() == START


async def test_wakes_who_is_due_and_nobody_else() -> None:
    clock = VirtualClock()
    woken: list[int] = []

    async def sleeper(by: int) -> None:
        await clock.sleep_until(START + by)
        woken.append(by)

    tasks = [asyncio.create_task(sleeper(by)) for by in (30, 10, 20)]
    await clock.asleep(3)
    assert clock.next_wake == START + 10
    clock.advance(20)
    await asyncio.gather(*tasks[1:])
    assert woken == [10, 20]
    assert (clock.now(), clock.next_wake) == (START + 20, START + 30)
    clock.advance(10)
    await tasks[0]
    assert clock.next_wake is None


async def test_a_time_that_has_come_is_not_waited_for() -> None:
    clock = VirtualClock()
    await clock.sleep_until(START)
    assert clock.next_wake is None


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep_until(START + 1))
    await clock.asleep()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.next_wake is None


async def test_asleep_can_wait_for_a_sleeper_until_a_given_time() -> None:
    clock = VirtualClock()
    early = asyncio.create_task(clock.sleep_until(START + 1))
    waiting = asyncio.create_task(clock.asleep(until=START + 2))
    await clock.asleep()
    assert not waiting.done()
    late = asyncio.create_task(clock.sleep_until(START + 2))
    await waiting
    clock.advance(2)
    await asyncio.gather(early, late)


def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="time cannot go back"):
        VirtualClock().advance(-1)
