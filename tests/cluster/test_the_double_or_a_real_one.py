"""What tests rely on that run against the double and against a real cluster: the fixture `cluster`."""

from __future__ import annotations

import pytest
from kubernetes.aio import client
from kubernetes_clusters import Surroundings, real


async def test_objects_and_pods_of_a_namespace(cluster: Surroundings) -> None:
    made = await cluster.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}}
    )
    assert made["metadata"]["namespace"] == cluster.namespace
    changed = await cluster.patch("configmaps", "c", {"data": {"k": "w"}, "metadata": {"labels": {"mine": "yes"}}})
    assert (await cluster.get("configmaps", "c"))["data"] == changed["data"] == {"k": "w"}
    with pytest.raises(client.ApiException) as conflict:
        await cluster.replace(made)
    assert conflict.value.status == 409
    assert [one["metadata"]["name"] for one in await cluster.list("configmaps", labels="mine=yes")] == ["c"]
    await cluster.delete("configmaps", "c")
    with pytest.raises(client.ApiException) as missing:
        await cluster.get("configmaps", "c")
    assert missing.value.status == 404


async def test_pods_of_engines_come_and_go(cluster: Surroundings) -> None:
    pod = await cluster.run_pod("engine-1", annotations={"workflow-engine/capacity": "3"})
    assert (pod["status"]["phase"], bool(pod["status"]["podIP"])) == ("Running", True)
    assert len(await cluster.list("pods", labels="app=workflow-engine")) == 1
    await cluster.end_pod("engine-1")
    assert await cluster.list("pods") == []


def test_a_real_cluster_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("E2E_KUBERNETES", raising=False)
    assert real() is None
    monkeypatch.setenv("E2E_KUBERNETES", "1")
    with pytest.raises(LookupError, match="KUBECONFIG has to name the file"):
        real()
    monkeypatch.setenv("KUBECONFIG", "/a/file")
    found = real()
    assert found is not None
    assert found.namespace.startswith("dagengine-test-")
