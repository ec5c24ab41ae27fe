"""A real engine whose line is cut: no effect begins, pure code runs up to the buffers, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from dagengine import DAGEngine
from dagengine.events import facts
from dagengine.journal.session import Budget
from dagengine.journal.spool import Spool
from dagengine.server.host import Host
from dagengine.spec.model import Document
from dagengine.testing import VirtualClock
from dagengine.wire.v1 import session_pb2

LIMIT = 200_000
ITEMS = 300

SECOND = 1_000_000


class Effects:
    """Functions that the outside can see."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled = asyncio.Event()
        self.go = asyncio.Event()

    async def send(self, context: Any) -> str:
        self.begun.append(f"{context.idempotency_key} {context.number}")
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "sent"


def document(*nodes: dict[str, Any]) -> Document:
    return Document.model_validate({"metadata": {"id": "far", "version": "1.0.0"}, "spec": {"nodes": list(nodes)}})


def start(peer: Any, workflow: Document) -> None:
    peer.start("e1", document=workflow.canonical, digest=workflow.digest)


SEND = {"id": "send", "executor": {"type": "python", "function": "send"}}
WIDE = {
    "id": "wide",
    "foreach": f"(function() local all = {{}} for at = 1, {ITEMS} do all[at] = at end return all end)()",
    "executor": {"type": "lua", "code": "return string.rep('x', 2000)"},
}
CHAIN = [{"id": f"n{at}", "dependencies": [f"n{at - 1}" if at else "wide"]} for at in range(50)]
LUA = {"executor": {"type": "lua", "code": "return 1"}}


@pytest.fixture
def effects() -> Effects:
    return Effects()


@pytest.fixture
async def real(effects: Effects) -> AsyncIterator[DAGEngine]:
    async with DAGEngine(functions={"send": effects.send}) as engine:
        yield engine


@pytest.fixture
def budget(tmp_path: Path) -> Budget:
    return Budget(limit=LIMIT, spool=Spool(16 << 20, tmp_path))


@pytest.fixture
async def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def host(real: DAGEngine, budget: Budget, clock: VirtualClock) -> AsyncIterator[Host]:
    host = Host(real, engine_id="engine-1", version="0", budget=budget, clock=clock)
    yield host
    host.close()


async def stands_still(host: Host) -> int:
    """How many facts wait once no more are made."""
    before, turns = -1, 0
    async with asyncio.timeout(30):
        while turns < 500:
            turns = turns + 1 if host.unacknowledged == before else 0
            before = host.unacknowledged
            await asyncio.sleep(0)
    return before


async def heard(peer: Any) -> None:
    """All that was sent before is obeyed."""
    peer.send(adopts=[session_pb2.Adopt(execution="nobody", epoch=1)])
    await peer.refusal()


async def receive(peer: Any, committed: int = 0, *, epoch: int) -> None:
    """Take and acknowledge all facts until the execution has ended."""
    while not (peer.made and isinstance(peer.made[-1], facts.TERMINAL)):
        message = await peer.next()
        for batch in message.facts:
            peer.ack("e1", batch.first_seq + len(batch.facts) - 1, epoch=epoch)
    assert [at for _, _, at in peer.facts] == list(range(committed + 1, committed + len(peer.facts) + 1))
    await peer.load(running=0, unacknowledged=0)


async def test_without_a_line_no_effect_begins_and_pure_code_runs_up_to_the_buffers(
    peer: Any, connect: Callable[..., Any], host: Host, budget: Budget, effects: Effects
) -> None:
    start(peer, document(SEND, WIDE, *(node | LUA for node in CHAIN)))
    await peer.load(running=1)
    await peer.cut()
    made = await stands_still(host)
    assert effects.begun == []
    assert budget.congested
    assert 2 * ITEMS < made < 2 * ITEMS + 10  # what was under way has ended; what comes after it waits
    assert budget.spooled > LIMIT
    assert budget.used - budget.spooled < LIMIT + 200 * made  # beyond the limit, facts lie in the file

    other = await connect()
    assert [(held.execution, held.last_seq, held.acknowledged) for held in other.hello.held] == [("e1", made, 0)]
    effects.go.set()
    other.send(adopts=[session_pb2.Adopt(execution="e1", epoch=2, committed_seq=0)])
    await receive(other, epoch=2)
    assert isinstance(other.made[-1], facts.ExecutionSucceeded)
    assert effects.begun == ["e1/send/0 1"]
    ended = [fact for fact in other.made if isinstance(fact, facts.NodeSucceeded) and fact.index is not None]
    assert sorted(fact.index for fact in ended if fact.index is not None) == list(range(ITEMS))
    assert len(other.made) >= made + 2 * len(CHAIN)
    assert budget.used == budget.spooled == 0


