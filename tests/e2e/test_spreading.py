"""Many executions of a few workflows over two engines: home when there is room, spread when there is not."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from typing import Any

import pytest

from orchestrator.dispatcher.ring import Ring

pytestmark = pytest.mark.e2e

ENGINES = ("engine-1", "engine-2")


def names() -> list[str]:
    """Three workflows of which not all have the same home: where a name lands is the ring's business."""
    ring = Ring(ENGINES)
    homes = {f"job-{number}": next(ring.walk(f"job-{number}@1.0.0")) for number in range(20)}
    return next(
        list(chosen) for chosen in itertools.combinations(homes, 3) if len({homes[name] for name in chosen}) == 2
    )


async def test_thirty_executions_of_three_workflows(site: Any, workflow: Any, ready: Any, all_of: Any) -> None:
    engines = await asyncio.gather(*(site.engine(name, CAPACITY="30") for name in ENGINES))
    client = site.client(await site.orchestrator(engine.address for engine in engines))
    await ready(client, 2)
    jobs = names()
    for name in jobs:
        await client.apply(workflow(name, {"a": "return 1", "b": "return nodes.a + 1"}))
        await client.apply(workflow(f"slow-{name}", {"a": 2.0, "b": "return nodes.a"}))

    # Light load, one at a time: each version stays at home.
    for turn in range(30):
        await client.execute_workflow(jobs[turn % 3])
    views = (await client.executions(limit=100)).items
    ran = {name: Counter(view.engine for view in views if view.workflow == name) for name in jobs}
    ring = Ring(ENGINES)
    assert ran == {name: Counter({next(ring.walk(f"{name}@1.0.0")): 10}) for name in jobs}
    assert {engine for counts in ran.values() for engine in counts} == set(ENGINES)

    # All at once, and nothing ends before all have begun: the surplus spills over.
    async def watch() -> list[tuple[int, int]]:
        samples = []
        while True:
            first, second = await client.engines()
            samples.append((first.running, second.running))
            if sum(samples[-1]) == 30:
                return samples

    watching = asyncio.create_task(watch())
    started = await asyncio.gather(*(client.start(f"slow-{jobs[turn % 3]}") for turn in range(30)))
    samples = await asyncio.wait_for(watching, 10)
    views = await all_of(client, [view.id for view in started])
    assert {view.status for view in views} == {"succeeded"}
    assert max(view.started_at for view in views) < min(view.finished_at for view in views)
    held = Counter(view.engine for view in views)
    assert set(held) == set(ENGINES)
    assert max(held.values()) <= math.ceil(1.25 * 30 / 2)
    assert all(max(sample) <= math.ceil(1.25 * sum(sample) / 2) for sample in samples)
