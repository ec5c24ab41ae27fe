"""docs/deploying.md: its commands work one after the other, and its kustomizations render.

Commands run against a server that behaves like a cluster in which nothing runs. Those that talk with what runs in a
cluster (`LIVE`) are looked at instead: what they name is there.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main
import yaml
from kubernetes_api import KubernetesAPI
from manifests_pod_security import violations
from manifests_rendered import (
    CHART,
    FLAVOURS,
    NAMESPACE,
    ROOT,
    Renderings,
    containers,
    environment,
    find,
    kinds,
    relative,
)
from manifests_shell import Shell

from orchestrator.cli import dagctl

GUIDE = (ROOT / "docs" / "deploying.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in GUIDE.split("\n## ")[1:]}
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LIVE = ("port-forward", "rollout status", " exec ", "--for=condition=Ready pod/")
OFFLINE = {"manifest", "validate"}
"""Commands of dagctl that need no orchestrator."""

BEFORE = {
    "Workflows as objects": ["kubectl apply -k deployments/overlays/minimal"],
    "Monitoring": ["kubectl apply -k deployments/overlays/minimal"],
    "Backup": ["kubectl apply -k deployments/overlays/minimal"],
    "Upgrading": [
        "kubectl apply -k deployments/overlays/minimal",
        f"kubectl -n {NAMESPACE} create secret generic workflow-token --from-literal=token=x",
    ],
    "Uninstalling": [
        "kubectl apply --server-side -f deployments/crds",
        "kubectl apply -k deployments/overlays/minimal",
    ],
}
"""What was done before somebody comes to a section."""


def commands(section: str) -> list[str]:
    return [
        line.removeprefix("$ ")
        for block in CONSOLE.findall(SECTIONS[section])
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


WITH_COMMANDS = sorted(section for section in SECTIONS if commands(section))


@pytest.mark.parametrize("section", [each for each in WITH_COMMANDS if each not in {"Upgrading", "Uninstalling"}])
async def test_the_commands_of_a_section_work(section: str, api: KubernetesAPI, shell: Shell) -> None:
    serve_monitoring(api)
    for line in BEFORE.get(section, []):
        await shell(line)
    for line in commands(section):
        await follow(line, api, shell)


@pytest.mark.parametrize("section", ["Upgrading", "Uninstalling"])
@pytest.mark.parametrize("way", ["helm", "kubectl"])
async def test_the_commands_for_either_way_of_deploying_work(
    way: str, section: str, api: KubernetesAPI, shell: Shell
) -> None:
    before = {
        "kubectl": BEFORE[section],
        "helm": [
            "kubectl apply -f deployments/components/namespace/namespace.yaml",
            f"helm install dagengine deployments/chart --namespace {NAMESPACE}",
            f"kubectl -n {NAMESPACE} create secret generic workflow-token --from-literal=token=x",
        ],
    }[way]
    for line in before:
        await shell(line)
    for block in CONSOLE.findall(SECTIONS[section]):
        lines = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
        if section == "Uninstalling" and any(line.startswith("helm ") for line in lines) is not (way == "helm"):
            continue
        for line in lines:
            if section == "Upgrading" and line.startswith("helm ") is not (way == "helm"):
                continue
            await follow(line, api, shell)


async def follow(line: str, api: KubernetesAPI, shell: Shell) -> None:
    """Run a command line as far as it can be run without what runs in a cluster."""
    if line.startswith("dagctl "):
        look_at_dagctl(shlex.split(line)[1:])
        if shlex.split(line)[1] in OFFLINE:
            await shell(line.replace("/tmp/", f"{shell.home}/"))
    elif any(live in line for live in LIVE):
        named = re.findall(r" (deployment|service|pod)/([\w-]+)", line)
        assert named, line
        for kind, name in named:
            assert api.get(f"{kind}s", name, namespace=NAMESPACE)
    elif line.startswith("export "):
        give_a_token(api)
        await shell(line.replace("$(", "$(set -euo pipefail; "))
    else:
        await shell(line.replace("/tmp/", f"{shell.home}/"))


def give_a_token(api: KubernetesAPI) -> None:
    about = {"name": "workflow-token", "namespace": NAMESPACE}
    api.create({"apiVersion": "v1", "kind": "Secret", "metadata": about, "data": {"token": "dG9rZW4="}})


def look_at_dagctl(words: list[str]) -> None:
    """The command is there, and so are its files."""
    command = typer.main.get_command(dagctl.app)
    for word in words:
        inner = getattr(command, "commands", {})
        if not inner:
            break
        assert word in inner, f"there is no dagctl {' '.join(words)}"
        command = inner[word]
    for word in words:
        if word.endswith(".yaml") and not word.startswith("/tmp/"):
            assert (ROOT / word).is_file(), word


def serve_monitoring(api: KubernetesAPI) -> None:
    """The kinds of Prometheus Operator; what is in them is checked by `test_schemas`."""
    for plural, kind in (("servicemonitors", "ServiceMonitor"), ("prometheusrules", "PrometheusRule")):
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
        api.create(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.monitoring.coreos.com"},
                "spec": {
                    "group": "monitoring.coreos.com", "scope": "Namespaced", "names": names, "versions": [version],
                },
            }
        )  # fmt: skip


# --- the pod in which a backup is put back ---


def test_the_pod_of_a_restore_is_let_in_and_finds_the_database(renderings: Renderings) -> None:
    pod = yaml.safe_load((ROOT / "deployments" / "restore.yaml").read_text())
    objects = renderings.kustomize("minimal")
    orchestrator = find(objects, "Deployment", "workflow-orchestrator")["spec"]["template"]
    assert violations(pod) == []
    (own,), (its,) = containers(pod), containers(orchestrator)
    assert own["image"] == its["image"]
    assert own["env"] == [each for each in its["env"] if each["name"] == "DATABASE_URL"]
    assert own["volumeMounts"] == [each for each in its["volumeMounts"] if each["name"] == "data"]
    assert pod["spec"]["volumes"] == [each for each in orchestrator["spec"]["volumes"] if each["name"] == "data"]
    for service in kinds(objects, "Service"):
        assert not service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


# --- what is written out ---

KUSTOMIZATIONS = [
    text
    for text in re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    if "kind: Kustomization" in text
]


@pytest.mark.parametrize("text", KUSTOMIZATIONS, ids=range(len(KUSTOMIZATIONS)))
def test_a_kustomization_renders(text: str, kubectl: Path, tmp_path: Path) -> None:
    wanted = yaml.safe_load(text)
    for part in ("resources", "components"):
        wanted[part] = [relative(path.removeprefix("deployments/"), tmp_path) for path in wanted.get(part, [])]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
    ran = subprocess.run(
        [str(kubectl), "kustomize", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    documents = [each for each in yaml.safe_load_all(ran.stdout) if each]
    for image in wanted.get("images", ()):
        assert f"image: {image['newName']}:{image['newTag']}" in ran.stdout
    pod = find(documents, "Deployment", "workflow-orchestrator")["spec"]["template"]
    (only,) = containers(pod)
    made = environment(pod, only, {("workflow-database", "url"): "postgresql://dag@db.example.org/dag"})
    assert "workflow-orchestrator" in made["ALLOWED_HOSTS"].split(",")
    assert ("dag.example.org" in text) is ("dag.example.org" in made["ALLOWED_HOSTS"])


def test_sizes_and_times_are_those_of_the_manifests(renderings: Renderings) -> None:
    objects = renderings.kustomize("minimal")
    rows = {line.split("|")[1].strip(): line for line in SECTIONS["Sizing"].splitlines() if line.startswith("| ")}
    for name in ("engine", "orchestrator"):
        pod = find(objects, "Deployment", f"workflow-{name}")["spec"]["template"]["spec"]
        resources = pod["containers"][0]["resources"]
        cpu = int(resources["requests"]["cpu"].removesuffix("m")) / 1000
        memory, most = resources["requests"]["memory"], resources["limits"]["memory"]
        assert f"{cpu:g} CPU, {memory[:-2]} MiB" in rows[name]
        assert f"{resources['limits']['cpu']} CPUs, {most[:-2]} GiB" in rows[name]
    engine = find(objects, "Deployment", "workflow-engine")["spec"]["template"]
    assert f"is {engine['spec']['terminationGracePeriodSeconds']} s for engines" in GUIDE
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert f"within {values['engine']['drainTimeout']} s" in GUIDE


def test_everything_that_is_named_exists() -> None:
    for path in set(re.findall(r"deployments/[\w./-]+[\w]", GUIDE)):
        assert (ROOT / path).exists(), path
    for flavour in FLAVOURS.values():
        for component in flavour.components:
            assert f"`{component}`" in GUIDE