async def test_an_effect_under_way_is_given_up_when_the_lease_is_over_and_repeated_under_its_key(
    peer: Any, connect: Callable[..., Any], host: Host, effects: Effects, clock: VirtualClock
) -> None:
    retry = {"error": {"max_attempts": 3, "backoff": {"initial": "0s"}}}
    start(peer, document(SEND | {"retry": retry}))
    load = await peer.load(running=1)
    peer.send(lease=session_pb2.Lease(beat=load.beat, milliseconds=10_000))
    await peer.positions("e1", 2)
    peer.ack("e1", 2)
    await heard(peer)
    await peer.cut()
    assert effects.begun == ["e1/send/0 1"]
    await clock.asleep()
    clock.advance(10 * SECOND)
    async with asyncio.timeout(10):
        await effects.cancelled.wait()
    effects.go.set()
    other = await connect()
    assert effects.begun == ["e1/send/0 1"]
    other.send(adopts=[session_pb2.Adopt(execution="e1", epoch=2, committed_seq=2)])
    await receive(other, 2, epoch=2)
    orphan, again = other.made[:2]
    assert (orphan.error.type, again.attempt) == ("Orphaned", 2)
    assert effects.begun == ["e1/send/0 1", "e1/send/0 2"]
    assert isinstance(other.made[-1], facts.ExecutionSucceeded)


async def test_an_effect_that_may_go_on_goes_on_and_its_result_is_kept(
    peer: Any, connect: Callable[..., Any], host: Host, effects: Effects, clock: VirtualClock
) -> None:
    start(peer, document(SEND | {"on_partition": "continue"}))
    load = await peer.load(running=1)
    peer.send(lease=session_pb2.Lease(beat=load.beat, milliseconds=10_000))
    await peer.positions("e1", 2)
    peer.ack("e1", 2)
    await heard(peer)
    await peer.cut()
    await clock.asleep()
    clock.advance(10 * SECOND)
    await stands_still(host)
    effects.go.set()
    other = await connect()
    other.send(adopts=[session_pb2.Adopt(execution="e1", epoch=2, committed_seq=2)])
    await receive(other, 2, epoch=2)
    assert effects.begun == ["e1/send/0 1"]
    assert isinstance(other.made[-1], facts.ExecutionSucceeded)


async def test_what_waits_for_people_is_parked_and_comes_back_with_its_history(
    peer: Any, host: Host, effects: Effects
) -> None:
    """10,000 of them hold no place here: each leaves when it only waits, and begins again where it was."""
    wait = {"id": "ok", "executor": {"type": "wait", "signal": {"name": "ok"}}}
    workflow = document(wait)
    start(peer, workflow)
    await peer.positions("e1", 2)
    history = [facts.encode(fact) for fact in peer.made]
    peer.ack("e1", 2)
    (park,) = (await peer.until(lambda message: message.parks)).parks
    assert (park.last_seq, park.wake_at) == (2, 0)
    peer.send(drops=[session_pb2.Drop(execution="e1", epoch=1)])
    await peer.load(running=0)
    resumed = {"epoch": 2, "document": b"", "digest": workflow.digest, "history": 2}
    peer.send(histories=[session_pb2.History(execution="e1", epoch=2, first_seq=1, facts=history)])
    peer.start("e1", **resumed)
    (park,) = (await peer.until(lambda message: message.parks)).parks  # nothing has come for it yet
    assert (park.epoch, park.last_seq) == (2, 2)
    payload = b'{"kind":"signal","name":"ok","payload":1}'
    peer.send(deliveries=[session_pb2.Delivery(execution="e1", id="s-1", kind="signal", payload=payload)])
    peer.facts.clear()
    await receive(peer, 2, epoch=2)
    assert isinstance(peer.made[-1], facts.ExecutionSucceeded)
