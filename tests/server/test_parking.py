"""Executions that only wait leave: when an engine says so, once, and only while it is true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dagengine.machine import operations
from dagengine.server.host import Host
from dagengine.wire.v1 import session_pb2

PAUSE = operations.encode(operations.Pause())


async def parks(peer: Any) -> list[session_pb2.Park]:
    """Those that come before the answer to something that is asked now."""
    peer.send(adopts=[session_pb2.Adopt(execution="nobody", epoch=1)])
    found: list[session_pb2.Park] = []

    def answered(message: session_pb2.EngineMessage) -> bool:
        found.extend(message.parks)
        return bool(message.refusals)

    await peer.until(answered)
    return found


@pytest.fixture
async def run(peer: Any, engine: Any) -> Any:
    """An execution that has made two facts."""
    peer.start("e1", epoch=3)
    await peer.load(running=1)
    run = engine.runs["e1"]
    run.make(2)
    await peer.positions("e1", 2)
    return run


async def test_it_is_told_once_all_facts_are_acknowledged(peer: Any, run: Any) -> None:
    run.only_waits = True
    run.wake_at = 77
    assert await parks(peer) == []
    peer.ack("e1", 1, epoch=3)
    assert await parks(peer) == []
    peer.ack("e1", 2, epoch=3)
    (park,) = await parks(peer)
    assert (park.execution, park.epoch, park.last_seq, park.wake_at) == ("e1", 3, 2, 77)


async def test_what_waits_for_people_has_no_time(peer: Any, run: Any) -> None:
    run.only_waits = True
    peer.ack("e1", 2, epoch=3)
    (park,) = await parks(peer)
    assert park.wake_at == 0


async def test_it_is_told_once_and_again_after_something_has_happened(peer: Any, run: Any) -> None:
    run.only_waits = True
    peer.ack("e1", 2, epoch=3)
    assert len(await parks(peer)) == 1
    peer.ack("e1", 2, epoch=3)
    run.rested()
    assert await parks(peer) == []
    run.make(1)
    peer.ack("e1", 3, epoch=3)
    (park,) = await parks(peer)
    assert park.last_seq == 3


async def test_what_is_under_way_is_not_parked(peer: Any, run: Any) -> None:
    peer.ack("e1", 2, epoch=3)
    assert await parks(peer) == []


async def test_what_comes_to_rest_without_a_fact_is_parked_too(peer: Any, run: Any) -> None:
    peer.ack("e1", 2, epoch=3)
    assert await parks(peer) == []
    run.only_waits = True
    run.rested()
    assert len(await parks(peer)) == 1


async def test_what_begins_again_before_it_was_told_is_not_parked(peer: Any, run: Any) -> None:
    peer.ack("e1", 2, epoch=3)
    await parks(peer)
    run.only_waits = True
    run.rested()
    run.only_waits = False  # an operation has come, say, before the next message goes out
    assert await parks(peer) == []
    run.only_waits = True
    run.rested()
    run.make(1)
    assert await parks(peer) == []


async def test_what_was_resumed_only_to_wait_is_parked_again(peer: Any, engine: Any) -> None:
    peer.start("e1", epoch=4)
    await peer.load(running=1)
    run = engine.runs["e1"]
    run.only_waits = True
    run.make(1)
    peer.ack("e1", 1, epoch=4)
    assert len(await parks(peer)) == 1
    peer.send(adopts=[session_pb2.Adopt(execution="e1", epoch=5, committed_seq=1)])
    (park,) = await parks(peer)
    assert (park.epoch, park.last_seq) == (5, 1)


async def test_another_session_is_told_again(peer: Any, connect: Callable[..., Any], run: Any) -> None:
    run.only_waits = True
    peer.ack("e1", 2, epoch=3)
    await parks(peer)
    await peer.cut()
    other = await connect()
    assert await parks(other) == []  # it does not answer to this one yet
    other.send(adopts=[session_pb2.Adopt(execution="e1", epoch=3, committed_seq=2)])
    (park,) = await parks(other)
    assert (park.epoch, park.last_seq) == (3, 2)


async def test_it_holds_capacity_until_it_is_dropped(peer: Any, run: Any, host: Host) -> None:
    run.only_waits = True
    peer.ack("e1", 2, epoch=3)
    assert len(await parks(peer)) == 1
    assert host.running == 1
    peer.send(drops=[session_pb2.Drop(execution="e1", epoch=3)])
    await parks(peer)
    assert host.running == 0
    assert run.stopped


async def test_a_park_that_nobody_answers_breaks_nothing(peer: Any, run: Any) -> None:
    run.only_waits = True
    peer.ack("e1", 2, epoch=3)
    await parks(peer)
    peer.send(
        deliveries=[session_pb2.Delivery(execution="e1", id="c-1", kind="pause", payload=PAUSE)],
    )
    await parks(peer)
    assert [command for _, command in run.asked] == ["c-1"]
    run.make(1)
    assert await peer.positions("e1", 3) == [3]


async def test_any_number_of_waiting_executions_goes_through_a_small_engine(peer: Any, engine: Any, host: Host) -> None:
    for number in range(200):  # its capacity is 3
        name = f"e{number}"
        peer.start(name)
        await peer.load(running=1)
        engine.runs[name].only_waits = True
        engine.runs[name].make(1)
        peer.ack(name, 1)
        assert [park.execution for park in await parks(peer)] == [name]
        peer.send(drops=[session_pb2.Drop(execution=name, epoch=1)])
        await peer.load(running=0)
    assert len(engine.released) == 200
