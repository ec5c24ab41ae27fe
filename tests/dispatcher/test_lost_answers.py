"""The store has done what it was asked for, and its answer is lost: the connection was cut while it committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dagengine.machine.operations import Rerun
from dagengine.spec.model import Document
from orchestrator.errors import StoreError

Journal = Callable[..., list[bytes]]


async def test_an_execution_whose_end_was_committed_unheard_ends(bench: Any, lua: Document, journal: Journal) -> None:
    seen: list[int] = []
    bench.monitor.subscribe(lambda fact: seen.append(fact.seq))
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    ended = bench.dispatcher.feed.end(execution)
    bench.store.losing = {"append"}
    facts = journal(lua, execution)
    await engine.facts(execution, facts[:3])
    await engine.facts(execution, facts[3:], first=4)
    await bench.soon(lambda: bench.store.refused)
    bench.store.losing.clear()
    await bench.advance(1)
    async with asyncio.timeout(5):
        assert (await ended).status == "succeeded"
    assert await ended == await bench.record(execution)
    assert bench.dispatcher.running == 0
    assert (await engine.until(lambda: engine.told("acks")))[-1].seq == len(facts)
    assert seen == list(range(1, len(facts) + 1))


async def test_what_was_recorded_unheard_runs(bench: Any, lua: Document) -> None:
    await bench.start(lua)
    bench.store.losing = {"create_execution"}
    execution = await bench.start(lua)
    bench.store.losing.clear()
    engine = await bench.engine()
    assert execution in {start.execution for start in await engine.gets("starts", 2)}


async def test_what_was_recorded_unheard_runs_even_if_nobody_could_be_asked(bench: Any, lua: Document) -> None:
    await bench.start(lua)
    bench.store.losing = {"create_execution"}
    bench.store.failing = {"execution"}
    with pytest.raises(StoreError):
        await bench.start(lua)
    bench.store.losing.clear()
    bench.store.failing.clear()
    engine = await bench.engine()
    await bench.advance(3)
    assert len(await engine.gets("starts", 2)) == 2


async def test_what_was_claimed_unheard_is_taken_in(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution))
    await bench.soon(lambda: not bench.dispatcher.running)
    bench.store.losing = {"claim"}
    await bench.operate(execution, Rerun(nodes=("a",)), id="r1")
    await bench.soon(lambda: bench.store.refused)
    bench.store.losing.clear()
    await bench.advance(3)
    assert [start.epoch for start in await engine.gets("starts", 2)] == [1, 2]
    assert [delivery.id for delivery in await engine.gets("deliveries")] == ["r1"]


async def test_what_was_cancelled_unheard_has_ended(bench: Any, document: Callable[..., Document]) -> None:
    keyed = document([{"id": "a"}], id="keyed", concurrency={"key": "k", "max": 1, "on_conflict": "queue"})
    first = await bench.start(keyed, concurrency_key="keyed/k")
    second = await bench.start(keyed, concurrency_key="keyed/k")
    ended = bench.dispatcher.feed.end(first)
    bench.store.losing = {"end_undispatched"}
    await bench.cancel(first)
    bench.store.losing.clear()
    assert (await bench.record(first)).status == "cancelled"
    engine = await bench.engine()
    assert [start.execution for start in await engine.gets("starts")] == [second]
    async with asyncio.timeout(5):
        assert (await ended).status == "cancelled"


async def test_what_was_dispatched_unheard_can_be_cancelled(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    bench.store.losing = {"dispatch"}
    execution = await bench.start(lua)
    await bench.soon(lambda: bench.store.refused)
    engine.cut()
    bench.store.losing.clear()
    await bench.advance(1)
    await bench.cancel(execution)
    await bench.advance(1)
    assert (await bench.record(execution)).status == "cancelled"
    assert bench.dispatcher.queued == 0


async def test_what_was_parked_unheard_sleeps_and_holds_nothing(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution)[:3])
    await engine.gets("acks")
    bench.store.losing = {"park"}
    wake_at = bench.clock.now() + 60_000_000
    await engine.says(parks=[{"execution": execution, "epoch": 1, "last_seq": 3, "wake_at": wake_at}])
    await bench.soon(lambda: bench.store.refused)
    bench.store.losing.clear()
    await bench.advance(1)
    assert [drop.execution for drop in await engine.gets("drops")] == [execution]
    assert (bench.dispatcher.running, bench.dispatcher.engines()[0].running) == (0, 0)
    await bench.advance(62)
    assert (await engine.gets("starts", 2))[1].execution == execution
