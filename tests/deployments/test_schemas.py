"""Every object is valid for the oldest Kubernetes that is supported, and for the newest that is known, strictly."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from manifests_rendered import CHART, ROOT, Object, Renderings, find

OLDEST = "1.30.0"
"""The first in which the hook `sleep` is on by itself."""
VERSIONS = [OLDEST, kubernetes_validate.latest_version()]
SCHEMAS = Path(__file__).parent / "schemas"


def monitoring_schema(kind: str) -> Any:
    return json.loads((SCHEMAS / f"{kind.lower()}.json").read_text())


def check(item: Object, version: str) -> None:
    """By the schemas of a Kubernetes version; those of Prometheus Operator are in `schemas/`."""
    if item["apiVersion"].startswith("monitoring.coreos.com/"):
        jsonschema.Draft202012Validator(monitoring_schema(item["kind"])).validate(item)
    else:
        assert kubernetes_validate.validate(item, version, strict=True) == version.rpartition(".")[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(version: str, objects: list[Object]) -> None:
    for item in objects:
        check(item, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_field_that_does_not_exist_is_found(version: str, renderings: Renderings) -> None:
    objects = renderings.kustomize("ha-monitoring")
    wrong = copy.deepcopy(find(objects, "Deployment", "workflow-engine"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        check(wrong, version)
    wrong = copy.deepcopy(find(objects, "ServiceMonitor", "workflow-orchestrator"))
    wrong["spec"]["endpoints"][0]["bearerToken"] = "token"
    with pytest.raises(jsonschema.ValidationError, match="bearerToken"):
        check(wrong, version)


def test_the_oldest_version_is_the_one_that_is_told() -> None:
    told = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
    assert told == f">={OLDEST}-0"
    assert f"Kubernetes {OLDEST.rpartition('.')[0]}" in re.sub(r"\s+", " ", (ROOT / "docs/deploying.md").read_text())
