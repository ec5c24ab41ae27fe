"""The real kubectl and helm against the double: what people do with them works, and says what it says elsewhere."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from kubernetes_api import KubernetesAPI, Refusal
from kubernetes_thread import running

Run = Callable[..., Awaitable[str]]

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Thing, plural: things, shortNames: [th]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec: {type: object, required: [size], properties: {size: {type: integer}, mode: {type: string}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""
THING = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: t}\nspec: {size: 3}\n"
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "image:1"}]}
"""


def _runner(program: Path, folder: Path, kubeconfig: Path) -> Run:
    async def run(*words: str, stdin: str = "", code: int = 0) -> str:
        env = {**os.environ, "HOME": str(folder), "KUBECONFIG": str(kubeconfig)}
        pipe, merged = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
        process = await asyncio.create_subprocess_exec(program, *words, stdin=pipe, stdout=pipe, stderr=merged, env=env)
        output, _ = await process.communicate(stdin.encode())
        assert process.returncode == code, output.decode()
        return output.decode()

    return run


@pytest.fixture
def run(kubectl: Path, api: KubernetesAPI, tmp_path: Path) -> Run:
    """kubectl, as a user of the double: what it said."""
    return _runner(kubectl, tmp_path, api.kubeconfig(tmp_path / "kubeconfig", "somebody"))


async def test_a_kind_is_installed_and_used(api: KubernetesAPI, run: Run) -> None:
    assert "things.example.com created" in await run("apply", "-f", "-", stdin=CRD)
    assert "condition met" in await run("wait", "--for=condition=established", "crd/things.example.com", "--timeout=9s")
    assert "thing.example.com/t created" in await run("apply", "-f", "-", stdin=THING)
    assert "unchanged" in await run("apply", "-f", "-", stdin=THING)
    assert "configured" in await run("apply", "-f", "-", stdin=THING.replace("size: 3", "size: 4"))
    unknown = await run("apply", "-f", "-", stdin=THING.replace("size: 3", "size: 3, bad: 1"), code=1)
    assert 'strict decoding error: unknown field "spec.bad"' in unknown
    unknown = await run("apply", "-f", "-", stdin=THING.replace("name: t", "name: t, id: x"), code=1)
    assert 'unknown field "metadata.id"' in unknown
    wrong = await run("apply", "-f", "-", stdin=THING.replace("size: 3", "size: x"), code=1)
    assert 'The Thing "t" is invalid: spec.size: Invalid value: "x"' in wrong
    status = '{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}'
    await run("patch", "thing", "t", "--type=merge", "--subresource=status", "-p", status)
    heading, line = (await run("get", "th")).splitlines()
    assert (heading.split(), line.split()[:3]) == (["NAME", "SIZE", "READY", "AGE"], ["t", "4", "True"])
    assert "size\t<integer> -required-" in await run("explain", "thing.spec")
    assert "deleted" in await run("delete", "thing", "t")
    assert api.list("things") == []


async def test_server_side_apply_tells_of_conflicts(api: KubernetesAPI, run: Run) -> None:
    api.create_all(CRD)
    assert "serverside-applied" in await run("apply", "--server-side", "-f", "-", stdin=THING)
    api.patch("things", "t", {"spec": {"size": 9}})
    conflict = await run("apply", "--server-side", "-f", "-", stdin=THING, code=1)
    assert 'Apply failed with 1 conflict: conflict with "test" using example.com/v1: .spec.size' in conflict
    await run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=THING)
    assert api.get("things", "t")["spec"]["size"] == 3


async def test_a_deployment_lives(api: KubernetesAPI, run: Run) -> None:
    api.deployments()
    await run("apply", "-f", "-", stdin=DEPLOYMENT)
    assert "scaled" in await run("scale", "deployment/web", "--replicas=3")
    assert "successfully rolled out" in await run("rollout", "status", "deployment/web", "--timeout=20s")
    assert len(api.list("pods")) == 3
    await run("annotate", "pods", "-l", "app=web", "workflow-engine/drain=people")
    assert {pod["metadata"]["annotations"]["workflow-engine/drain"] for pod in api.list("pods")} == {"people"}
    before = {pod["metadata"]["name"] for pod in api.list("pods")}
    await run("rollout", "restart", "deployment/web")
    await run("rollout", "status", "deployment/web", "--timeout=20s")
    assert before.isdisjoint(pod["metadata"]["name"] for pod in api.list("pods"))
    await run("apply", "-f", "-", stdin=DEPLOYMENT.replace("image:1", "image:2"))
    image = await run("get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
    assert image == "image:2"
    assert "deleted" in await run("delete", "deployment", "web")
    await api.until(lambda: not api.list("pods"))


async def test_secrets_namespaces_and_rights(api: KubernetesAPI, run: Run) -> None:
    await run("create", "secret", "generic", "s", "--from-literal=token=abc")
    assert await run("get", "secret", "s", "-o", "jsonpath={.data.token}") == "YWJj"
    await run("create", "namespace", "shop")
    assert "shop" in await run("get", "namespaces")
    await run("delete", "namespace", "shop")
    token = (await run("create", "token", "default")).strip()
    assert api.access.user(f"Bearer {token}").name == "system:serviceaccount:default:default"
    assert await run("auth", "can-i", "list", "pods") == "yes\n"
    api.authorize()
    assert (await run("auth", "can-i", "list", "pods", code=1)) == "no\n"
    refused = await run("get", "pods", code=1)
    assert 'pods is forbidden: User "somebody" cannot list resource "pods"' in refused


def test_it_serves_tests_that_are_not_asynchronous(kubectl: Path, tmp_path: Path) -> None:
    with running() as server:
        path = server.do(lambda api: api.kubeconfig(tmp_path / "kubeconfig"))
        server.do(lambda api: api.run_pod("a"))
        command = [kubectl, "--kubeconfig", path, "--cache-dir", tmp_path, "get", "pods", "--output", "name"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "pod/a\n"
        with pytest.raises(Refusal, match="not found"):
            server.do(lambda api: api.get("pods", "b"))


async def test_helm_installs_upgrades_and_removes(helm: Path, api: KubernetesAPI, tmp_path: Path) -> None:
    run = _runner(helm, tmp_path, api.kubeconfig(tmp_path / "kubeconfig"))
    (tmp_path / "chart" / "templates").mkdir(parents=True)
    (tmp_path / "chart" / "Chart.yaml").write_text("apiVersion: v2\nname: chart\nversion: 0.1.0\n")
    template = tmp_path / "chart" / "templates" / "web.yaml"
    template.write_text(DEPLOYMENT.replace("replicas: 2", "replicas: {{ .Values.replicas }}"))
    (tmp_path / "chart" / "values.yaml").write_text("replicas: 2\n")
    assert "STATUS: deployed" in await run("install", "web", str(tmp_path / "chart"))
    assert "REVISION: 2" in await run("upgrade", "web", str(tmp_path / "chart"), "--set", "replicas=5")
    assert api.get("deployments", "web")["spec"]["replicas"] == 5
    assert "uninstalled" in await run("uninstall", "web")
    assert (api.list("deployments"), api.list("secrets")) == ([], [])
