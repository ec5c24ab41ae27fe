"""What only waits is taken from its engine until there is something to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dagengine.machine.operations import Pause
from dagengine.spec.model import Document

Journal = Callable[..., list[bytes]]


@pytest.fixture
async def running(bench: Any, lua: Document, journal: Journal) -> tuple[Any, str, list[bytes]]:
    """An engine, an execution that it has, and all facts that it makes of it; three of them are committed."""
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    made = journal(lua, execution)
    await engine.facts(execution, made[:3])
    await engine.gets("acks")
    return engine, execution, made


def park(execution: str, *, last_seq: int = 3, epoch: int = 1, wake_at: int = 0) -> dict[str, Any]:
    return {"execution": execution, "epoch": epoch, "last_seq": last_seq, "wake_at": wake_at}


async def test_what_is_parked_has_no_engine_until_it_wakes(bench: Any, running: Any) -> None:
    engine, execution, _ = running
    wake_at = bench.clock.now() + 60_000_000
    await engine.says(parks=[park(execution, wake_at=wake_at)])
    [drop] = await engine.gets("drops")
    assert (drop.execution, drop.epoch) == (execution, 1)
    record = await bench.record(execution)
    assert (record.engine, record.owner, record.wake_at, record.status) == (None, None, wake_at, "running")
    assert (bench.dispatcher.running, bench.dispatcher.queued) == (0, 0)
    assert bench.dispatcher.engines()[0].running == 0
    assert bench.monitor.snapshot().parked == 1
    await bench.advance(58)
    assert len(engine.told("starts")) == 1
    await bench.advance(4)
    again = (await engine.gets("starts", 2))[1]
    assert (again.execution, again.epoch, again.history) == (execution, 2, 3)


async def test_what_waits_for_somebody_wakes_when_something_is_asked_of_it(bench: Any, running: Any) -> None:
    engine, execution, _ = running
    await engine.says(parks=[park(execution)])
    await engine.gets("drops")
    await bench.advance(120)
    assert (await bench.record(execution)).wake_at is None
    assert len(engine.told("starts")) == 1
    await bench.operate(execution, Pause(author="ada", reason="lunch"), id="p1")
    again = (await engine.gets("starts", 2))[1]
    assert (again.execution, again.epoch, again.history) == (execution, 2, 3)
    assert [delivery.id for delivery in await engine.gets("deliveries")] == ["p1"]


async def test_facts_that_came_before_are_in_the_store_first(bench: Any, running: Any) -> None:
    engine, execution, made = running
    batch = {"execution": execution, "epoch": 1, "first_seq": 4, "facts": made[3:4]}
    await engine.says(facts=[batch], parks=[park(execution, last_seq=4)])
    await engine.gets("drops")
    assert len(await bench.stored(execution)) == 4


@pytest.mark.parametrize("wrong", [{"last_seq": 2}, {"epoch": 2}], ids=["facts", "epoch"])
async def test_what_has_changed_meanwhile_stays_where_it_is(bench: Any, running: Any, wrong: dict[str, int]) -> None:
    engine, execution, made = running
    await engine.says(parks=[park(execution, **wrong)])
    await bench.quiet()
    assert engine.told("drops") == []
    assert (await bench.record(execution)).engine == "engine-1"
    await engine.facts(execution, made[3:], first=4)
    await bench.soon(lambda: not bench.dispatcher.running)


async def test_what_somebody_wants_something_of_stays_where_it_is(bench: Any, running: Any) -> None:
    engine, execution, _ = running
    await bench.cancel(execution)
    await engine.says(parks=[park(execution)])
    await bench.quiet()
    assert engine.told("drops") == []


async def test_a_store_in_trouble_parks_later(bench: Any, running: Any) -> None:
    engine, execution, _ = running
    bench.store.failing.add("park")
    await engine.says(parks=[park(execution)])
    assert "park" in bench.store.refused
    bench.store.failing.clear()
    assert engine.told("drops") == []
    assert bench.dispatcher.running == 1
    await bench.advance(1)  # an engine says so once only: it must not keep what waits for an hour
    [drop] = await engine.gets("drops")
    assert (drop.execution, drop.epoch) == (execution, 1)
    assert bench.dispatcher.running == 0


async def test_what_has_gone_on_while_the_store_was_in_trouble_is_not_parked(bench: Any, running: Any) -> None:
    engine, execution, made = running
    bench.store.failing.add("park")
    await engine.says(parks=[park(execution)])
    bench.store.failing.clear()
    await engine.facts(execution, made[3:4], first=4)
    await bench.advance(2)
    assert engine.told("drops") == []
    assert bench.dispatcher.running == 1


async def test_nobody_can_park_what_is_not_theirs(bench: Any, running: Any) -> None:
    engine, execution, _ = running
    other = await bench.engine("engine-2")
    await other.says(parks=[park(execution), park("unknown")])
    await bench.quiet()
    assert (engine.told("drops"), other.told("drops")) == ([], [])
    assert (await bench.record(execution)).engine == "engine-1"


async def test_an_engine_that_missed_the_answer_is_told_again(bench: Any, running: Any) -> None:
    engine, execution, _ = running
    await engine.says(parks=[park(execution)])
    await engine.gets("drops")
    engine.forget()
    engine.cut()
    await engine.hello("engine-1", held=[(execution, 1, 3, 3)])
    [drop] = await engine.gets("drops")
    assert (drop.execution, drop.epoch) == (execution, 1)
