"""The host: what it takes, what it refuses, whom it obeys, and what it keeps when nobody is there."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import msgspec
import pytest

from dagengine.errors import WireError
from dagengine.events import facts as codec
from dagengine.events.facts import CancelRequested, Fact
from dagengine.journal.session import Budget
from dagengine.machine import operations
from dagengine.server.host import Host
from dagengine.wire import limits
from dagengine.wire.handshake import OrchestratorSide, ProofError
from dagengine.wire.v1 import session_pb2
from dagengine.wire.v1.session_pb2 import Adopt, Delivery, Drop, History, Refusal, Resend


def never(message: session_pb2.EngineMessage) -> bool:
    return False


TOKEN = b"a token that nobody guesses, truly"


async def test_the_hello_says_who_the_engine_is(peer: Any) -> None:
    hello = peer.hello
    assert (hello.engine, hello.capacity, list(hello.executors)) == ("engine-1", 3, ["lua"])
    assert dict(hello.labels) == {"pool": "gpu"}
    assert hello.incarnation
    assert not hello.held


async def test_an_execution_runs_until_its_last_fact_is_committed(peer: Any, engine: Any, host: Host) -> None:
    peer.start("e1", inputs=b'{"n":1}', seed=7)
    await peer.load(running=1)
    run = engine.runs["e1"]
    assert run.inputs == b'{"n":1}'
    run.make(3)
    assert await peer.positions("e1", 3) == [1, 2, 3]
    run.end()
    assert await peer.positions("e1", 4) == [4]
    assert (host.running, host.unacknowledged) == (0, 4)  # it has ended, yet nobody may forget it
    peer.ack("e1", 4)
    await peer.load(unacknowledged=0)
    assert engine.released == ["e1"]
    assert host.unacknowledged == 0


async def test_facts_of_many_executions_share_a_message(peer: Any, engine: Any) -> None:
    for name in ("e1", "e2", "e3"):
        peer.start(name)
    await peer.load(running=3)
    for run in engine.runs.values():
        run.make(10)
    message = await peer.next()
    assert {batch.execution: len(batch.facts) for batch in message.facts} == {"e1": 10, "e2": 10, "e3": 10}


async def test_messages_are_bounded_by_bytes_and_executions_take_turns(peer: Any, engine: Any) -> None:
    for name in ("e1", "e2"):
        peer.start(name)
    await peer.load(running=2)
    for run in engine.runs.values():
        run.make(40, size=100_000)
    seen, executions = [], []
    while len(peer.facts) < 80:
        message = await peer.next()
        seen.append(message.ByteSize())
        executions.append([batch.execution for batch in message.facts])
    assert max(seen) <= limits.BATCH_BYTES + 100_000
    assert executions[:2] == [["e1"], ["e2"]]


async def test_a_full_engine_refuses(peer: Any, host: Host) -> None:
    for number in range(4):
        peer.start(f"e{number}", epoch=5)
    refusal = await peer.refusal()
    assert (refusal.execution, refusal.epoch, refusal.reason) == ("e3", 5, Refusal.FULL)
    assert refusal.message == "engine-1: it runs 3 executions, its capacity is 3"
    assert host.running == 3


async def test_an_engine_with_too_many_unacknowledged_facts_refuses(engine: Any, connect: Any) -> None:
    host = Host(engine, engine_id="small", version="0", budget=Budget(limit=1_000))
    peer = await connect(to=host)
    peer.start("e1")
    await peer.load(running=1)
    engine.runs["e1"].make(20)
    peer.start("e2")
    refusal = await peer.refusal()
    assert (refusal.reason, refusal.message) == (Refusal.FULL, "small: 20 facts wait to be acknowledged")
    host.close()


async def test_an_engine_that_lacks_something_refuses_and_says_what(peer: Any, engine: Any) -> None:
    engine.lacks = ["node 'a' needs the Python function 'resize', which is not registered here"]
    peer.start("e1")
    refusal = await peer.refusal()
    assert refusal.reason == Refusal.UNABLE
    assert "needs the Python function 'resize'" in refusal.message


async def test_a_document_is_sent_once_and_asked_for_when_it_is_not_known(peer: Any, engine: Any) -> None:
    peer.start("e1", document=b"")
    refusal = await peer.refusal()
    assert refusal.reason == Refusal.UNKNOWN_DOCUMENT
    peer.start("e1", epoch=2)
    peer.start("e2", document=b"")
    await peer.load(running=2)
    assert set(engine.runs) == {"e1", "e2"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"digest": "sha256:0"}, "the document that came with digest sha256:0 has sha256:"),
        (
            {"document": b"{}", "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
            "cannot be used",
        ),
    ],
)
async def test_of_a_document_that_it_cannot_use_an_engine_says_so(peer: Any, fields: Any, message: str) -> None:
    peer.start("e1", **fields)
    refusal = await peer.refusal()
    assert refusal.reason == Refusal.UNABLE
    assert message in refusal.message


async def test_a_fault_while_starting_refuses_one_execution_and_keeps_the_session(
    peer: Any, engine: Any, host: Host
) -> None:
    engine.fault = RuntimeError("no thread to be had")
    peer.start("e1")
    refusal = await peer.refusal()
    assert (refusal.reason, refusal.message) == (Refusal.BROKEN, "RuntimeError: no thread to be had")
    assert host.running == 0
    engine.fault = None
    peer.start("e1", epoch=2)
    await peer.load(running=1)


async def test_an_execution_that_breaks_down_is_handed_back_for_good(peer: Any, engine: Any, host: Host) -> None:
    peer.start("e1")
    await peer.load(running=1)
    engine.runs["e1"].fail(ValueError("a bug"))
    refusal = await peer.refusal()
    assert (refusal.execution, refusal.reason) == ("e1", Refusal.BROKEN)
    assert "ValueError: a bug" in refusal.message
    assert host.running == 0


def history(first: int, last: int, *, epoch: int = 3) -> History:
    facts = [codec.encode(CancelRequested(at=at)) for at in range(first, last + 1)]
    return History(execution="e1", epoch=epoch, first_seq=first, facts=facts)


async def test_an_execution_goes_on_from_its_history(peer: Any, engine: Any) -> None:
    peer.send(histories=[history(1, 3)])
    peer.send(histories=[history(4, 5)])
    peer.start("e1", epoch=3, history=5)
    await peer.load(running=1)
    run = engine.runs["e1"]
    assert [fact.at for fact in run.history] == [1, 2, 3, 4, 5]
    assert run.journal.committed == 5
    run.make(2)
    assert await peer.positions("e1", 7) == [6, 7]


@pytest.mark.parametrize(
    "histories", [[], [history(1, 3)], [history(2, 5)], [history(1, 2), history(4, 5)], [history(1, 5, epoch=2)]]
)
async def test_a_start_whose_history_did_not_all_come_is_refused(peer: Any, engine: Any, histories: Any) -> None:
    peer.send(histories=histories)
    peer.start("e1", epoch=3, history=5)
    refusal = await peer.refusal()
    assert refusal.reason == Refusal.HISTORY_MISSING
    assert not engine.runs


async def test_without_contact_an_execution_goes_on_and_its_facts_come_after_the_adoption(
    peer: Any, engine: Any, connect: Any
) -> None:
    peer.start("e1")
    await peer.load(running=1)
    run = engine.runs["e1"]
    run.make(4)
    await peer.positions("e1", 4)
    peer.ack("e1", 2)
    await peer.cut()
    run.make(2)
    again = await connect()
    [held] = again.hello.held
    assert (held.execution, held.epoch, held.last_seq) == ("e1", 1, 6)
    again.send(adopts=[Adopt(execution="e1", epoch=2, committed_seq=3)])
    await again.until(lambda message: message.facts)
    assert again.facts == [("e1", 2, 4), ("e1", 2, 5), ("e1", 2, 6)]
    assert not run.stopped


async def test_an_execution_answers_to_the_session_that_came_last(peer: Any, engine: Any, connect: Any) -> None:
    peer.start("e1")
    await peer.load(running=1)
    other = await connect(name="replica")
    other.send(adopts=[Adopt(execution="e1", epoch=2)])
    peer.start("e2")
    await peer.load(running=2)
    for run in engine.runs.values():
        run.make(1)
    assert await other.positions("e1", 1) == [1]
    assert await peer.positions("e2", 1) == [1]


async def test_lower_epochs_are_ignored(peer: Any, engine: Any, host: Host) -> None:
    peer.start("e1", epoch=5)
    await peer.load(running=1)
    run = engine.runs["e1"]
    run.make(2)
    await peer.positions("e1", 2)
    peer.send(drops=[Drop(execution="e1", epoch=4)], adopts=[Adopt(execution="e1", epoch=4, committed_seq=1)])
    peer.start("e1", epoch=4)
    peer.ack("e1", 2, epoch=4)
    peer.send(resends=[Resend(execution="e1", epoch=4, from_seq=1)])
    run.make(1)
    await peer.positions("e1", 3)
    assert engine.runs["e1"] is run
    assert host.unacknowledged == 3
    assert not run.stopped


async def test_an_adoption_from_a_session_that_was_replaced_is_ignored(peer: Any, engine: Any, connect: Any) -> None:
    peer.start("e1")
    await peer.load(running=1)
    later = await connect()
    later.send(adopts=[Adopt(execution="e1", epoch=1)])
    engine.runs["e1"].make(1)
    assert await later.positions("e1", 1) == [1]
    peer.send(adopts=[Adopt(execution="e1", epoch=1)])
    peer.start("e2")
    await peer.load(running=2)
    engine.runs["e1"].make(1)
    assert await later.positions("e1", 2) == [2]


async def test_the_same_start_again_is_an_adoption(peer: Any, engine: Any) -> None:
    peer.start("e1")
    await peer.load(running=1)
    run = engine.runs["e1"]
    run.make(2)
    await peer.positions("e1", 2)
    peer.start("e1")
    assert await peer.positions("e1", 2) == [1, 2]
    assert engine.runs["e1"] is run


async def test_a_start_of_a_higher_epoch_replaces_the_execution(peer: Any, engine: Any, host: Host) -> None:
    peer.start("e1")
    await peer.load(running=1)
    old = engine.runs["e1"]
    old.make(2)
    peer.start("e1", epoch=2)
    await peer.until(lambda _: engine.runs["e1"] is not old)
    assert old.stopped
    assert (host.running, host.unacknowledged) == (1, 0)


async def test_a_dropped_execution_is_stopped_and_forgotten(peer: Any, engine: Any, host: Host) -> None:
    peer.start("e1")
    await peer.load(running=1)
    engine.runs["e1"].make(2)
    peer.send(drops=[Drop(execution="e1", epoch=1), Drop(execution="unknown", epoch=1)])
    await peer.load(running=0)
    assert engine.runs["e1"].stopped
    assert host.unacknowledged == 0


@pytest.mark.parametrize("committed", [9, 0])
async def test_an_adoption_it_cannot_go_on_from_is_refused(peer: Any, engine: Any, host: Host, committed: int) -> None:
    peer.start("e1")
    await peer.load(running=1)
    engine.runs["e1"].make(2)
    await peer.positions("e1", 2)
    peer.ack("e1", 1)
    peer.send(adopts=[Adopt(execution="e1", epoch=2, committed_seq=committed)])
    refusal = await peer.refusal()
    assert (refusal.epoch, refusal.reason) == (2, Refusal.HISTORY_MISSING)
    assert engine.runs["e1"].stopped
    assert host.running == 0


async def test_an_adoption_of_what_it_does_not_hold_is_refused(peer: Any) -> None:
    peer.send(adopts=[Adopt(execution="gone", epoch=2, committed_seq=4)])
    refusal = await peer.refusal()
    assert (refusal.execution, refusal.reason) == ("gone", Refusal.HISTORY_MISSING)


async def test_missing_facts_are_sent_again(peer: Any, engine: Any) -> None:
    peer.start("e1")
    await peer.load(running=1)
    engine.runs["e1"].make(5)
    await peer.positions("e1", 5)
    peer.send(resends=[Resend(execution="e1", epoch=1, from_seq=3)])
    assert await peer.positions("e1", 5) == [3, 4, 5]


async def test_an_ack_of_facts_that_were_never_made_ends_the_session(peer: Any) -> None:
    peer.start("e1")
    await peer.load(running=1)
    peer.ack("e1", 3)
    with pytest.raises(WireError, match="execution e1: fact 3 is said to be committed"):
        await peer.until(never)


def delivery(execution: str, id: str, operation: operations.Operation) -> Delivery:
    kind, payload = operations.kind_of(operation), operations.encode(operation)
    return Delivery(execution=execution, id=id, kind=kind, payload=payload)


async def test_operations_reach_the_run_in_order(peer: Any, engine: Any) -> None:
    peer.start("e1")
    asked: list[operations.Operation] = [
        operations.Pause(node="a", author="ada", reason="wait"),
        operations.Signal(name="paid", payload=msgspec.Raw(b'{"amount":12}')),
        operations.Cancel(grace=5, author="ada", reason="enough"),
    ]
    made = [delivery("e1", f"c{number}", operation) for number, operation in enumerate(asked)]
    peer.send(deliveries=[*made, delivery("unknown", "c9", asked[0])])
    peer.start("e2")
    await peer.load(running=2)
    assert engine.runs["e1"].asked == [(operation, f"c{number}") for number, operation in enumerate(asked)]


async def test_what_is_not_understood_stops_nothing(peer: Any, engine: Any) -> None:
    peer.start("e1")
    later = operations.Pause(author="ada")
    unknown = [
        Delivery(execution="e1", id="c1", kind="sing", payload=b'{"kind":"sing"}'),
        Delivery(execution="e1", id="c2", kind="pause", payload=b"{"),
        Delivery(execution="e1", id="c3", kind="skip", payload=b'{"kind":"skip"}'),
    ]
    peer.send(deliveries=[*unknown, delivery("e1", "c4", later)])
    peer.start("e2")
    await peer.load(running=2)
    assert engine.runs["e1"].asked == [(later, "c4")]


def committed(*facts: Fact) -> dict[str, Any]:
    encoded = [codec.encode(fact) for fact in facts]
    return {"histories": [session_pb2.History(execution="e1", epoch=2, first_seq=1, facts=encoded)]}


ENDED = (codec.CancelRequested(at=1), codec.ExecutionCancelled(at=2))


async def test_an_execution_that_has_ended_waits_for_what_is_asked_of_it(peer: Any, engine: Any) -> None:
    peer.send(**committed(*ENDED))
    peer.start("e1", epoch=2, history=2)
    await peer.load(running=1)
    run = engine.runs["e1"]
    run.finish()  # as the driver does: its last fact is committed
    peer.start("e2")
    await peer.load(running=2)
    again = operations.Rerun(author="ada")
    peer.send(deliveries=[delivery("e1", "c1", again)])
    peer.start("e3")
    await peer.load(running=2)  # nothing came of it in this run: it is forgotten
    assert run.asked == [(again, "c1")]
    assert engine.released == ["e1"]


async def test_what_follows_the_last_fact_is_committed_before_it_is_forgotten(peer: Any, engine: Any) -> None:
    peer.send(**committed(*ENDED))
    peer.start("e1", epoch=2, history=2)
    await peer.load(running=1)
    run = engine.runs["e1"]
    run.finish()
    run.make(1)
    peer.send(deliveries=[delivery("e1", "c1", operations.Rerun())])
    assert await peer.positions("e1", 3) == [3]
    assert engine.released == []
    peer.ack("e1", 3, epoch=2)
    await peer.load(running=0)
    assert engine.released == ["e1"]


async def test_a_journal_that_goes_on_after_its_end_is_watched_at_once(peer: Any, engine: Any) -> None:
    peer.send(**committed(*ENDED, codec.RerunRequested(at=3, nodes=("a",))))
    peer.start("e1", epoch=2, history=3)
    await peer.load(running=1)
    engine.runs["e1"].finish()
    await peer.load(running=0)
    assert engine.released == ["e1"]


async def test_log_lines_come_before_the_facts_that_follow_them(peer: Any, engine: Any) -> None:
    peer.start("e1")
    await peer.load(running=1)
    run = engine.runs["e1"]
    printer = threading.Thread(target=run.print, args=("from a thread",))
    printer.start()
    printer.join()
    run.make(1)
    message = await peer.next()
    assert b"from a thread" in message.logs[0].lines[0]
    assert len(message.facts) == 1


async def test_log_lines_wait_for_a_session_and_survive_the_end_of_their_execution(
    peer: Any, engine: Any, connect: Any
) -> None:
    peer.start("e1")
    await peer.load(running=1)
    await peer.cut()
    run = engine.runs["e1"]
    run.print("while nobody listened")
    run.end()
    again = await connect()
    again.send(adopts=[Adopt(execution="e1", epoch=1, committed_seq=1)])
    message = await again.until(lambda message: message.logs)
    assert b"while nobody listened" in message.logs[0].lines[0]


async def test_log_lines_that_come_too_fast_are_counted(peer: Any, engine: Any) -> None:
    peer.start("e1")
    await peer.load(running=1)
    for _ in range(300):
        engine.runs["e1"].print("y" * 10_000)
    kept = dropped = 0
    while kept + dropped < 300:
        for logs in (await peer.next()).logs:
            kept += len(logs.lines)
            dropped += logs.dropped
    assert kept * 10_000 <= 1024 * 1024
    assert dropped == 300 - kept


async def test_an_overlong_log_line_is_cut_with_a_note(peer: Any, engine: Any) -> None:
    peer.start("e1")
    await peer.load(running=1)
    engine.runs["e1"].print("z" * 1_000_000)
    [line] = (await peer.until(lambda message: message.logs)).logs[0].lines
    assert len(line) <= limits.MAX_LOG_LINE_BYTES
    assert b"more characters)" in line


async def test_the_load_is_reported_without_a_cause_too(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REPORT_SECONDS", 0.01)
    peer = await connect()
    for _ in range(3):
        assert (await peer.next()).load.capacity == 3


# --- the opening ---


async def test_a_session_with_the_token_opens(engine: Any, connect: Any) -> None:
    host = Host(engine, engine_id="safe", version="0", token=TOKEN.decode())
    assert (await connect(TOKEN, to=host)).hello.engine == "safe"


async def test_nothing_is_told_before_the_token_is_proven(engine: Any) -> None:
    host = Host(engine, engine_id="safe", version="0", token=TOKEN.decode())

    async def intruder() -> Any:
        yield session_pb2.OrchestratorMessage(hello=OrchestratorSide(None, orchestrator="o", incarnation="i").hello())
        yield session_pb2.OrchestratorMessage(proof={"proof": b"x" * 32}, drops=[Drop(execution="e1", epoch=9)])

    session = host.session(intruder())
    said = [await anext(session)]
    with pytest.raises(ProofError):
        await anext(session)
    assert [[field.name for field, _ in message.ListFields()] for message in said] == [["challenge"]]


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([], "left before its hello"),
        ([session_pb2.OrchestratorMessage()], "should have sent its hello"),
        (
            [session_pb2.OrchestratorMessage(hello=OrchestratorSide(None, orchestrator="o", incarnation="i").hello())]
            * 2,
            "should have sent its proof",
        ),
    ],
)
async def test_an_opening_out_of_order_is_an_error(host: Host, messages: Any, error: str) -> None:
    async def stranger() -> Any:
        for message in messages:
            yield message

    with pytest.raises(WireError, match=error):
        async for _ in host.session(stranger()):
            pass


# --- the end ---


async def test_a_draining_engine_refuses_finishes_and_ends_its_sessions(peer: Any, engine: Any, host: Host) -> None:
    peer.start("e1")
    await peer.load(running=1)
    draining = asyncio.create_task(host.drain(30))
    await peer.load(draining=True)
    peer.start("e2")
    assert (await peer.refusal()).reason == Refusal.DRAINING
    engine.runs["e1"].make(2)
    engine.runs["e1"].end()
    await peer.positions("e1", 3)
    assert not draining.done()
    peer.ack("e1", 3)
    with pytest.raises(StopAsyncIteration):
        await peer.until(never)
    await draining


async def test_what_cannot_finish_in_time_is_handed_back_with_all_its_facts(peer: Any, engine: Any, host: Host) -> None:
    peer.start("e1")
    await peer.load(running=1)
    draining = asyncio.create_task(host.drain(0))
    engine.runs["e1"].make(3)
    await peer.positions("e1", 3)
    peer.ack("e1", 3)
    refusal = await peer.refusal()
    assert (refusal.execution, refusal.epoch, refusal.reason) == ("e1", 1, Refusal.DRAINING)
    with pytest.raises(StopAsyncIteration):
        await peer.until(never)
    await draining
    assert engine.runs["e1"].stopped


async def test_what_only_waits_is_handed_back_without_waiting_for_it(peer: Any, engine: Any, host: Host) -> None:
    peer.start("e1")
    await peer.load(running=1)
    engine.runs["e1"].only_waits = True
    draining = asyncio.create_task(host.drain(3_600))
    assert (await peer.refusal()).reason == Refusal.DRAINING
    with pytest.raises(StopAsyncIteration):
        await peer.until(never)
    await draining
