"""How long effects go on without contact: beats and answers, sessions that come and go, a process that stood still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from dagengine.server.host import Host
from dagengine.server.lease import Lease
from dagengine.testing import VirtualClock
from dagengine.wire import limits
from dagengine.wire.v1 import session_pb2

SECOND = 1_000_000


@pytest.fixture
async def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def host(engine: Any, clock: VirtualClock) -> AsyncIterator[Host]:
    host = Host(engine, engine_id="engine-1", version="0", clock=clock)
    yield host
    host.close()


async def begin(peer: Any, engine: Any) -> Any:
    """Start an execution in a session; its run, and the beat of a report that came after."""
    peer.start("e1")
    load = await peer.load(running=1)
    return engine.runs["e1"], load.beat


async def processed(peer: Any) -> None:
    """All that was sent before is obeyed: the answer to this comes after it."""
    peer.send(adopts=[session_pb2.Adopt(execution="nobody", epoch=1)])
    await peer.refusal()


async def answer(peer: Any, beat: int, seconds: float) -> None:
    peer.send(lease=session_pb2.Lease(beat=beat, milliseconds=round(seconds * 1_000)))
    await processed(peer)


async def settle() -> None:
    """Let those run whose time has come."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_reports_carry_beats_that_count_from_one(peer: Any) -> None:
    beats = [(await peer.load()).beat]
    peer.start("e1")
    beats.append((await peer.load(running=1)).beat)
    assert beats == [1, 2]


async def test_a_lease_runs_from_when_its_report_was_sent(peer: Any, engine: Any, clock: VirtualClock) -> None:
    run, beat = await begin(peer, engine)
    clock.advance(4 * SECOND)  # the answer takes long
    await answer(peer, beat, 10)
    await clock.asleep()
    clock.advance(6 * SECOND - 1)
    await settle()
    assert run.contact == []
    clock.advance(1)
    await settle()
    assert run.contact == ["lost"]


async def test_it_is_logged_where_something_follows_from_it(peer: Any, engine: Any, clock: VirtualClock) -> None:
    with capture_logs() as logs:
        await answer(peer, (await peer.load()).beat, 10)
        await clock.asleep()
        clock.advance(10 * SECOND)
        await settle()
        assert logs == []
        _, beat = await begin(peer, engine)
        await answer(peer, beat, 10)
        await clock.asleep()
        clock.advance(10 * SECOND)
        await settle()
    assert [(line["event"], line["held"]) for line in logs] == [("lease_renewed", 1), ("lease_over", 1)]


async def test_an_answer_that_comes_too_late_is_a_lease_that_is_over(
    peer: Any, engine: Any, clock: VirtualClock
) -> None:
    run, beat = await begin(peer, engine)
    clock.advance(10 * SECOND)
    await answer(peer, beat, 10)
    assert run.contact == ["lost"]


async def test_renewed_in_time_it_is_never_over(peer: Any, engine: Any, clock: VirtualClock) -> None:
    run, beat = await begin(peer, engine)
    for _ in range(5):
        await answer(peer, beat, 10)
        await clock.asleep()
        clock.advance(9 * SECOND)
        run.make(1)
        beat = (await peer.load()).beat
    await settle()
    assert run.contact == []


async def test_what_is_renewed_after_all_goes_on(peer: Any, engine: Any, clock: VirtualClock) -> None:
    run, beat = await begin(peer, engine)
    await answer(peer, beat, 1)
    await clock.asleep()
    clock.advance(SECOND)
    await settle()
    assert run.contact == ["lost"]
    run.make(1)
    await answer(peer, (await peer.load()).beat, 1)
    assert run.contact == ["lost", "regained"]
    await clock.asleep()
    clock.advance(SECOND)
    await settle()
    assert run.contact == ["lost", "regained", "lost"]  # each time it is over


async def test_without_any_lease_nothing_is_ever_lost(peer: Any, engine: Any, clock: VirtualClock) -> None:
    run, _ = await begin(peer, engine)
    clock.advance(3_600 * SECOND)
    await peer.cut()
    await settle()
    clock.advance(3_600 * SECOND)
    await settle()
    assert run.contact == []


async def test_the_lease_stays_when_the_session_goes(peer: Any, engine: Any, clock: VirtualClock) -> None:
    run, beat = await begin(peer, engine)
    await answer(peer, beat, 10)
    await peer.cut()
    await clock.asleep()
    clock.advance(10 * SECOND - 1)
    await settle()
    assert run.contact == []
    clock.advance(1)
    await settle()
    assert run.contact == ["lost"]


async def test_whoever_adopts_it_in_time_ends_the_danger_for_as_long_as_before(
    peer: Any, connect: Callable[..., Any], engine: Any, clock: VirtualClock
) -> None:
    """An orchestrator that dies, or is cut off, before its first answer must not have effects go on for good."""
    run, beat = await begin(peer, engine)
    await answer(peer, beat, 10)
    await peer.cut()
    clock.advance(9 * SECOND)
    other = await connect()
    other.send(adopts=[session_pb2.Adopt(execution="e1", epoch=2)])
    await processed(other)
    await clock.asleep(2)
    clock.advance(10 * SECOND - 1)
    await settle()
    assert run.contact == []
    clock.advance(1)
    await settle()
    assert run.contact == ["lost"]
    run.make(1)
    await answer(other, (await other.load()).beat, 10)
    assert run.contact == ["lost", "regained"]


