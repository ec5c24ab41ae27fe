"""The overlay `minimal` on a real cluster: from `kubectl apply` to the end of an execution.

Collected with E2E_KUBERNETES=1 alone (conftest.py), since no container runs on the double. What can be seen there is
in `test_anywhere.py`, and the images run in `tests/images`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import minimal_system
import pytest
from kubernetes_clusters import Surroundings, image_of

GROUP = "workflows.dagengine.dev"
EXAMPLE = Path(__file__).parents[2] / "examples" / "04-kubernetes"

Run = Callable[..., Awaitable[str]]


@pytest.fixture
async def objects(cluster: Surroundings, definitions: None) -> AsyncIterator[None]:
    """Objects that the test leaves go before the namespace does, which would wait for their finalizers for ever."""
    yield
    for plural in ("executions", "workflows"):
        resource = f"{plural}.{GROUP}"
        for each in await cluster.list(resource):
            await cluster.delete(resource, each["metadata"]["name"])

        async def gone(resource: str = resource) -> bool:
            return not await cluster.list(resource)

        try:
            await cluster.until(gone, seconds=60)
        except TimeoutError:  # there is no orchestrator that could take them off
            for each in await cluster.list(resource):
                await cluster.patch(resource, each["metadata"]["name"], {"metadata": {"finalizers": None}})


@pytest.mark.e2e
async def test_a_workflow_runs_on_what_kubectl_has_applied(
    cluster: Surroundings, objects: None, run: Run, tmp_path: Path
) -> None:
    images = {"engine": image_of("ENGINE_IMAGE"), "orchestrator": image_of("ORCHESTRATOR_IMAGE")}
    await run("apply", "-k", str(minimal_system.kustomization(tmp_path, cluster.namespace, **images)))
    for name in ("workflow-engine", "workflow-orchestrator"):
        await run("rollout", "status", f"deployment/{name}", "--timeout=600s", seconds=630)

    await run("apply", "-f", str(EXAMPLE / "workflow.yaml"))
    await run("wait", "--for=condition=Ready", "workflow/word-count", "--timeout=180s", seconds=200)
    await run("create", "-f", str(EXAMPLE / "execution.yaml"))
    await run("wait", "--for=condition=Finished", "execution/word-count-1", "--timeout=180s", seconds=200)
    status = (await cluster.get(f"executions.{GROUP}", "word-count-1"))["status"]
    assert (status["phase"], status["progress"]) == ("Succeeded", "2/2")
    assert status["outputs"] == {"each": [9, 7], "total": 16}
