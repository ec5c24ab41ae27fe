"""Engines come and go as pods of a cluster, and an orchestrator follows. Engines and sessions are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import kubernetes_pods as pods
import pytest
import structlog
from grpc_health.v1 import health_pb2
from kubernetes_api import KubernetesAPI

from dagengine import DAGEngine, Workflow
from dagengine.server.host import Host
from dagengine.server.service import EngineServer
from dagengine.wire import limits
from orchestrator import Options, Orchestrator
from orchestrator.kubernetes.access import InPod
from orchestrator.options import Kubernetes
from orchestrator.verbs import EngineView

AN_HOUR = 3_600.0
DRAIN = "workflow-engine/drain"


class Log:
    """What was logged, and a way to wait for what comes with it."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._more = asyncio.Event()

    def __call__(self, logger: Any, method: str, entry: dict[str, Any]) -> Any:
        self.entries.append(dict(entry))
        self._more.set()
        raise structlog.DropEvent

    def said(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["event"] == event]

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    before = structlog.get_config() if structlog.is_configured() else None
    structlog.configure(processors=[log])
    yield log
    structlog.reset_defaults()
    if before is not None:
        structlog.configure(**before)


class Site:
    """An orchestrator in a pod of a cluster, and engines in others."""

    def __init__(self, api: KubernetesAPI, log: Log) -> None:
        self.api = api
        self.log = log
        self.engines: dict[str, EngineServer] = {}
        self.orchestrator: Orchestrator
        self.begun = asyncio.Event()
        self.opened = asyncio.Event()

    async def work(self) -> int:
        """What executions that are held do."""
        self.begun.set()
        await self.opened.wait()
        return 1

    async def hold(self) -> asyncio.Task[Any]:
        """An execution that has begun, and ends once `opened` is set."""
        node = {"id": "n", "executor": {"type": "python", "function": "work"}}
        await self.orchestrator.apply({"metadata": {"id": "held", "version": "1.0.0"}, "spec": {"nodes": [node]}})
        held = asyncio.create_task(self.orchestrator.execute_workflow("held"))
        async with asyncio.timeout(20):
            await self.begun.wait()
        return held

    async def engine(self, name: str, *, capacity: int = 10) -> int:
        """The port of an engine that is there, whether a pod tells of it or not."""
        host = Host(DAGEngine(functions={"work": self.work}), engine_id=name, version="1", capacity=capacity)
        server = self.engines[name] = EngineServer(host)
        await server.start()
        return int(server.address.rpartition(":")[2])

    async def pod(self, name: str, **how: Any) -> None:
        self.api.run_pod(name, port=await self.engine(name), **how)

    def views(self) -> dict[str, EngineView]:
        return {view.id: view for view in self.orchestrator._dispatcher.engines()}

    def states(self) -> dict[str, str]:
        return {name: view.state for name, view in self.views().items()}

    async def until(self, **states: str) -> None:
        """Until there are exactly these engines, in these states."""
        try:
            await self.log.until(lambda: self.states() == states)
        except TimeoutError:
            pytest.fail(f"{self.states()} instead of {states}; the log: {self.log.entries}")


@asynccontextmanager
async def running(site: Site, **options: Any) -> AsyncIterator[Orchestrator]:
    access = InPod(directory=site.api.service_account("orchestrator"), environment=site.api.in_cluster)
    kubernetes = Kubernetes(access=access, workflows=False, **options.pop("kubernetes", {}))
    options = {"discovery_interval": AN_HOUR, "health_check_interval": 0} | options
    async with Orchestrator(options=Options(kubernetes=kubernetes, **options)) as site.orchestrator:
        yield site.orchestrator


@pytest.fixture
async def site(api: KubernetesAPI, log: Log) -> AsyncIterator[Site]:
    site = Site(api, log)
    yield site
    for server in site.engines.values():
        await server.stop()


