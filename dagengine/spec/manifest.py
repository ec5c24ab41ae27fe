"""The Kubernetes form of a workflow document: the same workflow as an object that `kubectl apply` takes.

An API server keeps nothing in `metadata` but what it knows itself. So there the id is the object's name (or an
annotation, where the id cannot be one), and version, name and description are annotations; `spec` is the same.
`document` turns such an object into the plain form before anything looks at it, and puts what is wrong where the user
wrote it:

=============================  =======================================================
plain                          as an object
=============================  =======================================================
`metadata.id`                  `metadata.name`, or annotation `workflows.dagengine.dev/id`
`metadata.version`             annotation `workflows.dagengine.dev/version`
`metadata.name`                annotation `workflows.dagengine.dev/name`
`metadata.description`         annotation `workflows.dagengine.dev/description`
`metadata.labels`              the same
`metadata.annotations`         the same, but for those of Kubernetes (`kubernetes.io/…`, `k8s.io/…`)
=============================  =======================================================

`dagctl manifest` writes it (`written`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dagengine.spec.model import Document
from dagengine.spec.outline import mapping
from dagengine.spec.path import Finding, Path
from dagengine.spec.plain import describe, show
from dagengine.spec.suggestion import did_you_mean

__all__ = ["API_VERSION", "GROUP", "ID", "VERSION", "Form", "name_for", "understood", "unfit", "written"]

GROUP: Final = "workflows.dagengine.dev"
API_VERSION: Final = f"{GROUP}/v1"
ID: Final = f"{GROUP}/id"
VERSION: Final = f"{GROUP}/version"
_FIELDS: Final = {"id": ID, "version": VERSION, "name": f"{GROUP}/name", "description": f"{GROUP}/description"}
_SHARED: Final = ("name", "labels", "annotations")
_OF_THE_SERVER: Final = frozenset(
    [
        "namespace",
        "generateName",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "finalizers",
        "ownerReferences",
        "managedFields",
        "selfLink",
    ]
)
"""What else an object has in `metadata`: nothing that the workflow would be made of."""

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_WORD: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LONGEST_NAME: Final = 253
_MOST_ANNOTATIONS: Final = 256 * 1024
"""Bytes that names and values of an object's annotations may take together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A document in the plain form, however it was written. `findings` have paths of what was written."""

    value: dict[str, object]
    findings: list[Finding] = field(default_factory=list)
    is_object: bool = False
    _has_id: bool = False

    def where(self, path: Path) -> Path:
        """Where that which `path` leads to in the plain form was written."""
        match path:
            case ("metadata", "id", *_) if self.is_object and not self._has_id:
                return ("metadata", "name")
            case ("metadata", ("id" | "version" | "name" | "description") as part, *_) if self.is_object:
                return ("metadata", "annotations", _FIELDS[part])
        return path

    def told(self, finding: Finding) -> Finding:
        """`finding` about the plain form, as one about what was written."""
        path, message = self.where(finding.path), finding.message
        if path == ("metadata", "name") and finding.path[1] == "id" and message != "required":
            message += f"; a name that cannot be an id needs the id in the annotation {ID}"
        return Finding(path, message)


def understood(value: dict[str, object]) -> Form:
    """The plain form of what is a document in one of both forms, or is meant to be. `value` is not changed."""
    metadata = value.get("metadata")
    if not _is_object(value):
        return Form(value=value, findings=_misplaced(mapping(mapping(metadata).get("annotations"))))
    plain = {name: item for name, item in value.items() if name != "status"}
    findings: list[Finding] = []
    if value.get("apiVersion") != "workflows/v1":
        plain["apiVersion"] = "workflows/v1"
        if value.get("apiVersion") != API_VERSION:
            findings.append(Finding(("apiVersion",), f"must be {API_VERSION}; got {show(value.get('apiVersion'))}"))
    if value.get("kind") == "Execution":
        plain["kind"] = "Workflow"
        message = "this is an object that starts an execution, and not a workflow: give it to kubectl"
        findings.append(Finding(("kind",), message))
    if not isinstance(metadata, dict):
        return Form(value=plain, findings=findings, is_object=True)
    annotations = mapping(metadata.get("annotations"))
    plain["metadata"] = _metadata(metadata, annotations)
    findings += [*_unknown(metadata), *_strange(annotations)]
    return Form(value=plain, findings=findings, is_object=True, _has_id=ID in annotations)


def _is_object(value: Mapping[str, object]) -> bool:
    version = value.get("apiVersion")
    if isinstance(version, str) and version.startswith(f"{GROUP}/"):
        return True
    metadata = mapping(value.get("metadata"))
    return not metadata.keys() & {"id", "version"} and VERSION in mapping(metadata.get("annotations"))


def _metadata(metadata: Mapping[str, object], annotations: Mapping[str, object]) -> dict[str, object]:
    """The plain form of an object's metadata."""
    plain: dict[str, object] = {}
    if "name" in metadata:
        plain["id"] = metadata["name"]
    plain |= {name: annotations[key] for name, key in _FIELDS.items() if key in annotations}
    if "labels" in metadata:
        plain["labels"] = metadata["labels"]
    if "annotations" in metadata:
        given = metadata["annotations"]
        kept = {key: item for key, item in annotations.items() if not (_is_ours(key) or _is_of_kubernetes(key))}
        plain["annotations"] = kept if isinstance(given, dict) else given
    return plain


