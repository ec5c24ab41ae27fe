"""Pods of engines are deleted while executions run there: the engine drains, over a session that stays up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import kubernetes_pods as pods
import pytest
from kubernetes_api import KubernetesAPI

pytestmark = pytest.mark.e2e

NAMESPACE = {"namespace": "workflows"}
CHAIN: dict[str, str | float] = {name: (0.4 if number % 2 else "return 1") for number, name in enumerate("abcdefgh")}
"""Pure nodes and effects in turn."""


@pytest.fixture
async def api() -> AsyncIterator[KubernetesAPI]:
    async with KubernetesAPI() as api:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "workflows"}})
        yield api


@pytest.fixture
def orchestrator(site: Any, api: KubernetesAPI, tmp_path: Path) -> Any:
    """`await orchestrator()`: one that finds engines as pods, and hears of each change at once or never."""

    async def start(**environment: str) -> Any:
        return await site.orchestrator(
            [],
            ENGINE_DISCOVERY="pods",
            IN_CLUSTER_CONFIG="false",
            KUBECONFIG=str(api.kubeconfig(tmp_path / "kubeconfig", namespace="workflows")),
            K8S_CONTEXT="double",
            K8S_WORKFLOWS="false",
            LEADER_ELECTION="store",
            ENGINE_DISCOVERY_INTERVAL="1h",
            ENGINE_LOST_TIMEOUT="60",
            **environment,
        )

    return start


async def _engine(site: Any, api: KubernetesAPI, name: str) -> Any:
    engine = await site.engine(name, CAPACITY="200", DRAIN_TIMEOUT="20")
    api.run_pod(name, port=int(engine.address.rpartition(":")[2]), **NAMESPACE)
    return engine


async def _busy(client: Any, *names: str) -> bool:
    return all(engine.running > 2 for engine in await client.engines() if engine.id in names)


async def _passed_over(client: Any, name: str) -> bool:
    return all(engine.state != "ready" for engine in await client.engines() if engine.id == name)


async def test_what_runs_in_a_terminating_pod_ends_there(
    site: Any, orchestrator: Any, api: KubernetesAPI, ready: Any, workflow: Any, all_of: Any, journals: Any, soon: Any
) -> None:
    names = ("engine-1", "engine-2")
    engines = {name: await _engine(site, api, name) for name in names}
    running = await orchestrator()
    client = site.client(running)
    await ready(client, 2)
    await client.apply(workflow("long", CHAIN))
    started = [(await client.start("long")).id for _ in range(30)]
    await soon(lambda: _busy(client, *names))
    for name in names:
        api.delete("pods", name, **NAMESPACE)  # terminating, as a node sees it; only then comes the signal
        await soon(lambda name=name: _passed_over(client, name))
        if name == "engine-1":
            await _engine(site, api, "engine-3")
            await ready(client, 2)
        assert await engines[name].end() == 0
        pods.end_pod(api, name, **NAMESPACE)

    async def gone() -> bool:
        return [engine.id for engine in await client.engines()] == ["engine-3"]

    ended = await all_of(client, started)
    assert {view.status for view in ended} == {"succeeded"}
    performed = site.performed()
    for execution in started:
        assert journals.orphans(await journals.of(client, execution)) == []
    assert set(performed.values()) == {1}
    assert {view.engine for view in ended} == set(names)
    await soon(gone)
    assert "engine_not_reached" not in running.log.read_text(), "nobody dials what has ended"


async def test_an_orchestrator_that_starts_meanwhile_hears_what_a_terminating_pod_has_done(
    site: Any, orchestrator: Any, api: KubernetesAPI, ready: Any, workflow: Any, all_of: Any, journals: Any, soon: Any
) -> None:
    engine = await _engine(site, api, "engine-1")
    before = await orchestrator()
    client = site.client(before)
    await ready(client, 1)
    await client.apply(workflow("effect", {"a": "return 1", "b": 0.1}))
    with site.held():
        started = [(await client.start("effect")).id for _ in range(5)]

        async def begun() -> bool:
            return len(site.performed()) == len(started)

        await soon(begun)
        assert await before.end() == 0
        api.delete("pods", "engine-1", **NAMESPACE)
        ending = asyncio.create_task(engine.end())
        client = site.client(await orchestrator())

        async def there() -> bool:
            return [(each.id, each.state) for each in await client.engines()] == [("engine-1", "draining")]

        await soon(there)
    assert await ending == 0
    ended = await all_of(client, started)
    assert {(view.status, view.engine) for view in ended} == {("succeeded", "engine-1")}
    assert set(site.performed().values()) == {1}
