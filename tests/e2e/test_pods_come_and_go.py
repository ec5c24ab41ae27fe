"""Engines as pods of a cluster that come and go, with executions under way, and an API that is away for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes_pods as pods
import pytest
from kubernetes_api import KubernetesAPI

pytestmark = pytest.mark.e2e


@pytest.fixture
async def api() -> AsyncIterator[KubernetesAPI]:
    async with KubernetesAPI() as api:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "workflows"}})
        yield api


async def test_executions_run_while_pods_come_and_go(
    site: Any, workflow: Any, ready: Any, soon: Any, all_of: Any, api: KubernetesAPI, tmp_path: Path
) -> None:
    engines = await asyncio.gather(*(site.engine(name) for name in ("engine-1", "engine-2", "engine-3")))
    ports = {engine.name: int(engine.address.rpartition(":")[2]) for engine in engines}
    orchestrator = await site.orchestrator(
        [],
        ENGINE_DISCOVERY="pods",
        IN_CLUSTER_CONFIG="false",
        KUBECONFIG=str(api.kubeconfig(tmp_path / "kubeconfig", namespace="workflows")),
        K8S_CONTEXT="double",
        K8S_WORKFLOWS="false",
        LEADER_ELECTION="store",
        ENGINE_DISCOVERY_INTERVAL="1h",
        ENGINE_HEALTH_CHECK_INTERVAL="1",
        ENGINE_LOST_TIMEOUT="2",
    )
    client = site.client(orchestrator)
    await client.apply(workflow("job", {"a": "return 1", "b": 0.2, "c": "return 2"}))
    started: list[str] = []

    async def start(count: int) -> None:
        started.extend([view.id for view in await asyncio.gather(*(client.start("job") for _ in range(count)))])

    async def warnings() -> list[str]:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {site.token}"}) as http:
            answer = (await http.get(f"{orchestrator.url}/readyz")).json()
        found: list[str] = answer.get("warnings", [])
        return found

    await start(3)  # nobody is there yet: they wait
    pod = {"namespace": "workflows"}
    api.run_pod("engine-1", port=ports["engine-1"], capacity=4, **pod)
    await ready(client, 1)
    await start(6)
    api.run_pod("engine-2", port=ports["engine-2"], **pod)
    await ready(client, 2)
    await start(6)
    pods.set_pod(api, "engine-1", ready=False, **pod)
    await ready(client, 1)
    await start(6)
    pods.set_pod(api, "engine-1", ready=True, **pod)
    await ready(client, 2)

    api.faults.down()
    await soon(warnings)
    await start(6)
    assert [engine.state for engine in await client.engines()] == ["ready", "ready"]
    api.run_pod("engine-3", port=ports["engine-3"], **pod)
    api.delete("pods", "engine-1", grace=0, **pod)
    api.faults.up()
    await soon(lambda: _are(client, {"engine-2", "engine-3"}))
    await start(6)

    views = await all_of(client, started)
    assert {view.status for view in views} == {"succeeded"}
    assert set(site.performed().values()) <= {1, 2}, "only what a removed pod had may have been begun twice"
    assert {view.engine for view in views} <= set(ports)
    assert await warnings() == []
    assert await orchestrator.end() == 0


async def _are(client: Any, engines: set[str]) -> bool:
    return {engine.id for engine in await client.engines() if engine.state == "ready"} == engines