async def test_what_was_taken_for_granted_ends_with_the_first_answer_even_if_that_is_shorter(
    peer: Any, connect: Callable[..., Any], engine: Any, clock: VirtualClock
) -> None:
    run, beat = await begin(peer, engine)
    await answer(peer, beat, 60)
    other = await connect()
    other.send(adopts=[session_pb2.Adopt(execution="e1", epoch=2)])
    await processed(other)
    run.make(1)
    await answer(other, (await other.load()).beat, 10)
    await clock.asleep(2)
    clock.advance(10 * SECOND)
    await settle()
    assert run.contact == ["lost"]


async def test_what_is_adopted_after_the_loss_may_begin_effects_again(
    peer: Any, connect: Callable[..., Any], engine: Any, clock: VirtualClock
) -> None:
    run, beat = await begin(peer, engine)
    await answer(peer, beat, 1)
    await peer.cut()
    await clock.asleep()
    clock.advance(SECOND)
    await settle()
    other = await connect()
    other.send(adopts=[session_pb2.Adopt(execution="e1", epoch=2)])
    await processed(other)
    assert run.contact == ["lost", "regained"]


async def test_each_session_has_its_own(
    peer: Any, connect: Callable[..., Any], engine: Any, clock: VirtualClock
) -> None:
    run, beat = await begin(peer, engine)
    await answer(peer, beat, 1)
    other = await connect(name="orch-2")
    other.start("e2")
    await answer(other, (await other.load(running=2)).beat, 60)
    await clock.asleep(2)
    clock.advance(SECOND)
    await settle()
    assert (run.contact, engine.runs["e2"].contact) == (["lost"], [])


async def test_a_message_that_lay_there_while_the_process_stood_still_is_obeyed_too_late(
    peer: Any, engine: Any, clock: VirtualClock
) -> None:
    """SIGSTOP, SIGCONT: an acknowledgement that is old by now must not let an effect begin."""
    run, beat = await begin(peer, engine)
    run.make(1)
    await peer.positions("e1", 1)
    await answer(peer, beat, 10)
    seen: list[list[str]] = []
    run.journal.on_commit(lambda: seen.append(list(run.contact)))
    peer.ack("e1", 1)
    clock.advance(11 * SECOND)  # nothing has run since the message came
    await processed(peer)
    assert seen == [["lost"]]


async def test_what_is_started_in_a_session_whose_lease_is_over_begins_no_effect(
    peer: Any, engine: Any, clock: VirtualClock
) -> None:
    await answer(peer, (await peer.load()).beat, 1)
    clock.advance(2 * SECOND)
    run, beat = await begin(peer, engine)
    assert run.contact == ["lost"]
    await answer(peer, beat, 1)
    assert run.contact == ["lost", "regained"]


def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the loop is asked to call later: in how many seconds, each time from now on."""
    loop = asyncio.get_running_loop()
    asked: list[float] = []
    plain = loop.call_later

    def call_later(delay: float, *arguments: Any, **options: Any) -> Any:
        asked.append(delay)
        return plain(delay, *arguments, **options)

    monkeypatch.setattr(loop, "call_later", call_later)
    return asked


async def test_reports_come_at_least_every_third_of_the_lease(
    peer: Any, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = (await peer.load()).beat
    asked = delays(monkeypatch)
    await answer(peer, beat, 0.3)
    assert 0.1 in asked
    for _ in range(3):
        await peer.load()  # without anything having changed
    asked.clear()
    await answer(peer, beat + 2, 600)
    await peer.load()
    assert limits.REPORT_SECONDS in asked  # and never less often than always


async def test_an_answer_to_nothing_or_for_no_time_does_not_have_it_report_without_end(
    peer: Any, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = (await peer.load()).beat
    asked = delays(monkeypatch)
    await answer(peer, beat + 99, 10)
    assert asked == []
    await answer(peer, beat, 0)
    assert asked == [limits.SHORTEST_REPORT_SECONDS]


async def test_answers_out_of_order_or_to_nothing_change_nothing(clock: VirtualClock) -> None:
    turned: list[bool] = []
    lease = Lease(clock, lambda lease: turned.append(lease.over))
    first, second = lease.beat(), lease.beat()
    lease.answered(99, 1_000)
    assert lease.until is None
    lease.answered(second, 5_000)
    lease.answered(first, 60_000)
    assert lease.until == clock.now() + 5 * SECOND
    lease.stop()
    clock.advance(60 * SECOND)
    lease.check()
    await settle()
    assert turned == []


async def test_of_beats_that_nobody_answers_only_the_last_ones_are_kept(clock: VirtualClock) -> None:
    lease = Lease(clock, lambda _: None)
    for _ in range(1_000):
        lease.beat()
    lease.answered(1, 1_000)
    assert lease.until is None
    lease.answered(1_000, 1_000)
    assert lease.until is not None
    lease.stop()
    await settle()
