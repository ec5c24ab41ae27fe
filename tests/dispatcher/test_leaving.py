"""Engines that nobody names any more: no work for them, and all the time they need for what they have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dagengine.spec.model import Document

Journal = Callable[..., list[bytes]]
ADDRESS = "engine-1:1"
UNNAMED = "it is not among the known engines any more"


@pytest.fixture
async def busy(bench: Any, lua: Document) -> tuple[Any, str]:
    """An engine with an execution, and the id of that."""
    engine = await bench.engine(capacity=3)
    execution = await bench.start(lua)
    await engine.gets("starts")
    return engine, execution


async def test_what_it_has_ends_there_and_nothing_else_comes(
    bench: Any, lua: Document, journal: Journal, busy: Any
) -> None:
    engine, execution = busy
    bench.dispatcher.links.retire(ADDRESS)
    later = await bench.start(lua)
    await bench.waits_on(later, "all_draining")
    await bench.advance(60)
    [view] = bench.dispatcher.engines()
    assert (view.state, view.reason, view.running) == ("draining", UNNAMED, 1)
    await engine.facts(execution, journal(lua, execution))
    await bench.soon(lambda: bench.dispatcher.running == 0)
    assert (await bench.record(execution)).status == "succeeded"
    await bench.advance(1)
    assert not engine.connected
    assert bench.dispatcher.engines() == []
    assert len(engine.told("starts")) == 1


async def test_what_it_hands_back_is_placed_elsewhere(bench: Any, busy: Any) -> None:
    engine, execution = busy
    bench.dispatcher.links.retire(ADDRESS)
    other = await bench.engine("engine-2")
    await engine.refuses(execution, "DRAINING")
    [start] = await other.gets("starts")
    assert (start.execution, start.epoch) == (execution, 2)
    await bench.advance(1)
    assert not engine.connected


async def test_one_that_has_nothing_goes_at_once(bench: Any) -> None:
    engine = await bench.engine()
    silent = bench.dial("engine-2:1")
    silent.reason = "cannot reach it"
    bench.dispatcher.links.retire(ADDRESS)
    bench.dispatcher.links.retire("engine-2:1")
    await bench.advance(0.5)
    assert not engine.connected
    assert bench.dispatcher.engines() == []


async def test_one_that_has_ended_is_not_dialled_again(bench: Any, lua: Document, journal: Journal, busy: Any) -> None:
    engine, execution = busy
    bench.dispatcher.links.retire(ADDRESS)
    await bench.quiet()
    await engine.facts(execution, journal(lua, execution))
    await bench.soon(lambda: bench.dispatcher.running == 0)
    engine.cut("the engine ended the session")
    await bench.quiet()  # no time has passed
    assert ADDRESS not in bench.dispatcher.links


async def test_one_that_is_named_again_was_never_away(bench: Any, lua: Document, busy: Any) -> None:
    engine, _ = busy
    for _ in range(20):
        bench.dispatcher.links.retire(ADDRESS)
        bench.dispatcher.add_link(bench, ADDRESS)
    await bench.start(lua)
    await engine.gets("starts", 2)
    await bench.advance(5)
    assert engine.connected
    assert bench.engines[ADDRESS] is engine, "it was not dialled anew"


async def test_it_stays_for_what_others_have_there(bench: Any) -> None:
    """The replica that has it may stop: then it is this one's, and is to be heard of."""
    engine = await bench.engine()
    await engine.says(load={"running": 1, "capacity": 10})
    bench.dispatcher.links.retire(ADDRESS)
    await bench.advance(60)
    assert engine.connected
    await engine.says(load={"running": 0, "capacity": 10})
    await bench.advance(1)
    assert not engine.connected


async def test_after_a_broken_line_it_goes_on(bench: Any, lua: Document, journal: Journal, busy: Any) -> None:
    engine, execution = busy
    bench.dispatcher.links.retire(ADDRESS)
    engine.cut()
    await bench.advance(5)
    await engine.hello("engine-1", held=[(execution, 1, 0)])
    assert [adopt.execution for adopt in engine.told("adopts")] == [execution]
    await engine.facts(execution, journal(lua, execution))
    await bench.soon(lambda: bench.dispatcher.running == 0)
    await bench.advance(1)
    assert bench.dispatcher.engines() == []


async def test_one_that_stays_away_is_forgotten_with_the_rest(bench: Any, busy: Any) -> None:
    engine, execution = busy
    bench.dispatcher.links.retire(ADDRESS)
    engine.cut()
    await bench.advance(25)
    assert await bench.waiting_on(execution) == "engine_away:engine-1"
    await bench.advance(7)
    assert await bench.waiting_on(execution) == "no_engine"
    assert bench.dispatcher.engines() == []
    assert "engine-1:1" not in bench.dispatcher.links
