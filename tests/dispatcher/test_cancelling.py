"""Requests to cancel: durable first, then done wherever the execution is, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from dagengine.events import facts as codec
from dagengine.graph import compile_document
from dagengine.machine import fold
from dagengine.machine.check import check
from dagengine.machine.commands import Evaluate
from dagengine.machine.machine import Machine
from dagengine.machine.operations import Decide, Rerun
from dagengine.machine.stimuli import Begin, Evaluated
from dagengine.spec.model import Document
from orchestrator.errors import Conflict, NotFound

Journal = Callable[..., list[bytes]]

CLEANING = [{"id": "work"}, {"id": "clean", "dependencies": ["work"], "run_if": "always"}]
WITHOUT = "it never began and no engine is able to run it, so what runs in any case did not run"


def kinds(found: list[Any]) -> list[str]:
    return [type(fact).__name__ for fact in found]


async def test_what_waits_ends_at_once(bench: Any, lua: Document) -> None:
    seen: list[int] = []
    bench.monitor.subscribe(lambda fact: seen.append(fact.seq))
    execution = await bench.start(lua)
    ended = bench.dispatcher.feed.end(execution)
    await bench.cancel(execution)
    record = await ended
    assert record == await bench.record(execution)
    assert (record.status, record.last_seq, record.epoch) == ("cancelled", 5, 0)
    stored = await bench.stored(execution)
    assert kinds(stored) == ["ExecutionStarted", "CancelRequested", "NodeSkipped", "NodeSkipped", "ExecutionCancelled"]
    assert (stored[1].author, stored[1].reason, stored[1].command) == ("ada", "enough", "c1")
    assert stored[4].reason == "enough"
    assert await bench.store.inbox() == []
    assert (bench.dispatcher.running, bench.dispatcher.queued) == (0, 0)
    assert seen == [1, 2, 3, 4, 5]
    check(fold(compile_document(lua), stored, execution=execution, seed=7))
    engine = await bench.engine()
    await bench.quiet()
    assert engine.told("starts") == []


async def test_what_has_ended_or_never_was_cannot_be_cancelled(bench: Any, lua: Document) -> None:
    execution = await bench.start(lua)
    await bench.cancel(execution)
    with pytest.raises(Conflict, match=r"has ended already \(cancelled\)"):
        await bench.cancel(execution, id="c2")
    with pytest.raises(NotFound, match="there is no execution 'nothing'"):
        await bench.cancel("nothing")


async def test_what_runs_is_told_until_a_fact_cites_the_request(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await bench.cancel(execution)
    [delivery] = await engine.gets("deliveries")
    assert (delivery.execution, delivery.id, delivery.kind) == (execution, "c1", "cancel")
    assert delivery.payload == b'{"kind":"cancel","author":"ada","reason":"enough"}'

    engine.forget()
    engine.cut()
    await engine.hello("engine-1", held=[(execution, 1, 2)])
    assert (await engine.gets("deliveries"))[0].id == "c1"
    assert len(engine.told("adopts")) == 1

    made = [*journal(lua, execution)[:2], codec.encode(codec.CancelRequested(at=2**60, command="c1"))]
    await engine.facts(execution, made)
    await engine.gets("acks")
    assert await bench.store.inbox() == []
    engine.forget()
    engine.cut()
    await engine.hello("engine-1", held=[(execution, 1, 3)])
    await engine.gets("adopts")
    assert engine.told("deliveries") == []


async def test_a_request_while_the_start_is_on_its_way_follows_the_start(bench: Any, lua: Document) -> None:
    gate = bench.store.hold("dispatch")
    engine = await bench.engine()
    execution = await bench.start(lua)
    await bench.store.reached("dispatch")
    await bench.cancel(execution)
    assert engine.sent == [] or not engine.told("deliveries")
    gate.set()
    await engine.gets("deliveries")
    order = [field for message in engine.sent for field in ("starts", "deliveries") if getattr(message, field)]
    assert order == ["starts", "deliveries"]


async def test_a_request_survives_a_restart(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await bench.cancel(execution)
    await bench.restart()
    engine = await bench.engine(incarnation="second")
    assert (await engine.gets("starts"))[0].epoch == 3  # one for the new owner, one for the dispatch
    assert (await engine.gets("deliveries"))[0].id == "c1"


async def test_a_request_that_a_crash_left_undone_is_done_at_the_next_start(bench: Any, lua: Document) -> None:
    execution = await bench.start(lua)
    bench.store.failing.add("end_undispatched")
    await bench.cancel(execution)
    assert bench.store.refused == ["end_undispatched"]
    assert (await bench.record(execution)).status == "queued"
    bench.store.failing.clear()
    await bench.restart()
    assert (await bench.record(execution)).status == "cancelled"
    assert bench.dispatcher.queued == 0


async def test_a_request_that_could_not_be_done_at_once_goes_with_the_start(bench: Any, lua: Document) -> None:
    execution = await bench.start(lua)
    bench.store.failing.add("end_undispatched")
    await bench.cancel(execution)
    bench.store.failing.clear()
    engine = await bench.engine()
    await engine.gets("starts")
    assert (await engine.gets("deliveries"))[0].id == "c1"


async def test_what_a_lost_engine_had_ends_without_another_one(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    made = journal(lua, execution)
    await engine.facts(execution, made[:2])
    await engine.gets("acks")
    engine.cut()
    await bench.cancel(execution)
    assert (await bench.record(execution)).status == "running"
    await bench.advance(32)
    record = await bench.record(execution)
    assert (record.status, record.engine) == ("cancelled", None)
    stored = await bench.stored(execution)
    assert kinds(stored)[2:] == ["CancelRequested", "NodeCancelled", "NodeSkipped", "ExecutionCancelled"]
    check(fold(compile_document(lua), stored, execution=execution, seed=7))
    engine.forget()
    await engine.hello("engine-1", held=[(execution, 1, 4)])
    assert [drop.execution for drop in await engine.gets("drops")] == [execution]
    await engine.facts(execution, made[2:4], first=3)
    await engine.gets("drops", 2)
    assert len(await bench.stored(execution)) == 6


async def test_what_waits_again_ends_at_once(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution)[:3])
    await engine.gets("acks")
    engine.cut()
    await bench.advance(32)
    assert await bench.waiting_on(execution) == "no_engine"
    await bench.cancel(execution)
    assert kinds(await bench.stored(execution))[3:] == ["CancelRequested", "NodeSkipped", "ExecutionCancelled"]
    assert (await bench.record(execution)).status == "cancelled"


async def test_what_was_asked_of_an_item_before_the_cancel_is_done_too(bench: Any, document: Any) -> None:
    signing = document([{"id": "sign", "foreach": "{1, 2}", "executor": {"type": "wait", "approval": {}}}])
    engine = await bench.engine()
    execution = await bench.start(signing)
    await engine.gets("starts")
    machine = Machine(compile_document(signing), execution=execution, seed=7)
    begun = machine.handle(Begin(at=1, inputs=b"{}"))
    [question] = begun.commands
    assert isinstance(question, Evaluate)
    answer = Evaluated(at=1, purpose="foreach", node=0, index=question.index, serial=question.serial, value=b"[1,2]")
    made = begun.facts + machine.handle(answer).facts
    await engine.facts(execution, [codec.encode(fact) for fact in made])
    await engine.gets("acks")
    engine.cut()
    await bench.advance(32)
    await bench.operate(execution, Decide(node="sign", index=1, approved=True, author="eve"), id="d1")
    await bench.cancel(execution)
    assert (await bench.record(execution)).status == "cancelled"
    stored = await bench.stored(execution)
    decided = [fact for fact in stored if isinstance(fact, codec.Decided)]
    assert [(fact.index, fact.approved) for fact in decided] == [(1, True)]
    check(fold(compile_document(signing), stored, execution=execution, seed=7))


async def test_nodes_that_run_always_wait_for_an_engine(bench: Any, document: Any) -> None:
    execution = await bench.start(document(CLEANING))
    await bench.cancel(execution)
    assert (await bench.record(execution)).status == "queued"
    assert bench.dispatcher.queued == 1
    engine = await bench.engine()
    await engine.gets("starts")
    assert (await engine.gets("deliveries"))[0].id == "c1"


@pytest.fixture
def cleaning(document: Any) -> Document:
    """A node that runs in any case, and one that needs what the engines here have not."""
    python = {"type": "python", "function": "f"}
    found: Document = document([{"id": "work", "executor": python}, CLEANING[1]])
    return found


async def test_what_never_began_and_no_engine_is_able_to_run_ends_without_nodes_that_run_always(
    bench: Any, cleaning: Document
) -> None:
    await bench.engine(executors=["lua"])
    execution = await bench.start(cleaning)
    await bench.quiet()
    assert await bench.waiting_on(execution) == "no_executor:python"
    await bench.cancel(execution)
    stored = await bench.stored(execution)
    assert kinds(stored) == ["ExecutionStarted", "CancelRequested", "NodeSkipped", "NodeSkipped", "ExecutionCancelled"]
    assert (stored[1].author, stored[1].command, stored[1].terminate) == ("ada", "c1", True)
    assert stored[1].reason == stored[4].reason == f"enough ({WITHOUT})"
    assert (await bench.record(execution)).status == "cancelled"
    assert await bench.store.inbox() == []
    check(fold(compile_document(cleaning), stored, execution=execution, seed=7))


async def test_on_exit_that_did_not_run_is_told(bench: Any, document: Any) -> None:
    python = {"type": "python", "function": "f"}
    tell = {"id": "tell", "executor": {"type": "lua", "code": "return 1"}}
    leaving = document([{"id": "work", "executor": python}], on_exit=[tell])
    await bench.engine(executors=["lua"])
    execution = await bench.start(leaving)
    await bench.cancel(execution, reason="")
    last = (await bench.stored(execution))[-1]
    assert last.reason == "it never began and no engine is able to run it, so on_exit did not run"


async def test_a_cancel_that_waited_for_an_engine_is_done_when_those_that_come_are_not_able(
    bench: Any, cleaning: Document
) -> None:
    execution = await bench.start(cleaning)
    await bench.cancel(execution)
    ended = bench.dispatcher.feed.end(execution)
    assert (await bench.record(execution)).status == "queued"
    await bench.engine(executors=["lua"])
    record = await ended
    assert record.status == "cancelled"
    assert (await bench.stored(execution))[-1].reason == f"enough ({WITHOUT})"


async def test_a_cancel_on_its_way_to_an_engine_that_refuses_is_done_here(bench: Any, document: Any) -> None:
    engine = await bench.engine()
    execution = await bench.start(document(CLEANING))
    await engine.gets("starts")
    await bench.cancel(execution)
    ended = bench.dispatcher.feed.end(execution)
    await engine.refuses(execution, "UNABLE")
    assert (await ended).status == "cancelled"
    assert (await bench.stored(execution))[-1].reason == f"enough ({WITHOUT})"


async def test_a_dispatch_that_was_quicker_has_it_done_by_the_engine(bench: Any, lua: Document) -> None:
    execution = await bench.start(lua)
    gate = bench.store.hold("end_undispatched")
    cancelling = asyncio.create_task(bench.cancel(execution))
    await bench.store.reached("end_undispatched")
    engine = await bench.engine()
    await engine.gets("starts")
    gate.set()
    await cancelling
    assert {delivery.id for delivery in engine.told("deliveries")} == {"c1"}
    assert (await bench.record(execution)).status == "queued"
    assert await bench.stored(execution) == []


@pytest.fixture
def waiting_again(bench: Any, lua: Document, journal: Journal) -> Callable[[], Awaitable[str]]:
    """An execution that has begun, and lost its engine; there is no other one."""

    async def make() -> str:
        engine = await bench.engine()
        execution: str = await bench.start(lua)
        await engine.gets("starts")
        await engine.facts(execution, journal(lua, execution)[:3])
        await engine.gets("acks")
        engine.cut()
        await bench.advance(32)
        return execution

    return make


async def test_who_would_end_what_is_just_being_ended_leaves_it_at_that(bench: Any, waiting_again: Any) -> None:
    execution = await waiting_again()
    recording = bench.store.hold("end_undispatched")
    cancelling = asyncio.create_task(bench.cancel(execution))
    await bench.store.reached("end_undispatched")
    reading = bench.store.hold("facts")
    await bench.engine("engine-2", executors=["python"])  # not able to run it, so it is to be ended without an engine
    await bench.store.reached("facts")
    recording.set()
    await cancelling
    with capture_logs() as logs:
        reading.set()
        await bench.quiet()
    assert [entry for entry in logs if entry["log_level"] == "error"] == []
    assert kinds(await bench.stored(execution))[3:] == ["CancelRequested", "NodeSkipped", "ExecutionCancelled"]


async def test_what_was_ended_and_is_to_go_on_is_not_ended_for_the_same_cancel(bench: Any, waiting_again: Any) -> None:
    execution = await waiting_again()
    bench.store.losing.add("end_undispatched")
    await bench.cancel(execution)
    assert bench.store.refused == ["end_undispatched"]
    assert (await bench.record(execution)).status == "cancelled"
    bench.store.losing.clear()
    release = bench.store.hold("release")
    unable = await bench.engine("engine-2", executors=["python"])  # so the cancel is looked at again
    await bench.store.reached("release")
    await bench.operate(execution, Rerun(), id="r1")
    with capture_logs() as logs:
        release.set()
        await bench.advance(2)
    assert [entry for entry in logs if entry["log_level"] == "error"] == []
    unable.cut()
    able = await bench.engine("engine-3")
    await able.gets("starts")
    assert [delivery.id for delivery in await able.gets("deliveries")] == ["r1"]
