"""A replica whose lease was ended: it forgets what it owned, joins again, and nobody who waits is disturbed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from dagengine.spec.model import Document
from dagengine.testing import VirtualClock
from orchestrator.dispatcher.membership import Member
from orchestrator.errors import StoreError, Unavailable
from orchestrator.store.sqlite import SQLiteStore

Journal = Callable[..., list[bytes]]


@pytest.fixture
async def keyed(bench: Any, document: Any) -> tuple[str, str]:
    """Two executions that share a key, of which one may run at a time."""
    queue = document([{"id": "a"}], id="queue", concurrency={"max": 1})
    first, second = [await bench.start(queue, concurrency_key="k") for _ in range(2)]
    return first, second


async def test_it_joins_again_and_claims_anew(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    ended = bench.dispatcher.feed.end(execution)
    await bench.store.leave()
    await bench.advance(2)
    assert (bench.dispatcher.running, bench.dispatcher.out_of_touch) == (1, False)
    [adopt] = await engine.gets("adopts")
    assert (adopt.execution, adopt.epoch, adopt.dispatch_epoch) == (execution, 2, 1)
    await engine.facts(execution, journal(lua, execution), epoch=2)
    assert (await ended).status == "succeeded"


async def test_starts_go_through_all_the_same(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    before = await bench.start(lua)
    await engine.gets("starts")
    await bench.store.leave()
    execution = await bench.start(lua)
    assert [start.execution for start in await engine.gets("starts", 2)] == [before, execution]
    await bench.store.leave()
    await bench.cancel(execution)
    assert [delivery.id for delivery in await engine.gets("deliveries")] == ["c1"]


async def test_it_says_when_it_cannot_join_again(bench: Any, lua: Document) -> None:
    await bench.restart(lease=0.2)
    await bench.start(lua)
    bench.store.failing.add("join")
    await bench.store.leave()
    with pytest.raises(Unavailable, match="out of touch"):
        await bench.start(lua)
    assert bench.dispatcher.out_of_touch
    bench.store.failing.clear()
    await bench.advance(1)
    assert not bench.dispatcher.out_of_touch
    await bench.start(lua)


async def test_the_leader_counts_keys_anew(bench: Any, keyed: tuple[str, str], journal: Journal) -> None:
    engine = await bench.engine()
    [start] = await engine.gets("starts")
    assert start.execution == keyed[0]
    bench.store.failing.add("unfinished")
    await bench.store.leave()
    await bench.advance(3)
    assert not bench.dispatcher.leads
    assert bench.dispatcher.running == 0
    bench.store.failing.clear()
    await bench.advance(2)
    assert bench.dispatcher.leads
    assert [adopt.execution for adopt in await engine.gets("adopts")] == [keyed[0]]
    assert await bench.waiting_on(keyed[1]) == "concurrency"


class Shared(SQLiteStore):
    """A store that says that there is another replica, whose lease has run out."""

    def __init__(self) -> None:
        super().__init__("sqlite://")
        self.taken = 0
        self.broken = False

    async def renew(self) -> Any:
        if self.broken:
            raise StoreError("the database is away")
        return msgspec.structs.replace(await super().renew(), others=1)

    async def take_over(self) -> list[str]:
        self.taken += 1
        return ["orchestrator-2"]


@pytest.fixture
async def member() -> AsyncIterator[Member]:
    store, clock = Shared(), VirtualClock()
    await store.open()
    member = Member(store, clock, name="one", lease=6.0, changed=lambda: None, forget=lambda: None)
    await member.join()
    running = asyncio.create_task(member.run())
    yield member
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


async def renewed(member: Any) -> None:
    """Two seconds pass: it renews once."""
    await member._clock.asleep()
    member._clock.advance(2_000_000)
    await asyncio.sleep(0)
    await member._clock.asleep()


async def test_others_are_taken_over_when_their_time_has_run_out(member: Any) -> None:
    await renewed(member)
    assert member._store.taken == 1


async def test_nobody_is_judged_right_after_the_own_lease_could_not_be_renewed(member: Any) -> None:
    member._store.broken = True
    await renewed(member)
    member._store.broken = False
    for _ in range(2):
        await renewed(member)
    assert member._store.taken == 0
    await renewed(member)
    assert member._store.taken == 1


async def test_what_it_owns_is_its_own_until_its_lease_may_be_over(member: Any) -> None:
    await renewed(member)
    assert member.owns
    member._store.broken = True
    for _ in range(2):
        await renewed(member)
    assert member.owns
    await renewed(member)
    assert not member.owns
    member._store.broken = False
    await renewed(member)
    assert member.owns
