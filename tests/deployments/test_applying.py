"""The real kubectl and Helm apply what there is to a server that behaves like a cluster, again and again."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubernetes_api import KubernetesAPI
from manifests_rendered import NAMESPACE, Renderings, relative
from manifests_shell import Shell

FOLLOWED = (
    "deployments", "horizontalpodautoscalers", "jobs", "networkpolicies", "persistentvolumeclaims",
    "poddisruptionbudgets", "rolebindings", "roles", "serviceaccounts", "services",
)  # fmt: skip
JOB = ("Job", "workflow-token")
VOLUME = ("PersistentVolumeClaim", "workflow-orchestrator")


def there(api: KubernetesAPI, namespace: str = NAMESPACE) -> set[tuple[str, str]]:
    """Kind and name of what there is of ours in a namespace."""
    return {
        (each["kind"], each["metadata"]["name"])
        for resource in FOLLOWED
        for each in api.list(resource, namespace=namespace)
        if (each["kind"], each["metadata"]["name"]) != ("ServiceAccount", "default")  # every namespace has that
    }


@pytest.mark.parametrize("overlay", ["minimal", "ha"])
async def test_an_overlay_is_applied_applied_again_and_deleted(
    overlay: str, api: KubernetesAPI, shell: Shell, renderings: Renderings
) -> None:
    said = await shell(f"kubectl apply -k deployments/overlays/{overlay}")
    assert f"namespace/{NAMESPACE} created" in said
    wanted = {(each["kind"], each["metadata"]["name"]) for each in renderings.built(f"overlays/{overlay}")}
    assert there(api) == wanted - {("Namespace", NAMESPACE)}
    again = await shell(f"kubectl apply -k deployments/overlays/{overlay}")
    # kubectl sends the selectors of disruption budgets each time, and takes that for a change.
    changed = [line for line in again.splitlines() if not line.endswith(" unchanged") and "budget" not in line]
    assert changed == []
    await shell(f"kubectl delete -k deployments/overlays/{overlay} --ignore-not-found --wait=false")
    assert there(api) == set()


async def test_the_plain_files_are_applied_into_the_present_namespace(api: KubernetesAPI, shell: Shell) -> None:
    await shell("kubectl apply -f deployments/engine-deployment.yaml")
    assert ("Deployment", "workflow-engine") in there(api, "default")
    said = await shell("kubectl apply -f deployments/orchestrator-deployment.yaml")
    assert "job.batch/workflow-token unchanged" in said
    assert ("Deployment", "workflow-orchestrator") in there(api, "default")


async def test_another_release_is_applied_once_the_job_is_gone(
    api: KubernetesAPI, shell: Shell, tmp_path: Path
) -> None:
    await shell("kubectl apply -k deployments/overlays/minimal")
    base = relative("overlays/minimal", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{base}]\nimages: [{{name: dagengine-orchestrator, newTag: 0.2.0}}]\n"
    )
    api.delete("jobs", "workflow-token", namespace=NAMESPACE)  # its time to live is over
    said = await shell(f"kubectl apply -k {tmp_path}")
    assert "job.batch/workflow-token created" in said
    assert "deployment.apps/workflow-orchestrator configured" in said
    pod = api.get("deployments", "workflow-orchestrator", namespace=NAMESPACE)["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "dagengine-orchestrator:0.2.0"


async def test_engines_that_were_scaled_stay_so_when_the_overlay_is_applied_again(
    api: KubernetesAPI, shell: Shell
) -> None:
    await shell("kubectl apply -k deployments/overlays/ha")
    await shell(f"kubectl -n {NAMESPACE} scale deployment/workflow-engine --replicas=7")
    await shell("kubectl apply -k deployments/overlays/ha")
    assert api.get("deployments", "workflow-engine", namespace=NAMESPACE)["spec"]["replicas"] == 7


async def test_the_chart_is_installed_upgraded_and_removed_without_the_data(
    api: KubernetesAPI, shell: Shell, renderings: Renderings
) -> None:
    await shell("kubectl apply -f deployments/components/namespace/namespace.yaml")
    await shell(f"helm install dagengine deployments/chart --namespace {NAMESPACE}")
    wanted = {(each["kind"], each["metadata"]["name"]) for each in renderings.template("minimal")}
    assert there(api) == wanted
    api.delete("jobs", "workflow-token", namespace=NAMESPACE)  # its time to live is over
    await shell(f"helm upgrade dagengine deployments/chart -n {NAMESPACE} --set images.orchestrator.tag=0.2.0")
    (job,) = api.list("jobs", namespace=NAMESPACE)
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "dagengine-orchestrator:0.2.0"
    await shell(f"helm uninstall dagengine --namespace {NAMESPACE}")
    assert there(api) == {VOLUME}, "the database is kept"
    await shell(f"helm install dagengine deployments/chart --namespace {NAMESPACE}")
    assert there(api) == wanted