def _unknown(metadata: Mapping[str, object]) -> list[Finding]:
    """Fields of an object's metadata that it cannot have."""
    found = []
    for name in metadata:
        if name in _SHARED or name in _OF_THE_SERVER:
            continue
        if name in _FIELDS:
            where = "its name is the id" if name == "id" else f"write the annotation {_FIELDS[name]}"
            message = (
                f"an object of Kubernetes has no such field: {where}, or leave `apiVersion: workflows/v1` as it was, "
                "and have `dagctl manifest FILE` write the object"
            )
        else:
            message = f"unknown field {name!r}{did_you_mean(name, (*_SHARED, 'namespace'))}"
        found.append(Finding(("metadata", name), message))
    return found


def _strange(annotations: Mapping[str, object]) -> list[Finding]:
    """Annotations under our prefix that mean nothing."""
    known = _FIELDS.values()
    return [
        Finding(("metadata", "annotations", key), f"unknown annotation {key!r}{did_you_mean(key, known)}")
        for key in annotations
        if _is_ours(key) and key not in known
    ]


def _misplaced(annotations: Mapping[str, object]) -> list[Finding]:
    """Annotations of the other form."""
    found = []
    for key in annotations:
        if _is_ours(key):
            name = key.partition("/")[2]
            where = f"; write metadata.{name}" if name in _FIELDS else ""
            message = f"{GROUP} is for documents in their Kubernetes form, which have no metadata.id{where}"
            found.append(Finding(("metadata", "annotations", key), message))
    return found


def _is_ours(key: str) -> bool:
    return key.startswith(f"{GROUP}/")


def _is_of_kubernetes(key: str) -> bool:
    """Whether Kubernetes reserves the name of an annotation for itself: `kubectl` keeps notes under such names."""
    domain = key.partition("/")[0] if "/" in key else ""
    return domain in ("kubernetes.io", "k8s.io") or domain.endswith((".kubernetes.io", ".k8s.io"))


def name_for(id: str) -> str:
    """The name of the object for a workflow: its id, or what it is in small letters, with '-' for '_'; may be empty."""
    return id.lower().replace("_", "-").strip("-")


def written(document: Document, *, name: str = "") -> dict[str, Any]:
    """The document as an object, called `name` or else `name_for` its id. For one of which `unfit` finds nothing."""
    plain = document.to_dict()
    metadata = plain["metadata"]
    name = name or name_for(document.id)
    annotations = {ID: document.id} if name != document.id else {}
    annotations |= {key: metadata[part] for part, key in _FIELDS.items() if part in metadata and part != "id"}
    annotations |= metadata.get("annotations", {})
    labels = {"labels": metadata["labels"]} if "labels" in metadata else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "Workflow",
        "metadata": {"name": name, **labels, "annotations": annotations},
        "spec": plain["spec"],
    }


def unfit(document: Document, *, name: str = "") -> list[Finding]:
    """Why a document cannot be an object called `name`, or `name_for` its id: what to change, with plain paths."""
    metadata = document.metadata
    found = []
    shown = name or name_for(metadata.id)
    if not (_NAME.fullmatch(shown) and len(shown) <= _LONGEST_NAME):
        what = f"{shown!r} is not" if shown else f"{metadata.id!r} has no letter or digit for"
        rules = "at most 253 small letters, digits, '-' and '.', with a letter or digit at both ends"
        found.append(Finding(("metadata", "id"), f"{what} a name of Kubernetes ({rules}): give one with --name"))
    for key, value in metadata.labels.items():
        path: Path = ("metadata", "labels", key)
        found += [Finding(path, words) for words in (_wrong_key(key),) if words]
        if value and not _WORD.fullmatch(value):
            rules = "at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
            found.append(Finding(path, f"a label of Kubernetes has {rules}; got {show(value)}"))
    for key in metadata.annotations:
        path = ("metadata", "annotations", key)
        found += [Finding(path, words) for words in (_wrong_key(key),) if words]
        if _is_of_kubernetes(key):
            message = "annotations of this domain belong to Kubernetes, and not to the workflow: choose another name"
            found.append(Finding(path, message))
    notes = written(document, name=shown)["metadata"]["annotations"]
    size = sum(len(key.encode()) + len(value.encode()) for key, value in notes.items())
    if size > _MOST_ANNOTATIONS:
        message = (
            f"description and annotations take {size:,} bytes, and {_MOST_ANNOTATIONS:,} are the most of an object"
        )
        found.append(Finding(("metadata", "annotations"), message))
    return found


def _wrong_key(key: str) -> str:
    """Why something cannot be the name of a label or annotation; empty when it can."""
    domain, slash, word = key.rpartition("/")
    if (not slash or (len(domain) <= _LONGEST_NAME and _NAME.fullmatch(domain))) and _WORD.fullmatch(word):
        return ""
    kind = describe(key) if not key else show(key)
    return f"{kind} is not a name of Kubernetes such as team or example.com/team (at most 63 characters after the '/')"