async def test_engines_follow_the_readiness_of_their_pods(site: Site) -> None:
    await site.pod("one")
    await site.pod("two", ready=False)
    async with running(site) as orch:
        await site.until(one="ready")
        pods.set_pod(site.api, "two", ready=True)
        await site.until(one="ready", two="ready")
        pods.set_pod(site.api, "one", ready=False)
        await site.until(two="ready")
        site.api.delete("pods", "two")
        await site.log.until(lambda: site.views() == {})
        assert "no engine is connected and ready" in orch.readiness()
        assert len(site.api.asked("list pods")) == 1, "all of that was heard of, not looked for"


async def test_an_execution_runs_on_an_engine_that_was_found(site: Site) -> None:
    await site.pod("one")
    async with running(site) as orch:
        workflow = Workflow("answer", "1.0.0", outputs={"n": "{{ nodes.n }}"})
        workflow.lua("n", "return 42")
        await orch.register_workflow("answer", "1.0.0", workflow)
        assert await orch.execute_workflow("answer") == {"n": 42}


async def test_a_pod_of_the_same_name_and_address_is_another_engine(site: Site) -> None:
    port = await site.engine("one")
    first = site.api.run_pod("one", port=port)
    async with running(site):
        await site.until(one="ready")
        held = site.api.faults
        held.stall_watches()
        site.api.delete("pods", "one", grace=0)
        second = site.api.run_pod("one", port=port)
        assert first["metadata"]["uid"] != second["metadata"]["uid"]
        held.cut_watches()  # so both changes are seen as one
        held.resume_watches()
        await site.log.until(lambda: len(site.log.said("engine_connected")) == 2)
        (gone,) = site.log.said("engine_disconnected")
        assert gone["reason"] == "it is not among the known engines any more"
        assert site.states() == {"one": "ready"}


async def test_an_execution_in_a_pod_that_is_not_ready_any_more_ends_there(site: Site) -> None:
    await site.pod("one")
    async with running(site):
        await site.until(one="ready")
        held = await site.hold()
        pods.set_pod(site.api, "one", ready=False)
        await site.until(one="draining")
        await site.pod("two")
        await site.until(one="draining", two="ready")
        site.opened.set()
        assert await held == {"n": 1}
        await site.until(two="ready")
        assert [entry["engine"] for entry in site.log.said("engine_connected")] == ["one", "two"]


async def test_readiness_that_flaps_breaks_no_session_under_an_execution(site: Site) -> None:
    await site.pod("one")
    async with running(site):
        await site.until(one="ready")
        held = await site.hold()
        for _ in range(10):
            pods.set_pod(site.api, "one", ready=False)
            await site.until(one="draining")
            pods.set_pod(site.api, "one", ready=True)
            await site.until(one="ready")
        site.opened.set()
        assert await held == {"n": 1}
        assert len(site.log.said("engine_connected")) == 1
        assert site.log.said("engine_disconnected") == []


async def test_capacity_and_drain_reach_placement_without_breaking_the_session(site: Site) -> None:
    await site.pod("one", capacity=3)
    async with running(site):
        await site.until(one="ready")
        await site.log.until(lambda: site.views()["one"].capacity == 3)
        site.api.patch("pods", "one", {"metadata": {"annotations": {"workflow-engine/capacity": "5"}}})
        await site.log.until(lambda: site.views()["one"].capacity == 5)
        site.api.patch("pods", "one", {"metadata": {"annotations": {"workflow-engine/capacity": "50"}}})
        await site.log.until(lambda: site.views()["one"].capacity == 10)  # it says itself that it takes no more
        site.api.patch("pods", "one", {"metadata": {"annotations": {DRAIN: "maintenance"}}})
        await site.until(one="draining")
        assert site.views()["one"].reason == "its pod is marked workflow-engine/drain"
        site.api.patch("pods", "one", {"metadata": {"annotations": {DRAIN: None}}})
        await site.until(one="ready")
        assert len(site.log.said("engine_connected")) == 1
        assert site.log.said("engine_disconnected") == []


async def test_a_drain_mark_that_was_there_before_the_engine_holds_as_well(site: Site) -> None:
    await site.pod("one", annotations={DRAIN: "autoscaling"})
    async with running(site):
        await site.until(one="draining")


