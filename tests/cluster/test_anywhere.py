"""What the product asks of a cluster, on any: the double, or a real one (`E2E_KUBERNETES=1`). All through `cluster`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import minimal_system
import pytest
from kubernetes_clusters import Surroundings
from lease_candidates import DURATION, NAME, Candidate

from dagengine.clock import SystemClock
from orchestrator.discovery import pods
from orchestrator.discovery.base import Address
from orchestrator.discovery.endpoint_slices import EndpointSliceDiscovery
from orchestrator.discovery.in_cluster import ClusterDiscovery
from orchestrator.dispatcher.demand import Demand, EngineLoad
from orchestrator.dispatcher.placement import ANYWHERE
from orchestrator.dispatcher.placement import Candidate as Placeable
from orchestrator.errors import ClusterConflict, ClusterNotFound
from orchestrator.kubernetes.access import Kubeconfig
from orchestrator.kubernetes.base import DEPLOYMENTS, Object
from orchestrator.kubernetes.client import KubernetesCluster
from orchestrator.scaling.declared import Autoscaling, Workload
from orchestrator.scaling.scaler import COST, Scaler

pytestmark = pytest.mark.e2e

PORT = 50_051
ENGINES = "workflow-engine"

Run = Callable[..., Awaitable[str]]
Connect = Callable[[], Awaitable[KubernetesCluster]]


@pytest.fixture
async def connect(cluster: Surroundings) -> AsyncIterator[Connect]:
    """`await connect()`: the product's own client, in the namespace of the test."""
    async with AsyncExitStack() as stack:

        async def make() -> KubernetesCluster:
            access = Kubeconfig(paths=str(cluster.kubeconfig), context=cluster.context)
            made = KubernetesCluster(access, namespace=cluster.namespace)
            await made.open()
            stack.push_async_callback(made.close)
            return made

        yield make


@contextlib.asynccontextmanager
async def ended(work: asyncio.Task[None]) -> AsyncIterator[None]:
    """With a task in the background, which must not have failed by itself."""
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


# --- leader election ---


