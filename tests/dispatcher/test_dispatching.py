"""From a recorded execution to an engine, and its facts home into the store."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from dagengine.graph import compile_document
from dagengine.machine import fold
from dagengine.machine.check import check
from dagengine.spec.model import Document
from orchestrator.errors import Overloaded

Journal = Callable[..., list[bytes]]


async def test_an_execution_is_dispatched_and_its_facts_are_committed_and_acknowledged(
    bench: Any, lua: Document, journal: Journal
) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua, inputs=b'{"n":1}')
    [start] = await engine.gets("starts")
    assert (start.execution, start.epoch, start.history) == (execution, 1, 0)
    assert (start.digest, start.document, start.inputs, start.seed) == (lua.digest, lua.canonical, b'{"n":1}', 7)
    assert (bench.dispatcher.running, bench.dispatcher.queued) == (1, 0)

    made = journal(lua, execution)
    await engine.facts(execution, made[:2])
    [ack] = await engine.gets("acks")
    assert (ack.execution, ack.epoch, ack.seq) == (execution, 1, 2)
    assert (await bench.record(execution)).status == "running"

    ended = bench.dispatcher.feed.end(execution)
    await engine.facts(execution, made[2:], first=3)
    assert (await ended).outputs == b'{"b":1}'
    assert [ack.seq for ack in await engine.gets("acks", 2)] == [2, 6]
    record = await bench.record(execution)
    assert (record.status, record.engine, record.epoch, record.last_seq) == ("succeeded", "engine-1", 1, 6)
    assert len(await bench.stored(execution)) == 6
    assert (bench.dispatcher.running, bench.dispatcher.queued) == (0, 0)
    assert bench.monitor.snapshot().facts_committed == 6
    assert bench.monitor.snapshot().finished == {"succeeded": 1}


async def test_a_document_is_sent_once_in_a_session(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    for _ in range(2):
        await bench.start(lua)
    first, second = await engine.gets("starts", 2)
    assert (first.document, second.document) == (lua.canonical, b"")
    engine.cut()
    await engine.hello("engine-1", held=[(first.execution, 1, 0), (second.execution, 1, 0)])
    await bench.start(lua)
    assert (await engine.gets("starts", 3))[2].document == lua.canonical


async def test_facts_that_come_twice_are_acknowledged_and_kept_once(
    bench: Any, lua: Document, journal: Journal
) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    made = journal(lua, execution)
    await engine.facts(execution, made[:3])
    await engine.facts(execution, made[1:5], first=2)
    assert [ack.seq for ack in await engine.gets("acks", 2)] == [3, 5]
    assert len(await bench.stored(execution)) == 5
    assert bench.monitor.snapshot().facts_committed == 5


async def test_what_is_missing_is_asked_for_again(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    made = journal(lua, execution)
    await engine.facts(execution, made[:1])
    await engine.facts(execution, made[3:], first=4)
    [resend] = await engine.gets("resends")
    assert (resend.execution, resend.epoch, resend.from_seq) == (execution, 1, 2)
    assert bench.monitor.snapshot().facts_refused == {"gap": 3}
    await engine.facts(execution, made[1:], first=2)
    await bench.soon(lambda: not bench.dispatcher.running)
    assert len(await bench.stored(execution)) == 6


async def test_one_refused_batch_does_not_hold_up_the_others(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    one, two = [await bench.start(lua) for _ in range(2)]
    await engine.gets("starts", 2)
    wrong = {"execution": one, "epoch": 9, "first_seq": 1, "facts": journal(lua, one)[:1]}
    right = {"execution": two, "epoch": 1, "first_seq": 1, "facts": journal(lua, two)}
    await engine.says(facts=[wrong, right])
    [ack] = await engine.gets("acks")
    [drop] = await engine.gets("drops")
    assert (ack.execution, ack.seq) == (two, 6)
    assert (drop.execution, drop.epoch) == (one, 9)
    assert await bench.stored(one) == []


# --- the queue ---


async def test_what_nobody_can_run_waits_with_a_reason_and_blocks_nobody(bench: Any, document: Any) -> None:
    python = {"type": "python", "function": "f"}
    exotic = document([{"id": "a", "executor": python}], id="exotic")
    plain = document([{"id": "a"}], id="plain")
    waiting = await bench.start(exotic)
    await bench.waits_on(waiting, "no_engine")
    engine = await bench.engine(executors=["lua"])
    running = await bench.start(plain)
    assert [start.execution for start in await engine.gets("starts")] == [running]
    assert await bench.waiting_on(waiting) == "no_executor:python"
    assert await bench.waiting_on(running) is None
    able = await bench.engine("engine-2")
    assert [start.execution for start in await able.gets("starts")] == [waiting]


async def test_full_engines_get_more_when_something_ends(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine(capacity=2)
    executions = [await bench.start(lua) for _ in range(3)]
    await engine.gets("starts", 2)
    await bench.waits_on(executions[2], "engines_full")
    assert (bench.dispatcher.running, bench.dispatcher.queued) == (2, 1)
    await engine.facts(executions[0], journal(lua, executions[0]))
    assert (await engine.gets("starts", 3))[2].execution == executions[2]


async def test_an_engine_that_drains_gets_nothing(bench: Any, lua: Document) -> None:
    engine = await bench.engine(draining=True)
    execution = await bench.start(lua)
    await bench.waits_on(execution, "all_draining")
    await engine.says(load={"capacity": 10, "draining": False})
    assert (await engine.gets("starts"))[0].execution == execution
    await engine.says(load={"capacity": 10, "draining": True})
    assert [(view.state, view.reason) for view in bench.dispatcher.engines()] == [("draining", "it is shutting down")]


async def test_a_full_queue_turns_starters_away(bench: Any, lua: Document) -> None:
    await bench.restart(queue_limit=2)
    for _ in range(2):
        await bench.start(lua)
    with pytest.raises(Overloaded, match="2 executions wait for an engine already"):
        await bench.start(lua)
    engine = await bench.engine(capacity=1)
    await engine.gets("starts")
    await bench.start(lua)


async def test_what_waits_may_take_only_so_many_bytes(bench: Any, lua: Document) -> None:
    await bench.restart(queue_bytes=1_000)
    large = b'{"x":"%s"}' % (b"x" * 1_500)
    await bench.start(lua, inputs=large)  # alone, it may be larger
    with pytest.raises(Overloaded, match="have 1,508 bytes of inputs"):
        await bench.start(lua)
    engine = await bench.engine()
    await engine.gets("starts")
    await bench.start(lua)


async def test_starts_that_are_being_recorded_count_as_well(bench: Any, lua: Document) -> None:
    await bench.restart(queue_limit=2)
    gate = bench.store.hold("create_execution")
    recording = [asyncio.create_task(bench.start(lua)) for _ in range(2)]
    await bench.store.reached("create_execution")
    await bench.quiet()
    with pytest.raises(Overloaded):
        await bench.start(lua)
    gate.set()
    await asyncio.gather(*recording)


async def test_executions_larger_together_than_a_message_are_all_started(bench: Any, lua: Document) -> None:
    executions = [await bench.start(lua, inputs=b'{"x":"%s"}' % (b"x" * 1_000_000)) for _ in range(4)]
    engine = bench.dial("engine-1:1")
    engine.largest = 2_000_000
    await engine.hello("engine-1")
    assert [start.execution for start in await engine.gets("starts", 4)] == executions


async def test_an_execution_too_large_for_any_session_ends_and_says_so(bench: Any, lua: Document) -> None:
    engine = bench.dial("engine-1:1")
    engine.largest = 1_000_000
    await engine.hello("engine-1")
    ended = bench.dispatcher.feed.end("x1")
    await bench.start(lua, inputs=b'{"x":"%s"}' % (b"x" * 1_000_000))
    assert (await ended).status == "failed"
    first, last = await bench.stored("x1")
    assert (type(first).__name__, type(last).__name__, last.given_up) == ("ExecutionStarted", "ExecutionFailed", True)
    assert last.error.message.startswith("it cannot be sent to an engine: a message of ")
    small = await bench.start(lua)
    assert [start.execution for start in await engine.gets("starts")] == [small]


# --- refusals ---


async def test_a_full_engine_is_asked_again_after_its_next_report(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.says(
        load={"running": 10, "capacity": 10},
        refusals=[{"execution": execution, "epoch": 1, "reason": "FULL"}],
    )
    await bench.quiet()
    await engine.gets("starts", 1)
    assert await bench.waiting_on(execution) == "engines_full"
    assert (await bench.record(execution)).engine is None
    await engine.says(load={"running": 9, "capacity": 10})
    again = (await engine.gets("starts", 2))[1]
    assert (again.execution, again.epoch) == (execution, 2)


async def test_what_a_full_engine_refuses_goes_elsewhere(bench: Any, lua: Document) -> None:
    one, two = await bench.engine("engine-1"), await bench.engine("engine-2")
    execution = await bench.start(lua)
    await bench.soon(lambda: one.told("starts") or two.told("starts"))
    home, other = (one, two) if one.told("starts") else (two, one)
    await home.refuses(execution, "FULL")
    [start] = await other.gets("starts")
    assert (start.execution, start.epoch) == (execution, 2)
    await other.refuses(execution, "FULL", epoch=2)
    await bench.waits_on(execution, "engines_full")
    await home.says(load={"running": 0, "capacity": 10})
    assert [start.epoch for start in await home.gets("starts", 2)] == [1, 3]


async def test_what_a_draining_engine_refuses_goes_elsewhere(bench: Any, lua: Document) -> None:
    one, two = await bench.engine("engine-1"), await bench.engine("engine-2")
    execution = await bench.start(lua)
    await bench.soon(lambda: one.told("starts") or two.told("starts"))
    home, other = (one, two) if one.told("starts") else (two, one)
    await home.refuses(execution, "DRAINING")
    [start] = await other.gets("starts")
    assert (start.execution, start.epoch) == (execution, 2)
    assert home.engine_id in {view.id for view in bench.dispatcher.engines() if view.state == "draining"}


async def test_what_comes_with_a_refusal_is_committed_before_somebody_else_goes_on(
    bench: Any, lua: Document, journal: Journal
) -> None:
    """An engine that drains hands back an execution in one message with the facts that it has made."""
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    successor = await bench.engine("engine-2")
    made = journal(lua, execution)
    await engine.says(
        facts=[{"execution": execution, "epoch": 1, "first_seq": 1, "facts": made[:3]}],
        refusals=[{"execution": execution, "epoch": 1, "reason": "DRAINING"}],
    )
    [start] = await successor.gets("starts")
    [history] = successor.told("histories")
    assert (start.epoch, start.history, list(history.facts)) == (2, 3, made[:3])
    assert bench.monitor.snapshot().facts_refused == {}


async def test_an_engine_that_is_unable_is_not_asked_again(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.refuses(execution, "UNABLE", message="it lacks a function")
    await bench.waits_on(execution, "engines_unable")
    other = await bench.start(lua)
    assert (await engine.gets("starts", 2))[1].execution == other
    able = await bench.engine("engine-2")
    assert [start.execution for start in await able.gets("starts")] == [execution]


async def test_an_engine_that_was_unable_is_asked_again_when_it_is_another_one(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.refuses(execution, "UNABLE")
    engine.cut()
    await engine.hello("engine-1", incarnation="first")
    await bench.quiet()
    await engine.gets("starts", 1)
    engine.cut()
    await engine.hello("engine-1", incarnation="second")
    assert (await engine.gets("starts", 2))[1].execution == execution


async def test_an_engine_that_has_learnt_something_is_asked_again(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.refuses(execution, "UNABLE")
    await bench.waits_on(execution, "engines_unable")
    bench.dispatcher.reconsider("engine-1")
    assert (await engine.gets("starts", 2))[1].execution == execution


async def test_a_document_that_is_not_known_is_sent(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    for _ in range(2):
        await bench.start(lua)
    _, second = await engine.gets("starts", 2)
    assert second.document == b""
    await engine.refuses(second.execution, "UNKNOWN_DOCUMENT")
    third = (await engine.gets("starts", 3))[2]
    assert (third.execution, third.epoch, third.document) == (second.execution, 2, lua.canonical)


async def test_a_missing_history_is_sent_again_whole(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    made = journal(lua, execution)
    await engine.facts(execution, made[:3])
    await engine.gets("acks")
    await engine.refuses(execution, "HISTORY_MISSING")
    start = (await engine.gets("starts", 2))[1]
    [history] = engine.told("histories")
    assert (start.epoch, start.history) == (2, 3)
    assert (history.epoch, history.first_seq, list(history.facts)) == (2, 1, made[:3])


async def test_a_broken_execution_ends_instead_of_going_round(
    bench: Any, document: Any, lua: Document, journal: Journal
) -> None:
    """Not even a node that runs always is begun: whatever breaks engines would break the next one."""
    cleaning = document([{"id": "a"}, {"id": "clean", "dependencies": ["a"], "run_if": "always"}], id="cleaning")
    engine = await bench.engine()
    execution = await bench.start(cleaning)
    await engine.gets("starts")
    ended = bench.dispatcher.feed.end(execution)
    await engine.facts(execution, journal(cleaning, execution)[:2])
    await engine.refuses(execution, "BROKEN", message="engine-1: JournalError: 30 MB are too much")
    record = await ended
    assert record == await bench.record(execution)
    assert (record.status, record.engine) == ("failed", None)
    stored = await bench.stored(execution)
    assert [type(fact).__name__ for fact in stored] == ["ExecutionStarted", "NodeStarted", "ExecutionFailed"]
    assert (stored[2].error.type, stored[2].given_up) == ("Broken", True)
    assert stored[2].error.message == "engine-1 cannot run it: JournalError: 30 MB are too much"
    check(fold(compile_document(cleaning), stored, execution=execution, seed=7))
    await bench.quiet()
    await engine.gets("starts", 1)
    assert bench.monitor.snapshot().finished == {"failed": 1}
    assert (await bench.start(lua)) in [start.execution for start in await engine.gets("starts", 2)]


async def test_what_one_engine_breaks_on_another_may_try(bench: Any, lua: Document) -> None:
    one = await bench.engine("engine-1")
    two = await bench.engine("engine-2")
    execution = await bench.start(lua)
    await bench.soon(lambda: one.told("starts") or two.told("starts"))
    home, other = (one, two) if one.told("starts") else (two, one)
    await home.refuses(execution, "BROKEN")
    [start] = await other.gets("starts")
    assert (start.execution, start.epoch) == (execution, 2)
    ended = bench.dispatcher.feed.end(execution)
    await other.refuses(execution, "BROKEN", epoch=2)
    assert (await ended).status == "failed"
    await home.gets("starts", 1)


async def test_what_takes_engine_after_engine_down_is_given_up(bench: Any, lua: Document, journal: Journal) -> None:
    execution = await bench.start(lua)
    ended = bench.dispatcher.feed.end(execution)
    engine = await bench.engine(incarnation="0")
    made = journal(lua, execution)
    for turn in range(1, 5):
        await engine.gets("starts", turn)
        engine.cut()
        await engine.hello("engine-1", incarnation=str(turn))
    await engine.gets("starts", 5)
    await engine.facts(execution, made[:3], epoch=5)  # a node has succeeded: it gets somewhere
    await engine.gets("acks")
    for turn in range(5, 10):
        await engine.gets("starts", turn)
        engine.cut()
        await engine.hello("engine-1", incarnation=str(turn))
    assert (await ended).status == "failed"
    last = (await bench.stored(execution))[-1]
    assert (last.error.type, last.given_up) == ("Quarantined", True)
    await bench.quiet()
    await engine.gets("starts", 9)


async def test_a_refusal_of_an_earlier_dispatch_changes_nothing(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.refuses(execution, "FULL", epoch=0)
    await engine.refuses("unknown", "FULL")
    await bench.quiet()
    await engine.gets("starts", 1)
    assert bench.dispatcher.running == 1


# --- a store in trouble ---


async def test_facts_wait_for_a_store_that_cannot_be_written(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    one, two = [await bench.start(lua) for _ in range(2)]
    await engine.gets("starts", 2)
    bench.store.failing.add("append")
    await engine.facts(one, journal(lua, one))
    await bench.soon(lambda: bench.store.refused)
    await engine.facts(two, journal(lua, two))
    await bench.advance(2)
    assert len(bench.store.refused) > 1
    assert engine.told("acks") == []
    bench.store.failing.clear()
    await bench.advance(0.5)
    assert sorted((ack.execution, ack.seq) for ack in await engine.gets("acks", 2)) == [(one, 6), (two, 6)]
    assert len(await bench.stored(one)) == len(await bench.stored(two)) == 6


async def test_a_dispatch_that_cannot_be_recorded_is_tried_again(bench: Any, lua: Document) -> None:
    bench.store.failing.add("dispatch")
    engine = await bench.engine()
    execution = await bench.start(lua)
    await bench.soon(lambda: bench.store.refused)
    await bench.advance(1)
    assert engine.told("starts") == []
    assert bench.dispatcher.queued == 1
    bench.store.failing.clear()
    await bench.advance(0.5)
    [start] = await engine.gets("starts")
    assert (start.execution, start.epoch) == (execution, 1)


async def test_a_history_that_cannot_be_read_is_tried_again(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution)[:3])
    await engine.gets("acks")
    bench.store.failing.add("facts")
    engine.forget()
    engine.cut()
    await engine.hello("engine-1", incarnation="second")
    await bench.soon(lambda: bench.store.refused)
    await bench.quiet()
    bench.store.failing.clear()
    await bench.advance(0.5)
    [start] = await engine.gets("starts")
    assert (start.execution, start.history) == (execution, 3)
    other = await bench.start(lua)
    assert (await engine.gets("starts", 2))[1].execution == other


async def test_a_release_that_cannot_be_recorded_loses_nothing(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    bench.store.failing.add("release")
    await engine.refuses(execution, "UNKNOWN_DOCUMENT")
    assert (await engine.gets("starts", 2))[1].epoch == 2
    assert bench.store.refused == ["release"]


async def test_an_end_that_cannot_be_recorded_is_tried_again(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    bench.store.failing.add("end_undispatched")
    ended = bench.dispatcher.feed.end(execution)
    await engine.refuses(execution, "BROKEN")
    await bench.soon(lambda: bench.store.refused)
    assert await bench.waiting_on(execution) == "broken"
    bench.store.failing.clear()
    await bench.advance(0.5)
    assert (await ended).status == "failed"


async def test_a_large_history_comes_in_messages_that_a_session_carries(
    bench: Any, document: Any, journal: Journal
) -> None:
    wide = document([{"id": f"n{number}"} for number in range(6)], id="wide")
    engine = await bench.engine()
    execution = await bench.start(wide)
    await engine.gets("starts")
    made = journal(wide, execution, result=b'"%s"' % (b"x" * 600_000))[:-1]
    await engine.facts(execution, made)
    await engine.gets("acks")
    engine.forget()
    engine.largest = 1_500_000
    engine.cut()
    await engine.hello("engine-1", incarnation="second")
    [start] = await engine.gets("starts")
    histories = engine.told("histories")
    assert len(histories) == 6
    assert [fact for history in histories for fact in history.facts] == made
    assert histories[0].first_seq == 1
    assert start.history == len(made)


async def test_logs_are_kept_or_given_up_without_stopping_anything(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    line = b'{"execution":"x1","node":"a","attempt":1,"line":1,"at":1,"text":"hello"}'
    await engine.says(logs=[{"execution": execution, "epoch": 1, "lines": [line]}])
    [kept] = await bench.store.logs(execution)
    assert (kept.node, kept.payload) == ("a", line)
    bench.store.failing.add("add_logs")
    change = bench.dispatcher.feed.change(execution)
    await engine.says(logs=[{"execution": execution, "epoch": 1, "lines": [line]}])
    await change
    assert len(await bench.store.logs(execution)) == 1


async def test_of_versions_nobody_runs_any_more_nothing_is_kept(bench: Any, document: Any, journal: Journal) -> None:
    engine = await bench.engine()
    for number in range(3):
        made = document([{"id": "a"}], id=f"w{number}")
        execution = await bench.start(made)
        await engine.gets("starts", number + 1)
        assert len(bench.dispatcher._plans) == 1
        await engine.facts(execution, journal(made, execution))
        await bench.soon(lambda: not bench.dispatcher.running)
    gc.collect()
    assert len(bench.dispatcher._plans) == 0


async def test_what_others_have_at_an_engine_is_no_other_fleet(bench: Any, lua: Document) -> None:
    """Engines tell of it all the time; making the fleet anew each time would take most of the time of many engines."""
    engine = await bench.engine(capacity=2)
    roster = bench.dispatcher._ledger.roster
    fleet = roster.fleet
    await engine.says(load={"capacity": 2, "running": 2})
    execution = await bench.start(lua)
    await bench.waits_on(execution, "engines_full")
    await engine.says(load={"capacity": 2, "running": 1})
    await engine.gets("starts")
    assert roster.fleet is fleet
    await engine.says(load={"capacity": 3, "running": 1})
    assert roster.fleet is not fleet
