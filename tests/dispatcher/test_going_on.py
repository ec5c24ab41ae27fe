"""Executions that go on after their end: a retry is durable, they are queued, and an engine gets both at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from dagengine.events import facts as codec
from dagengine.events.facts import ErrorInfo
from dagengine.graph import compile_document
from dagengine.machine import fold
from dagengine.machine.check import check
from dagengine.machine.operations import Cancel, Pause, Rerun
from dagengine.machine.stimuli import Operate
from dagengine.spec.model import Document
from orchestrator.errors import Conflict, NotFound, Overloaded

Journal = Callable[..., list[bytes]]


def kinds(found: list[Any]) -> list[str]:
    return [type(fact).__name__ for fact in found]


@pytest.fixture
def failed(lua: Document) -> Callable[[str], list[bytes]]:
    """`failed(execution)`: the journal of an execution whose first node has failed."""

    def make(execution: str) -> list[bytes]:
        error = ErrorInfo(type="LuaError", message="no")
        started = codec.ExecutionStarted(
            at=1,
            execution=execution,
            workflow=lua.id,
            version=lua.version,
            digest=lua.digest,
            inputs=Raw(b"{}"),
        )
        return [
            codec.encode(fact)
            for fact in (
                started,
                codec.NodeStarted(at=2, node="a"),
                codec.NodeFailed(at=3, node="a", attempt=1, conclusion="fail", error=error),
                codec.NodeSkipped(at=3, node="b", reason="upstream_failed", because=("a",)),
                codec.ExecutionFailed(at=3, error=ErrorInfo(type="NodeFailed", message="node 'a' failed: no")),
            )
        ]

    return make


def obeyed(lua: Document, journal: list[bytes], execution: str, *operations: tuple[str, Any]) -> list[bytes]:
    """What an engine makes of operations after a journal."""
    machine = fold(compile_document(lua), map(codec.decode, journal), execution=execution, seed=7)
    made = []
    for command, operation in operations:
        made += machine.handle(Operate(at=2**60, operation=operation, command=command)).facts
    return [codec.encode(fact) for fact in made]


async def ended(bench: Any, lua: Document, journal: list[bytes] | Callable[[str], list[bytes]]) -> tuple[Any, str]:
    """An engine, and an execution that has ended there."""
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(execution) if callable(journal) else journal)
    await engine.gets("acks")
    engine.forget()
    return engine, execution


async def test_a_retry_brings_an_engine_the_history_and_what_is_asked(bench: Any, lua: Document, failed: Any) -> None:
    engine, execution = await ended(bench, lua, failed)
    await bench.operate(execution, Rerun(author="ada"), id="r1")
    record = await bench.record(execution)
    assert (record.status, record.finished_at, record.error) == ("queued", None, None)
    [start] = await engine.gets("starts")
    assert (start.epoch, start.history) == (2, 5)
    [history] = engine.told("histories")
    assert list(history.facts) == failed(execution)
    [delivery] = await engine.gets("deliveries")
    assert (delivery.id, delivery.kind) == ("r1", "retry")
    assert bench.monitor.snapshot().reopened == 1

    more = obeyed(lua, failed(execution), execution, ("r1", Rerun(author="ada")))
    assert kinds([codec.decode(fact) for fact in more])[0] == "RerunRequested"
    waiting = bench.dispatcher.feed.end(execution)
    await engine.facts(execution, more, epoch=2, first=6)
    await engine.gets("acks")
    assert (await bench.record(execution)).status == "running"
    assert await bench.store.inbox() == []
    last = codec.encode(codec.ExecutionSucceeded(at=2**60 + 5_000_000, outputs=Raw(b'{"b":1}')))
    await engine.facts(execution, [last], epoch=2, first=6 + len(more))
    record = await waiting
    assert (record.status, record.outputs) == ("succeeded", b'{"b":1}')
    assert bench.monitor.snapshot().finished == {"failed": 1, "succeeded": 1}
    assert (bench.dispatcher.running, bench.dispatcher.queued) == (0, 0)


async def test_a_refused_retry_leaves_the_execution_as_it_was(bench: Any, lua: Document, failed: Any) -> None:
    engine, execution = await ended(bench, lua, failed)
    before = await bench.record(execution)
    await bench.operate(execution, Rerun(nodes=("a",)), id="r1")
    await engine.gets("starts")
    waiting = bench.dispatcher.feed.end(execution)
    refused = codec.encode(codec.CommandRefused(at=2**60, kind="retry", why="no", command="r1"))
    await engine.facts(execution, [refused], epoch=2, first=6)
    record = await waiting
    assert record == await bench.record(execution)
    assert (record.status, record.error, record.finished_at) == ("failed", before.error, before.finished_at)
    assert (record.last_seq, await bench.store.inbox()) == (6, [])
    assert bench.dispatcher.running == 0
    check(fold(compile_document(lua), await bench.stored(execution), execution=execution, seed=7))


async def test_a_retry_survives_a_restart(bench: Any, lua: Document, failed: Any) -> None:
    engine, execution = await ended(bench, lua, failed)
    engine.cut()
    await bench.operate(execution, Rerun(), id="r1")
    await bench.restart()
    engine = await bench.engine(incarnation="second")
    assert (await engine.gets("starts"))[0].history == 5
    assert (await engine.gets("deliveries"))[0].id == "r1"


async def test_a_retry_that_comes_while_the_execution_ends_is_not_lost(bench: Any, lua: Document, failed: Any) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await bench.operate(execution, Pause(), id="p1")
    await bench.operate(execution, Rerun(), id="r1")
    engine.forget()
    await engine.facts(execution, failed(execution))
    assert [drop.epoch for drop in await engine.gets("drops")] == [1]
    [start] = await engine.gets("starts")
    assert (start.epoch, start.history) == (2, 5)
    assert [delivery.id for delivery in await engine.gets("deliveries")] == ["r1"]
    assert (await bench.record(execution)).status == "queued"
    snapshot = bench.monitor.snapshot()
    assert (snapshot.started, snapshot.reopened, snapshot.finished) == (1, 1, {"failed": 1})


async def test_a_retry_that_an_engine_obeys_after_the_end_goes_on(bench: Any, lua: Document, failed: Any) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await bench.operate(execution, Rerun(), id="r1")
    journal = failed(execution)
    await engine.facts(execution, [*journal, *obeyed(lua, journal, execution, ("r1", Rerun()))])
    await engine.gets("acks")
    assert (await bench.record(execution)).status == "running"
    assert await bench.store.inbox() == []
    assert engine.told("drops") == []


async def test_cancelling_what_waits_to_go_on_needs_no_engine(bench: Any, lua: Document, failed: Any) -> None:
    engine, execution = await ended(bench, lua, failed)
    engine.cut()
    await bench.operate(execution, Rerun(), id="r1")
    await bench.operate(execution, Cancel(reason="never mind", grace=5_000_000), id="c1")

    async def cancelled() -> bool:
        return (await bench.record(execution)).status == "cancelled"

    await bench.soon(cancelled)
    stored = await bench.stored(execution)
    assert kinds(stored)[5:7] == ["RerunRequested", "NodeStarted"]
    assert kinds(stored)[-1] == "ExecutionCancelled"
    check(fold(compile_document(lua), stored, execution=execution, seed=7))
    assert await bench.store.inbox() == []


async def test_operations_on_what_waits_follow_the_start_in_order(bench: Any, lua: Document) -> None:
    execution = await bench.start(lua)
    await bench.operate(execution, Pause(node="a"), id="p1")
    await bench.operate(execution, Pause(), id="p2")
    assert (await bench.record(execution)).status == "queued"
    engine = await bench.engine()
    await engine.gets("starts")
    assert [delivery.id for delivery in await engine.gets("deliveries", 2)] == ["p1", "p2"]


async def test_every_operation_is_told_until_a_fact_cites_it(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await bench.operate(execution, Pause(), id="p1")
    await bench.operate(execution, Pause(node="b"), id="p2")
    paused = codec.encode(codec.Paused(at=2**60, command="p1"))
    await engine.facts(execution, [*journal(lua, execution)[:2], paused])
    await engine.gets("acks")
    assert [item.id for item in await bench.store.inbox()] == ["p2"]
    refused = codec.encode(codec.CommandRefused(at=2**60, kind="pause", why="no", command="p2"))
    await engine.facts(execution, [refused], first=4)
    await engine.gets("acks", 2)
    assert await bench.store.inbox() == []


async def test_one_that_cannot_go_on_stays_as_it_was(bench: Any, lua: Document, failed: Any) -> None:
    engine, execution = await ended(bench, lua, failed)
    before = await bench.record(execution)
    await bench.operate(execution, Rerun(author="ada"), id="r1")
    await engine.gets("starts")
    waiting = bench.dispatcher.feed.end(execution)
    await engine.refuses(execution, "BROKEN", epoch=2)
    record = await waiting
    assert (record.status, record.error, record.last_seq) == ("failed", before.error, 6)
    last = (await bench.stored(execution))[-1]
    assert isinstance(last, codec.CommandRefused)
    assert (last.command, last.kind, last.author) == ("r1", "retry", "ada")
    assert "cannot go on" in last.why


async def test_only_a_retry_may_come_after_the_end(bench: Any, lua: Document, failed: Any) -> None:
    _, execution = await ended(bench, lua, failed)
    with pytest.raises(Conflict, match=r"has ended already \(failed\)"):
        await bench.operate(execution, Pause(), id="p1")
    with pytest.raises(NotFound):
        await bench.operate("nothing", Rerun(), id="r1")


async def test_a_retry_takes_a_place_in_the_queue(bench: Any, lua: Document, failed: Any) -> None:
    engine, execution = await ended(bench, lua, failed)
    engine.cut()
    await bench.dispatcher.close()
    await bench.open(queue_limit=1)
    await bench.start(lua)
    with pytest.raises(Overloaded):
        await bench.operate(execution, Rerun(), id="r1")
    assert (await bench.record(execution)).status == "failed"


async def test_two_retries_at_once_queue_it_once(bench: Any, lua: Document, failed: Any) -> None:
    engine, execution = await ended(bench, lua, failed)
    asked = (bench.operate(execution, Rerun(), id=name) for name in ("r1", "r2"))
    await asyncio.gather(*asked)
    assert len(await engine.gets("starts")) == 1
    await engine.until(lambda: len(engine.told("deliveries")) >= 2)
    assert {delivery.id for delivery in engine.told("deliveries")} == {"r1", "r2"}
    assert bench.monitor.snapshot().reopened == 1


async def test_a_given_up_execution_may_go_on(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution)[:2])
    await engine.gets("acks")
    waiting = bench.dispatcher.feed.end(execution)
    await engine.refuses(execution, "BROKEN")
    assert (await waiting).status == "failed"
    engine.forget()
    await bench.operate(execution, Rerun(), id="r1")
    [start] = await engine.gets("starts")
    assert start.history == 3
    assert (await engine.gets("deliveries"))[0].id == "r1"
