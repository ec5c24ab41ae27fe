"""Workflow objects on any cluster: the double, or a real one (`E2E_KUBERNETES=1`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubernetes.aio.client import ApiException
from kubernetes_clusters import Surroundings
from kubernetes_workflow_objects import execution, waiting_workflow, workflow

from dagengine.app import DAGEngine
from orchestrator.app import Options, Orchestrator
from orchestrator.controller import conditions
from orchestrator.errors import NotFound
from orchestrator.kubernetes.access import Kubeconfig
from orchestrator.options import Kubernetes

GROUP = "workflows.dagengine.dev"


@pytest.fixture
async def orchestrator(cluster: Surroundings, definitions: None) -> AsyncIterator[Orchestrator]:
    access = Kubeconfig(paths=str(cluster.kubeconfig), context=cluster.context)
    around = Kubernetes(access=access, namespace=cluster.namespace, discovery=None)
    async with Orchestrator(options=Options(kubernetes=around)) as made:
        made.register_engine("engine-1", DAGEngine())
        yield made


class Watched:
    """Statuses of objects, waited for."""

    def __init__(self, cluster: Surroundings) -> None:
        self._cluster = cluster

    async def holds(self, plural: str, name: str, condition: str, status: str = "True") -> dict[str, Any]:
        """The status of an object once a condition of it has a status."""

        async def found() -> dict[str, Any] | None:
            told = (await self._cluster.get(f"{plural}.{GROUP}", name)).get("status") or {}
            return told if conditions.find(told, condition).get("status") == status else None

        answer: dict[str, Any] = await self._cluster.until(found)
        return answer

    async def gone(self, plural: str, name: str) -> None:
        """Return once there is no such object."""

        async def missing() -> bool:
            return all(each["metadata"]["name"] != name for each in await self._cluster.list(f"{plural}.{GROUP}"))

        await self._cluster.until(missing)


@pytest.mark.e2e
async def test_objects_live_from_their_creation_to_their_end(cluster: Surroundings, orchestrator: Orchestrator) -> None:
    watched = Watched(cluster)
    await cluster.create(workflow("hello"))
    await cluster.create(waiting_workflow("hold"))
    for name in ("hello", "hold"):
        status = await watched.holds("workflows", name, "Ready")
        assert status["digest"] == (await orchestrator.workflow(name)).digest

    await cluster.create(execution("short", "hello"))
    status = await watched.holds("executions", "short", "Succeeded")
    assert (status["outputs"], status["progress"]) == ({"greet": {"greeting": "hello"}}, "1/1")

    await cluster.create(execution("long", "hold@^1"))
    known = (await watched.holds("executions", "long", "Started"))["executionId"]
    await cluster.delete(f"executions.{GROUP}", "long")
    await watched.gone("executions", "long")
    assert (await orchestrator.execution(known)).status == "cancelled"

    await cluster.patch(
        f"workflows.{GROUP}", "hello", {"spec": {"nodes": workflow("hello", code="return 2")["spec"]["nodes"]}}
    )
    status = await watched.holds("workflows", "hello", "Registered", "False")
    assert conditions.find(status, "Registered")["reason"] == "VersionConflict"

    for name in ("hello", "hold"):
        await cluster.delete(f"workflows.{GROUP}", name)
        await watched.gone("workflows", name)
        with pytest.raises(NotFound):
            await orchestrator.workflow(name)
    await cluster.delete(f"executions.{GROUP}", "short")
    await watched.gone("executions", "short")


@pytest.mark.e2e
async def test_an_object_that_does_not_fit_is_refused_by_the_api(cluster: Surroundings, definitions: None) -> None:
    wrong = workflow("wrong")
    wrong["spec"]["nodes"][0]["id"] = "not an id"
    with pytest.raises(ApiException) as caught:
        await cluster.create(wrong)
    assert caught.value.status == 422
    assert "spec.nodes[0].id" in str(caught.value.body)
