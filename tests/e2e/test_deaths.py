"""Processes that are killed, or told to go, while they work."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections import Counter
from typing import Any

import pytest

from orchestrator.dispatcher.ring import Ring

pytestmark = pytest.mark.e2e

BURN = "local n = 0 for i = 1, 60000000 do n = n + i % 7 end return n"
"""Pure Lua that takes a second or so."""


def at_home(engine: str, prefix: str) -> str:
    """A workflow id whose version 1.0.0 has its home at `engine`, of engine-1 and engine-2."""
    ring = Ring(("engine-1", "engine-2"))
    names = (f"{prefix}-{number}" for number in itertools.count())
    return next(name for name in names if next(ring.walk(f"{name}@1.0.0")) == engine)


async def test_what_a_killed_engine_had_is_finished_by_another(
    site: Any, workflow: Any, journals: Any, ready: Any, all_of: Any, soon: Any
) -> None:
    engines = await asyncio.gather(site.engine("engine-1"), site.engine("engine-2"))
    orchestrator = await site.orchestrator((engine.address for engine in engines), ENGINE_LOST_TIMEOUT="1")
    client = site.client(orchestrator)
    await ready(client, 2)
    pure, effect = at_home("engine-1", "pure"), at_home("engine-1", "effect")
    await client.apply(workflow(pure, {"a": "return 1", "burn": BURN, "c": "return nodes.burn"}))
    await client.apply(workflow(effect, {"a": "return 1", "b": 2.0, "c": "return nodes.b"}))

    started = [(await client.start(effect)).id for _ in range(9)]

    async def performing() -> bool:
        return len(site.performed()) == 9

    await soon(performing)
    burning = (await client.start(pure)).id

    async def committed() -> bool:
        return len(await client.facts(burning)) == 4

    await soon(committed)
    victims = {view.id for view in (await client.executions()).items if view.engine == "engine-1"}
    assert burning in victims
    assert 2 <= len(victims) <= 7
    await engines[0].kill()
    views = await all_of(client, [burning, *started])

    assert {view.status for view in views} == {"succeeded"}
    assert {view.engine for view in views} == {"engine-2"}
    assert {view.id for view in views if view.epoch == 2} == victims
    for view in views:
        made = await journals.of(client, view.id)
        started_attempts = journals.started(made)
        if view.id == burning:
            # Pure: the same attempt runs again, its start is committed once, and what had ended is not touched.
            assert started_attempts == Counter(a=1, burn=1, c=1)
            assert journals.orphans(made) == []
        elif view.id in victims:
            assert started_attempts == Counter(a=1, b=2, c=1)
            assert journals.orphans(made) == ["b"]
        else:
            assert started_attempts == Counter(a=1, b=1, c=1)
    performed = site.performed()
    assert {execution for (execution, _), count in performed.items() if count == 2} == victims - {burning}
    assert set(performed.values()) == {1, 2}


async def test_an_engine_that_is_started_again_at_once_goes_on(
    site: Any, workflow: Any, journals: Any, ready: Any, all_of: Any, soon: Any
) -> None:
    """Its address and its id are those of before; nobody waits for a timeout."""
    engine = await site.engine("engine-1")
    client = site.client(await site.orchestrator([engine.address]))
    await ready(client, 1)
    await client.apply(workflow("job", {"a": "return 1", "b": 1.0, "c": "return nodes.b"}))
    started = [(await client.start("job")).id for _ in range(5)]

    async def under_way() -> bool:
        return len(site.performed()) == 5

    await soon(under_way)
    await engine.kill()
    again = await site.engine("engine-1", port=engine.address.rpartition(":")[2])
    assert again.address == engine.address
    views = await all_of(client, started)
    assert {(view.status, view.epoch) for view in views} == {("succeeded", 2)}
    for view in views:
        assert journals.orphans(await journals.of(client, view.id)) == ["b"]


async def test_a_killed_orchestrator_finds_everything_again(
    site: Any, workflow: Any, journals: Any, ready: Any, all_of: Any, soon: Any
) -> None:
    engines = await asyncio.gather(site.engine("engine-1", CAPACITY="4"), site.engine("engine-2", CAPACITY="4"))
    addresses = [engine.address for engine in engines]
    first = await site.orchestrator(addresses)
    client = site.client(first)
    await ready(client, 2)
    await client.apply(workflow("job", {"a": "return 1", "b": 0.6, "c": "return nodes.b", "d": 0.6, "e": "return 9"}))
    keys = [f"k{number}" for number in range(12)]
    started = [(await client.start("job", idempotency_key=key)).id for key in keys]

    async def under_way() -> bool:
        return len(site.performed()) == 8

    await soon(under_way)
    await first.kill()
    second = await site.orchestrator(addresses)
    client = site.client(second)
    again = [(await client.start("job", idempotency_key=key)).id for key in keys]
    assert again == started
    views = await all_of(client, started)

    assert {view.status for view in views} == {"succeeded"}
    # Those that engines had have another owner now, under another epoch; nothing else is new about them.
    assert Counter(view.epoch for view in views) == {2: 8, 1: 4}
    for view in views:
        assert journals.orphans(await journals.of(client, view.id)) == []
    performed = site.performed()
    assert (len(performed), set(performed.values())) == (24, {1})
    assert len((await client.executions(limit=100)).items) == 12


async def test_an_engine_that_is_told_to_go_hands_its_work_over(
    site: Any, workflow: Any, journals: Any, ready: Any, all_of: Any, soon: Any
) -> None:
    leaving = await site.engine("engine-1", DRAIN_TIMEOUT="0.6")
    staying = await site.engine("engine-2")
    client = site.client(await site.orchestrator([leaving.address, staying.address]))
    await ready(client, 2)
    short, long = at_home("engine-1", "short"), at_home("engine-1", "long")
    await client.apply(workflow(short, {"a": 0.4, "b": "return nodes.a"}))
    await client.apply(workflow(long, {"a": 0.1, "b": 1.5, "c": "return nodes.b"}))
    quick = (await client.start(short)).id
    slow = (await client.start(long)).id

    async def under_way() -> bool:
        return len(site.performed()) == 3

    await soon(under_way)
    assert {view.engine for view in (await client.executions()).items} == {"engine-1"}
    assert await leaving.end(signal.SIGTERM) == 0
    late = await client.start(short)
    views = {view.id: view for view in await all_of(client, [quick, slow, late.id])}
    assert {view.status for view in views.values()} == {"succeeded"}
    # What could finish in time has finished where it was; the rest has gone on elsewhere, with all that it had done.
    assert (views[quick].engine, views[quick].epoch) == ("engine-1", 1)
    assert (views[slow].engine, views[slow].epoch) == ("engine-2", 2)
    assert views[late.id].engine == "engine-2"
    made = await journals.of(client, slow)
    assert journals.orphans(made) == ["b"]
    assert journals.started(made) == Counter(a=1, b=2, c=1)
    events = [json.loads(text)["event"] for text in leaving.log.read_text().splitlines()]
    assert events.index("stop_requested") < events.index("drain_began") < events.index("drain_ended")
