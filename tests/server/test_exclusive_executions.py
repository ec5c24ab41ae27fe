"""An exclusive execution has the engine for itself, whoever sends what, and in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagengine.machine import operations
from dagengine.server.host import Host
from dagengine.wire.v1 import session_pb2

RESERVED = session_pb2.Refusal.RESERVED


def reserve(peer: Any, execution: str, *, over: bool = False) -> None:
    peer.send(reserves=[session_pb2.Reserve(execution=execution, over=over)])


async def test_the_hello_says_that_it_can_be_reserved_and_for_whom(peer: Any, connect: Callable[..., Any]) -> None:
    assert peer.hello.reservable
    assert peer.hello.reserved_for == ""
    peer.start("e1", exclusive=True)
    await peer.load(running=1, reserved_for="e1")
    assert (await connect()).hello.reserved_for == "e1"


async def test_where_it_runs_others_are_refused(peer: Any, connect: Callable[..., Any], host: Host) -> None:
    peer.start("e1", exclusive=True)
    await peer.load(reserved_for="e1")
    other = await connect()
    for exclusive in (False, True):
        other.start("e2", exclusive=exclusive)
        refusal = await other.refusal()
        assert (refusal.execution, refusal.reason) == ("e2", RESERVED)
        assert refusal.message == "engine-1: it is reserved for e1"
    assert host.running == 1


async def test_where_others_run_it_is_refused(peer: Any, connect: Callable[..., Any], host: Host) -> None:
    peer.start("e1")
    await peer.load(running=1, reserved_for="")
    other = await connect()
    other.start("e2", exclusive=True)
    refusal = await other.refusal()
    assert (refusal.execution, refusal.reason) == ("e2", RESERVED)
    assert refusal.message == "engine-1: it runs others (1), and this execution wants an engine for itself"
    assert host.running == 1


async def test_it_is_free_again_when_the_last_fact_is_made(peer: Any, engine: Any, host: Host) -> None:
    peer.start("e1", exclusive=True)
    await peer.load(reserved_for="e1")
    engine.runs["e1"].end()
    await peer.load(running=0, reserved_for="")
    peer.start("e2")
    await peer.load(running=1, reserved_for="")


async def test_an_ended_one_does_not_go_on_where_its_place_is_taken(peer: Any, engine: Any) -> None:
    peer.start("e1", exclusive=True)
    await peer.load(reserved_for="e1")
    engine.runs["e1"].end()
    await peer.load(running=0)
    peer.start("e2")
    await peer.load(running=1)
    retry = operations.encode(operations.Rerun())
    peer.send(deliveries=[session_pb2.Delivery(execution="e1", id="r1", kind="retry", payload=retry)])
    peer.send(adopts=[session_pb2.Adopt(execution="nobody", epoch=1)])
    await peer.refusal()
    assert engine.runs["e1"].asked == []


async def test_it_is_reserved_still_when_its_session_is_gone_and_another_adopts_it(
    peer: Any, connect: Callable[..., Any]
) -> None:
    peer.start("e1", exclusive=True)
    await peer.load(reserved_for="e1")
    await peer.cut()
    other = await connect()
    other.start("e2")
    assert (await other.refusal()).reason == RESERVED
    other.send(adopts=[session_pb2.Adopt(execution="e1", epoch=2, dispatch_epoch=1)])
    other.start("e3")
    assert (await other.refusal()).reason == RESERVED


async def test_a_dropped_one_leaves_the_engine_free(peer: Any) -> None:
    peer.start("e1", exclusive=True)
    await peer.load(reserved_for="e1")
    peer.send(drops=[session_pb2.Drop(execution="e1", epoch=1)])
    await peer.load(running=0, reserved_for="")


async def test_it_is_not_offered_for_parking(peer: Any, engine: Any) -> None:
    peer.start("e1", exclusive=True)
    await peer.load(running=1)
    run = engine.runs["e1"]
    run.make(2)
    await peer.positions("e1", 2)
    run.only_waits = True
    peer.ack("e1", 2)
    peer.send(adopts=[session_pb2.Adopt(execution="nobody", epoch=1)])
    message = await peer.until(lambda message: message.parks or message.refusals)
    assert not message.parks


# --- becoming free ---


async def test_an_engine_that_is_to_become_free_takes_nothing_else(peer: Any, connect: Callable[..., Any]) -> None:
    peer.start("e1")
    await peer.load(running=1)
    reserve(peer, "e2")
    await peer.load(running=1, reserved_for="e2")
    other = await connect()
    other.start("e3")
    refusal = await other.refusal()
    assert (refusal.reason, refusal.message) == (RESERVED, "engine-1: it is reserved for e2")
    peer.start("e2", exclusive=True)
    assert (await peer.refusal()).execution == "e2"


async def test_the_first_that_wants_it_gets_it_and_the_others_are_next(
    peer: Any, connect: Callable[..., Any], engine: Any
) -> None:
    other = await connect()
    reserve(peer, "e1")
    await peer.load(reserved_for="e1")
    reserve(other, "e2")
    other.start("e2", exclusive=True)
    assert (await other.refusal()).reason == RESERVED
    peer.start("e1", exclusive=True)
    await peer.load(running=1, reserved_for="e1")
    engine.runs["e1"].end()
    await peer.load(running=0, reserved_for="e2")
    other.start("e2", exclusive=True)
    await other.load(running=1, reserved_for="e2")


async def test_it_need_not_become_free_when_that_is_over(peer: Any) -> None:
    reserve(peer, "e1")
    await peer.load(reserved_for="e1")
    reserve(peer, "e1", over=True)
    await peer.load(reserved_for="")


async def test_it_need_not_become_free_for_one_whose_session_is_gone(peer: Any, connect: Callable[..., Any]) -> None:
    reserve(peer, "e1")
    await peer.load(reserved_for="e1")
    other = await connect()
    await peer.cut()
    await other.load(reserved_for="")


async def test_one_that_came_already_needs_no_room(peer: Any, engine: Any) -> None:
    peer.start("e1", exclusive=True)
    reserve(peer, "e1")
    await peer.load(reserved_for="e1")
    engine.runs["e1"].end()
    await peer.load(running=0, reserved_for="")
