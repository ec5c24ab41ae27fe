"""What goes when something else has gone: dependents of an owner, the contents of a namespace or of a CRD.

The real server leaves this to controllers, which do it a little later; here it is done at once. `kubernetes_resources`
calls it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kubernetes_resources as resources
from kubernetes_kinds import Kind
from kubernetes_storage import Key, copied

if TYPE_CHECKING:
    from kubernetes_resources import Resources

Object = dict[str, Any]
_FOREGROUND = "foregroundDeletion"


def inside(of: Resources, kind: Kind, obj: Object) -> list[Key]:
    """What a namespace or a CRD has in it."""
    if kind.plural == "namespaces":
        return [key for key, _ in of.storage.everything() if key.namespace == obj["metadata"]["name"]]
    group, plural = obj["spec"]["group"], obj["spec"]["names"]["plural"]
    return [key for key, _ in of.storage.select(group, plural, "")]


def empty(of: Resources, kind: Kind, obj: Object) -> None:
    """Delete everything in a namespace or a CRD. What has finalizers stays, and keeps it."""
    for key in inside(of, kind, obj):
        if of.storage.get(key) is not None:
            _delete(of, key, {"gracePeriodSeconds": 0})


def contents_gone(of: Resources, gone: Key) -> None:
    """Let a namespace or a CRD go that was waiting for the last object in it."""
    waiting = [Key("", "namespaces", "", gone.namespace)] if gone.namespace else []
    crd = Key("apiextensions.k8s.io", "customresourcedefinitions", "", f"{gone.plural}.{gone.group}")
    for key in (*waiting, crd):
        obj = of.storage.get(key)
        kind = of.kinds.stored(key.group, key.plural)
        if obj and resources.may_go(obj) and not inside(of, kind, obj):
            of.remove(kind, key, obj)


def collect(of: Resources, uid: str) -> None:
    """Delete what belonged to an owner, and to no other that is there."""
    there = {obj["metadata"]["uid"] for _, obj in of.storage.everything()} - {uid}
    for key, obj in list(of.storage.everything()):
        owners = _owners(obj)
        if uid in owners and there.isdisjoint(owners) and of.storage.get(key) is obj:
            _delete(of, key, {})


def orphan(of: Resources, uid: str) -> None:
    """Let what belongs to an owner stay without it."""
    for key, obj in list(of.storage.everything()):
        if uid in _owners(obj):
            freed = copied(obj)
            left = [owner for owner in obj["metadata"]["ownerReferences"] if owner["uid"] != uid]
            freed["metadata"]["ownerReferences"] = left
            of.storage.put(key, freed)


def released(of: Resources, uid: str) -> None:
    """Something that belonged to an owner is gone: perhaps that was all it waited for."""
    for key, obj in list(of.storage.everything()):
        if obj["metadata"]["uid"] == uid:
            release(of, key)


def release(of: Resources, key: Key) -> None:
    """End a foreground deletion when nothing that belongs to the object is left."""
    obj = of.storage.get(key)
    if obj is None or _FOREGROUND not in obj["metadata"].get("finalizers", ()):
        return
    uid = obj["metadata"]["uid"]
    if any(uid in _owners(other) for _, other in of.storage.everything()):
        return
    new = copied(obj)
    new["metadata"]["finalizers"].remove(_FOREGROUND)
    of.update(of.kinds.stored(key.group, key.plural), key, obj, new, resources.Options())


def _owners(obj: Object) -> set[str]:
    return {owner["uid"] for owner in obj["metadata"].get("ownerReferences", ())}


def _delete(of: Resources, key: Key, asked: Object) -> None:
    of.delete(of.kinds.stored(key.group, key.plural), key.namespace, key.name, asked, resources.Options())