async def test_one_leads_and_when_it_lets_go_the_other_one_does(
    cluster: Surroundings, connect: Connect, run: Run
) -> None:
    one, two = Candidate("one", await connect()), Candidate("two", await connect())
    try:
        await one.asleep()
        await two.asleep()
        first, second = (one, two) if one.election.term is not None else (two, one)
        assert (first.terms, second.terms, second.election.trouble) == ([1], [], "")
        await first.turn()
        await second.turn()
        assert (first.election.term, second.election.term) == (1, None)
        shown = (await run("get", "lease", NAME, "--no-headers")).split()
        assert shown[:2] == [NAME, first.election.identity]
        spec = (await cluster.get("leases", NAME))["spec"]
        assert (spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (DURATION, 1)
        await first.stop()
        await first.election.release()
        assert not (await cluster.get("leases", NAME))["spec"].get("holderIdentity")
        await second.passes(DURATION)
        assert second.terms == [2]
        spec = (await cluster.get("leases", NAME))["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == (second.election.identity, 2)
    finally:
        await one.stop()
        await two.stop()


# --- discovery ---


class Found:
    """The engines that a discovery names, waited for."""

    def __init__(self, discovery: ClusterDiscovery, levels: AsyncIterator[frozenset[Address]]) -> None:
        self.discovery = discovery
        self._levels = levels

    async def until(self, holds: Callable[[dict[str, Address]], Any]) -> dict[str, Address]:
        """The engines by the UIDs of their pods, once something holds of them."""
        last: dict[str, Address] = {}
        try:
            async with asyncio.timeout(120):
                async for level in self._levels:
                    last = {address.uid: address for address in level}
                    if holds(last):
                        return last
        except TimeoutError:
            pytest.fail(f"it is not so that is waited for; at last: {last}, {self.discovery.trouble}")
        pytest.fail("the discovery has ended")


@contextlib.asynccontextmanager
async def follow(discovery: ClusterDiscovery) -> AsyncIterator[Found]:
    """Run a discovery, and watch what it names."""
    async with ended(asyncio.create_task(discovery.run())):
        async with aclosing(discovery.watch()) as levels:  # type: ignore[type-var]  # it is a generator
            yield Found(discovery, levels)
        await discovery.close()


def address(pod: Object, port: int, **more: Any) -> Address:
    return Address("grpc", f"{pod['status']['podIP']}:{port}", uid=pod["metadata"]["uid"], **more)


async def test_engines_are_pods_that_come_change_and_go(cluster: Surroundings, connect: Connect) -> None:
    labels = "app=workflow-engine"
    found = pods.PodDiscovery(await connect(), SystemClock(), labels=labels, port=PORT, interval=3_600)
    async with follow(found) as engines:
        assert await engines.until(lambda found: not found) == {}
        marks = {pods.PORT: str(PORT + 1), pods.CAPACITY: "3"}
        one = await cluster.run_pod("engine-1", annotations=marks)
        await cluster.run_pod("other", labels={"app": "other"})
        two = await cluster.run_pod("engine-2", ip="127.0.0.2")
        uids = (one["metadata"]["uid"], two["metadata"]["uid"])
        assert await engines.until(lambda found: len(found) == 2) == {
            uids[0]: address(one, PORT + 1, capacity=3),
            uids[1]: address(two, PORT),
        }
        await cluster.patch("pods", "engine-2", {"metadata": {"annotations": {pods.DRAIN: "maintenance"}}})
        level = await engines.until(lambda found: found[uids[1]].draining)
        assert level[uids[1]] == address(two, PORT, draining=True)
        await cluster.patch("pods", "engine-2", {"metadata": {"annotations": {pods.DRAIN: None, pods.CAPACITY: "7"}}})
        level = await engines.until(lambda found: found[uids[1]].capacity == 7)
        assert level[uids[1]] == address(two, PORT, capacity=7)
        await cluster.end_pod("engine-1")
        assert set(await engines.until(lambda found: len(found) == 1)) == {uids[1]}
        await cluster.run_pod("engine-1")
        level = await engines.until(lambda found: len(found) == 2)
        assert uids[0] not in level, "a pod of the same name is another engine"
        assert engines.discovery.trouble == ""


def endpoints(**ready: bool) -> Object:
    """A slice of a Service without a selector: those are written by whoever has the engines, on any cluster."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "engines-1", "labels": {"kubernetes.io/service-name": "workflow-engines"}},
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": PORT, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [f"192.0.2.{number}"],
                "conditions": {"ready": is_ready, "serving": is_ready, "terminating": False},
                "targetRef": {"kind": "Pod", "name": name, "uid": f"uid-{name}"},
            }
            for number, (name, is_ready) in enumerate(ready.items(), start=1)
        ],
    }


async def test_engines_are_endpoints_of_a_service(cluster: Surroundings, connect: Connect) -> None:
    await cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "workflow-engines"},
            "spec": {"clusterIP": "None", "ports": [{"name": "grpc", "port": PORT}]},
        }
    )
    await cluster.create(endpoints(one=True, two=False))
    found = EndpointSliceDiscovery(
        await connect(), SystemClock(), service="workflow-engines", port=PORT, interval=3_600
    )
    async with follow(found) as engines:
        level = await engines.until(lambda found: found)
        assert level == {"uid-one": Address("grpc", f"192.0.2.1:{PORT}", uid="uid-one")}
        await cluster.patch("endpointslices", "engines-1", {"endpoints": endpoints(one=True, two=True)["endpoints"]})
        assert set(await engines.until(lambda found: len(found) == 2)) == {"uid-one", "uid-two"}
        await cluster.patch("endpointslices", "engines-1", {"endpoints": endpoints(one=False, two=True)["endpoints"]})
        assert set(await engines.until(lambda found: len(found) == 1)) == {"uid-two"}
        await cluster.delete("endpointslices", "engines-1")
        await engines.until(lambda found: not found)


# --- scaling ---


class Work:
    """What there is to run, as the test says."""

    def __init__(self, cluster: Surroundings) -> None:
        self._cluster = cluster
        self.has: dict[str, int] = {}
        """Executions of engines, by pod; none where it is not there."""
        self.waiting = 0

    async def pods(self) -> dict[str, Object]:
        """The pods of engines that are not about to go, by name."""
        found = await self._cluster.list("pods", labels="app=workflow-engine")
        return {pod["metadata"]["name"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]}

    async def marks(self) -> dict[str, tuple[str, str]]:
        """What the scaler has written on pods: that they are drained, and what they cost."""
        told = {name: pod["metadata"].get("annotations") or {} for name, pod in (await self.pods()).items()}
        return {name: (said[pods.DRAIN], said.get(COST, "")) for name, said in told.items() if pods.DRAIN in said}

    async def size(self) -> int:
        """How many pods the Deployment is to have."""
        return int((await self._cluster.get("deployments.apps", ENGINES, subresource="scale"))["spec"]["replicas"])

    async def demand(self) -> Demand:
        marked = await self.marks()
        return Demand(
            engines={
                name: EngineLoad(
                    engine=name,
                    address=pods.target(pod, port=PORT),
                    connected=True,
                    draining=name in marked,
                    executions=self.has.get(name, 0),
                    candidate=Placeable(engine=name, capacity=10, state="ready", executors=frozenset({"lua"})),
                )
                for name, pod in (await self.pods()).items()
            },
            waiting={ANYWHERE: self.waiting} if self.waiting else {},
        )


async def test_a_deployment_grows_with_its_work_and_shrinks_by_engines_that_are_empty(
    cluster: Surroundings, connect: Connect
) -> None:
    await cluster.run_deployment(ENGINES, replicas=1)
    work = Work(cluster)
    work.waiting = 9
    bounds = Autoscaling(min=1, max=3, target=4, cooldown=5)
    scaler = Scaler(
        await connect(),
        work.demand,
        cluster.clock,
        workload=Workload.read(f"deployment/{ENGINES}"),
        bounds=bounds,
        port=PORT,
    )

    async def ready() -> bool:
        status = (await cluster.get("deployments.apps", ENGINES)).get("status") or {}
        return status.get("readyReplicas") == len(await work.pods()) == 3

    async with ended(asyncio.create_task(scaler.run())):
        await cluster.until(ready, seconds=300)
        first, *others = sorted(await work.pods())
        work.has = {first: 3} | dict.fromkeys(others, 1)
        work.waiting = 0
        (drained,) = (await cluster.until(work.marks)).items()
        assert drained in [(name, ("autoscaling", "-1000")) for name in others]
        assert await work.size() == 3, "nobody goes who has something to do"
        work.has = {first: 3}

        async def one_is_left() -> bool:
            return set(await work.pods()) == {first}

        await cluster.until(one_is_left, seconds=300)
        assert (await work.size(), await work.marks(), scaler.trouble) == (1, {}, "")


async def test_whoever_would_scale_what_has_changed_meanwhile_is_refused(
    cluster: Surroundings, connect: Connect, run: Run
) -> None:
    await cluster.run_deployment(ENGINES, replicas=0)
    client = await connect()
    seen = await client.get(DEPLOYMENTS, ENGINES, subresource="scale")
    assert (await run("scale", f"deployment/{ENGINES}", "--replicas=1")).endswith(" scaled\n")
    body = {"metadata": {"resourceVersion": seen["metadata"]["resourceVersion"]}, "spec": {"replicas": 3}}
    with pytest.raises(ClusterConflict):
        await client.patch(DEPLOYMENTS, ENGINES, body, subresource="scale")
    scale = await client.patch(DEPLOYMENTS, ENGINES, {"spec": {"replicas": 0}}, subresource="scale")
    assert (scale["kind"], scale["spec"]["replicas"]) == ("Scale", 0)
    assert (await cluster.get("deployments.apps", ENGINES))["spec"]["replicas"] == 0
    with pytest.raises(ClusterNotFound):
        await client.get(DEPLOYMENTS, "another", subresource="scale")


# --- a whole system, as far as no container has to run: test_a_whole_system.py goes on from there ---


async def test_the_minimal_overlay_is_taken_whole_and_twice(cluster: Surroundings, run: Run, tmp_path: Path) -> None:
    images = {"engine": "registry.example.org:5000/engine:1", "orchestrator": "registry.example.org/orchestrator"}
    folder = str(minimal_system.kustomization(tmp_path, cluster.namespace, **images))
    await run("apply", "-k", folder)
    told = {}
    for name in ("workflow-engine", "workflow-orchestrator"):
        spec = (await cluster.get("deployments.apps", name))["spec"]["template"]["spec"]
        told[name] = [container["image"] for container in spec["containers"]]
    assert told == {
        "workflow-engine": ["registry.example.org:5000/engine:1"],
        "workflow-orchestrator": ["registry.example.org/orchestrator:latest"],
    }
    again = (await run("apply", "-k", folder)).splitlines()
    assert [line for line in again if not line.endswith(" unchanged")] == []
    (label,) = (await run("get", "namespace", cluster.namespace, "-o", "jsonpath={.metadata.labels}")).splitlines()
    assert '"pod-security.kubernetes.io/enforce":"restricted"' in label


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("engine", {"newName": "engine", "newTag": "latest"}),
        ("r:5000/a/engine", {"newName": "r:5000/a/engine", "newTag": "latest"}),
        ("r:5000/a/engine:1", {"newName": "r:5000/a/engine", "newTag": "1"}),
        ("r/engine:1@sha256:ab", {"newName": "r/engine", "digest": "sha256:ab"}),
    ],
)
def test_an_image_is_named_as_kustomize_wants_it(reference: str, said: dict[str, str]) -> None:
    assert minimal_system.image("dagengine-engine", reference) == {"name": "dagengine-engine", **said}
