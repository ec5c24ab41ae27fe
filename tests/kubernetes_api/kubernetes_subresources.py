"""Subresources: `status` and `scale`, which show and write a part of an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import kubernetes_selectors as selectors
import kubernetes_status as status
from kubernetes_kinds import Kind
from kubernetes_status import Cause
from kubernetes_storage import copied

if TYPE_CHECKING:
    from kubernetes_resources import Options

Object = dict[str, Any]

_KEPT = ("name", "namespace", "uid", "creationTimestamp", "generation", "generateName", "deletionTimestamp",
         "deletionGracePeriodSeconds", "resourceVersion")  # fmt: skip


def shown(kind: Kind, stored: Object, subresource: str) -> Object:
    """An object as this version of its kind has it; as a `Scale` for the scale subresource."""
    if subresource == "scale":
        return _scale(kind, stored)
    return copied(stored | {"apiVersion": kind.api_version})


def _scale(kind: Kind, stored: Object) -> Object:
    meta, paths = stored["metadata"], kind.scale
    assert paths is not None
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = selectors.text_of(selectors.at(stored, paths.selector)) if paths.selector else ""
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "spec": {"replicas": selectors.at(stored, paths.spec) or 0},
        "status": {
            "replicas": selectors.at(stored, paths.status) or 0,
            **({"selector": selector} if selector else {}),
        },
    }


def written(kind: Kind, present: Object, body: Mapping[str, Any], options: Options) -> Object:
    """The whole object that writing `body` to a subresource (or to the object itself) asks for."""
    if options.subresource != "scale":
        return copied(dict(body))
    replicas = (body.get("spec") or {}).get("replicas", 0)
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise status.bad_request(f"Scale in version 'v1' cannot be handled as a Scale: spec.replicas is {replicas!r}")
    name = present["metadata"]["name"]
    if replicas < 0:
        words = f"Invalid value: {replicas}: must be greater than or equal to 0"
        raise status.invalid(kind, name, [Cause(reason="FieldValueInvalid", message=words, field="spec.replicas")])
    assert kind.scale is not None
    whole = copied(present)
    asked = body.get("metadata") or {}
    whole["metadata"] |= {key: asked[key] for key in ("uid", "resourceVersion") if asked.get(key)}
    *parents, last = kind.scale.spec.split(".")
    inner = whole
    for part in parents:
        inner = inner.setdefault(part, {})
    inner[last] = replicas
    return whole


def merged(kind: Kind, present: Object, new: Object, subresource: str) -> Object:
    """What is to be stored: what `new` may change, and the rest as it is."""
    if subresource == "status":
        whole = copied(present)
        if new["metadata"].get("managedFields") is not None:
            whole["metadata"]["managedFields"] = new["metadata"]["managedFields"]
        whole.pop("status", None)
        return whole | ({"status": new["status"]} if "status" in new else {})
    whole = copied(new)
    if kind.has_status:
        whole.pop("status", None)
        whole |= copied({"status": present["status"]}) if "status" in present else {}
    meta, old = whole["metadata"], present["metadata"]
    for key in _KEPT:
        meta.pop(key, None)
        if key in old:
            meta[key] = old[key]
    if meta.get("managedFields") is None:
        meta["managedFields"] = copied(old).get("managedFields", [])
    return whole
