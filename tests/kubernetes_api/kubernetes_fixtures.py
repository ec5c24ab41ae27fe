"""Fixtures for tests with a cluster. A conftest.py has them by importing them:

from kubernetes_fixtures import api, cluster  # noqa: F401 - fixtures
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kubernetes_api import KubernetesAPI
from kubernetes_clusters import Surroundings, real

__all__ = ["api", "cluster"]


@pytest.fixture
async def api() -> AsyncIterator[KubernetesAPI]:
    """The double, for tests that make it fail or look at what it was asked. It has no CRDs until a test creates one."""
    async with KubernetesAPI() as api:
        yield api


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Surroundings]:
    """A namespace for tests that hold on any cluster: of the double, or of a real one.

    The real one is that of KUBECONFIG (K8S_CONTEXT), when E2E_KUBERNETES=1 is set; ENGINE_IMAGE names the image of
    engines. The namespace is made for each test, and removed after it.
    """
    async with contextlib.AsyncExitStack() as stack:
        found = real()
        if found is None:
            api = await stack.enter_async_context(KubernetesAPI())
            path = api.kubeconfig(tmp_path / "kubeconfig", "tester", groups=["system:masters"])
            found = Surroundings(path, "default", api=api)
        yield await stack.enter_async_context(found)
