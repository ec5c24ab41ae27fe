"""Executions that are another replica's, or nobody's, or were so until now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dagengine.spec.model import Document
from dagengine.testing import START
from orchestrator.store.base import NewExecution, VersionRecord

Journal = Callable[..., list[bytes]]
Elsewhere = Callable[..., Awaitable[None]]


@pytest.fixture
def elsewhere(bench: Any, lua: Document) -> Elsewhere:
    """`elsewhere(id, engine)`: an execution that the store knows, and the dispatcher does not, dispatched so often."""

    async def make(execution: str, engine: str, *, times: int = 1) -> None:
        await bench.store.add_version(
            VersionRecord(
                workflow=lua.id,
                version=lua.version,
                digest=lua.digest,
                document=lua.canonical,
                labels={},
                name="",
                description="",
                registered_at=START,
            )
        )
        await bench.store.create_execution(
            NewExecution(
                id=execution,
                workflow=lua.id,
                version=lua.version,
                digest=lua.digest,
                inputs=b"{}",
                created_at=START,
                seed=7,
            )
        )
        for _ in range(times):
            await bench.store.dispatch([execution], engine)

    return make


async def test_what_others_run_on_an_engine_is_left_alone(bench: Any, elsewhere: Elsewhere) -> None:
    await elsewhere("theirs", "engine-1")
    engine = await bench.engine("engine-1", held=[("theirs", 1, 3)])
    await bench.quiet()
    assert (engine.told("drops"), engine.told("adopts"), engine.told("starts")) == ([], [], [])


async def test_what_others_have_given_to_another_engine_is_dropped(bench: Any, elsewhere: Elsewhere) -> None:
    await elsewhere("theirs", "engine-2")
    engine = await bench.engine("engine-1", held=[("theirs", 0, 3)])
    [drop] = await engine.gets("drops")
    assert (drop.execution, drop.epoch) == ("theirs", 0)


async def test_what_an_engine_has_from_before_its_last_dispatch_is_dropped(bench: Any, elsewhere: Elsewhere) -> None:
    await elsewhere("theirs", "engine-1", times=2)
    engine = await bench.engine("engine-1", held=[("theirs", 1, 3)])
    [drop] = await engine.gets("drops")
    assert (drop.execution, drop.epoch) == ("theirs", 1)


async def test_late_facts_of_what_others_own_drop_it_only_where_it_has_no_business(
    bench: Any, lua: Document, journal: Journal, elsewhere: Elsewhere
) -> None:
    await elsewhere("theirs", "engine-1", times=2)
    one, two = await bench.engine("engine-1"), await bench.engine("engine-2")
    made = journal(lua, "theirs")
    await two.facts("theirs", made[:1], epoch=1)
    [drop] = await two.gets("drops")
    assert (drop.execution, drop.epoch) == ("theirs", 1)
    await one.facts("theirs", made[:1], epoch=1)
    [drop] = await one.gets("drops")
    assert (drop.execution, drop.epoch) == ("theirs", 1)
    assert bench.monitor.snapshot().facts_refused == {"fenced": 2}


async def test_a_store_that_cannot_be_read_leaves_the_question_open(bench: Any, elsewhere: Elsewhere) -> None:
    await elsewhere("theirs", "engine-2")
    bench.store.failing.add("execution")
    engine = await bench.engine("engine-1", held=[("theirs", 0, 3)])
    await bench.soon(lambda: "execution" in bench.store.refused)
    assert engine.told("drops") == []
    bench.store.failing.clear()
    await bench.advance(1)
    await engine.gets("drops")


async def test_a_new_owner_adopts_what_the_engine_has_made_since_its_dispatch(
    bench: Any, lua: Document, journal: Journal
) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution)[:3])
    await engine.gets("acks")
    await bench.restart()
    engine = await bench.engine(held=[(execution, 1, 5, 3)])
    [adopt] = await engine.gets("adopts")
    assert (adopt.execution, adopt.epoch, adopt.dispatch_epoch, adopt.committed_seq) == (execution, 2, 1, 3)
    assert (engine.told("drops"), engine.told("starts")) == ([], [])
    assert bench.monitor.snapshot().adopted == 1
    await bench.restart()  # whatever the epochs between were
    engine = await bench.engine(held=[(execution, 1, 5, 3)])
    [adopt] = await engine.gets("adopts")
    assert (adopt.epoch, adopt.dispatch_epoch) == (3, 1)


async def test_a_replica_that_was_fenced_takes_over_again_where_its_engines_are(
    bench: Any, lua: Document, journal: Journal
) -> None:
    """Facts that come meanwhile get no answer: their engine sends them again, to whoever adopts the execution."""
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    made = journal(lua, execution)
    await bench.store.leave()
    await engine.facts(execution, made[:2])
    [adopt] = await engine.gets("adopts")
    assert (adopt.epoch, adopt.dispatch_epoch, adopt.committed_seq) == (2, 1, 0)
    assert (engine.told("acks"), engine.told("drops"), engine.told("resends")) == ([], [], [])
    assert bench.monitor.snapshot().taken_over == 1
    ended = bench.dispatcher.feed.end(execution)
    await engine.facts(execution, made, epoch=2)
    assert (await ended).status == "succeeded"
    assert (await engine.gets("acks"))[0].epoch == 2


async def test_what_is_asked_of_an_execution_that_changes_owner_goes_with_the_adoption(
    bench: Any, lua: Document
) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await bench.cancel(execution)
    await engine.gets("deliveries")
    engine.forget()
    await bench.store.leave()
    await engine.facts(execution, [b"x"], epoch=9)
    await engine.gets("adopts")
    [delivery] = await engine.gets("deliveries")
    assert (delivery.execution, delivery.id) == (execution, "c1")


async def test_an_engine_without_what_a_new_owner_wants_is_given_it_anew(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await bench.store.leave()
    await engine.facts(execution, [b"x"], epoch=9)
    [adopt] = await engine.gets("adopts")
    await engine.refuses(execution, "HISTORY_MISSING", epoch=adopt.epoch)
    assert [start.epoch for start in await engine.gets("starts", 2)] == [1, 3]


async def test_what_is_taken_over_from_an_engine_that_is_away_waits_for_it_anew(bench: Any, lua: Document) -> None:
    """Until it was taken over, its former owner may have promised the engine more time."""
    engine = await bench.engine()
    other = await bench.engine("engine-2", executors=())
    execution = await bench.start(lua)
    await engine.gets("starts")
    engine.cut()
    await bench.advance(25)
    await bench.store.leave()
    await other.facts(execution, [b"x"], epoch=9)
    await bench.soon(lambda: bench.monitor.snapshot().taken_over)
    await other.hello("engine-2")
    await bench.advance(25)
    assert other.told("starts") == []
    await bench.advance(7)
    assert [start.epoch for start in await other.gets("starts")] == [3]


async def test_acknowledgements_tell_the_position_in_the_store(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    first, second = await bench.start(lua), await bench.start(lua)
    await engine.gets("starts", 2)
    await engine.facts(first, journal(lua, first)[:3])
    await engine.gets("acks")
    await engine.facts(second, journal(lua, second)[:2])
    await engine.gets("acks", 2)
    await engine.facts(first, journal(lua, first)[:3])  # it has them already: where, is not looked up
    await engine.gets("acks", 3)
    positions = [message.position for message in engine.sent if message.acks]
    assert positions == [3, 5, 0]
    assert await bench.store.position() == 5


async def test_facts_that_cross_with_an_adoption_cost_the_engine_nothing(
    bench: Any, lua: Document, journal: Journal
) -> None:
    """They are refused, since the epoch is another by then; the engine sends them again under the new one."""
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    gate = bench.store.hold("inbox")
    await bench.store.leave()
    bench.dispatcher.heard("replicas")
    await bench.soon(lambda: not bench.dispatcher.running)
    await bench.soon(lambda: bench.dispatcher.running)  # claimed, and not adopted yet
    await engine.facts(execution, journal(lua, execution))
    await bench.quiet()
    assert engine.told("drops") == []
    gate.set()
    [adopt] = await engine.gets("adopts")
    await engine.facts(execution, journal(lua, execution), epoch=adopt.epoch)
    await bench.soon(lambda: not bench.dispatcher.running)
    assert engine.told("drops") == []


async def test_a_document_of_a_newer_release_stops_nobody(bench: Any, lua: Document, elsewhere: Elsewhere) -> None:
    await elsewhere("theirs", "engine-1", times=0)
    unknown = lua.canonical.replace(b'"spec":{', b'"spec":{"of_tomorrow":1,')
    await bench.store.rewrite(lua.digest, unknown)
    await bench.restart()
    await bench.advance(2)
    assert not bench.dispatcher.feed.closed
