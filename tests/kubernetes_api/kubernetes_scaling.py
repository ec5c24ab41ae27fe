"""A workload of engines in the double of the Kubernetes API, and a scaler that looks at it, in a hurry.

The scaler is told by the test what there is to run: which pod has how many executions, and what waits. The scaler's
clock goes faster than the world's, so that nobody waits for a cooldown.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kubernetes_api import KubernetesAPI
from kubernetes_workflow_objects import HastyClock

from orchestrator.dispatcher.demand import Demand, EngineLoad
from orchestrator.dispatcher.placement import ANYWHERE, Candidate, Needs
from orchestrator.errors import StoreError
from orchestrator.kubernetes.access import Kubeconfig
from orchestrator.kubernetes.client import KubernetesCluster
from orchestrator.scaling.declared import Autoscaling, Workload
from orchestrator.scaling.scaler import Scaler

DRAIN = "workflow-engine/drain"
COST = "controller.kubernetes.io/pod-deletion-cost"
COOLDOWN = 20.0
"""Seconds, of the scaler's clock."""


def workload(kind: str = "Deployment", replicas: int = 1, name: str = "workflow-engine") -> dict[str, Any]:
    """A Deployment or a StatefulSet of engines."""
    labels = {"app": "workflow-engine"}
    spec: dict[str, Any] = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "engine", "image": "dagengine-engine"}]},
        },
    }
    if kind == "StatefulSet":
        spec["serviceName"] = "workflow-engines"
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


class World:
    """What tests look at and change."""

    def __init__(self, api: KubernetesAPI, config: Path, kind: str) -> None:
        self.api = api
        self.kind = kind
        self.has: dict[str, int] = {}
        """Executions of engines, by pod; none where it is not there."""
        self.waiting: dict[Needs, int] = {}
        self.lost = 0
        """Executions of an engine that is not connected."""
        self.labels: frozenset[tuple[str, str]] = frozenset()
        self.store_is_away = False
        self.removed: list[tuple[str, int]] = []
        """Pods that were deleted, with what their engines had."""
        self.scaler: Scaler | None = None
        self._config = config
        self._task: asyncio.Task[None] | None = None
        self._cluster: KubernetesCluster | None = None
        self._ports: dict[str, int] = {}
        self.controller = api.deployments(address=lambda name: ("127.0.0.1", self.port(name)))
        api.storage.listen(self._happened)

    def port(self, pod: str) -> int:
        """Where the engine of a pod listens."""
        return self._ports.setdefault(pod, 20_000 + len(self._ports))

    def _happened(self, change: Any) -> None:
        if change.key.plural == "pods" and change.gone is not None:
            name = change.key.name
            self.removed.append((name, self.has.pop(name, 0)))

    @property
    def resource(self) -> str:
        return f"{self.kind.lower()}s.apps"

    @property
    def size(self) -> int:
        return int(self.api.get(self.resource, "workflow-engine")["spec"]["replicas"])

    def scale(self, replicas: int) -> None:
        """As people do with kubectl."""
        self.api.patch(self.resource, "workflow-engine", {"spec": {"replicas": replicas}})

    @property
    def pods(self) -> list[str]:
        return sorted(pod["metadata"]["name"] for pod in self.api.list("pods"))

    async def settled(self, size: int) -> None:
        """Wait until it has so many pods, and is to have no more and no less."""
        await self.api.until(lambda: self.size == size == len(self.pods))

    @property
    def draining(self) -> list[str]:
        """Pods that are marked by the scaler."""
        return sorted(
            pod["metadata"]["name"]
            for pod in self.api.list("pods")
            if (pod["metadata"].get("annotations") or {}).get(DRAIN) == "autoscaling"
        )

    def work(self, **has: int) -> None:
        """What pods have, by name with underscores; the others have nothing."""
        self.has = {name.replace("_", "-"): count for name, count in has.items()}

    def wait(self, count: int, needs: Needs = ANYWHERE) -> None:
        """So many executions wait."""
        self.waiting = {needs: count} if count else {}

    async def demand(self) -> Demand:
        if self.store_is_away:
            raise StoreError("the store is away")
        engines = {}
        for pod in self.api.list("pods"):
            meta = pod["metadata"]
            name = meta["name"]
            engines[name] = EngineLoad(
                engine=name,
                address=f"127.0.0.1:{self.port(name)}",
                connected=True,
                draining=bool((meta.get("annotations") or {}).get(DRAIN)),
                executions=self.has.get(name, 0),
                candidate=Candidate(
                    engine=name, capacity=10, state="ready", executors=frozenset({"lua"}), labels=self.labels
                ),
            )
        if self.lost:
            engines["lost"] = EngineLoad(engine="lost", executions=self.lost)
        return Demand(engines=engines, waiting=dict(self.waiting))

    async def lead(self, bounds: str = f"min=1,max=5,target=4,cooldown={COOLDOWN}") -> None:
        """Begin to scale, as a replica that has come to lead does."""
        self._cluster = KubernetesCluster(Kubeconfig(paths=str(self._config)))
        await self._cluster.open()
        self.scaler = Scaler(
            self._cluster,
            self.demand,
            HastyClock(),
            workload=Workload.read(f"{self.kind.lower()}/workflow-engine"),
            bounds=Autoscaling.read(bounds),
            port=50_051,
        )
        self._task = asyncio.create_task(self.scaler.run())

    async def step_down(self) -> None:
        """End, in the middle of whatever it does."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._cluster is not None:
            await self._cluster.close()
            self._cluster = None

    async def troubled(self, words: str) -> None:
        """Wait until the scaler tells of a trouble with these words."""
        async with asyncio.timeout(20):
            while self.scaler is None or words not in self.scaler.trouble:  # noqa: ASYNC110 - it tells nobody of it
                await asyncio.sleep(0.01)

    async def looked(self, times: int = 3) -> None:
        """Wait until it has looked some more times, whatever came of that."""
        match = f"get {self.kind.lower()}s/scale"
        await self.api.seen(match, len(self.api.asked(match)) + times)


@contextlib.asynccontextmanager
async def world(api: KubernetesAPI, folder: Path, kind: str = "Deployment", replicas: int = 1) -> AsyncIterator[World]:
    """A world in which nothing is scaled yet."""
    made = World(api, api.kubeconfig(folder / "kubeconfig"), kind)
    if replicas >= 0:
        api.create(workload(kind, replicas))
        await api.until(lambda: len(made.pods) == replicas)
    try:
        yield made
    finally:
        await made.step_down()
