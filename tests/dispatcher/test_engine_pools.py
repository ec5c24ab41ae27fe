"""Executions that want a certain engine, or one for themselves: where they go, and what they wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dagengine.machine.operations import Rerun
from dagengine.spec.model import Document

Journal = Callable[..., list[bytes]]


@pytest.fixture
def alone(document: Callable[..., Document]) -> Document:
    """An exclusive workflow of two nodes in a row."""
    return document([{"id": "a"}, {"id": "b", "dependencies": ["a"]}], id="alone", engine={"exclusive": True})


def reserves(engine: Any) -> list[tuple[str, bool]]:
    """What an engine was told to become free for, each with whether that is over."""
    return [(reserve.execution, reserve.over) for reserve in engine.told("reserves")]


def view_of(bench: Any, engine: str) -> Any:
    return next(view for view in bench.dispatcher.engines() if view.id == engine)


async def end(engine: Any, execution: str, facts: list[bytes], *, epoch: int = 1) -> None:
    """The engine runs an execution to its end."""
    await engine.facts(execution, facts, epoch=epoch)


# --- labels ---


async def test_an_execution_goes_to_an_engine_with_its_labels(bench: Any, document: Any) -> None:
    one = await bench.engine("engine-1")
    two = await bench.engine("engine-2", labels={"pool": "gpu", "zone": "b"})
    three = await bench.engine("engine-3", labels={"pool": "gpu", "zone": "a", "disk": "ssd"})
    picky = document([{"id": "a"}], id="picky", engine={"pool": "gpu", "labels": {"zone": "a"}})
    for _ in range(3):
        await bench.start(picky)
    await three.gets("starts", 3)
    assert one.told("starts") == two.told("starts") == []


async def test_without_such_an_engine_it_waits_and_others_do_not(bench: Any, document: Any, lua: Document) -> None:
    engine = await bench.engine("engine-1", labels={"pool": "cpu"})
    picky = await bench.start(document([{"id": "a"}], id="picky", engine={"pool": "gpu"}))
    await bench.waits_on(picky, "no_label:pool=gpu")
    other = await bench.start(lua)
    assert [start.execution for start in await engine.gets("starts")] == [other]
    gpu = await bench.engine("engine-2", labels={"pool": "gpu"})
    assert [start.execution for start in await gpu.gets("starts")] == [picky]


# --- exclusive executions ---


async def test_an_exclusive_execution_has_its_engine_for_itself(bench: Any, alone: Document, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(alone)
    [start] = await engine.gets("starts")
    assert (start.execution, start.exclusive) == (execution, True)
    assert view_of(bench, "engine-1").reserved_for == execution
    other = await bench.start(lua)
    await bench.waits_on(other, "engines_full")
    two = await bench.engine("engine-2")
    [start] = await two.gets("starts")
    assert (start.execution, start.exclusive) == (other, False)
    assert len(engine.told("starts")) == 1


async def test_at_its_end_others_come(bench: Any, alone: Document, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(alone)
    await engine.gets("starts")
    others = [await bench.start(lua) for _ in range(2)]
    await bench.waits_on(others[1], "engines_full")
    await engine.says(load={"running": 1, "capacity": 10, "reserved_for": execution})
    made = journal(alone, execution)
    await engine.facts(execution, made[:-1])
    await engine.says(
        facts=[{"execution": execution, "epoch": 1, "first_seq": len(made), "facts": made[-1:]}],
        load={"running": 0, "capacity": 10},
    )
    assert [start.execution for start in await engine.gets("starts", 3)][1:] == others
    assert view_of(bench, "engine-1").reserved_for == ""


async def test_an_engine_that_cannot_keep_others_out_gets_none(bench: Any, alone: Document, lua: Document) -> None:
    old = await bench.engine("engine-1", reservable=False)
    execution = await bench.start(alone)
    await bench.waits_on(execution, "no_reservable_engine")
    other = await bench.start(lua)
    assert [start.execution for start in await old.gets("starts")] == [other]
    new = await bench.engine("engine-2")
    assert [start.execution for start in await new.gets("starts")] == [execution]


async def test_one_that_finds_no_free_engine_has_one_become_free(
    bench: Any, alone: Document, lua: Document, journal: Journal
) -> None:
    engine = await bench.engine()
    busy = await bench.start(lua)
    await engine.gets("starts")
    execution = await bench.start(alone)
    await engine.gets("reserves")
    assert reserves(engine) == [(execution, False)]
    assert await bench.waiting_on(execution) == "no_free_engine"
    later = await bench.start(lua)
    await bench.waits_on(later, "engines_full")
    await end(engine, busy, journal(lua, busy))
    assert [start.execution for start in await engine.gets("starts", 2)][1:] == [execution]
    await bench.soon(lambda: reserves(engine) == [(execution, False), (execution, True)])
    assert view_of(bench, "engine-1").reserved_for == execution
    await end(engine, execution, journal(alone, execution))
    assert [start.execution for start in await engine.gets("starts", 3)][2:] == [later]


async def test_an_engine_becomes_free_only_for_whose_turn_it_is(bench: Any, alone: Document, lua: Document) -> None:
    engine = await bench.engine("engine-1", capacity=1)
    await bench.start(lua)
    await engine.gets("starts")
    before = await bench.start(lua)
    execution = await bench.start(alone)
    await bench.waits_on(execution, "no_free_engine")
    await bench.quiet()
    assert reserves(engine) == []
    await bench.cancel(before)
    await engine.gets("reserves")
    assert reserves(engine) == [(execution, False)]


async def test_an_engine_hears_that_it_is_to_become_free_after_what_comes_before(
    bench: Any, alone: Document, lua: Document
) -> None:
    """Else it would refuse that, which is then before the exclusive one in line again, and so on for ever."""
    first = await bench.start(lua)
    await bench.start(alone)
    engine = await bench.engine(capacity=1)
    await engine.gets("reserves")
    order = [field for message in engine.sent for field in ("starts", "reserves") if getattr(message, field)]
    assert order == ["starts", "reserves"]
    assert engine.told("starts")[0].execution == first


async def test_an_urgent_one_gets_the_engine_first(bench: Any, alone: Document, lua: Document) -> None:
    engine = await bench.engine()
    await bench.start(lua)
    await engine.gets("starts")
    execution = await bench.start(alone)
    await engine.gets("reserves")
    urgent = await bench.start(alone, priority=100)
    await engine.gets("reserves", 3)
    assert reserves(engine) == [(execution, False), (execution, True), (urgent, False)]


async def test_an_urgent_one_is_not_held_up_by_an_engine_that_becomes_free(
    bench: Any, alone: Document, lua: Document, journal: Journal
) -> None:
    engine = await bench.engine()
    busy = await bench.start(lua)
    await engine.gets("starts")
    execution = await bench.start(alone)
    await engine.gets("reserves")
    urgent = await bench.start(lua, priority=100)
    assert [start.execution for start in await engine.gets("starts", 2)][1:] == [urgent]
    await engine.gets("reserves", 3)
    assert reserves(engine) == [(execution, False), (execution, True), (execution, False)]
    for each in (busy, urgent):
        await end(engine, each, journal(lua, each))
    assert [start.execution for start in await engine.gets("starts", 3)][2:] == [execution]


async def test_what_waits_for_other_engines_holds_up_nobody(
    bench: Any, alone: Document, lua: Document, document: Any
) -> None:
    """Both could use the second engine, but only one of them the first."""
    one = await bench.engine("engine-1", capacity=1)
    await bench.start(lua)
    await one.gets("starts")
    two = await bench.engine("engine-2", capacity=1, labels={"pool": "gpu"})
    picky = document([{"id": "a"}], id="picky", engine={"pool": "gpu"})
    await bench.start(picky)
    await two.gets("starts")
    await bench.waits_on(await bench.start(picky), "engines_full")
    execution = await bench.start(alone)
    await one.gets("reserves")
    await bench.quiet()
    assert (reserves(one), reserves(two)) == ([(execution, False)], [])


async def test_an_engine_that_is_kept_for_one_is_not_asked_for(bench: Any, alone: Document, journal: Journal) -> None:
    """When that has ended it is open to all: a stream of exclusive executions must not hand it on for ever."""
    engine = await bench.engine()
    first = await bench.start(alone)
    await engine.gets("starts")
    second = await bench.start(alone)
    await bench.waits_on(second, "no_free_engine")
    await bench.quiet()
    assert reserves(engine) == []
    await engine.says(load={"running": 1, "capacity": 10, "reserved_for": first})
    await end(engine, first, journal(alone, first))
    await bench.quiet()
    assert len(engine.told("starts")) == 1  # as far as it has told, it is still reserved
    await engine.says(load={"running": 1, "capacity": 10, "reserved_for": "theirs"})
    await bench.quiet()
    assert reserves(engine) == []
    await engine.says(load={"running": 1, "capacity": 10})
    await engine.gets("reserves")
    assert reserves(engine) == [(second, False)]


async def test_one_that_takes_the_place_of_an_engine_is_asked_as_well(bench: Any, alone: Document) -> None:
    """It goes by the same id, as a pod of a StatefulSet does, and knows nothing of what that one was told."""
    engine = await bench.engine()
    await engine.says(load={"running": 1, "capacity": 10})  # of another replica
    execution = await bench.start(alone)
    await engine.gets("reserves")
    await bench.quiet()
    await bench.dispatcher.remove_link("engine-1:1")
    successor = await bench.dial("engine-1:2").hello("engine-1", incarnation="second", reserved_for="")
    await successor.gets("starts")
    assert view_of(bench, "engine-1").reserved_for == execution


async def test_the_engine_that_becomes_free_is_the_one_with_the_least_to_do(
    bench: Any, alone: Document, document: Any
) -> None:
    one, two = await bench.engine("engine-1", labels={"n": "1"}), await bench.engine("engine-2", labels={"n": "2"})
    for number, count in (("1", 3), ("2", 1)):
        for _ in range(count):
            await bench.start(document([{"id": "a"}], id=f"w{number}", engine={"labels": {"n": number}}))
    await one.gets("starts", 3)
    await two.gets("starts", 1)
    execution = await bench.start(alone)
    await two.gets("reserves")
    assert (reserves(one), reserves(two)) == ([], [(execution, False)])


async def test_a_cancelled_one_needs_no_engine(bench: Any, alone: Document, lua: Document) -> None:
    engine = await bench.engine()
    await bench.start(lua)
    await engine.gets("starts")
    execution = await bench.start(alone)
    await engine.gets("reserves")
    await bench.cancel(execution)
    await engine.gets("reserves", 2)
    assert reserves(engine)[1:] == [(execution, True)]
    await bench.start(lua)
    await engine.gets("starts", 2)


async def test_a_free_engine_elsewhere_is_taken_at_once(bench: Any, alone: Document, lua: Document) -> None:
    engine = await bench.engine()
    await bench.start(lua)
    await engine.gets("starts")
    execution = await bench.start(alone)
    await engine.gets("reserves")
    two = await bench.engine("engine-2")
    assert [start.execution for start in await two.gets("starts")] == [execution]
    await engine.gets("reserves", 2)
    assert reserves(engine)[1:] == [(execution, True)]


async def test_in_a_new_session_it_is_said_again(bench: Any, alone: Document, lua: Document) -> None:
    engine = await bench.engine()
    busy = await bench.start(lua)
    await engine.gets("starts")
    execution = await bench.start(alone)
    await engine.gets("reserves")
    engine.cut()
    engine.forget()
    await engine.hello("engine-1", held=[(busy, 1, 1)])
    await engine.gets("reserves")
    assert reserves(engine) == [(execution, False)]


async def test_one_that_drains_need_not_become_free(bench: Any, alone: Document, lua: Document) -> None:
    engine = await bench.engine()
    await bench.start(lua)
    await engine.gets("starts")
    execution = await bench.start(alone)
    await engine.gets("reserves")
    await engine.says(load={"running": 1, "capacity": 10, "draining": True, "reserved_for": execution})
    await engine.gets("reserves", 2)
    await bench.waits_on(execution, "all_draining")


# --- what others have there ---


async def test_an_engine_that_others_have_reserved_is_left_alone(bench: Any, lua: Document, alone: Document) -> None:
    engine = await bench.engine("engine-1", reserved_for="theirs")
    execution = await bench.start(lua)
    await bench.waits_on(execution, "engines_full")
    assert view_of(bench, "engine-1").reserved_for == "theirs"
    await engine.says(load={"running": 0, "capacity": 10})
    await engine.gets("starts")


async def test_a_refused_one_waits_for_the_next_report(bench: Any, alone: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(alone)
    await engine.gets("starts")
    await engine.says(
        load={"running": 1, "capacity": 10}, refusals=[{"execution": execution, "epoch": 1, "reason": "RESERVED"}]
    )
    await bench.waits_on(execution, "no_free_engine")
    await engine.gets("starts", 1)
    await engine.says(load={"running": 0, "capacity": 10})
    assert [(start.epoch, start.exclusive) for start in await engine.gets("starts", 2)] == [(1, True), (2, True)]


async def test_one_that_meets_a_reserved_engine_goes_elsewhere(bench: Any, lua: Document) -> None:
    one, two = await bench.engine("engine-1"), await bench.engine("engine-2")
    execution = await bench.start(lua)
    await bench.soon(lambda: one.told("starts") or two.told("starts"))
    home, other = (one, two) if one.told("starts") else (two, one)
    await home.says(
        load={"running": 1, "capacity": 10, "reserved_for": "theirs"},
        refusals=[{"execution": execution, "epoch": 1, "reason": "RESERVED"}],
    )
    [start] = await other.gets("starts")
    assert (start.execution, start.epoch) == (execution, 2)


# --- through breaks ---


async def test_an_adopted_one_still_has_its_engine_for_itself(bench: Any, alone: Document, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(alone)
    await engine.gets("starts")
    await bench.restart()
    engine = await bench.engine("engine-1", held=[(execution, 1, 1)], reserved_for=execution)
    await engine.gets("adopts")
    other = await bench.start(lua)
    await bench.waits_on(other, "engines_full")
    assert engine.told("starts") == []


async def test_one_that_is_handed_back_wants_another_engine_for_itself(
    bench: Any, alone: Document, lua: Document
) -> None:
    one = await bench.engine("engine-1")
    execution = await bench.start(alone)
    await one.gets("starts")
    two = await bench.engine("engine-2")
    await bench.start(lua)
    await two.gets("starts")
    await one.refuses(execution, "DRAINING")
    await two.gets("reserves")
    assert reserves(two) == [(execution, False)]
    three = await bench.engine("engine-3")
    [start] = await three.gets("starts")
    assert (start.execution, start.epoch, start.exclusive) == (execution, 2, True)


async def test_an_exclusive_execution_is_not_parked(bench: Any, alone: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(alone)
    await engine.gets("starts")
    await engine.facts(execution, journal(alone, execution)[:3])
    await engine.gets("acks")
    await engine.says(parks=[{"execution": execution, "epoch": 1, "last_seq": 3}])
    await bench.quiet()
    assert engine.told("drops") == []
    assert (await bench.record(execution)).engine == "engine-1"


async def test_a_retry_has_an_engine_for_itself_again(bench: Any, alone: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(alone)
    await engine.gets("starts")
    await end(engine, execution, journal(alone, execution))
    await bench.soon(lambda: not bench.dispatcher.running)
    await bench.operate(execution, Rerun(nodes=("b",)), id="r1")
    again = (await engine.gets("starts", 2))[1]
    assert (again.execution, again.exclusive) == (execution, True)
    assert view_of(bench, "engine-1").reserved_for == execution


async def test_a_replica_that_is_none_any_more_lets_go_of_engines(bench: Any, alone: Document, lua: Document) -> None:
    engine = await bench.engine()
    await bench.start(lua)
    await engine.gets("starts")
    execution = await bench.start(alone)
    await engine.gets("reserves")
    bench.dispatcher._ledger.clear()
    await engine.gets("reserves", 2)
    assert reserves(engine) == [(execution, False), (execution, True)]
