"""Kustomize and Helm render everything, and the same."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from manifests_rendered import (
    CHART,
    FLAVOURS,
    NAMESPACE,
    ROOT,
    Object,
    Renderings,
    containers,
    find,
    kinds,
    pods,
    relative,
)

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
GIVEN_BY_PEOPLE = {("Secret", "workflow-database")}
MADE_BY_THE_JOB = {("Secret", "workflow-token")}
ORDERED = {"args", "command"}
CLUSTER_WIDE = {"Namespace"}


def key(item: Object) -> tuple[str, str, str]:
    return item["apiVersion"], item["kind"], item["metadata"]["name"]


def by_key(objects: list[Object]) -> dict[tuple[str, str, str], Object]:
    found = {key(item): item for item in objects}
    assert len(found) == len(objects), "an object is there twice"
    return found


def unordered(value: Any, name: str = "") -> Any:
    """The value with its lists sorted where their order means nothing to Kubernetes."""
    if isinstance(value, dict):
        return {name: unordered(item, name) for name, item in value.items()}
    if isinstance(value, list):
        items = [unordered(item) for item in value]
        return items if name in ORDERED else sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
    return value


@pytest.mark.parametrize("flavour", sorted(FLAVOURS))
def test_helm_renders_the_same_objects_as_kustomize(flavour: str, renderings: Renderings) -> None:
    kustomize, helm = by_key(renderings.kustomize(flavour)), by_key(renderings.template(flavour))
    # Helm is given its namespace, and cannot make it.
    assert kustomize.keys() - helm.keys() == {("v1", "Namespace", NAMESPACE)}
    assert helm.keys() - kustomize.keys() == set()
    for name, rendered in helm.items():
        assert unordered(rendered) == unordered(kustomize[name])


def test_the_chart_has_no_complaints(helm: Path) -> None:
    for flags in ([], ["--values", str(CHART / "values-ha.yaml")]):
        ran = subprocess.run(
            [str(helm), "lint", "--strict", str(CHART), *flags], capture_output=True, text=True, check=False, timeout=60
        )
        assert ran.returncode == 0, ran.stdout


def test_what_is_generated_is_what_it_is_made_of(kubectl: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate_manifests", ROOT / "scripts" / "generate_manifests.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path, text in module.generated(str(kubectl)).items():
        assert path.read_text() == text, f"{path} is out of date: {sys.executable} scripts/generate_manifests.py"


@pytest.mark.parametrize("overlay", ["base", "overlays/minimal", "overlays/ha", "overlays/monitoring"])
def test_an_overlay_renders_by_itself(overlay: str, renderings: Renderings) -> None:
    assert by_key(renderings.built(overlay))


def test_monitoring_adds_to_a_flavour_and_changes_nothing_of_it(renderings: Renderings) -> None:
    for name in ("minimal", "ha"):
        alone, both = by_key(renderings.kustomize(name)), by_key(renderings.kustomize(f"{name}-monitoring"))
        assert {each: both[each] for each in alone} == alone
        added = {kind for _, kind, _ in both.keys() - alone.keys()}
        assert added == {"ServiceMonitor", "PrometheusRule", "ConfigMap"}


def test_everything_is_in_one_namespace(renderings: Renderings) -> None:
    for name in FLAVOURS:
        for item in renderings.kustomize(name):
            if item["kind"] not in CLUSTER_WIDE:
                assert item["metadata"]["namespace"] == NAMESPACE, key(item)


@pytest.mark.parametrize("name", ["engine", "orchestrator"])
def test_a_plain_file_says_no_namespace(name: str, renderings: Renderings) -> None:
    for item in renderings.file(name):
        assert "namespace" not in item["metadata"]
        assert item["kind"] not in CLUSTER_WIDE


@pytest.mark.parametrize("name", ["engine", "orchestrator"])
def test_a_plain_file_is_complete_by_itself(name: str, renderings: Renderings) -> None:
    objects = renderings.file(name)
    assert find(objects, "Deployment", f"workflow-{name}")
    assert_complete(objects)


def test_the_plain_files_agree_on_what_both_have(renderings: Renderings) -> None:
    engine, orchestrator = by_key(renderings.file("engine")), by_key(renderings.file("orchestrator"))
    shared = engine.keys() & orchestrator.keys()
    assert ("batch/v1", "Job", "workflow-token") in shared
    assert {each: engine[each] for each in shared} == {each: orchestrator[each] for each in shared}


def test_nothing_refers_to_what_is_not_there(objects: list[Object]) -> None:
    assert_complete(objects)


def assert_complete(objects: list[Object]) -> None:
    there = {(item["kind"], item["metadata"]["name"]) for item in objects} | GIVEN_BY_PEOPLE | MADE_BY_THE_JOB
    missing = {reference for item in objects for reference in referred(item)} - there
    assert missing == set()


def referred(item: Object) -> set[tuple[str, str]]:
    """Kind and name of everything that an object cannot do without."""
    found = set()
    if item["kind"] == "RoleBinding":
        found.add((item["roleRef"]["kind"], item["roleRef"]["name"]))
        found |= {(subject["kind"], subject["name"]) for subject in item["subjects"]}
    if item["kind"] == "HorizontalPodAutoscaler":
        found.add((item["spec"]["scaleTargetRef"]["kind"], item["spec"]["scaleTargetRef"]["name"]))
    if item["kind"] == "ServiceMonitor":
        for endpoint in item["spec"]["endpoints"]:
            found.add(("Secret", endpoint["authorization"]["credentials"]["name"]))
    for _, template in pods([item]):
        spec = template["spec"]
        found.add(("ServiceAccount", spec["serviceAccountName"]))
        for volume in spec.get("volumes", ()):
            if "secret" in volume and not volume["secret"].get("optional"):
                found.add(("Secret", volume["secret"]["secretName"]))
            if "persistentVolumeClaim" in volume:
                found.add(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
        for container in containers(template):
            for variable in container.get("env", ()):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    found.add(("Secret", reference["name"]))
    return found


def test_every_role_is_bound_and_every_binding_has_its_role(objects: list[Object]) -> None:
    assert {each["metadata"]["name"] for each in kinds(objects, "Role")} == {
        each["roleRef"]["name"] for each in kinds(objects, "RoleBinding")
    }


def test_images_have_a_name_and_this_version_and_no_registry(objects: list[Object]) -> None:
    used = {container["image"] for _, template in pods(objects) for container in containers(template)}
    assert used == {f"dagengine-engine:{VERSION}", f"dagengine-orchestrator:{VERSION}"}


def test_images_are_set_from_outside(renderings: Renderings, tmp_path: Path, kubectl: Path, helm: Path) -> None:
    lines = [f"- {{name: dagengine-{name}, newName: registry.example.org/{name}, newTag: 2.0.0}}" for name in
             ("engine", "orchestrator")]  # fmt: skip
    base = relative("overlays/minimal", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{base}]\nimages:\n" + "\n".join(lines) + "\n")
    flags = [
        flag
        for name in ("engine", "orchestrator")
        for flag in ("--set", f"images.{name}.name=registry.example.org/{name},images.{name}.tag=2.0.0")
    ]
    commands = ([str(kubectl), "kustomize", str(tmp_path)], [str(helm), "template", "dagengine", str(CHART), *flags])
    for command in commands:
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        used = re.findall(r"image: (\S+)", ran.stdout)
        assert sorted(used) == [f"registry.example.org/{name}:2.0.0" for name in ("engine", *["orchestrator"] * 2)]


def test_the_chart_has_the_version_of_the_product() -> None:
    text = (CHART / "Chart.yaml").read_text()
    assert re.findall(r"^(?:version|appVersion): (\S+)$", text, re.MULTILINE) == [VERSION, VERSION]


def test_every_object_tells_to_what_it_belongs(objects: list[Object]) -> None:
    for item in objects:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "dagengine", key(item)
        if "app.kubernetes.io/name" in labels and "app" in labels:
            assert labels["app.kubernetes.io/name"] == labels["app"]
    for item, template in pods(objects):
        labels = template["metadata"]["labels"]
        assert {"app", "app.kubernetes.io/name", "app.kubernetes.io/component"} <= labels.keys(), key(item)
