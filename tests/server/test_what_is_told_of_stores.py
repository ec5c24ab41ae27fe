"""What a hello tells of what was committed where: a store that has lost facts is found out by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagengine.server.highest import STORES_KEPT, Highest
from dagengine.wire.v1.session_pb2 import Adopt, Refusal


async def processed(peer: Any) -> None:
    peer.send(adopts=[Adopt(execution="nobody", epoch=1)])
    await peer.refusal()


async def test_what_is_held_says_how_much_of_it_was_acknowledged(
    peer: Any, connect: Callable[..., Any], engine: Any
) -> None:
    peer.start("e1")
    await peer.load(running=1)
    engine.runs["e1"].make(5)
    await peer.positions("e1", 5)
    peer.ack("e1", 3)
    await processed(peer)
    other = await connect()
    (held,) = other.hello.held
    assert (held.execution, held.last_seq, held.acknowledged) == ("e1", 5, 3)


async def test_the_highest_position_of_a_store_is_told_to_that_store(peer: Any, connect: Callable[..., Any]) -> None:
    assert peer.hello.acknowledged_position == 0
    peer.send(position=41)
    peer.send(position=40)
    await processed(peer)
    assert (await connect()).hello.acknowledged_position == 41
    assert (await connect(incarnation="another")).hello.acknowledged_position == 0


def test_of_many_stores_those_not_heard_of_for_longest_are_forgotten() -> None:
    highest = Highest()
    for number in range(STORES_KEPT):
        highest.note(f"s{number}", 7)
    highest.note("s0", 3)
    highest.note("one more", 1)
    assert (highest.of("s0"), highest.of("s1"), highest.of("one more")) == (7, 0, 1)


async def test_what_is_held_since_before_its_last_dispatch_is_forgotten(
    peer: Any, engine: Any, connect: Callable[..., Any]
) -> None:
    """It was given to another engine meanwhile, which may have made other facts."""
    peer.start("e1", epoch=3)
    await peer.load(running=1)
    engine.runs["e1"].make(2)
    await peer.positions("e1", 2)
    peer.send(adopts=[Adopt(execution="e1", epoch=6, committed_seq=2, dispatch_epoch=5)])
    refusal = await peer.refusal()
    assert (refusal.execution, refusal.epoch, refusal.reason) == ("e1", 6, Refusal.HISTORY_MISSING)
    assert refusal.message == "what engine-1 holds is of epoch 3, before that of its dispatch"
    assert engine.released == ["e1"]


async def test_what_is_held_since_its_dispatch_goes_on_under_the_epoch_of_a_takeover(peer: Any, engine: Any) -> None:
    peer.start("e1", epoch=3)
    await peer.load(running=1)
    engine.runs["e1"].make(2)
    await peer.positions("e1", 2)
    peer.send(adopts=[Adopt(execution="e1", epoch=6, committed_seq=1, dispatch_epoch=3)])
    assert await peer.positions("e1", 2) == [2]
    assert engine.released == []


async def test_an_adoption_under_an_old_epoch_forgets_nothing(peer: Any, engine: Any) -> None:
    peer.start("e1", epoch=7)
    await peer.load(running=1)
    peer.send(adopts=[Adopt(execution="e1", epoch=6, dispatch_epoch=6)])
    await processed(peer)
    assert engine.released == []
