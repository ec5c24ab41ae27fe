"""What nobody owns is claimed: after a start, when it wakes, and when this replica has lost all that it owned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dagengine.machine.operations import Cancel, Pause, Rerun
from dagengine.spec.model import Document
from orchestrator.errors import Overloaded, StoreError

Journal = Callable[..., list[bytes]]


async def test_a_full_queue_takes_in_the_rest_bit_by_bit(bench: Any, lua: Document) -> None:
    executions = [await bench.start(lua) for _ in range(120)]
    await bench.restart(queue_limit=10)
    assert bench.dispatcher.queued == 50
    with pytest.raises(Overloaded):
        await bench.start(lua)
    await bench.advance(3)
    assert bench.dispatcher.queued == 120
    engine = await bench.engine(capacity=200)
    assert sorted(start.execution for start in await engine.gets("starts", 120)) == sorted(executions)


async def test_as_much_is_claimed_at_once_as_there_is_room_for(bench: Any, lua: Document) -> None:
    for _ in range(520):
        await bench.start(lua)
    await bench.restart()
    assert bench.dispatcher.queued == 520


async def test_what_wakes_gets_through_a_full_queue(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine(capacity=1)
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution)[:3])
    wake_at = bench.clock.now() + 5_000_000
    await engine.says(parks=[{"execution": execution, "epoch": 1, "last_seq": 3, "wake_at": wake_at}])
    await engine.gets("drops")
    await bench.dispatcher.remove_link("engine-1:1")
    await bench.restart(queue_limit=2)
    for _ in range(2):
        await bench.start(lua)
    await bench.advance(6)
    assert await bench.waiting_on(execution) == "no_engine"


async def test_a_store_in_trouble_is_asked_again(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution))
    await bench.soon(lambda: not bench.dispatcher.running)
    bench.store.failing |= {"claim"}
    await bench.operate(execution, Rerun(nodes=("a",)), id="r1")
    await bench.quiet()
    assert bench.store.refused == ["claim"]
    bench.store.failing = {"inbox"}
    await bench.advance(1)
    bench.store.failing.clear()
    await bench.advance(1)
    assert [start.epoch for start in await engine.gets("starts", 2)] == [1, 2]
    assert [delivery.id for delivery in await engine.gets("deliveries")] == ["r1"]


async def test_what_is_asked_while_an_execution_is_claimed_is_not_missed(
    bench: Any, lua: Document, journal: Journal
) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution)[:3])
    await engine.says(parks=[{"execution": execution, "epoch": 1, "last_seq": 3, "wake_at": 0}])
    await engine.gets("drops")
    gate = bench.store.hold("inbox")
    await bench.operate(execution, Pause(), id="p1")
    await bench.store.reached("inbox")
    await bench.operate(execution, Pause(), id="p2")
    gate.set()
    await engine.gets("starts", 2)
    assert [delivery.id for delivery in await engine.gets("deliveries", 2)] == ["p1", "p2"]


async def test_it_may_even_be_ended_meanwhile(bench: Any, lua: Document) -> None:
    execution = await bench.start(lua)
    bench.store.failing.add("end_undispatched")
    await bench.restart()
    bench.store.failing.clear()
    await bench.store.leave()
    gate = bench.store.hold("inbox")
    await bench.advance(2)
    await bench.store.reached("inbox")
    await bench.operate(execution, Cancel(), id="c1")
    gate.set()
    await bench.quiet()
    assert (await bench.record(execution)).status == "cancelled"
    assert (bench.dispatcher.running, bench.dispatcher.queued) == (0, 0)


async def test_what_was_claimed_before_a_fence_is_not_taken_in_after_it(bench: Any, lua: Document) -> None:
    execution = await bench.start(lua)
    await bench.store.leave()
    gate = bench.store.hold("inbox")
    await bench.advance(2)
    await bench.store.reached("inbox")
    await bench.store.leave()  # once more, between the claim and what follows
    gate.set()
    await bench.advance(4)
    assert (bench.dispatcher.running, bench.dispatcher.queued) == (0, 1)
    engine = await bench.engine()
    assert [(start.execution, start.epoch) for start in await engine.gets("starts")] == [(execution, 1)]


async def test_an_orchestrator_whose_store_fails_at_the_start_does_not_open(bench: Any, lua: Document) -> None:
    await bench.start(lua)
    await bench.dispatcher.close()
    bench.store.failing.add("inbox")
    with pytest.raises(StoreError):
        await bench.open()
    await bench.dispatcher.close()
    bench.store.failing.clear()
    await bench.open()
    assert bench.dispatcher.queued == 1


async def test_what_is_parked_counts_under_its_key(bench: Any, document: Any, journal: Journal) -> None:
    queue = document([{"id": "a"}], id="queue", concurrency={"max": 1})
    engine = await bench.engine()
    first = await bench.start(queue, concurrency_key="k")
    second = await bench.start(queue, concurrency_key="k")
    await engine.gets("starts")
    made = journal(queue, first)
    await engine.facts(first, made[:2])
    await engine.says(parks=[{"execution": first, "epoch": 1, "last_seq": 2, "wake_at": 0}])
    await engine.gets("drops")
    for _ in range(2):
        assert await bench.waiting_on(second) == "concurrency"
        assert (bench.dispatcher.running, bench.dispatcher.queued) == (0, 1)
        await bench.restart()
    engine = await bench.engine()
    await bench.operate(first, Pause(), id="p1")
    [start] = await engine.gets("starts")
    assert start.execution == first
    await engine.facts(first, made[2:], first=3, epoch=start.epoch)
    assert [start.execution for start in await engine.gets("starts", 2)] == [first, second]


async def test_what_runs_is_taken_over_at_once_however_full_the_queue_is(bench: Any, lua: Document) -> None:
    engine = await bench.engine(capacity=120)
    running = [await bench.start(lua) for _ in range(120)]
    await engine.gets("starts", 120)
    await bench.dispatcher.remove_link("engine-1:1")
    for _ in range(60):
        await bench.start(lua)
    await bench.restart(queue_limit=1)
    assert bench.dispatcher.running == len(running)
    assert bench.dispatcher.queued >= 1
