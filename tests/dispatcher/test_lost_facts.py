"""A store that has lost what engines were told to be committed: that is said, and nothing is done over again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import structlog

from dagengine.events.facts import ErrorInfo
from dagengine.spec.model import Document
from orchestrator.store.base import ExecutionRecord

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
    engine.forget()
    return engine, execution, made


async def fails(bench: Any, execution: str) -> str:
    """The message of the error that it ends with."""

    async def ended() -> ExecutionRecord | None:
        record = await bench.record(execution)
        return record if record.finished_at is not None else None

    record = await bench.soon(ended)
    assert record.status == "failed"
    error = msgspec.json.decode(record.error, type=ErrorInfo)
    assert error.type == "FactsLost"
    assert (await bench.stored(execution))[-1].given_up
    return error.message


async def test_an_engine_that_was_told_more_than_the_store_has_ends_the_execution(bench: Any, running: Any) -> None:
    engine, execution, _ = running
    engine.cut()
    with structlog.testing.capture_logs() as logs:
        await engine.hello("engine-1", held=[(execution, 1, 5, 5)])
        message = await fails(bench, execution)
    assert message == (
        "facts of this execution are lost: engine 'engine-1' was told that 5 facts of it are committed, under epoch 1; "
        "the store has 3, and ends at epoch 1"
    )
    [drop] = await engine.gets("drops")
    assert (drop.execution, drop.epoch) == (execution, 1)
    assert [(line["execution"], line["log_level"]) for line in logs if line["event"] == "store_lost_facts"] == [
        (execution, "error")
    ]
    assert bench.monitor.snapshot().facts_lost == 2
    assert bench.dispatcher.faults == [f"the store has lost facts of 1 executions, among them {execution}"]
    assert b"dagengine_store_lost_facts_total 2.0" in bench.monitor.metrics()


async def test_an_epoch_that_the_store_knows_nothing_of_ends_the_execution(bench: Any, running: Any) -> None:
    engine, execution, _ = running
    engine.cut()
    await engine.hello("engine-1", held=[(execution, 4, 3, 3)])
    assert "under epoch 4" in await fails(bench, execution)
    assert (await engine.gets("drops"))[0].epoch == 4
    assert engine.told("starts") == []


async def test_what_an_engine_has_made_on_top_is_no_loss(bench: Any, running: Any) -> None:
    engine, execution, _ = running
    engine.cut()
    await engine.hello("engine-1", held=[(execution, 1, 5, 3)], acknowledged_position=3)
    await engine.gets("adopts")
    assert (bench.dispatcher.faults, bench.monitor.snapshot().facts_lost) == ([], 0)


async def test_positions_show_what_is_lost_of_executions_that_nobody_holds(bench: Any, running: Any) -> None:
    """The execution may have ended at the engine; after a restart, what the store says of it cannot be trusted."""
    engine, execution, _ = running
    await bench.restart()
    engine = await bench.engine(acknowledged_position=6)
    message = await fails(bench, execution)
    assert message.startswith("facts of this execution are lost: engine 'engine-1' knows of facts that the store does")
    assert engine.told("starts") == []
    assert bench.dispatcher.faults[0] == (
        "the store has lost facts: an engine was told that all up to position 6 are committed, and the store ended at 3"
    )
    assert bench.monitor.snapshot().facts_lost == 3
    second = await bench.engine("engine-2", acknowledged_position=7, incarnation="second")
    await bench.quiet()
    assert second.told("drops") == []
    assert bench.monitor.snapshot().facts_lost == 4


async def test_what_is_claimed_from_an_engine_that_knows_more_is_not_done_over_again(
    bench: Any, lua: Document, running: Any
) -> None:
    engine, execution, _ = running
    engine.cut()
    await engine.hello("engine-1", held=[(execution, 1, 3, 3)], acknowledged_position=9)
    await engine.gets("adopts")
    await bench.store.leave()
    await engine.facts(execution, [b"x"], epoch=9)
    adopt = (await engine.gets("adopts", 2))[1]
    await engine.refuses(execution, "HISTORY_MISSING", epoch=adopt.epoch)
    await fails(bench, execution)
    assert engine.told("starts") == []


async def test_a_store_that_goes_back_while_it_is_used_is_noticed(bench: Any, running: Any) -> None:
    engine, execution, made = running
    await bench.store.rewind(execution, 2)
    await engine.facts(execution, made[3:], first=4)
    assert "was told that 3 facts of it are committed" in await fails(bench, execution)
    await engine.gets("drops")


async def test_what_is_lost_while_nobody_owns_it_is_over_once_somebody_does(bench: Any, running: Any) -> None:
    engine, execution, _ = running
    engine.cut()
    gate = bench.store.hold("claim")
    await bench.store.leave()
    other = await bench.engine("engine-2")
    await other.facts("x", [b"x"])
    await bench.store.reached("claim")
    await engine.hello("engine-1", held=[(execution, 1, 5, 5)])
    await bench.soon(lambda: bench.dispatcher.faults)
    assert engine.told("drops") == []
    gate.set()
    await fails(bench, execution)
    [drop] = await engine.gets("drops")
    assert (drop.execution, drop.epoch) == (execution, 1)
