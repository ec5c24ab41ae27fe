"""The queue of object names, on a virtual clock."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dagengine.testing import VirtualClock
from orchestrator.controller.queue import Look, WorkQueue
from orchestrator.errors import ClusterConflict, ClusterUnavailable, NotFound


class _Most(random.Random):
    """Chance that always takes the most."""

    def uniform(self, a: float, b: float) -> float:
        return b


@asynccontextmanager
async def running(queue: WorkQueue, look: Look) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run(look))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    """Let everything happen that needs no time."""
    for _ in range(30):
        await asyncio.sleep(0)


async def test_a_name_that_is_added_often_is_looked_at_once() -> None:
    seen: list[str] = []

    async def look(name: str) -> None:
        seen.append(name)

    queue = WorkQueue("thing", VirtualClock())
    for name in ("a", "b", "a", "a"):
        queue.add(name)
    assert len(queue) == 2
    async with running(queue, look):
        await settle()
    assert seen == ["a", "b"]


async def test_what_is_added_while_it_is_looked_at_is_looked_at_again_but_never_twice_at_a_time() -> None:
    begun: list[str] = []
    go_on = asyncio.Event()

    async def look(name: str) -> None:
        begun.append(name)
        await go_on.wait()

    queue = WorkQueue("thing", VirtualClock())
    queue.add("a")
    async with running(queue, look):
        await settle()
        queue.add("a")
        queue.add("a")
        queue.add("b")
        await settle()
        assert begun == ["a", "b"]
        go_on.set()
        await settle()
    assert begun == ["a", "b", "a"]


async def test_only_so_many_are_looked_at_at_the_same_time() -> None:
    now, most = 0, 0
    go_on = asyncio.Event()

    async def look(name: str) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await go_on.wait()
        now -= 1

    queue = WorkQueue("thing", VirtualClock(), at_once=3)
    for number in range(10):
        queue.add(str(number))
    async with running(queue, look):
        await settle()
        go_on.set()
        await settle()
        await settle()
        assert (most, now, len(queue)) == (3, 0, 0)


async def test_a_look_that_asks_for_another_gets_it_at_its_time() -> None:
    clock = VirtualClock()
    seen: list[int] = []

    async def look(name: str) -> float | None:
        seen.append(clock.now())
        return 5.0 if len(seen) < 3 else None

    queue = WorkQueue("thing", clock)
    start = clock.now()
    queue.add("a", after=1)
    async with running(queue, look):
        for seconds in (1, 5, 5, 100):
            await settle()
            clock.advance(seconds * 1_000_000)
        await settle()
    assert [at - start for at in seen] == [1_000_000, 6_000_000, 11_000_000]


async def test_an_earlier_time_wins_over_a_later_one() -> None:
    clock = VirtualClock()
    seen: list[int] = []

    async def look(name: str) -> None:
        seen.append(clock.now())

    queue = WorkQueue("thing", clock)
    start = clock.now()
    queue.add("a", after=60)
    async with running(queue, look):
        await settle()
        queue.add("a", after=2)
        queue.add("a", after=90)
        await settle()
        clock.advance(2_000_000)
        await settle()
        clock.advance(200_000_000)
        await settle()
    assert [at - start for at in seen] == [2_000_000]


async def test_names_that_wait_long_and_are_called_often_take_no_more_room() -> None:
    clock = VirtualClock()
    queue = WorkQueue("boat", clock)
    looks = 0

    async def look(name: str) -> float:
        nonlocal looks
        looks += 1
        return 1e6 + looks

    queue.add("soon", after=1e5)
    async with running(queue, look):
        for _ in range(1_000):
            queue.add("far")
            await settle()
    assert looks == 1_000
    assert len(queue) == 2
    assert len(queue._order) < 200, "they would stay until their time has come"


async def test_failures_come_back_ever_later_and_a_success_forgets_them() -> None:
    clock = VirtualClock()
    seen: list[int] = []

    async def look(name: str) -> None:
        seen.append(clock.now())
        if len(seen) != 13:
            raise NotFound("not yet")

    queue = WorkQueue("thing", clock, chance=_Most())
    queue.add("a")
    async with running(queue, look):
        await settle()
        for _ in range(12):
            assert clock.next_wake is not None
            clock.advance(clock.next_wake - clock.now())
            await settle()
        queue.add("a")
        await settle()
        assert clock.next_wake == clock.now() + 50_000
    waits = [(after - before) / 1e6 for before, after in itertools.pairwise(seen)]
    assert waits[:4] == [0.05, 0.1, 0.2, 0.4]
    assert waits[10:12] == [51.2, 60.0]


async def test_the_api_says_when_to_come_back() -> None:
    clock = VirtualClock()

    async def look(name: str) -> None:
        raise ClusterUnavailable("busy", status=429, retry_after=7.0)

    queue = WorkQueue("thing", clock)
    queue.add("a")
    async with running(queue, look):
        await settle()
        assert clock.next_wake == clock.now() + 7_000_000


async def test_a_fault_of_one_object_does_not_keep_the_others_from_being_looked_at() -> None:
    seen: list[str] = []

    async def look(name: str) -> None:
        seen.append(name)
        match name:
            case "a":
                raise ZeroDivisionError
            case "b":
                raise ClusterConflict("somebody was faster", status=409)

    queue = WorkQueue("thing", VirtualClock(), at_once=1)
    for name in "abc":
        queue.add(name)
    async with running(queue, look):
        await settle()
    assert seen == ["a", "b", "c"]
    assert len(queue) == 2


async def test_what_is_being_looked_at_ends_with_the_queue() -> None:
    ended = asyncio.Event()

    async def look(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    queue = WorkQueue("thing", VirtualClock())
    queue.add("a")
    async with running(queue, look):
        await settle()
    assert ended.is_set()
