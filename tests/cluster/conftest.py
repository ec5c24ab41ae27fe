"""Tests about a cluster: `api` is the double that can be made to fail, `cluster` the double or a real one.

Tests that hold on both take `cluster` and use what `kubernetes_clusters.Surroundings` offers. CONTRIBUTING.md says how
they run against a real cluster. What only a real one can do, since containers have to run, is in modules that are
`collect_ignore`d otherwise.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import yaml
from kubernetes.aio.client import ApiException
from kubernetes_api import KubernetesAPI
from kubernetes_clusters import Surroundings
from kubernetes_fixtures import api, cluster
from kubernetes_workflow_objects import DEFINITIONS

from orchestrator.controller import conditions

__all__ = ["api", "cluster"]

sys.path.append(str(Path(__file__).parent))  # for modules that tests of this folder share

collect_ignore = [] if os.environ.get("E2E_KUBERNETES") == "1" else ["test_a_whole_system.py"]

CRDS = "customresourcedefinitions.apiextensions.k8s.io"


@pytest.fixture
async def http(api: KubernetesAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Plain requests to the double, by a user named `somebody`: for what client libraries hide."""
    async with httpx.AsyncClient(
        base_url=api.url,
        headers={"Authorization": f"Bearer {api.token('somebody')}", "User-Agent": "curl/8"},
        verify=ssl.create_default_context(cadata=api.ca),
    ) as http:
        yield http


@pytest.fixture
async def definitions(cluster: Surroundings) -> AsyncIterator[None]:
    """Both definitions: those that are there are used, and left."""
    made = []
    for path in DEFINITIONS:
        definition = yaml.safe_load(path.read_text())
        name = definition["metadata"]["name"]
        try:
            await cluster.create(definition)
            made.append(name)
        except ApiException as exc:
            if exc.status != 409:
                raise
            cluster.learn(definition)

        async def established(name: str = name) -> bool:
            status = (await cluster.get(CRDS, name)).get("status") or {}
            return conditions.find(status, "Established").get("status") == "True"

        await cluster.until(established)
    yield
    for name in made:
        await cluster.delete(CRDS, name)


@pytest.fixture
def run(cluster: Surroundings, kubectl: Path, tmp_path: Path) -> Callable[..., Awaitable[str]]:
    """`await run("get", "pods")`: what the real kubectl prints of the namespace. It must not fail."""
    known = [f"--kubeconfig={cluster.kubeconfig}", f"--namespace={cluster.namespace}", f"--cache-dir={tmp_path}"]
    known += [f"--context={cluster.context}"] if cluster.context else []

    async def answer(*words: str, seconds: float = 120.0) -> str:
        pipe, merged = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
        process = await asyncio.create_subprocess_exec(kubectl, *known, *words, stdout=pipe, stderr=merged)
        try:
            async with asyncio.timeout(seconds):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        assert process.returncode == 0, f"kubectl {' '.join(words)}: {said.decode()}"
        return said.decode()

    return answer
