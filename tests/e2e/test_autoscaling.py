"""Engines as pods that are really there: their number follows the work, and nothing is lost on the way down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_api import KubernetesAPI
from kubernetes_pods import end_pod, set_pod
from kubernetes_scaling import workload
from real_processes import Process, Site

pytestmark = [pytest.mark.e2e, pytest.mark.heavy]

EXECUTIONS = 60
SHORT: dict[str, str | float] = {"a": "return 1", "b": 1.0, "c": "return 2"}
LONG: dict[str, str | float] = {"a": "return 1", "b": 3.0, "c": "return 2", "d": 5.0, "e": "return 3"}


class Node:
    """Runs an engine for every pod, as a kubelet does: starts it, says when it is ready, and ends it by SIGTERM."""

    def __init__(self, api: KubernetesAPI, site: Site) -> None:
        self._api = api
        self._site = site
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self.ready = 0
        """Engines that have become ready."""
        self.codes: list[int] = []
        """Exit codes of engines whose pods were deleted."""
        api.storage.listen(lambda _: self._changed.set())

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                for pod in self._api.list("pods"):
                    uid = pod["metadata"]["uid"]
                    if uid not in self._lives:
                        self._lives[uid] = tasks.create_task(self._live(pod["metadata"]["name"]))
                await self._changed.wait()
                self._changed.clear()

    async def _live(self, name: str) -> None:
        """The life of a pod."""
        engine: Process = await self._site.engine(name, CAPACITY="15", DRAIN_TIMEOUT="20")
        port = engine.address.rpartition(":")[2]
        self._api.patch("pods", name, {"metadata": {"annotations": {"workflow-engine/port": port}}})
        set_pod(self._api, name, ready=True)
        self.ready += 1
        await self._api.until(lambda: "deletionTimestamp" in self._api.get("pods", name)["metadata"], seconds=120)
        set_pod(self._api, name, ready=False)
        self.codes.append(await engine.end())
        end_pod(self._api, name)


@contextlib.asynccontextmanager
async def node(api: KubernetesAPI, site: Site) -> AsyncIterator[Node]:
    made = Node(api, site)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
async def test_from_one_to_four_and_back_under_sixty_executions(
    site: Site, workflow: Any, all_of: Any, soon: Any, ready: Any, metric: Any, tmp_path: Path, kind: str
) -> None:
    resource = f"{kind.lower()}s.apps"
    async with KubernetesAPI() as api, node(api, site) as kubelet:
        api.deployments(ready=False, linger=True)
        api.create(workload(kind))
        orchestrator = await site.orchestrator(
            [],
            ENGINE_DISCOVERY="pods",
            IN_CLUSTER_CONFIG="false",
            KUBECONFIG=str(api.kubeconfig(tmp_path / "kubeconfig")),
            K8S_WORKFLOWS="false",
            ENGINE_AUTOSCALING="min=1,max=4,target=15,cooldown=2",
            ENGINE_WORKLOAD=f"{kind.lower()}/workflow-engine",
        )
        client = site.client(orchestrator)
        await ready(client, 1)
        for name, nodes in (("short", SHORT), ("long", LONG)):
            await client.apply(workflow(name, nodes))
        with site.held():  # no effect ends before all engines are there
            started = [(await client.start("long" if number % 3 else "short")).id for number in range(EXECUTIONS)]
            await api.until(lambda: api.get(resource, "workflow-engine")["spec"]["replicas"] == 4, seconds=60)
            await api.until(lambda: kubelet.ready == 4, seconds=90)

            await ready(client, 4)

            async def all_run() -> bool:
                running = [engine.running for engine in await client.engines()]
                return len(running) == 4 and sum(running) == EXECUTIONS and min(running) > 0

            await soon(all_run)
            assert await metric(orchestrator, "dagengine_autoscaling_desired") == 4

        ended = await all_of(client, started)
        assert {view.status for view in ended} == {"succeeded"}
        await api.until(
            lambda: api.get(resource, "workflow-engine")["spec"]["replicas"] == len(api.list("pods")) == 1, seconds=90
        )
        assert kubelet.codes == [0, 0, 0]
        for execution in started:  # none was moved: each engine was empty when it was removed
            assert len({view.epoch for view in await client.facts(execution)}) == 1
        (left,) = api.list("pods")
        assert "workflow-engine/drain" not in left["metadata"]["annotations"]
        if kind == "StatefulSet":
            assert left["metadata"]["name"] == "workflow-engine-0"

        async def told() -> bool:
            return bool(await metric(orchestrator, "dagengine_autoscaling_replicas") == 1)

        await soon(told)
        assert await metric(orchestrator, "dagengine_autoscaling_changes_total", direction="up") >= 1
        assert await metric(orchestrator, "dagengine_autoscaling_draining") == 0
        await ready(client, 1)
        assert await orchestrator.end() == 0
        log = orchestrator.log.read_text()
        assert log.count('"engines_scaled"') <= 6
        assert "autoscaling_frozen" not in log
