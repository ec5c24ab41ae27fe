"""The line between orchestrator and engine breaks again and again: no fact is lost or doubled, nothing runs twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


def job(workflow: Any) -> dict[str, Any]:
    """Lua, effects, and a fan-out, for about a second and a half."""
    document: dict[str, Any] = workflow(
        "job", {"a": "print('a') return 1", "b": 0.4, "c": "return nodes.b", "d": 0.4, "e": 0.4, "last": "return 5"}
    )
    fan = {
        "id": "fan",
        "dependencies": ["a"],
        "foreach": "{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}",
        "executor": {"type": "lua", "code": "return item * item"},
    }
    document["spec"]["nodes"] = [*document["spec"]["nodes"], fan]
    document["spec"]["outputs"] = {"squares": "{{ nodes.fan }}", "c": "{{ nodes.c }}", "last": "{{ nodes.last }}"}
    return document


async def test_cut_connections_lose_and_double_nothing(
    site: Any, line: Any, workflow: Any, journals: Any, ready: Any, all_of: Any
) -> None:
    engines = await asyncio.gather(site.engine("engine-1"), site.engine("engine-2"))
    lines = [await line(engine.address) for engine in engines]
    client = site.client(await site.orchestrator(proxy.address for proxy in lines))
    await ready(client, 2)
    await client.apply(job(workflow))
    undisturbed = await client.execute_workflow("job")
    assert undisturbed["squares"] == [number * number for number in range(1, 11)]

    started: list[str] = []
    dials = sum(proxy.dials for proxy in lines)
    for wave in range(24):
        if wave < 12:
            started.append((await client.start("job")).id)
        await asyncio.sleep(0.05 + 0.02 * (wave % 3))  # so that the cuts hit different moments
        lines[wave % 2].cut()
        if wave % 5 == 0:
            lines[(wave + 1) % 2].cut()
    views = await all_of(client, started)

    assert sum(proxy.dials for proxy in lines) - dials >= 10
    assert {view.status for view in views} == {"succeeded"}
    assert all(view.outputs == undisturbed for view in views)
    for view in views:
        made = await journals.of(client, view.id)
        assert journals.orphans(made) == []
        assert len([fact for fact in made if type(fact).__name__ == "NodeStarted"]) == 6 + 10
    performed = site.performed()
    assert set(performed.values()) == {1}
    assert len(performed) == 3 * 13
