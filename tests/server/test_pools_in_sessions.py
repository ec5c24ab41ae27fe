"""What a host says and hears about pools over the whole system, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from dagengine.admission import declaration
from dagengine.clock import SystemClock
from dagengine.driver.gate import Request, Ticket
from dagengine.driver.local_gate import LocalGate
from dagengine.server import gate as session_gate
from dagengine.server.host import Host
from dagengine.spec.model import Document
from dagengine.wire.v1 import session_pb2

_DOCUMENT = Document.model_validate(
    {
        "metadata": {"id": "pooled", "version": "1.0.0"},
        "spec": {"nodes": [{"id": "a", "pool": "db", "executor": {"type": "lua", "code": "return 1"}}]},
    }
)
DOCUMENT, DIGEST = _DOCUMENT.canonical, _DOCUMENT.digest


class Attempts:
    """Attempts at the gate of the scripted engine."""

    def __init__(self, engine: Any) -> None:
        self.gate = engine.gate
        self.begun: list[int] = []

    def ask(self, number: int, *, pool: str = "db", weight: int = 1, priority: int = 0) -> None:
        request = Request(ticket=self.ticket(number), pool=pool, weight=weight, priority=priority)
        self.gate.ask(request, lambda: self.begun.append(number), lambda *_: None)

    async def until(self, begun: list[int]) -> None:
        """Wait until exactly these have begun."""
        async with asyncio.timeout(10):
            while self.begun != begun:  # noqa: ASYNC110 - the host works meanwhile, and says nothing
                await asyncio.sleep(0)

    def ticket(self, number: int) -> Ticket:
        return Ticket("x", 0, number, 1)


@pytest.fixture
def attempts(engine: Any) -> Iterator[Attempts]:
    yield (made := Attempts(engine))
    made.gate.close()


async def about_pools(peer: Any) -> session_pb2.EngineMessage:
    """The next message that says something about pools."""
    message: session_pb2.EngineMessage = await peer.until(
        lambda message: message.HasField("pool_report") or message.pool_requests or message.pool_releases
    )
    return message


async def test_room_is_asked_for_granted_and_given_back(host: Host, connect: Any, attempts: Attempts) -> None:
    peer = await connect()
    peer.send(shared_pools={"names": ["db"], "term": 1})
    assert list((await about_pools(peer)).pool_report.holdings) == []
    attempts.ask(1, weight=2, priority=-3)
    [request] = (await about_pools(peer)).pool_requests
    assert (request.pool, request.weight, request.priority) == ("db", 2, -3)
    peer.send(pool_grants=[{"tickets": [request.ticket]}])
    await attempts.until([1])
    attempts.gate.release(attempts.ticket(1))
    [release] = (await about_pools(peer)).pool_releases
    assert list(release.tickets) == [request.ticket]


async def test_a_new_session_hears_what_is_held_and_what_waits(host: Host, connect: Any, attempts: Attempts) -> None:
    first = await connect()
    first.send(shared_pools={"names": ["db"], "term": 1})
    await about_pools(first)
    for number in (1, 2, 3):
        attempts.ask(number)
    requests = (await about_pools(first)).pool_requests
    first.send(pool_grants=[{"tickets": [requests[0].ticket, requests[1].ticket]}])
    await attempts.until([1, 2])
    await first.cut()
    attempts.gate.release(attempts.ticket(1))
    attempts.ask(4)
    second = await connect()
    second.send(shared_pools={"names": ["db"], "term": 1})
    message = await about_pools(second)
    assert [one.ticket for one in message.pool_report.holdings] == [requests[1].ticket]
    assert [one.ticket for one in message.pool_requests] == [requests[2].ticket, requests[2].ticket + 1]


async def test_grants_of_a_session_that_was_replaced_mean_nothing(host: Host, connect: Any, attempts: Attempts) -> None:
    first, second = await connect(), await connect()
    first.send(shared_pools={"names": ["db"], "term": 1})
    await about_pools(first)
    attempts.ask(1)
    [request] = (await about_pools(first)).pool_requests
    second.send(shared_pools={"names": ["db"], "term": 1})
    [again] = (await about_pools(second)).pool_requests
    assert again.ticket == request.ticket
    first.send(pool_grants=[{"tickets": [request.ticket]}])
    attempts.ask(2)
    await about_pools(second)
    assert attempts.begun == []
    second.send(pool_grants=[{"tickets": [again.ticket]}])
    await attempts.until([1])


async def test_no_more_than_so_many_requests_are_out_at_a_time(
    host: Host, connect: Any, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_gate, "MOST_ASKED", 2)
    peer = await connect()
    peer.send(shared_pools={"names": ["db"], "term": 1})
    await about_pools(peer)
    for number in (1, 2, 3, 4):
        attempts.ask(number)
    attempts.ask(5, priority=9)
    first, second = (await about_pools(peer)).pool_requests
    peer.send(pool_grants=[{"tickets": [first.ticket]}])
    [third] = (await about_pools(peer)).pool_requests
    assert (third.ticket, third.priority) == (5, 9)
    attempts.gate.withdraw(attempts.ticket(2))
    message = await about_pools(peer)
    assert [list(release.tickets) for release in message.pool_releases] == [[second.ticket]]
    assert [request.ticket for request in message.pool_requests] == [3]


async def test_a_start_in_the_same_message_finds_its_pools(host: Host, connect: Any, engine: Any) -> None:
    engine.missing = lambda _document: engine.gate.missing(["db"])
    peer = await connect()
    start = {"execution": "x", "epoch": 1, "digest": DIGEST, "document": DOCUMENT, "inputs": b"{}", "priority": 7}
    peer.send(shared_pools={"names": ["db"], "term": 1}, starts=[start])
    await about_pools(peer)
    assert list(engine.runs) == ["x"]
    assert engine.runs["x"].priority == 7
    assert engine.gate.missing(["db", "other"]) == ["other"]


async def test_the_engines_own_pools_are_in_its_hello_and_its_reports(connect: Any, engine: Any) -> None:
    engine.gate = LocalGate(declaration.parse("gpu=2"), SystemClock())
    host = Host(engine, engine_id="engine-2", version="0")
    peer = await connect(to=host)
    assert [(pool.name, pool.size, pool.used) for pool in peer.hello.pools] == [("gpu", 2, 0)]
    engine.gate.ask(Request(ticket=Ticket("x", 0, 0, 1), pool="gpu"), lambda: None, lambda *_: None)
    peer.send(shared_pools={"term": 1})
    message = await peer.until(lambda message: message.HasField("load") and message.load.pools[0].used)
    assert (message.load.pools[0].used, message.load.pools[0].waiting) == (1, 0)
    host.close()


async def test_followers_only_tell_which_pools_there_are(host: Host, connect: Any, attempts: Attempts) -> None:
    follower, leader = await connect(name="follower"), await connect(name="leader")
    follower.send(shared_pools={"names": ["db"]})
    attempts.ask(1)
    await heard(follower)
    assert attempts.gate.missing(["db", "api"]) == ["api"]
    leader.send(shared_pools={"names": ["db"], "term": 1})
    message = await about_pools(leader)
    assert message.HasField("pool_report")
    [request] = message.pool_requests
    follower.send(shared_pools={"names": ["db", "api"]}, pool_grants=[{"tickets": [request.ticket]}])
    await heard(follower)
    assert attempts.begun == []
    assert attempts.gate.missing(["db", "api"]) == []
    leader.send(pool_grants=[{"tickets": [request.ticket]}])
    await attempts.until([1])


async def test_a_follower_that_becomes_the_leader_speaks_of_pools_in_the_same_session(
    host: Host, connect: Any, attempts: Attempts
) -> None:
    first, second = await connect(name="first"), await connect(name="second")
    first.send(shared_pools={"names": ["db"], "term": 1})
    second.send(shared_pools={"names": ["db"]})
    await about_pools(first)
    attempts.ask(1)
    [request] = (await about_pools(first)).pool_requests
    second.send(shared_pools={"names": ["db"], "term": 2})
    assert [again.ticket for again in (await about_pools(second)).pool_requests] == [request.ticket]


async def test_a_leader_that_was_replaced_is_heard_as_a_follower(host: Host, connect: Any, attempts: Attempts) -> None:
    old, new = await connect(name="old"), await connect(name="new")
    new.send(shared_pools={"names": ["db"], "term": 5})
    await about_pools(new)
    old.send(shared_pools={"names": ["db", "api"], "term": 4})
    await heard(old)
    attempts.ask(1)
    [request] = (await about_pools(new)).pool_requests
    old.send(pool_grants=[{"tickets": [request.ticket]}])
    await heard(old)
    assert attempts.begun == []


async def test_terms_of_another_store_are_counted_apart(host: Host, connect: Any, attempts: Attempts) -> None:
    """A store that was restored begins with an older term, and has another incarnation."""
    before, after = await connect(), await connect(incarnation="restored")
    before.send(shared_pools={"names": ["db"], "term": 5})
    await about_pools(before)
    after.send(shared_pools={"names": ["db"], "term": 2})
    assert (await about_pools(after)).HasField("pool_report")


async def heard(peer: Any) -> None:
    """All that was sent in this session before was obeyed."""
    peer.send(adopts=[session_pb2.Adopt(execution="nobody", epoch=1)])
    await peer.refusal()
