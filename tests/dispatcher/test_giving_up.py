"""Executions that nobody can go on with end as failed, whatever their nodes, their journals and the store are like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from dagengine.events import facts as codec
from dagengine.graph import compile_document
from dagengine.machine import fold
from dagengine.machine.check import check
from dagengine.spec.model import Document

Journal = Callable[..., list[bytes]]


@pytest.mark.parametrize(
    "last",
    [
        {"when": "inputs.loud"},
        {"foreach": "inputs.list"},
        {"executor": {"type": "python", "function": "tell", "args": {"name": "{{ inputs.name }}"}}},
    ],
    ids=["when", "foreach", "args"],
)
@pytest.mark.parametrize("begun", [False, True])
async def test_a_node_that_runs_always_and_wants_something_evaluated_does_not_keep_it(
    bench: Any, document: Any, last: dict[str, Any], begun: bool
) -> None:
    cleaning = document([{"id": "work"}, {"id": "clean", "dependencies": ["work"], "run_if": "always"} | last])
    engine = await bench.engine()
    execution = await bench.start(cleaning)
    await engine.gets("starts")
    if begun:
        started = codec.ExecutionStarted(
            at=1, execution=execution, workflow="w", version="1.0.0", digest=cleaning.digest, inputs=Raw(b"{}")
        )
        cancelled = [codec.CancelRequested(at=2), codec.NodeSkipped(at=2, node="work", reason="cancelled")]
        await engine.facts(execution, [codec.encode(fact) for fact in (started, *cancelled)])
        await engine.gets("acks")
    ended = bench.dispatcher.feed.end(execution)
    await engine.refuses(execution, "BROKEN", message="out of order")
    record = await ended
    assert record == await bench.record(execution)
    assert (record.status, record.outputs) == ("failed", None)
    stored = await bench.stored(execution)
    assert stored[-1].error == codec.ErrorInfo(type="Broken", message="engine-1 cannot run it: out of order")
    check(fold(compile_document(cleaning), stored, execution=execution, seed=7))


async def test_a_journal_that_makes_no_sense_does_not_keep_it(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    late = bench.clock.now() + 5_000_000
    await engine.facts(execution, [codec.encode(codec.NodeStarted(at=late, node="nobody", attempt=3))])
    await engine.gets("acks")
    ended = bench.dispatcher.feed.end(execution)
    await engine.refuses(execution, "BROKEN")
    assert (await ended).status == "failed"
    last = (await bench.stored(execution))[-1]
    assert (last.at, last.given_up) == (late, True)
    assert await bench.waiting_on(execution) is None
    assert (bench.dispatcher.running, bench.dispatcher.queued) == (0, 0)


async def test_a_journal_with_a_hole_ends_instead_of_being_sent_for_ever(
    bench: Any, lua: Document, journal: Journal, monkeypatch: Any
) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution)[:3])
    await engine.gets("acks")
    ended = bench.dispatcher.feed.end(execution)

    async def nothing(*_: Any, **__: Any) -> list[Any]:
        return []

    monkeypatch.setattr(bench.store, "facts", nothing)
    engine.cut()
    await engine.hello("engine-1", incarnation="second")
    assert (await ended).status == "failed"
    assert (await bench.stored(execution))[-1].error.message == "its journal ends after 0 of 3 facts"


async def test_an_engine_from_which_it_could_not_be_taken_does_not_keep_it(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    bench.store.failing.add("release")
    ended = bench.dispatcher.feed.end(execution)
    await engine.refuses(execution, "BROKEN")
    await bench.soon(lambda: bench.store.refused)
    await bench.advance(2)
    assert len(bench.store.refused) > 1
    assert (await bench.record(execution)).engine == "engine-1"
    engine.cut()
    await engine.hello("engine-1", held=[(execution, 1, 0)])
    assert [drop.execution for drop in await engine.gets("drops")] == [execution]
    bench.store.failing.clear()
    await bench.advance(4)
    assert (await ended).status == "failed"


async def test_a_store_in_trouble_holds_up_no_session(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    broken, other = [await bench.start(lua) for _ in range(2)]
    await engine.gets("starts", 2)
    bench.store.failing.add("end_undispatched")
    await engine.refuses(broken, "BROKEN")
    await engine.facts(other, journal(lua, other))
    await engine.gets("acks")
    assert await bench.waiting_on(broken) == "broken"
    assert await bench.waiting_on(other) is None


async def test_somebody_may_cancel_it_meanwhile(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    gate = bench.store.hold("end_undispatched")
    ended = bench.dispatcher.feed.end(execution)
    await engine.refuses(execution, "BROKEN")
    await bench.store.reached("end_undispatched")
    gate.set()
    await bench.cancel(execution)
    record = await ended
    assert record.status in ("failed", "cancelled")
    await bench.advance(2)
    assert record == await bench.record(execution)
    assert bench.monitor.snapshot().finished == {record.status: 1}
    assert await bench.waiting_on(execution) is None


async def test_a_restart_before_its_end_is_recorded_begins_anew(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    bench.store.failing.add("end_undispatched")
    await engine.refuses(execution, "BROKEN")
    await bench.soon(lambda: bench.store.refused)
    bench.store.failing.clear()
    await bench.restart()
    engine = await bench.engine(incarnation="second")
    assert [(start.execution, start.epoch) for start in await engine.gets("starts")] == [(execution, 2)]


# --- engines that are lost ---


async def test_engines_that_stay_away_count_until_the_fifth(bench: Any, lua: Document) -> None:
    execution = await bench.start(lua)
    ended = bench.dispatcher.feed.end(execution)
    for number in range(1, 6):
        engine = await bench.engine(f"engine-{number}")
        assert [start.epoch for start in await engine.gets("starts")] == [number]
        assert not ended.done()
        engine.cut()
        await bench.advance(32)
    record = await ended
    assert record.status == "failed"
    assert b"5 engines in a row were lost or broke down while they had it, the last of them 'engine-5'" in record.error
    engine = await bench.engine("engine-6")
    await bench.quiet()
    assert engine.told("starts") == []


async def test_a_start_that_never_arrived_takes_no_engine_down(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    for turn in range(1, 8):
        assert (await engine.gets("starts", turn))[-1].execution == execution
        engine.cut()
        await engine.hello("engine-1")  # the same process, and it holds nothing


async def test_an_engine_that_is_back_while_another_is_given_up_keeps_its_work(bench: Any, document: Any) -> None:
    one = await bench.engine("engine-1", executors=("lua",))
    two = await bench.engine("engine-2", executors=("python",))
    first = await bench.start(document([{"id": "a"}], id="first"))
    second = await bench.start(document([{"id": "a", "executor": {"type": "python", "function": "f"}}], id="second"))
    await one.gets("starts")
    await two.gets("starts")
    one.cut()
    two.cut()
    await bench.cancel(first)
    gate = bench.store.hold("release")
    await bench.advance(32)
    await bench.store.reached("release")
    await two.hello("engine-2", executors=("python",), held=[(second, 1, 0)])
    assert [adopt.execution for adopt in await two.gets("adopts")] == [second]
    gate.set()
    await bench.advance(2)
    assert (await bench.record(first)).status == "cancelled"
    assert (await bench.record(second)).epoch == 1
    assert {view.id: view.running for view in bench.dispatcher.engines()} == {"engine-1": 0, "engine-2": 1}
    two.cut()
    await bench.advance(32)
    assert await bench.waiting_on(second) == "no_engine"
