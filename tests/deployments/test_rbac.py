"""Rules are exactly the calls that are made: each part of the product does what it can under its Role and no other.

The server enforces the Role objects of the manifests. A call that no rule allows fails the part; a rule that no call
needs fails the test. `DRIVEN` has one entry for each Role: how everything that it allows comes about.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes_api import KubernetesAPI
from manifests_rendered import DEPLOYMENTS, FLAVOURS, NAMESPACE, ROOT, Object, Renderings, environment, find, kinds

from dagengine.app import DAGEngine
from dagengine.clock import SystemClock
from orchestrator import defaults, settings
from orchestrator.app import Orchestrator
from orchestrator.cli import serving, tokens
from orchestrator.controller.controllers import Controllers
from orchestrator.discovery.endpoint_slices import EndpointSliceDiscovery
from orchestrator.discovery.pods import PodDiscovery
from orchestrator.dispatcher.demand import Demand
from orchestrator.kubernetes.access import InPod
from orchestrator.kubernetes.client import KubernetesCluster
from orchestrator.kubernetes.lease import LeaseElection
from orchestrator.scaling.declared import Autoscaling, Workload
from orchestrator.scaling.scaler import Scaler

Right = tuple[str, str, str]
"""Verb, API group, resource with its subresource."""

OURS = "workflows.dagengine.dev"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A cluster in which one Role is in force, and a client that has the rights of whom it is bound to."""

    api: KubernetesAPI
    cluster: KubernetesCluster
    objects: list[Object]


class HastyClock(SystemClock):
    """Goes forty times as fast as the world's: nobody need wait until engines have settled."""

    def now(self) -> int:
        return super().now() * 40

    async def sleep_until(self, at: int) -> None:
        while (left := at - self.now()) > 0:  # noqa: ASYNC110 - the clock is what is waited for
            await asyncio.sleep(left / 40e6)


# --- what each part does with its rights ---


async def find_pods(world: World) -> None:
    discovery = PodDiscovery(
        world.cluster, SystemClock(), labels=defaults.LABEL_SELECTOR, port=defaults.GRPC_PORT, interval=30
    )
    async with running(discovery.run()):
        await world.api.seen("watch pods")
    await discovery.close()


async def find_endpoint_slices(world: World) -> None:
    discovery = EndpointSliceDiscovery(
        world.cluster, SystemClock(), service=defaults.SERVICE_NAME, port=defaults.GRPC_PORT, interval=30
    )
    async with running(discovery.run()):
        await world.api.seen("watch endpointslices")
    await discovery.close()


async def stand_for_election(world: World) -> None:
    election = LeaseElection(
        world.cluster, "workflow-orchestrator", name="o", duration=3, clock=SystemClock(), wall=SystemClock()
    )
    async with running(election.run(lambda: None, fit=lambda: True)):
        await world.api.seen("update leases")


async def follow_objects(world: World) -> None:
    for path in sorted((DEPLOYMENTS / "crds").glob("*.yaml")):
        world.api.create_all(path)
    async with Orchestrator() as orchestrator:
        orchestrator.register_engine("engine-1", DAGEngine())
        async with running(Controllers(orchestrator, world.cluster, SystemClock()).run()):
            node = {"id": "a", "executor": {"type": "lua", "code": "return 1"}}
            about = {"namespace": NAMESPACE, "name": "w", "annotations": {f"{OURS}/version": "1.0.0"}}
            world.api.create(
                {"apiVersion": f"{OURS}/v1", "kind": "Workflow", "metadata": about, "spec": {"nodes": [node]}}
            )
            about = {"namespace": NAMESPACE, "name": "e"}
            spec = {"workflow": "w", "ttl": "0s"}
            world.api.create({"apiVersion": f"{OURS}/v1", "kind": "Execution", "metadata": about, "spec": spec})
            await world.api.seen("delete executions")
            await world.api.until(lambda: not world.api.list(f"executions.{OURS}"))


