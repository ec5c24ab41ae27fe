"""What engines hold against what they should hold: adopted, dropped, or placed again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from dagengine.spec.model import Document

Journal = Callable[..., list[bytes]]


@pytest.fixture
async def started(bench: Any, lua: Document, journal: Journal) -> tuple[Any, str, list[bytes]]:
    """An engine, an execution that it has, all facts of it; the first three are committed."""
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    made = journal(lua, execution)
    await engine.facts(execution, made[:3])
    await engine.gets("acks")
    engine.forget()
    return engine, execution, made


async def test_an_engine_that_comes_back_goes_on_where_the_store_is(bench: Any, started: Any) -> None:
    engine, execution, made = started
    engine.cut()
    await engine.hello("engine-1", held=[(execution, 1, 5)])
    [adopt] = await engine.gets("adopts")
    assert (adopt.execution, adopt.epoch, adopt.committed_seq) == (execution, 1, 3)
    await engine.facts(execution, made[3:], first=4)
    await bench.soon(lambda: not bench.dispatcher.running)
    assert len(await bench.stored(execution)) == 6
    assert engine.told("starts") == engine.told("drops") == []


async def test_an_engine_that_comes_back_with_nothing_is_given_it_again(bench: Any, started: Any) -> None:
    engine, execution, made = started
    engine.cut()
    await engine.hello("engine-1", incarnation="second")
    [start] = await engine.gets("starts")
    [history] = engine.told("histories")
    assert (start.execution, start.epoch, start.history) == (execution, 2, 3)
    assert (history.epoch, history.first_seq, list(history.facts)) == (2, 1, made[:3])
    await engine.facts(execution, made[3:], epoch=2, first=4)
    await bench.soon(lambda: not bench.dispatcher.running)
    assert (await bench.record(execution)).status == "succeeded"


async def test_an_engine_that_stays_away_loses_what_it_had(bench: Any, started: Any) -> None:
    engine, execution, _ = started
    other = await bench.engine("engine-2")
    engine.cut()
    await bench.advance(29)
    assert other.told("starts") == []
    await bench.advance(3)
    [start] = await other.gets("starts")
    assert (start.execution, start.epoch, start.history) == (execution, 2, 3)
    assert {view.id: view.running for view in bench.dispatcher.engines()} == {"engine-1": 0, "engine-2": 1}


async def test_a_short_absence_changes_nothing(bench: Any, started: Any) -> None:
    engine, execution, _ = started
    await bench.engine("engine-2")
    engine.cut()
    await bench.advance(20)
    absent = bench.dispatcher.engines()[0]
    assert (absent.state, absent.reason) == ("unreachable", "the line was cut")
    await bench.waits_on(execution, "engine_away:engine-1")
    await engine.hello("engine-1", held=[(execution, 1, 3)])
    await bench.advance(40)
    assert (await bench.record(execution)).epoch == 1
    assert await bench.waiting_on(execution) is None


async def test_a_zombie_is_not_listened_to(bench: Any, started: Any) -> None:
    engine, execution, made = started
    other = await bench.engine("engine-2")
    engine.cut()
    await bench.advance(32)
    await other.gets("starts")
    await engine.hello("engine-1", held=[(execution, 1, 5, 3)])
    [drop] = await engine.gets("drops")
    assert (drop.execution, drop.epoch) == (execution, 1)
    await engine.facts(execution, made[3:5], first=4)
    assert [(drop.execution, drop.epoch) for drop in await engine.gets("drops", 2)] == [(execution, 1)] * 2
    assert bench.monitor.snapshot().facts_refused == {"fenced": 4}  # those that it held, and sent all the same
    assert len(await bench.stored(execution)) == 3
    await other.facts(execution, made[3:], epoch=2, first=4)
    await bench.soon(lambda: not bench.dispatcher.running)
    assert len(await bench.stored(execution)) == 6


async def test_what_waits_for_another_engine_is_adopted_by_its_own_when_that_is_back(bench: Any, started: Any) -> None:
    engine, execution, _ = started
    engine.cut()
    await bench.advance(32)
    assert await bench.waiting_on(execution) == "no_engine"
    await engine.hello("engine-1", held=[(execution, 1, 3)])
    await engine.gets("adopts")
    assert await bench.waiting_on(execution) is None
    await bench.quiet()
    assert engine.told("starts") == []


async def test_unknown_ended_and_foreign_executions_are_dropped(
    bench: Any, lua: Document, journal: Journal, started: Any
) -> None:
    engine, execution, made = started
    await engine.facts(execution, made[3:], first=4)
    await engine.gets("acks")
    other = await bench.engine("engine-2", held=[("unknown", 4, 1), (execution, 1, 6)])
    assert {(drop.execution, drop.epoch) for drop in await other.gets("drops", 2)} == {("unknown", 4), (execution, 1)}
    engine.forget()
    engine.cut()
    await engine.hello("engine-1", held=[(execution, 1, 6)])
    [drop] = await engine.gets("drops")
    assert drop.execution == execution
    assert await engine.gets("adopts", 0) == []


async def test_what_an_engine_has_from_the_future_of_a_restored_store_is_over(bench: Any, started: Any) -> None:
    engine, execution, _ = started
    engine.cut()
    await engine.hello("engine-1", held=[(execution, 8, 3)])
    assert (await engine.gets("drops"))[0].epoch == 8
    await bench.soon(lambda: not bench.dispatcher.running)
    assert (await bench.record(execution)).status == "failed"
    assert engine.told("starts") == []


async def test_what_is_held_under_an_older_epoch_has_no_future(bench: Any, started: Any) -> None:
    """engine-1 has gone on without anybody listening; engine-2 has made other facts; now it is engine-1's turn again.

    Its own suffix must not be taken for one that follows those of engine-2.
    """
    engine, execution, made = started
    other = await bench.engine("engine-2")
    engine.cut()
    await bench.advance(32)
    await other.gets("starts")
    await other.facts(execution, made[3:4], epoch=2, first=4)
    await other.gets("acks")
    other.cut()
    gate = bench.store.hold("dispatch")
    await engine.hello("engine-1")  # it has not heard of its loss, and is given something again
    await bench.advance(32)
    await bench.store.reached("dispatch")
    engine.cut()
    gate.set()
    await bench.quiet()
    assert (await bench.record(execution)).epoch == 3
    engine.forget()
    await engine.hello("engine-1", held=[(execution, 1, 6)])
    [drop] = await engine.gets("drops")
    assert drop.epoch == 1
    assert engine.told("adopts") == []
    [start] = await engine.gets("starts")
    assert (start.epoch, start.history) == (4, 4)


# --- the orchestrator goes, and comes back ---


async def test_after_a_restart_engines_go_on(bench: Any, started: Any) -> None:
    _, execution, made = started
    await bench.restart()
    assert (bench.dispatcher.running, bench.dispatcher.queued) == (1, 0)
    engine = await bench.engine(held=[(execution, 1, 4)])
    [adopt] = await engine.gets("adopts")
    assert (adopt.committed_seq, adopt.epoch, adopt.dispatch_epoch) == (3, 2, 1)
    await engine.facts(execution, made[3:], first=4, epoch=2)
    await bench.soon(lambda: not bench.dispatcher.running)
    assert (await bench.record(execution)).status == "succeeded"


async def test_after_a_restart_what_waited_is_placed_and_the_lost_is_placed_again(
    bench: Any, lua: Document, started: Any
) -> None:
    _, lost, _ = started
    await bench.restart()
    waiting = await bench.start(lua)
    await bench.restart()
    other = await bench.engine("engine-2")
    assert [start.execution for start in await other.gets("starts")] == [waiting]
    await bench.advance(32)
    assert [(start.execution, start.epoch) for start in await other.gets("starts", 2)][1] == (lost, 4)


# --- while something is on its way ---


async def test_an_engine_that_comes_back_while_its_execution_goes_elsewhere_is_told_to_drop_it(
    bench: Any, started: Any
) -> None:
    engine, execution, made = started
    other = bench.dial("engine-2:1")
    engine.cut()
    await bench.advance(32)
    gate = bench.store.hold("dispatch")
    await other.hello("engine-2")
    await bench.store.reached("dispatch")
    await engine.hello("engine-1", held=[(execution, 1, 3)])
    [drop] = await engine.gets("drops")
    assert (drop.execution, drop.epoch) == (execution, 1)
    gate.set()
    [start] = await other.gets("starts")
    assert (start.execution, start.epoch, start.history) == (execution, 2, 3)
    await other.facts(execution, made[3:], epoch=2, first=4)
    await bench.soon(lambda: not bench.dispatcher.running)
    assert {view.id: view.running for view in bench.dispatcher.engines()} == {"engine-1": 0, "engine-2": 0}


async def test_a_start_on_its_way_goes_out_on_the_next_session(bench: Any, lua: Document) -> None:
    gate = bench.store.hold("dispatch")
    engine = await bench.engine()
    execution = await bench.start(lua)
    await bench.store.reached("dispatch")
    engine.cut()
    await engine.hello("engine-1")
    assert [view.running for view in bench.dispatcher.engines()] == [1]
    gate.set()
    assert [(start.execution, start.epoch) for start in await engine.gets("starts")] == [(execution, 1)]
    await bench.quiet()
    await engine.gets("starts", 1)


async def test_a_start_that_cannot_be_sent_any_more_goes_elsewhere_at_once(bench: Any, lua: Document) -> None:
    gate = bench.store.hold("dispatch")
    engine = await bench.engine()
    execution = await bench.start(lua)
    await bench.store.reached("dispatch")
    engine.cut()
    other = await bench.engine("engine-2")
    gate.set()
    assert [(start.execution, start.epoch) for start in await other.gets("starts")] == [(execution, 2)]


# --- engines that change ---


async def test_of_two_engines_with_one_id_the_second_waits_and_the_view_says_why(bench: Any, lua: Document) -> None:
    first = await bench.engine()
    second = await bench.dial("engine-9:1").hello("engine-1", incarnation="other")
    execution = await bench.start(lua)
    await first.gets("starts")
    assert second.sent == []
    assert [(view.id, view.address, view.state, view.reason) for view in bench.dispatcher.engines()] == [
        ("engine-1", "engine-1:1", "ready", ""),
        (
            "",
            "engine-9:1",
            "connecting",
            "its id 'engine-1' is that of the engine at engine-1:1: give each engine its own",
        ),
    ]
    first.cut()
    [start] = await second.gets("starts")
    assert (start.execution, start.epoch) == (execution, 2)
    await first.hello("engine-1", held=[(execution, 1, 0)])
    assert first.told("adopts") == []
    assert next(view.address for view in bench.dispatcher.engines() if view.id) == "engine-9:1"


async def test_an_engine_that_moves_keeps_what_it_has(bench: Any, started: Any) -> None:
    engine, execution, _ = started
    engine.cut()
    moved = await bench.dial("engine-1:2").hello("engine-1", held=[(execution, 1, 3)])
    await moved.gets("adopts")
    [ready] = [view for view in bench.dispatcher.engines() if view.id]
    assert (ready.address, ready.running) == ("engine-1:2", 1)


async def test_another_engine_at_the_same_address_is_another_engine(bench: Any, started: Any) -> None:
    """A pod is replaced: the address stays, the id is new. What the old one had is placed again; it is forgotten."""
    engine, execution, _ = started
    engine.cut()
    await engine.hello("engine-1-b", incarnation="second")
    assert {view.id: view.state for view in bench.dispatcher.engines()} == {
        "engine-1": "unreachable",
        "engine-1-b": "ready",
    }
    await bench.advance(32)
    [start] = await engine.gets("starts")
    assert (start.execution, start.epoch) == (execution, 2)
    assert [view.id for view in bench.dispatcher.engines()] == ["engine-1-b"]


async def test_an_id_whose_engine_was_replaced_can_be_used_elsewhere(bench: Any, started: Any) -> None:
    engine, execution, _ = started
    engine.cut()
    await engine.hello("engine-1-b", incarnation="second")
    moved = await bench.dial("engine-1:2").hello("engine-1", held=[(execution, 1, 3)])
    await moved.gets("adopts")
    assert engine.told("drops") == []


@pytest.mark.parametrize(("draining", "level"), [(True, "info"), (False, "warning")], ids=["told", "untold"])
async def test_an_engine_that_said_it_would_go_is_no_warning(bench: Any, draining: bool, level: str) -> None:
    engine = await bench.engine(draining=draining)
    with capture_logs() as logs:
        engine.cut()
    assert [line["log_level"] for line in logs if line["event"] == "engine_disconnected"] == [level]


async def test_an_engine_nobody_names_any_more_is_forgotten_when_it_has_nothing_left(bench: Any, started: Any) -> None:
    _, execution, _ = started
    idle = await bench.engine("engine-2")
    await bench.dispatcher.remove_link("engine-2:1")
    assert not idle.connected
    assert [view.id for view in bench.dispatcher.engines()] == ["engine-1"]
    await bench.dispatcher.remove_link("engine-1:1")
    [view] = bench.dispatcher.engines()
    assert (view.state, view.reason) == ("unreachable", "it is not among the known engines any more")
    await bench.advance(32)
    assert bench.dispatcher.engines() == []
    assert await bench.waiting_on(execution) == "no_engine"


async def test_an_address_where_nobody_answers_is_shown(bench: Any) -> None:
    silent = bench.dial("engine-1:1")
    [view] = bench.dispatcher.engines()
    assert (view.id, view.address, view.state, view.reason) == (
        "",
        "engine-1:1",
        "connecting",
        "it has not answered yet",
    )
    silent.reason = "cannot reach engine-1:1: Connection refused"
    assert bench.dispatcher.engines()[0].reason == "cannot reach engine-1:1: Connection refused"


async def test_waiting_ends_when_the_dispatcher_is_closed(bench: Any, lua: Document) -> None:
    execution = await bench.start(lua)
    feed = bench.dispatcher.feed
    end, change = feed.end(execution), feed.change(execution)
    await bench.dispatcher.close()
    outcomes = await asyncio.gather(end, change, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Unavailable"] * 2
    assert execution in str(outcomes[0])