async def test_a_wrong_annotation_is_warned_of_once(site: Site) -> None:
    await site.pod("one", annotations={"workflow-engine/capacity": "lots"})
    async with running(site):
        await site.until(one="ready")
        assert site.views()["one"].capacity == 10
        site.api.patch("pods", "one", {"metadata": {"annotations": {"else": "changed"}}})
        await site.pod("two")
        await site.until(one="ready", two="ready")
        (warning,) = site.log.said("engine_described_wrongly")
        assert "workflow-engine/capacity of pod 'one'" in warning["problem"]


async def test_an_outage_of_the_api_freezes_what_is_known_and_says_so(site: Site) -> None:
    await site.pod("one")
    async with running(site) as orch:
        await site.until(one="ready")
        site.api.faults.down()
        await site.log.until(lambda: site.log.said("discovery_frozen"))
        assert site.states() == {"one": "ready"}
        (warning,) = orch.warnings()
        assert warning.startswith("pods discovery: the engines are those that were known before: cannot list pods")
        assert orch.readiness() == []
        assert b'dagengine_discovery_frozen{source="pods"} 1.0' in orch.monitor.metrics()
        await site.pod("two")
        site.api.faults.up()
        await site.until(one="ready", two="ready")
        assert orch.warnings() == []
        assert b'dagengine_discovery_frozen{source="pods"} 0.0' in orch.monitor.metrics()
        assert len(site.log.said("discovery_frozen")) == len(site.log.said("discovery_goes_on")) == 1


async def test_an_orchestrator_that_starts_during_an_outage_finds_engines_after_it(site: Site) -> None:
    await site.pod("one")
    site.api.faults.down()
    async with running(site) as orch:
        await site.log.until(lambda: site.log.said("discovery_frozen"))
        assert orch.warnings() != []
        site.api.faults.up()
        await site.until(one="ready")


async def test_engines_follow_endpoint_slices(site: Site) -> None:
    def endpoints(**ready: bool) -> dict[str, Any]:
        made = [
            {
                "addresses": ["127.0.0.1"],
                "conditions": {"ready": is_ready, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "name": name, "namespace": "default", "uid": f"uid-{name}"},
            }
            for name, is_ready in ready.items()
        ]
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "engines-1", "labels": {"kubernetes.io/service-name": "workflow-engines"}},
            "addressType": "IPv4",
            "ports": [{"name": "grpc", "port": port, "protocol": "TCP"}],
            "endpoints": made,
        }

    port = await site.engine("one")
    site.api.create(endpoints(one=False))
    async with running(site, kubernetes={"discovery": "endpointslices"}):
        await site.api.seen("watch endpointslices")
        site.api.replace(endpoints(one=True))
        await site.until(one="ready")
        site.api.delete("endpointslices", "engines-1")
        await site.log.until(lambda: site.views() == {})
    asked = {(verb, group, resource) for _, verb, group, resource, _ in site.api.calls}
    assert asked == {("list", "discovery.k8s.io", "endpointslices"), ("watch", "discovery.k8s.io", "endpointslices")}


async def test_without_the_right_to_list_pods_the_warning_names_it(site: Site) -> None:
    site.api.faults.forbid("pods")
    async with running(site) as orch:
        await site.log.until(lambda: site.log.said("discovery_frozen"))
        assert "give our role the verb 'list' on resource 'pods'" in orch.warnings()[0]


async def test_an_engine_that_says_it_does_not_serve_is_passed_over_until_it_does(site: Site) -> None:
    await site.pod("one")
    async with running(site, health_check_interval=0.05) as orch:
        await site.until(one="ready")
        await site.engines["one"].unready()
        await site.until(one="unhealthy")
        assert site.views()["one"].reason == "its health check fails: it says NOT_SERVING"
        assert "no engine is connected and ready" in orch.readiness()
        assert b'dagengine_engines{state="unhealthy"} 1.0' in orch.monitor.metrics()
        await site.engines["one"]._health.set(limits.SERVICE, health_pb2.HealthCheckResponse.SERVING)
        await site.until(one="ready")
        assert site.log.said("engine_disconnected") == [], "the session is another matter"
