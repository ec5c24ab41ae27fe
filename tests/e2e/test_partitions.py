"""The line between the orchestrator and an engine is down for longer than the lease of what the engine has."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from dagengine.events import facts as codec

pytestmark = pytest.mark.e2e

SCRIPT = """
printf '%s\\n' "begin $DAG_IDEMPOTENCY_KEY $DAG_ATTEMPT $$" >> "$EFFECTS_LOG"
sleep $((9 - 4 * DAG_ATTEMPT))
printf '%s\\n' "end $DAG_IDEMPOTENCY_KEY $DAG_ATTEMPT $$" >> "$EFFECTS_LOG"
echo "$DAG_ATTEMPT"
"""
"""The first attempt takes 5 s, the second 1 s."""


def document(**node: Any) -> dict[str, Any]:
    effect = {"id": "effect", "dependencies": ["a"], "executor": {"type": "shell", "script": SCRIPT}, **node}
    effect["retry"] = {"error": {"max_attempts": 5, "backoff": {"initial": "10ms"}}}
    lua = {"id": "a", "executor": {"type": "lua", "code": "return 1"}}
    return {"metadata": {"id": "job", "version": "1.0.0"}, "spec": {"nodes": [lua, effect]}}


@dataclass(slots=True, kw_only=True)
class Lines:
    """An orchestrator, two engines, and the lines between them, by engine."""

    site: Any
    client: Any
    lines: dict[str, Any]

    def traces(self) -> list[tuple[str, str, int, int]]:
        """What the effects have left: `begin` or `end`, key, attempt, process."""
        lines = (line.split() for line in self.site.effects.read_text().splitlines())
        return [(what, key, int(attempt), int(pid)) for what, key, attempt, pid in lines]


@pytest.fixture
async def apart(site: Any, line: Any, ready: Any) -> Lines:
    lines = {}
    for name in ("engine-1", "engine-2"):
        engine = await site.engine(name, ENGINE_SHELL="true", ENGINE_SHELL_ENV="EFFECTS_LOG")
        lines[name] = await line(engine.address)
    addresses = [proxy.address for proxy in lines.values()]
    client = site.client(await site.orchestrator(addresses, ENGINE_LOST_TIMEOUT="1"))
    await ready(client, 2)
    return Lines(site=site, client=client, lines=lines)


async def cut_off(apart: Lines, soon: Any) -> tuple[str, int, str]:
    """An execution whose engine cannot be reached any more, the process of its effect, and that engine."""
    view = await apart.client.start("job")

    async def begun() -> bool:
        return bool(apart.traces())

    await soon(begun)
    engine = (await apart.client.execution(view.id)).engine
    apart.lines[engine].down()
    return view.id, apart.traces()[0][3], engine


async def begun_again(apart: Lines, soon: Any) -> None:
    async def again() -> bool:
        return len(apart.traces()) >= 2

    await soon(again)


async def test_an_effect_ends_with_the_lease_before_it_begins_elsewhere(apart: Lines, soon: Any, journals: Any) -> None:
    await apart.client.apply(document())
    execution, process, engine = await cut_off(apart, soon)
    await begun_again(apart, soon)
    assert not psutil.pid_exists(process)
    view = await apart.client.wait(execution, timeout=20)
    apart.lines[engine].up()

    assert (view.status, view.outputs) == ("succeeded", {"effect": 2})
    assert view.engine != engine
    key = f"{execution}/effect/0"
    assert [trace[:3] for trace in apart.traces()] == [("begin", key, 1), ("begin", key, 2), ("end", key, 2)]
    assert journals.orphans(await journals.of(apart.client, execution)) == ["effect"]


async def test_a_node_may_say_that_it_goes_on(apart: Lines, soon: Any, ready: Any, journals: Any) -> None:
    """Both attempts come to their end then; the one that was committed counts."""
    await apart.client.apply(document(on_partition="continue"))
    execution, process, engine = await cut_off(apart, soon)
    await begun_again(apart, soon)
    assert psutil.pid_exists(process)
    view = await apart.client.wait(execution, timeout=20)
    assert (view.status, view.outputs) == ("succeeded", {"effect": 2})

    async def over() -> bool:
        return len(apart.traces()) == 4

    await soon(over)
    key = f"{execution}/effect/0"
    assert sorted(trace[:3] for trace in apart.traces()) == [
        ("begin", key, 1),
        ("begin", key, 2),
        ("end", key, 1),
        ("end", key, 2),
    ]
    apart.lines[engine].up()
    await ready(apart.client, 2)
    made = await journals.of(apart.client, execution)
    assert journals.orphans(made) == ["effect"]
    assert [fact.attempt for fact in made if isinstance(fact, codec.NodeSucceeded) and fact.node == "effect"] == [2]


async def test_a_short_cut_ends_nothing(apart: Lines, soon: Any, ready: Any, journals: Any) -> None:
    await apart.client.apply(document())
    execution, _, engine = await cut_off(apart, soon)
    await asyncio.sleep(0.1)  # so that a few attempts to connect fail
    apart.lines[engine].up()
    await ready(apart.client, 2)
    view = await apart.client.wait(execution, timeout=20)
    assert (view.status, view.outputs, view.epoch) == ("succeeded", {"effect": 1}, 1)
    assert journals.orphans(await journals.of(apart.client, execution)) == []
