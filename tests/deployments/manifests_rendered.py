"""What kubectl and Helm make of `deployments/`: lists of objects, by flavour, and how to look around in them.

A flavour is an overlay, or what people compose of overlays and components, with the flags that make the chart the same.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = [
    "CHART",
    "DEPLOYMENTS",
    "FLAVOURS",
    "NAMESPACE",
    "ROOT",
    "Flavour",
    "Object",
    "Renderings",
    "containers",
    "environment",
    "find",
    "kinds",
    "pods",
    "relative",
]

ROOT: Final = Path(__file__).parents[2]
DEPLOYMENTS: Final = ROOT / "deployments"
CHART: Final = DEPLOYMENTS / "chart"
NAMESPACE: Final = "workflows"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """Overlays and components put together, and the chart's flags for the same."""

    overlays: tuple[str, ...]
    components: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


HA: Final = ("--values", str(CHART / "values-ha.yaml"))

FLAVOURS: Final[Mapping[str, Flavour]] = {
    "minimal": Flavour(overlays=("minimal",)),
    "ha": Flavour(overlays=("ha",), flags=HA),
    "minimal-monitoring": Flavour(overlays=("minimal", "monitoring"), flags=("--set", "monitoring=true")),
    "ha-monitoring": Flavour(overlays=("ha", "monitoring"), flags=(*HA, "--set", "monitoring=true")),
    "minimal-autoscaling": Flavour(
        overlays=("minimal",), components=("autoscaling",), flags=("--set", "autoscaling.kind=builtin")
    ),
    "ha-autoscaling": Flavour(
        overlays=("ha",), components=("autoscaling",), flags=(*HA, "--set", "autoscaling.kind=builtin")
    ),
    "minimal-endpoint-slices": Flavour(
        overlays=("minimal",), components=("endpoint-slices",), flags=("--set", "discovery=endpointslices")
    ),
    "ha-openshift": Flavour(overlays=("ha",), components=("openshift",), flags=(*HA, "--set", "openshift=true")),
    "minimal-ipv6": Flavour(overlays=("minimal",), components=("ipv6",), flags=("--set", "ipv6=true")),
}


@dataclass(slots=True, kw_only=True)
class Renderings:
    """Renders with real programs, each thing once."""

    kubectl: str
    helm: str
    folder: Path
    _kept: dict[tuple[str, ...], list[Object]] = field(default_factory=dict)

    def kustomize(self, name: str) -> list[Object]:
        """A flavour by Kustomize, composed as docs/deploying.md says."""
        flavour = FLAVOURS[name]
        composed = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "resources": [relative(f"overlays/{overlay}", self.folder / name) for overlay in flavour.overlays],
            "components": [relative(f"components/{component}", self.folder / name) for component in flavour.components],
        }
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / "kustomization.yaml").write_text(yaml.safe_dump(composed))
        return self._rendered(self.kubectl, "kustomize", str(self.folder / name))

    def built(self, folder: str) -> list[Object]:
        """A folder of `deployments/` by Kustomize."""
        return self._rendered(self.kubectl, "kustomize", str(DEPLOYMENTS / folder))

    def template(self, name: str) -> list[Object]:
        """A flavour by Helm."""
        command = (self.helm, "template", "dagengine", str(CHART), "--namespace", NAMESPACE)
        return self._rendered(*command, *FLAVOURS[name].flags)

    def plain(self) -> list[Object]:
        """The two plain files together, what both have being there once."""
        both = [document for name in ("engine", "orchestrator") for document in self.file(name)]
        return [document for index, document in enumerate(both) if document not in both[:index]]

    def file(self, name: str) -> list[Object]:
        """One plain file."""
        return list(yaml.safe_load_all((DEPLOYMENTS / f"{name}-deployment.yaml").read_text()))

    def _rendered(self, *command: str) -> list[Object]:
        if command not in self._kept:
            ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=self._alone())
            assert ran.returncode == 0, ran.stderr
            assert ran.stderr == "", "it warns"
            self._kept[command] = [document for document in yaml.safe_load_all(ran.stdout) if document]
        return self._kept[command]

    def _alone(self) -> dict[str, str]:
        """Neither a cluster nor a configuration of whoever runs the tests."""
        home = str(self.folder)
        return {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": f"{home}/none", "HELM_CACHE_HOME": home}


def relative(path: str, folder: Path) -> str:
    """A path within `deployments/` as a kustomization in `folder` has to give it.

    Kustomize takes no absolute paths, and follows links before it looks for what is above a folder.
    """
    return os.path.relpath(DEPLOYMENTS / path, folder.resolve())


def find(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    (found,) = [each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def kinds(objects: Sequence[Object], kind: str) -> list[Object]:
    """All objects of a kind."""
    return [each for each in objects if each["kind"] == kind]


def pods(objects: Sequence[Object]) -> Iterator[tuple[Object, Object]]:
    """Each workload with the template of its pods."""
    for each in objects:
        template = each.get("spec", {}).get("template")
        if isinstance(template, dict):
            yield each, template


def containers(template: Object) -> Iterator[Object]:
    """All containers of a pod."""
    yield from template["spec"].get("initContainers", ())
    yield from template["spec"]["containers"]


def environment(template: Object, container: Object, secrets: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """The environment as the kubelet would make it. `secrets` are values by name of the Secret and key."""
    fields = {"metadata.name": "pod-7f9c4-x2x4q", "metadata.namespace": NAMESPACE}
    annotations = template["metadata"].get("annotations", {})
    fields |= {f"metadata.annotations['{name}']": value for name, value in annotations.items()}
    made: dict[str, str] = {}
    for variable in container.get("env", ()):
        if "value" in variable:
            value = re.sub(r"\$\((\w+)\)", functools.partial(_before, made), variable["value"])
        elif reference := variable["valueFrom"].get("fieldRef"):
            value = fields[reference["fieldPath"]]
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            value = secrets[reference["name"], reference["key"]]
        assert variable["name"] not in made, f"{variable['name']} is given twice"
        made[variable["name"]] = value
    return made


def _before(made: Mapping[str, str], match: re.Match[str]) -> str:
    """A variable within a value: the kubelet knows those that stand before it, and leaves others as they are."""
    return made[match[1]]
