"""Pools over the whole system as engines meet them in sessions, and pools of engines as placement does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dagengine.admission import declaration
from dagengine.spec.model import Document

Make = Callable[..., Document]


@pytest.fixture
def pooled(document: Make) -> Document:
    return document([{"id": "a", "pool": "db"}], id="pooled")


async def reopen(bench: Any, pools: str) -> None:
    await bench.restart(pools=declaration.parse(pools))


async def report(engine: Any, *held: int) -> None:
    await engine.says(pool_report={"holdings": [{"ticket": one, "pool": "db", "weight": 1} for one in held]})


async def ask(engine: Any, ticket: int, **more: int) -> None:
    await engine.says(pool_requests=[{"ticket": ticket, "pool": "db", "weight": 1} | more])


def granted(engine: Any) -> list[int]:
    return [ticket for grant in engine.told("pool_grants") for ticket in grant.tickets]


def view(bench: Any) -> tuple[int, int, str]:
    [db] = [view for view in bench.dispatcher.pools() if view.scope == "system"]
    return db.used, db.waiting, db.reason


async def test_engines_are_told_of_the_pools_and_share_their_room(bench: Any) -> None:
    await reopen(bench, "db=2")
    one, two = await bench.engine("one"), await bench.engine("two")
    assert [list(message.shared_pools.names) for message in one.sent if message.HasField("shared_pools")] == [["db"]]
    for engine in (one, two):
        await report(engine)
        await ask(engine, 1)
        await ask(engine, 2)
    assert (granted(one), granted(two)) == ([1, 2], [])
    await one.says(pool_releases=[{"tickets": [1]}])
    assert granted(two) == [1]
    assert view(bench) == (2, 1, "")


async def test_higher_priority_is_granted_first_and_waiting_counts(bench: Any) -> None:
    await reopen(bench, "db=1")
    one = await bench.engine("one")
    await report(one)
    for ticket, more in ((1, {}), (2, {}), (3, {"priority": 5}), (4, {"waited": 7_000_000})):
        await ask(one, ticket, **more)
    for ticket in (1, 4, 3):
        await one.says(pool_releases=[{"tickets": [ticket]}])
    assert granted(one) == [1, 4, 3, 2]


async def test_an_engine_that_is_away_keeps_what_it_holds_and_gets_nothing_new(bench: Any) -> None:
    await reopen(bench, "db=2")
    one, two = await bench.engine("one"), await bench.engine("two")
    await report(one)
    await report(two)
    for ticket in (1, 2, 3):
        await ask(one, ticket)
    one.cut()
    await ask(two, 1)
    assert granted(two) == []
    assert view(bench) == (2, 1, "")
    await one.hello("one")
    await report(one, 1)  # the second has ended meanwhile
    assert granted(two) == [1]


async def test_what_an_engine_held_is_free_once_it_is_taken_for_lost(bench: Any) -> None:
    await bench.restart(pools=declaration.parse("db=1"), engine_lost_after=5.0)
    one, two = await bench.engine("one"), await bench.engine("two")
    for engine in (one, two):
        await report(engine)
        await ask(engine, 1)
    one.cut()
    await bench.advance(4)
    assert granted(two) == []
    await bench.advance(4)
    assert granted(two) == [1]


async def test_an_engine_that_starts_anew_holds_nothing(bench: Any) -> None:
    await reopen(bench, "db=1")
    one, two = await bench.engine("one"), await bench.engine("two")
    for engine in (one, two):
        await report(engine)
        await ask(engine, 1)
    one.cut()
    await one.hello("one", incarnation="second")
    await report(one)
    assert granted(two) == [1]


async def test_after_a_restart_nothing_is_granted_before_it_is_known_what_is_held(bench: Any, pooled: Document) -> None:
    options = {"pools": declaration.parse("db=2"), "engine_lost_after": 5.0, "strategy": "least-loaded"}
    await bench.restart(**options)
    one, two = await bench.engine("one"), await bench.engine("two")
    for _ in range(2):
        await bench.start(pooled)
    await bench.soon(lambda: one.told("starts") and two.told("starts"))
    await bench.restart(**options)
    one = await bench.engine("one", held=[("x1", 1, 0)])
    await report(one, 7)
    await ask(one, 8)
    assert granted(one) == []
    assert view(bench) == (1, 1, "it opens once it is known what engines hold of it: two")
    await bench.advance(7)
    assert granted(one) == [8]
    assert view(bench) == (2, 0, "")


async def test_a_rate_over_the_whole_system_is_kept_by_the_clock(bench: Any) -> None:
    await reopen(bench, "db=9:2/s")
    one = await bench.engine("one")
    await report(one)
    for ticket in (1, 2, 3):
        await ask(one, ticket)
    assert granted(one) == [1, 2]
    await bench.quiet()
    await bench.advance(1)
    assert granted(one) == [1, 2, 3]


async def test_an_execution_goes_to_an_engine_that_has_its_pool(bench: Any, pooled: Document) -> None:
    without = await bench.engine("without")
    execution = await bench.start(pooled)
    await bench.waits_on(execution, "no_pool:db")
    having = await bench.engine("having", pools={"db": 4})
    [start] = await having.gets("starts")
    assert start.execution == execution
    assert without.told("starts") == []
    await having.says(load={"capacity": 10, "pools": [{"name": "db", "size": 4, "used": 3, "waiting": 1}]})
    [view] = bench.dispatcher.pools()
    assert (view.scope, view.engine, view.size, view.used, view.waiting) == ("engine", "having", 4, 3, 1)


async def test_a_pool_over_the_whole_system_is_asked_of_no_engine(bench: Any, pooled: Document) -> None:
    await reopen(bench, "db=2")
    engine = await bench.engine("any", pools={"db": 4})
    await bench.start(pooled)
    await engine.gets("starts")
    assert [view.scope for view in bench.dispatcher.pools()] == ["system"]
    metrics = bench.monitor.metrics().decode()
    assert "dagengine_pool_size" in metrics


async def test_waiting_nodes_need_no_executor_and_on_exit_nodes_do(bench: Any, document: Make) -> None:
    held_up = document(
        [{"id": "a", "executor": {"type": "wait", "duration": "1s"}}],
        on_exit=[{"id": "z", "executor": {"type": "shell", "command": ["true"]}}],
    )
    engine = await bench.engine("lua-only")
    execution = await bench.start(held_up)
    await bench.waits_on(execution, "no_executor:shell")
    assert engine.told("starts") == []
