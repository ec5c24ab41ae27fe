"""The manifests as kubectl and Helm render them. The modules of this folder are put on the path: pytest imports test
files alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from kubernetes_api import KubernetesAPI
from kubernetes_fixtures import api

sys.path.append(str(Path(__file__).parent))

from manifests_rendered import FLAVOURS, Renderings
from manifests_shell import Shell

__all__ = ["api", "objects", "renderings", "shell"]

PLAIN = "plain"


@pytest.fixture(scope="session")
def renderings(kubectl: Path, helm: Path, tmp_path_factory: pytest.TempPathFactory) -> Renderings:
    """Every flavour as a list of objects, rendered when it is first asked for."""
    return Renderings(kubectl=str(kubectl), helm=str(helm), folder=tmp_path_factory.mktemp("renderings"))


@pytest.fixture(params=[*sorted(FLAVOURS), PLAIN])
def objects(request: pytest.FixtureRequest, renderings: Renderings) -> list[dict[str, object]]:
    """The objects of each flavour, and of the plain manifests, one after the other."""
    return renderings.plain() if request.param == PLAIN else renderings.kustomize(request.param)


@pytest.fixture
def shell(api: KubernetesAPI, kubectl: Path, helm: Path, tmp_path: Path) -> Shell:
    """The shell of an administrator of the double's cluster."""
    assert kubectl.parent == helm.parent
    config = api.kubeconfig(tmp_path / "config", "admin", groups=("system:masters",))
    return Shell(home=tmp_path, kubeconfig=config, tools=kubectl.parent)
