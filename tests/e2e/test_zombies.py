"""An engine that stands still for so long that its work is given away, and then goes on as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


async def test_what_a_zombie_says_is_refused_and_counted(
    site: Any, workflow: Any, journals: Any, ready: Any, all_of: Any, soon: Any, metric: Any
) -> None:
    engines = {name: await site.engine(name) for name in ("engine-1", "engine-2")}
    orchestrator = await site.orchestrator(
        [engine.address for engine in engines.values()], ENGINE_LOST_TIMEOUT="1", LOAD_BALANCER_TYPE="least-loaded"
    )
    client = site.client(orchestrator)
    await ready(client, 2)
    await client.apply(workflow("job", {"a": "return 1", "b": 0.5, "c": "return nodes.b", "d": 0.1}))
    started = [(await client.start("job")).id for _ in range(8)]

    async def under_way() -> bool:
        return len(site.performed()) == 8

    await soon(under_way)
    zombie = engines["engine-1"]
    zombie.freeze()
    victims = {view.id for view in (await client.executions()).items if view.engine == "engine-1"}
    assert len(victims) == 4
    views = await all_of(client, started)
    told = {view.id: await client.facts(view.id) for view in views}
    assert {(view.status, view.engine) for view in views} == {("succeeded", "engine-2")}
    assert await metric(orchestrator, "dagengine_facts_refused_total", reason="fenced") == 0

    zombie.thaw()

    async def counted() -> bool:
        # Its timers are over: it has ended what it had, and begun what follows, as far as that has no effect.
        return await metric(orchestrator, "dagengine_facts_refused_total", reason="fenced") >= len(victims)

    await soon(counted)
    await ready(client, 2)
    assert {view.id: await client.facts(view.id) for view in views} == told
    for view in views:
        made = await journals.of(client, view.id)
        assert journals.orphans(made) == (["b"] if view.id in victims else [])
        assert journals.started(made) == Counter(a=1, b=2 if view.id in victims else 1, c=1, d=1)
    # It had performed `b`, and was told that nobody waits for that before it could perform `d`.
    performed = site.performed()
    assert {place: count for place, count in performed.items() if count > 1} == {(view, "b"): 2 for view in victims}
    # It is an engine like any other now.
    views = await all_of(client, [(await client.start("job")).id for _ in range(8)])
    assert {(view.status, view.engine) for view in views} == {("succeeded", name) for name in engines}