async def scale_engines(world: World) -> None:
    api = world.api
    api.create({**find(world.objects, "Deployment", "workflow-engine"), "status": {}})
    api.patch("deployments", "workflow-engine", {"spec": {"replicas": 3}}, namespace=NAMESPACE)
    api.deployments()
    await api.until(lambda: len(api.list("pods", namespace=NAMESPACE)) == 3)

    async def nothing_to_do() -> Demand:
        return Demand(engines={}, waiting={})

    bounds = Autoscaling(min=1, max=3, target=8, cooldown=0)
    scaler = Scaler(world.cluster, nothing_to_do, HastyClock(), workload=Workload(), bounds=bounds, port=50051)
    async with running(scaler.run()):
        await api.until(lambda: len(api.list("pods", namespace=NAMESPACE)) == 1)


async def make_the_token(world: World) -> None:
    assert await tokens.keep(world.cluster, "workflow-token") is True
    assert await tokens.keep(world.cluster, "workflow-token") is False
    (secret,) = world.api.list("secrets", namespace=NAMESPACE)
    assert len(base64.b64decode(secret["data"]["token"])) >= 32


DRIVEN: dict[str, tuple[str, Callable[[World], Awaitable[None]]]] = {
    "workflow-orchestrator-discovery": ("minimal", find_pods),
    "workflow-orchestrator-discovery (endpoint slices)": ("minimal-endpoint-slices", find_endpoint_slices),
    "workflow-orchestrator-objects": ("minimal", follow_objects),
    "workflow-orchestrator-election": ("ha", stand_for_election),
    "workflow-orchestrator-autoscaling": ("minimal-autoscaling", scale_engines),
    "workflow-token": ("minimal", make_the_token),
}
"""Role -> a flavour that has it, and what uses all of it."""


# --- the comparison ---


