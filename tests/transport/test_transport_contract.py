"""What every transport promises, over gRPC and in one process: facts arrive once and in order, whatever happens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dagengine.events import facts as codec
from dagengine.graph import compile_document
from dagengine.machine.machine import fold
from dagengine.server.host import Host
from dagengine.spec.model import Document
from dagengine.wire import limits
from dagengine.wire.v1 import session_pb2
from dagengine.wire.v1.session_pb2 import OrchestratorMessage
from orchestrator.errors import TransportError
from orchestrator.transport.base import Link

TOKEN = "a token that nobody guesses, truly"


def check_journals(ledger: Any) -> None:
    """Every journal is whole: it folds, and it tells of each node once."""
    for execution, document in ledger.wanted.items():
        facts = [codec.decode(data) for data in ledger.facts[execution]]
        machine = fold(compile_document(document), facts, execution=execution, seed=1)
        assert machine.state.status == "succeeded"
        assert len(facts) == 2 * len(document.spec.nodes) + 2


async def test_an_execution_runs_over_a_session(link: Link, ledger: Any, chain_of: Any, host: Host) -> None:
    assert (link.engine_id, link.connected, link.reason) == ("engine-1", True, "")
    ledger.want(link, "e1", chain_of(20))
    await ledger.all_ended()
    await ledger.until(lambda: ledger.messages[-1].load.unacknowledged == 0 and host.unacknowledged == 0)
    check_journals(ledger)
    assert ledger.duplicates == 0


async def test_cutting_the_line_loses_and_doubles_no_fact(
    link: Link, ledger: Any, end: Any, chain_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BATCH_FACTS", 50)
    cuts = 0

    def cut_now_and_then(message: session_pb2.EngineMessage) -> None:
        """Half of the cuts take the message itself with them, the others its acknowledgement."""
        nonlocal cuts
        if message.facts and len(ledger.messages) % 5 == 0 and cuts < 12:
            cuts += 1
            end.line.cut()
            if cuts % 2:
                raise TransportError("the line was cut")

    ledger.before = cut_now_and_then
    for number in range(20):
        ledger.want(link, f"e{number}", chain_of(100))
    await ledger.all_ended()
    check_journals(ledger)
    assert cuts == 12
    assert len({hello.incarnation for hello in ledger.hellos}) == 1
    assert not ledger.refusals


async def test_executions_of_an_engine_that_died_go_on_at_the_next_one_from_what_is_committed(
    link: Link, ledger: Any, end: Any, engine: Any, chain_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BATCH_FACTS", 50)
    deaths = 0

    async def die() -> None:
        nonlocal deaths
        deaths += 1
        await end.replace(Host(engine, engine_id="engine-1", version="0", capacity=50))
        raise TransportError("the engine died")

    def die_now_and_then(message: session_pb2.EngineMessage) -> Any:
        return die() if message.facts and len(ledger.messages) % 10 == 0 and deaths < 4 else None

    ledger.before = die_now_and_then
    for number in range(20):
        ledger.want(link, f"e{number}", chain_of(100))
    await ledger.all_ended()
    check_journals(ledger)
    assert deaths == 4
    assert ledger.resumed > 0
    assert len({hello.incarnation for hello in ledger.hellos}) == 5
    assert not ledger.refusals


async def test_what_a_listener_could_not_take_comes_again(link: Link, ledger: Any, chain_of: Any) -> None:
    failures = 0

    def fail_twice(message: session_pb2.EngineMessage) -> None:
        nonlocal failures
        if message.facts and failures < 2:
            failures += 1
            raise OSError("the disk is full")

    ledger.before = fail_twice
    ledger.want(link, "e1", chain_of(50))
    await ledger.all_ended()
    check_journals(ledger)
    assert ledger.reasons == ["the session was given up: OSError: the disk is full"] * 2


async def test_while_a_listener_is_slow_messages_grow_instead_of_their_number(
    link: Link, ledger: Any, chain_of: Any, budget: Any
) -> None:
    held = asyncio.Event()

    def hold_the_first(message: session_pb2.EngineMessage) -> Any:
        return held.wait() if message.facts and not held.is_set() else None

    ledger.before = hold_the_first
    large = chain_of(30, code="return string.rep('x', 20000)")
    for number in range(20):
        ledger.want(link, f"e{number}", large)
    await budget.until(facts=20 * 62)
    assert not any(ledger.facts.values())
    held.set()
    await ledger.all_ended()
    check_journals(ledger)
    sizes = [message.ByteSize() for message in ledger.messages]
    assert max(sizes) > limits.BATCH_BYTES // 2
    assert max(sizes) < limits.BATCH_BYTES + 50_000
    assert len(sizes) < 20 * 30


async def test_commands_keep_their_order(link: Link, ledger: Any, chain_of: Any, host: Host) -> None:
    """Drops that follow their starts at once, and starts that follow drops."""
    document = chain_of(2_000)
    for epoch in (1, 2):
        start = {"execution": "e1", "epoch": epoch, "digest": document.digest, "document": document.canonical}
        link.send(OrchestratorMessage(starts=[{**start, "inputs": b"{}"}]))
        link.send(OrchestratorMessage(drops=[{"execution": "e1", "epoch": epoch}]))
    ledger.facts["e1"], ledger.epochs["e1"] = [], 9
    ledger.want(link, "e2", chain_of(3))
    await ledger.all_ended()
    assert host.running == 0


async def test_nothing_is_kept_between_sessions(link: Link, ledger: Any, end: Any, chain_of: Any) -> None:
    end.vanish()
    await ledger.until(lambda: ledger.reasons)
    assert not link.connected
    assert link.reason
    link.send(OrchestratorMessage(acks=[{"execution": "e1", "epoch": 1, "seq": 1_000}]))
    link.send(OrchestratorMessage(starts=[{"execution": "e1", "epoch": 1}]))
    end.appear()
    await ledger.until(lambda: len(ledger.hellos) == 2)
    ledger.want(link, "e2", chain_of(1))
    await ledger.all_ended()
    assert not ledger.refusals


async def test_a_link_finds_an_engine_that_comes_later(dial: Any, ledger: Any, end: Any) -> None:
    end.vanish()
    link = dial()
    await ledger.until(lambda: len(ledger.reasons) >= 3)
    assert (link.engine_id, link.connected) == ("", False)
    assert link.reason == ledger.reasons[-1] != ""
    end.appear()
    await ledger.until(lambda: ledger.hellos)
    assert (link.engine_id, link.connected, link.reason) == ("engine-1", True, "")


async def test_an_engine_that_falls_silent_is_taken_for_dead(dial: Any, ledger: Any, end: Any) -> None:
    link = dial(silence=0.3)
    await ledger.until(lambda: ledger.messages)
    end.line.freeze()
    await ledger.until(lambda: ledger.reasons)
    assert ledger.reasons[0] == f"nothing was heard from {link.address} for 0.3 s"
    await ledger.until(lambda: len(ledger.hellos) == 2)


async def test_closing_a_link_ends_its_session_and_its_executions_wait(
    link: Link, ledger: Any, end: Any, dial: Any, chain_of: Any, host: Host
) -> None:
    ledger.before = lambda message: asyncio.Event().wait() if message.facts else None
    ledger.want(link, "e1", chain_of(10))
    await ledger.until(lambda: ledger.messages and ledger.messages[-1].facts)
    dials = end.line.dials
    await link.close()
    await link.close()
    assert not link.connected
    assert ledger.reasons == ["the link was closed"]
    link.send(OrchestratorMessage(drops=[{"execution": "e1", "epoch": 9}]))
    assert end.line.dials == dials
    ledger.before = None
    dial()
    await ledger.all_ended()
    check_journals(ledger)
    assert [held.execution for held in ledger.hellos[-1].held] == ["e1"]


async def test_a_message_that_no_session_carries_is_refused(link: Link) -> None:
    start = session_pb2.Start(execution="e1", inputs=b"x" * (limits.MAX_MESSAGE_BYTES + 1))
    with pytest.raises(TransportError, match="is more than the 33,554,432 that a session carries"):
        link.send(OrchestratorMessage(starts=[start]))
    assert link.connected


async def test_large_messages_pass_in_both_directions(link: Link, ledger: Any) -> None:
    code = "return string.rep('x', 4100000)"
    nodes = [{"id": name, "executor": {"type": "lua", "code": code}} for name in ("big", "bigger")]
    padding = {"padding": "y" * 6_000_000}
    document = Document.model_validate(
        {"metadata": {"id": "big", "version": "1.0.0", "annotations": padding}, "spec": {"nodes": nodes}}
    )
    ledger.want(link, "e1", document)
    await ledger.all_ended()
    check_journals(ledger)


@pytest.mark.parametrize("token", [TOKEN])
async def test_a_session_opens_with_the_token(dial: Any, ledger: Any) -> None:
    dial(token=TOKEN)
    await ledger.until(lambda: ledger.hellos)
    assert not ledger.reasons


@pytest.mark.parametrize(
    ("token", "mine", "reason"),
    [
        (TOKEN, None, "the orchestrator sent no proof"),
        (TOKEN, "another", "the engine has another shared token than this side"),
        (None, TOKEN, "the engine sent no proof"),
    ],
)
async def test_no_session_opens_without_the_same_token(dial: Any, ledger: Any, mine: str | None, reason: str) -> None:
    dial(token=mine)
    await ledger.until(lambda: len(ledger.reasons) >= 2)
    assert reason in ledger.reasons[0]
    assert not ledger.hellos
    assert TOKEN not in "".join(ledger.reasons)
