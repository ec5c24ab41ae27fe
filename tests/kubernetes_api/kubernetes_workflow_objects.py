"""An orchestrator with the controllers of workflow objects, over the double of the Kubernetes API, in a hurry.

The controllers' clock goes faster than the world's, so that what they do every second, or after ten, a test need not
wait for. Everything else is as it is: the store, the engine, the client, HTTP in between.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from kubernetes_api import KubernetesAPI, Refusal

from dagengine.app import DAGEngine
from dagengine.clock import SystemClock
from orchestrator.app import Orchestrator
from orchestrator.controller.controllers import Controllers
from orchestrator.kubernetes.access import Kubeconfig
from orchestrator.kubernetes.client import KubernetesCluster

ROOT = Path(__file__).parents[2]
DEFINITIONS = sorted((ROOT / "deployments" / "crds").glob("*.yaml"))
SPEED = 40


class HastyClock(SystemClock):
    """Goes `SPEED` times as fast as the world's, from now on."""

    def __init__(self) -> None:
        super().__init__()
        self._start = super().now()

    def now(self) -> int:
        return self._start + (super().now() - self._start) * SPEED

    async def sleep_until(self, at: int) -> None:
        while (left := at - self.now()) > 0:  # noqa: ASYNC110 - the clock is what is waited for
            await asyncio.sleep(left / 1e6 / SPEED)


class World:
    """What tests of workflow objects look at."""

    def __init__(self, api: KubernetesAPI, orchestrator: Orchestrator, config: Path) -> None:
        self.api = api
        self.orchestrator = orchestrator
        self._config = config
        self._controllers: Controllers | None = None
        self._task: asyncio.Task[None] | None = None
        self.cluster: KubernetesCluster | None = None

    def install(self) -> None:
        """Create the definitions of both kinds."""
        for path in DEFINITIONS:
            self.api.create_all(path)

    async def lead(self) -> HastyClock:
        """Begin to run the controllers, as a replica that has come to lead does; their clock."""
        self.cluster = KubernetesCluster(Kubeconfig(paths=str(self._config)))
        await self.cluster.open()
        clock = HastyClock()
        self._controllers = Controllers(self.orchestrator, self.cluster, clock)
        self._task = asyncio.create_task(self._controllers.run())
        return clock

    @property
    def trouble(self) -> str:
        """Why the controllers may not know how things are."""
        return self._controllers.trouble if self._controllers is not None else ""

    async def off(self) -> None:
        """Wait until the controllers have found that the kinds are not installed."""
        await self._comes(lambda: self._controllers is not None and self._controllers.off)

    async def troubled(self) -> None:
        """Wait until the controllers have something to complain of."""
        await self._comes(lambda: self.trouble != "")

    async def _comes(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)

    async def step_down(self) -> None:
        """End them, in the middle of whatever they do."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self.cluster is not None:
            await self.cluster.close()
            self.cluster = None

    def workflow(self, name: str) -> dict[str, Any]:
        """The status of a Workflow object, with its conditions by type; empty while there is none."""
        return self._status("workflows", name)

    def execution(self, name: str) -> dict[str, Any]:
        """The status of an Execution object, with its conditions by type; empty while there is none."""
        return self._status("executions", name)

    def _status(self, plural: str, name: str) -> dict[str, Any]:
        status = dict(self.api.get(f"{plural}.workflows.dagengine.dev", name).get("status") or {})
        status |= {each["type"]: each for each in status.pop("conditions", ())}
        return status

    def has(self, plural: str, name: str) -> bool:
        """Whether there is such an object."""
        try:
            self.api.get(f"{plural}.workflows.dagengine.dev", name)
        except Refusal:
            return False
        return True

    async def until(self, holds: Callable[[], Any]) -> Any:
        """Wait until something of the objects holds."""
        return await self.api.until(holds, seconds=30)

    async def finished(self, name: str) -> dict[str, Any]:
        """The status of an Execution object once it tells the end."""
        await self.until(lambda: self.execution(name).get("Finished", {}).get("status") == "True")
        return self.execution(name)

    async def registered(self, name: str, version: str = "1.0.0") -> dict[str, Any]:
        """The status of a Workflow object once a version of it is registered."""
        await self.until(lambda: self.workflow(name).get("version") == version)
        return self.workflow(name)


@contextlib.asynccontextmanager
async def world(folder: Path, *, installed: bool = True, engine: bool = True) -> AsyncIterator[World]:
    """A world in which the controllers do not run yet."""
    async with KubernetesAPI() as api, Orchestrator() as orchestrator:
        if engine:
            orchestrator.register_engine("engine-1", DAGEngine())
        made = World(api, orchestrator, api.kubeconfig(folder / "kubeconfig"))
        if installed:
            made.install()
        try:
            yield made
        finally:
            await made.step_down()


def workflow(
    name: str, version: str = "1.0.0", *, code: str = "return {greeting = 'hello'}", **spec: Any
) -> dict[str, Any]:
    """A Workflow object of one node, `greet`."""
    return {
        "apiVersion": "workflows.dagengine.dev/v1",
        "kind": "Workflow",
        "metadata": {"name": name, "annotations": {"workflows.dagengine.dev/version": version}},
        "spec": {"nodes": [{"id": "greet", "executor": {"type": "lua", "code": code}}], **spec},
    }


def waiting_workflow(name: str) -> dict[str, Any]:
    """A Workflow object whose executions wait for the signal `go`, after one node and before another."""
    made = workflow(name)
    made["spec"]["nodes"] += [
        {"id": "hold", "dependencies": ["greet"], "executor": {"type": "wait", "signal": {"name": "go"}}},
        {"id": "end", "dependencies": ["hold"], "executor": {"type": "lua", "code": "return nodes.hold"}},
    ]
    return made


def execution(name: str, of: str, inputs: Mapping[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """An Execution object."""
    return {
        "apiVersion": "workflows.dagengine.dev/v1",
        "kind": "Execution",
        "metadata": {"name": name},
        "spec": {"workflow": of, **({"inputs": dict(inputs)} if inputs is not None else {}), **spec},
    }
