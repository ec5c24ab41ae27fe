"""When an orchestrator looks at workflow objects."""

from __future__ import annotations

import pytest

from orchestrator import settings
from orchestrator.cli import serving


@pytest.mark.parametrize(
    ("variables", "in_pod", "looks"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"K8S_WORKFLOWS": "false"}, True, False),
        ({"K8S_WORKFLOWS": "true"}, False, True),
        ({"ENGINES": "localhost:50051"}, True, False),
        ({"ENGINES": "localhost:50051", "K8S_WORKFLOWS": "true"}, True, True),
        ({"ENGINE_DISCOVERY": "dns", "K8S_WORKFLOWS": "true"}, True, True),
    ],
)
def test_objects_are_looked_at_where_a_cluster_is_used_or_where_somebody_says_so(
    variables: dict[str, str], in_pod: bool, looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if in_pod:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    kubernetes = serving._kubernetes(settings.load())
    assert (kubernetes is not None and kubernetes.workflows) == looks