@contextlib.asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def rights(role: Object) -> set[Right]:
    """What a Role allows, one by one. Wildcards would be too much."""
    found = {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert not any("*" in part for right in found for part in right)
    return found


def bound(objects: list[Object], role: str) -> tuple[Object, str]:
    """The binding of a Role, and the one service account that it is for."""
    (binding,) = [each for each in kinds(objects, "RoleBinding") if each["roleRef"]["name"] == role]
    (subject,) = binding["subjects"]
    return binding, subject["name"]


@pytest.mark.parametrize("name", sorted(DRIVEN))
async def test_a_role_allows_what_is_asked_for_and_no_more(
    name: str, api: KubernetesAPI, renderings: Renderings
) -> None:
    flavour, drive = DRIVEN[name]
    objects = renderings.kustomize(flavour)
    role = find(objects, "Role", name.partition(" (")[0])
    binding, account = bound(objects, role["metadata"]["name"])
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    api.authorize([role, binding])
    access = InPod(directory=api.service_account(account, NAMESPACE), environment=api.in_cluster)
    cluster = KubernetesCluster(access)
    await cluster.open()
    try:
        await drive(World(api=api, cluster=cluster, objects=objects))
    finally:
        await cluster.close()
    refused = {(call.verb, call.resource) for call in api.requests if call.status == 403}
    assert refused == set()
    assert asked(api) == rights(role)
    assert {where for *_, where in api.calls} == {NAMESPACE}


def test_every_role_of_every_flavour_is_compared(renderings: Renderings) -> None:
    compared = {
        frozenset(rights(find(renderings.kustomize(flavour), "Role", name.partition(" (")[0])))
        for name, (flavour, _) in DRIVEN.items()
    }
    for flavour in FLAVOURS:
        for role in kinds(renderings.kustomize(flavour), "Role"):
            assert frozenset(rights(role)) in compared, f"{flavour}: nobody has tried {role['metadata']['name']}"


@pytest.mark.parametrize("flavour", [name for name in sorted(FLAVOURS) if "monitoring" not in name])
async def test_an_orchestrator_as_it_is_deployed_is_refused_nothing(
    flavour: str, api: KubernetesAPI, renderings: Renderings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the settings of its pod, under its Roles, all put together by the product itself."""
    objects = renderings.kustomize(flavour)
    for path in sorted((DEPLOYMENTS / "crds").glob("*.yaml")):
        api.create_all(path)
    for item in objects:
        if item["kind"] in {"Namespace", "Deployment"}:
            api.create(item)
    api.authorize(each for each in objects if each["kind"] in {"Role", "RoleBinding"})
    pod = find(objects, "Deployment", "workflow-orchestrator")["spec"]["template"]
    secrets = {("workflow-database", "url"): "postgresql://nobody@127.0.0.1:1/nothing"}
    for name, value in environment(pod, pod["spec"]["containers"][0], secrets).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "token").write_text("0123456789abcdef0123456789abcdef")
    monkeypatch.setenv("DAGENGINE_TOKEN_FILE", str(tmp_path / "token"))
    account = pod["spec"]["serviceAccountName"]
    access = InPod(directory=api.service_account(account, NAMESPACE), environment=api.in_cluster)
    found = serving.orchestrator(settings.load()).options
    assert found.kubernetes is not None
    chosen = replace(found, kubernetes=replace(found.kubernetes, access=access))
    roles = [role for role in kinds(objects, "Role") if bound(objects, role["metadata"]["name"])[1] == account]

    def silent() -> list[str]:
        return [role["metadata"]["name"] for role in roles if not asked(api) & rights(role)]

    async with Orchestrator("sqlite://", options=chosen):
        with contextlib.suppress(TimeoutError):
            await api.until(lambda: not silent())
        assert silent() == [], "these Roles are given, and the orchestrator makes no use of them"
    assert {(call.verb, call.resource) for call in api.requests if call.status == 403} == set()
    assert asked(api) <= {right for role in roles for right in rights(role)}


def asked(api: KubernetesAPI) -> set[Right]:
    return {(verb, group, resource) for _, verb, group, resource, _ in api.calls}


def test_the_page_about_the_cluster_tells_all_rights(renderings: Renderings) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text().partition("\n## Rights\n")[2].partition("\n## ")[0]
    told: set[Right] = set()
    group = ""
    for line in page.splitlines():
        cells = [re.findall(r"`([^`]*)`", cell) for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[3]:
            group = (cells[1] or [group])[0].strip('"')
            told |= {(verb, group, resource) for verb in cells[3] for resource in cells[2] if resource.islower()}
    given = {
        right
        for flavour in FLAVOURS
        for role in kinds(renderings.kustomize(flavour), "Role")
        for right in rights(role)
        if role["metadata"]["name"] != "workflow-token"
    }
    of_stateful_sets = {(verb, "apps", "statefulsets/scale") for verb in ("get", "patch")}
    assert told == given | of_stateful_sets


def test_nothing_is_allowed_in_the_whole_cluster(objects: list[Object]) -> None:
    assert kinds(objects, "ClusterRole") == kinds(objects, "ClusterRoleBinding") == []


def test_nobody_may_read_secrets_or_make_pods(objects: list[Object]) -> None:
    allowed = {right for role in kinds(objects, "Role") for right in rights(role)}
    assert {verb for verb, _, resource in allowed if resource == "secrets"} == {"create"}
    assert {verb for verb, _, resource in allowed if resource == "pods"} <= {"list", "watch", "patch"}


def test_the_token_is_left_as_it_is_and_is_not_printed(
    tmp_path: Path, renderings: Renderings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command of the Job, with a kubeconfig in place of a service account."""

    async def serve() -> list[Object]:
        async with KubernetesAPI() as api:
            config = api.kubeconfig(tmp_path / "config", "somebody", namespace=NAMESPACE)
            monkeypatch.setenv("KUBECONFIG", str(config))
            monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
            api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
            for _ in range(2):
                await asyncio.to_thread(tokens.token, secret="workflow-token", namespace=None)
            return api.list("secrets", namespace=NAMESPACE)

    (secret,) = asyncio.run(serve())
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "secret/workflow-token in the namespace workflows: there is a new token in it, under the key 'token'",
        "secret/workflow-token in the namespace workflows: it is there already, and stays as it is",
    ]
    assert base64.b64decode(secret["data"]["token"]).decode() not in "".join(told)
