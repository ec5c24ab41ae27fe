"""Retries are due by the clock: one timer per execution, set to what is due next."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dagengine.machine.operations import Cancel
from dagengine.testing import VirtualClock

SECOND = 1_000_000


def retry(attempts: int, initial: str) -> dict[str, Any]:
    return {"fail": {"max_attempts": attempts, "backoff": {"initial": initial, "factor": 2, "jitter": 0}}}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


async def test_a_retry_begins_when_its_time_has_come(drive, journal, scripted, effect, clock) -> None:
    driver = drive([effect("a", pure=True, retry=retry(3, "10s"))], clock=clock)
    driver.start(b"{}")
    for attempt, wait in ((1, 10), (2, 20)):
        due = clock.now() + wait * SECOND
        scripted.end("a", "fail", attempt=attempt)
        await asleep(clock, until=due)
        clock.advance(wait * SECOND - 1)
        await asyncio.sleep(0)
        assert scripted.begun[-1] == f"a {attempt}"
        clock.advance(1)
        await journal.holds("NodeStarted", "a", attempt + 1)
        assert scripted.begun[-1] == f"a {attempt + 1}"
    scripted.end("a", attempt=3)
    assert await settled(clock)
    journal.commit()
    await driver.wait()


async def asleep(clock: VirtualClock, **which: int) -> None:
    async with asyncio.timeout(10):
        await clock.asleep(**which)


async def settled(clock: VirtualClock) -> bool:
    """Whether nobody sleeps any more once what was cancelled has had its turn."""
    await asyncio.sleep(0)
    return clock.next_wake is None


async def test_the_timer_is_set_to_what_is_due_first(drive, journal, scripted, effect, clock) -> None:
    drive(
        [effect("slow", pure=True, retry=retry(2, "20s")), effect("quick", pure=True, retry=retry(2, "5s"))],
        clock=clock,
    ).start(b"{}")
    begun = clock.now()
    scripted.end("slow", "fail")
    await asleep(clock, until=begun + 20 * SECOND)
    scripted.end("quick", "fail")
    await asleep(clock, until=begun + 5 * SECOND)
    clock.advance(5 * SECOND)
    await journal.holds("NodeStarted", "quick", 2)
    await asleep(clock, until=begun + 20 * SECOND)
    clock.advance(15 * SECOND)
    await journal.holds("NodeStarted", "slow", 2)


async def test_everything_that_is_due_begins_in_one_batch(drive, journal, scripted, effect, clock) -> None:
    drive([effect(f"n{at}", pure=True, retry=retry(2, "5s")) for at in range(10)], clock=clock).start(b"{}")
    for at in range(10):
        scripted.end(f"n{at}", "fail")
    await asleep(clock)
    clock.advance(5 * SECOND)
    await journal.holds("NodeStarted", "n9", 2)
    assert scripted.batches == [10, 10]


async def test_a_retry_of_an_effect_waits_for_its_time_and_then_for_its_commit(
    drive, journal, scripted, effect, clock
) -> None:
    drive([effect("a", retry=retry(2, "5s"))], clock=clock).start(b"{}")
    journal.commit()
    scripted.end("a", "fail")
    journal.commit()
    await asleep(clock)
    clock.advance(5 * SECOND)
    start = await journal.holds("NodeStarted", "a", 2)
    assert scripted.begun == ["a 1"]
    journal.commit(start)
    assert scripted.begun == ["a 1", "a 2"]


async def test_a_cancelled_retry_wakes_nobody(drive, journal, scripted, effect, clock) -> None:
    driver = drive([effect("a", pure=True, retry=retry(2, "5s"))], clock=clock)
    driver.start(b"{}")
    scripted.end("a", "fail")
    await asleep(clock)
    driver.operate(Cancel(), command="c-1")
    assert await settled(clock)
    assert journal.position("ExecutionCancelled")


async def test_a_retry_that_became_due_while_nobody_ran_the_execution_begins_at_once(
    drive, journal, held_journal, scripted, effect, clock
) -> None:
    nodes = [effect("a", pure=True, retry=retry(2, "5s"))]
    first = drive(nodes, clock=clock)
    first.start(b"{}")
    scripted.end("a", "fail")
    first.stop()
    clock.advance(3600 * SECOND)
    again = held_journal(committed=len(journal.facts))
    drive(nodes, clock=clock, journal=again).resume(journal.facts)
    await again.holds("NodeStarted", "a", 2)
    assert scripted.begun == ["a 1", "a 2"]


async def test_facts_carry_the_time_of_the_clock(drive, journal, scripted, effect, clock) -> None:
    drive([effect("a", pure=True)], clock=clock).start(b"{}")
    begun = clock.now()
    clock.advance(7 * SECOND)
    scripted.end("a")
    assert [fact.at - begun for fact in journal.facts] == [0, 0, 7 * SECOND, 7 * SECOND]
