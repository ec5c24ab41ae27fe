"""Workflow objects as people use them: the example with the real kubectl, and an orchestrator that leads by itself."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from kubernetes_api import KubernetesAPI

from dagengine.app import DAGEngine
from orchestrator.app import Options, Orchestrator
from orchestrator.errors import NotFound
from orchestrator.kubernetes.access import Kubeconfig
from orchestrator.kubernetes.base import WORKFLOWS
from orchestrator.options import Kubernetes

ROOT = Path(__file__).parents[2]
README = (ROOT / "examples" / "04-kubernetes" / "README.md").read_text()

Kubectl = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def ask(api: KubernetesAPI, kubectl: Path, tmp_path: Path) -> Kubectl:
    """Runs kubectl in the repository: exit code, standard output, standard error."""
    config = api.kubeconfig(tmp_path / "people", "ada")

    async def run(*arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            str(kubectl),
            "--kubeconfig",
            str(config),
            *arguments,
            cwd=ROOT,
            env={"HOME": str(tmp_path)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    return run


@pytest.fixture
async def orchestrator(api: KubernetesAPI, tmp_path: Path) -> AsyncIterator[Orchestrator]:
    access = Kubeconfig(paths=str(api.kubeconfig(tmp_path / "orchestrator", "orchestrator")))
    options = Options(kubernetes=Kubernetes(access=access, discovery=None))
    for path in sorted((ROOT / "deployments" / "crds").glob("*.yaml")):
        api.create_all(path)
    async with Orchestrator(options=options) as made:
        made.register_engine("engine-1", DAGEngine())
        yield made


def session(page: str) -> list[tuple[list[str], str]]:
    """The commands of a console block, and what each prints."""
    (block,) = re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    found: list[tuple[list[str], str]] = []
    for part in block.split("$ kubectl ")[1:]:
        command, _, printed = part.partition("\n")
        found.append((command.replace("'", "").split(), printed))
    return found


def plain(printed: str) -> str:
    """Without how long ago anything was."""
    return re.sub(
        r" +\d+m?s$", " 5s", printed.replace('" deleted from default namespace', '" deleted'), flags=re.MULTILINE
    )


def last_phase(api: KubernetesAPI) -> str | None:
    """What the status of the example's workflow says of its last execution."""
    status = api.get(WORKFLOWS, "word-count").get("status") or {}
    phase: str | None = status.get("lastExecution", {}).get("phase")
    return phase


@pytest.mark.e2e
async def test_the_example_goes_as_its_page_says(orchestrator: Orchestrator, api: KubernetesAPI, ask: Kubectl) -> None:
    commands = session(README)
    assert len(commands) == 7
    for command, printed in commands:
        if command == ["get", "workflows"]:
            await api.until(lambda: last_phase(api) == "Succeeded", seconds=60)
        code, out, err = await ask(*command)
        assert (code, err) == (0, ""), command
        if "jsonpath={.status.outputs}" in command:
            assert json.loads(out) == json.loads(printed)
        else:
            assert plain(out).split() == plain(printed).split(), command
    with pytest.raises(NotFound):
        await orchestrator.workflow("word-count")


@pytest.mark.e2e
async def test_kubectl_takes_the_definitions_themselves(api: KubernetesAPI, ask: Kubectl) -> None:
    code, out, err = await ask("apply", "-f", "deployments/crds")
    assert (code, err) == (0, "")
    assert sorted(out.split()) == [
        "created",
        "created",
        "customresourcedefinition.apiextensions.k8s.io/executions.workflows.dagengine.dev",
        "customresourcedefinition.apiextensions.k8s.io/workflows.workflows.dagengine.dev",
    ]
    code, out, err = await ask("apply", "-f", "deployments/crds")
    assert (code, out.count("unchanged")) == (0, 2), err
    code, out, err = await ask("get", "dwf,dex")
    assert (code, out) == (0, ""), err


@pytest.mark.e2e
async def test_a_misspelt_field_is_refused_by_kubectl(orchestrator: Orchestrator, ask: Kubectl, tmp_path: Path) -> None:
    text = (ROOT / "examples" / "04-kubernetes" / "workflow.yaml").read_text()
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace("timeout: 10s", "timeuot: 10s").replace("- id: total", "- id: to tal"))
    code, _, err = await ask("apply", "-f", str(wrong))
    assert code == 1
    assert 'unknown field "spec.nodes[0].timeuot"' in err
    wrong.write_text(text.replace("- id: total", "- id: to tal"))
    code, _, err = await ask("apply", "-f", str(wrong))
    assert code == 1
    assert "spec.nodes[1].id in body should match '^[a-zA-Z0-9_-]+$'" in err


@pytest.mark.e2e
async def test_what_only_the_reader_sees_is_in_the_status(
    orchestrator: Orchestrator, api: KubernetesAPI, ask: Kubectl, tmp_path: Path
) -> None:
    text = (ROOT / "examples" / "04-kubernetes" / "workflow.yaml").read_text()
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace("dependencies: [count]", "dependencies: [cuont]"))
    code, _, err = await ask("apply", "-f", str(wrong))
    assert (code, err) == (0, "")
    code, _, err = await ask("wait", "--for=condition=Registered=False", "workflow/word-count", "--timeout=60s")
    assert (code, err) == (0, "")
    path = '{.status.conditions[?(@.type=="Registered")].message}'
    _, out, _ = await ask("get", "workflow", "word-count", "-o", f"jsonpath={path}")
    assert "spec.nodes[1].dependencies[0]: unknown node 'cuont'; did you mean 'count'?" in out
    code, _, err = await ask("apply", "-f", "examples/04-kubernetes/workflow.yaml")
    assert (code, err) == (0, "")
    code, _, err = await ask("wait", "--for=condition=Registered", "workflow/word-count", "--timeout=60s")
    assert (code, err) == (0, "")
