"""What the server does with objects: create, replace, patch, delete, list, as REST requests and tests ask for it.

This is where versions are compared, names and generations given, finalizers waited for. `kubernetes_http` calls it for
requests, `KubernetesAPI` for tests; both get plain JSON, or a Refusal.
"""

from __future__ import annotations

import base64
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import kubernetes_admission as admission
import kubernetes_apply as apply
import kubernetes_garbage as garbage
import kubernetes_patches as patches
import kubernetes_selectors as selectors
import kubernetes_status as status
import kubernetes_subresources as subresources
import orjson
from kubernetes_kinds import Kind, Kinds
from kubernetes_storage import Key, Storage, copied

Object = dict[str, Any]
PatchKind = Literal["merge", "json", "strategic", "apply"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How something is asked for. `warnings` is what the answer warns of."""

    user: str = "test"
    manager: str = "test"
    subresource: str = ""
    dry_run: bool = False
    validation: Literal["Ignore", "Warn", "Strict"] = "Warn"
    force: bool = False
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """A list: the objects, the version it is of, and how to go on."""

    items: list[Object]
    revision: int
    continues: str = ""
    remaining: int = 0


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Resources:
    """The objects of the server, and its rules for them."""

    def __init__(self, kinds: Kinds, storage: Storage) -> None:
        self.kinds = kinds
        self.storage = storage

    def get(self, kind: Kind, namespace: str, name: str, *, subresource: str = "") -> Object:
        stored = self.storage.get(_key(kind, namespace, name))
        if stored is None:
            raise status.not_found(kind, name)
        return subresources.shown(kind, stored, subresource)

    def create(self, kind: Kind, namespace: str, body: Mapping[str, Any], options: Options) -> Object:
        """A new object. Refusals: 409 AlreadyExists, 422, 404 for a namespace that is not there."""
        obj = admission.decoded(kind, body, options)
        meta = obj["metadata"]
        _same_namespace(kind, namespace, meta)
        if meta.get("resourceVersion"):
            raise status.bad_request("resourceVersion should not be set on objects to be created")
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
        key = _key(kind, namespace, meta.get("name", ""))
        self._check_namespace(kind, key)
        _born(kind, obj, namespace)
        admission.check(kind, obj)
        if self.storage.get(key) is not None:
            raise status.already_exists(kind, key.name)
        if options.subresource != "apply":
            apply.updated(kind, None, obj, options)
        return self._stored(kind, key, None, obj, options)

    def replace(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], options: Options) -> Object:
        """Another object in the place of one, or of a subresource of it."""
        if body.get("metadata", {}).get("name") not in (name, None):
            raise status.bad_request(
                f"the name of the object ({body['metadata']['name']}) does not match the name on the URL ({name})"
            )
        key = _key(kind, namespace, name)
        present = self.storage.get(key)
        if present is None and kind.plural == "leases" and not body.get("metadata", {}).get("resourceVersion"):
            return self.create(kind, namespace, body, options)
        if present is None:
            raise status.not_found(kind, name)
        new = subresources.written(kind, present, body, options)
        if options.subresource != "scale":
            new = admission.decoded(kind, new, options)
        _same_namespace(kind, namespace, new["metadata"])
        version = new["metadata"].get("resourceVersion")
        if not version and not kind.unconditional and options.subresource != "scale":
            words = "Invalid value: 0x0: must be specified for an update"
            cause = status.Cause(reason="FieldValueInvalid", message=words, field="metadata.resourceVersion")
            raise status.invalid(kind, name, [cause])
        return self.update(kind, key, present, new, options)

    def patch(
        self, kind: Kind, namespace: str, name: str, body: Any, how: PatchKind, options: Options
    ) -> tuple[Object, bool]:
        """Change some of an object: it, and whether it was created, as `apply` may."""
        key = _key(kind, namespace, name)
        present = self.storage.get(key)
        if how == "apply":
            new = apply.applied(kind, name, present, body, options)
            if present is None:
                return self.create(kind, namespace, new, replace(options, subresource="apply")), True
        elif present is None:
            raise status.not_found(kind, name)
        else:
            seen = subresources.shown(kind, present, options.subresource)
            changed = patches.patched(kind, seen, body, how)
            admission.check_same(kind, seen, changed)
            new = subresources.written(kind, present, changed, options)
        if options.subresource != "scale":
            new = admission.decoded(kind, new, options)
        return self.update(kind, key, present, new, options, applied=how == "apply"), False

    def update(
        self, kind: Kind, key: Key, present: Object, new: Object, options: Options, *, applied: bool = False
    ) -> Object:
        """Store `new` in the place of `present`, as far as it may change it. What replace and patch come to."""
        before, meta = present["metadata"], new["metadata"]
        if meta.get("uid", before["uid"]) != before["uid"]:
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {before['uid']}"
            raise status.conflict(kind, key.name, why)
        if meta.get("resourceVersion", before["resourceVersion"]) != before["resourceVersion"]:
            raise status.conflict(kind, key.name)
        new = subresources.merged(kind, present, new, options.subresource)
        if _content(kind, new) != _content(kind, present) and kind.has_generation:
            new["metadata"]["generation"] = before.get("generation", 0) + 1
        admission.check(kind, new)
        admission.check_finalizers(kind, present, new)
        admission.check_immutable(kind, present, new)
        if not applied:
            apply.updated(kind, present, new, options)
        if orjson.dumps(new, option=orjson.OPT_SORT_KEYS) == orjson.dumps(present, option=orjson.OPT_SORT_KEYS):
            return subresources.shown(kind, present, options.subresource)
        if may_go(new) and "deletionTimestamp" in before:
            if not options.dry_run:
                self.remove(kind, key, new)
            return subresources.shown(kind, new, options.subresource)
        return self._stored(kind, key, present, new, options)

    def _stored(self, kind: Kind, key: Key, present: Object | None, new: Object, options: Options) -> Object:
        if not options.dry_run:
            new = self.storage.put(key, new)
            if kind.plural == "customresourcedefinitions":
                self.kinds.learn(new)
            if kind.plural == "namespaces" and present is None:
                account = {"metadata": {"name": "default"}}
                self.create(self.kinds.stored("", "serviceaccounts"), key.name, account, Options())
        return subresources.shown(kind, new, options.subresource)

    def delete(
        self, kind: Kind, namespace: str, name: str, asked: Mapping[str, Any], options: Options
    ) -> tuple[Object, bool]:
        """Delete an object: its last state, and whether it is gone. `asked` are the DeleteOptions."""
        key = _key(kind, namespace, name)
        present = self.storage.get(key)
        if present is None:
            raise status.not_found(kind, name)
        _check_preconditions(kind, present, asked.get("preconditions") or {})
        new = copied(present)
        meta = new["metadata"]
        policy = asked.get("propagationPolicy") or "Background"
        grace = _grace(kind, present, asked)
        if policy == "Foreground" and "deletionTimestamp" not in meta:
            meta["finalizers"] = [*meta.get("finalizers", ()), "foregroundDeletion"]
        if policy == "Orphan":
            garbage.orphan(self, meta["uid"])
        meta.setdefault("deletionTimestamp", now())
        meta["deletionGracePeriodSeconds"] = min(grace, meta.get("deletionGracePeriodSeconds", grace))
        if kind.plural == "namespaces":
            new.setdefault("status", {})["phase"] = "Terminating"
        if kind.has_generation and "deletionTimestamp" not in present["metadata"]:
            meta["generation"] = meta.get("generation", 0) + 1
        empties = kind.plural in {"namespaces", "customresourcedefinitions"} and bool(garbage.inside(self, kind, new))
        if options.dry_run:
            return new, may_go(new)
        if may_go(new) and not empties:
            return self.remove(kind, key, new), True
        if new != present:
            new = self.storage.put(key, new)
        if empties:
            garbage.empty(self, kind, new)
        if policy == "Foreground":
            garbage.collect(self, meta["uid"])
            garbage.release(self, key)
        return new, self.storage.get(key) is None

    def remove(self, kind: Kind, key: Key, last: Object) -> Object:
        """Let an object go, and what goes with it."""
        gone = self.storage.remove(key, last)
        if kind.plural == "customresourcedefinitions":
            self.kinds.forget(gone)
        garbage.collect(self, gone["metadata"]["uid"])
        for owner in gone["metadata"].get("ownerReferences", ()):
            garbage.released(self, owner["uid"])
        garbage.contents_gone(self, key)
        return gone

    def list(
        self,
        kind: Kind,
        namespace: str,
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        continues: str = "",
        at: int = 0,
    ) -> Selected:
        """Objects of a kind. `at`: the version they are wanted of (0: the present); `continues` goes on with a list."""
        selects = self.selects(kind, labels, fields)
        after = ""
        revision = at or self.storage.revision
        if continues:
            revision, after = self._went_to(continues)
        found = [
            (f"{key.namespace}/{key.name}", obj)
            for key, obj in self.storage.select(kind.group, kind.plural, namespace, at=revision)
            if selects(obj)
        ]
        found = [item for item in found if item[0] > after]
        page = found[:limit] if limit else found
        rest = len(found) - len(page)
        token = orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": page[-1][0]}) if rest else b""
        items = [subresources.shown(kind, obj, "") for _, obj in page]
        return Selected(
            items=items, revision=revision, continues=base64.urlsafe_b64encode(token).decode(), remaining=rest
        )

    def _went_to(self, continues: str) -> tuple[int, str]:
        try:
            token = orjson.loads(base64.urlsafe_b64decode(continues))
            revision, after = int(token["rv"]), str(token["start"])
        except (ValueError, KeyError, TypeError) as error:
            raise status.bad_request(f"continue key is not valid: {error}") from error
        if revision < 0:
            return self.storage.revision, after
        if revision < self.storage.compacted:
            refusal = status.Refusal(
                410,
                "Expired",
                "The provided continue parameter is too old to display a consistent list result. You can start a new"
                " list without the continue parameter, or use the continue token in this response to retrieve the"
                " remainder of the results. Continuing with the provided token results in an inconsistent list -"
                " objects that were created, modified, or deleted between the time the first chunk was returned and"
                " now may show up in the list.",
            )
            token["rv"] = -1
            refusal.continue_token = base64.urlsafe_b64encode(orjson.dumps(token)).decode()
            raise refusal
        return revision, after

    def selects(self, kind: Kind, labels: str, fields: str) -> Callable[[Object], bool]:
        """Both selectors as one predicate."""
        by_label, by_field = selectors.labels(labels), selectors.fields(fields, kind)
        return lambda obj: by_label(obj) and by_field(obj)

    def _check_namespace(self, kind: Kind, key: Key) -> None:
        if not kind.namespaced:
            return
        namespaces = self.kinds.stored("", "namespaces")
        found = self.storage.get(Key("", "namespaces", "", key.namespace))
        if found is None:
            raise status.not_found(namespaces, key.namespace)
        if "deletionTimestamp" in found["metadata"]:
            why = f"unable to create new content in namespace {key.namespace} because it is being terminated"
            refusal = status.forbidden(kind, key.name, why)
            refusal.details["causes"] = [
                {"reason": "NamespaceTerminating", "message": f"namespace {key.namespace} is being terminated"}
            ]
            raise refusal


def _key(kind: Kind, namespace: str, name: str) -> Key:
    return Key(kind.group, kind.plural, namespace if kind.namespaced else "", name)


def _same_namespace(kind: Kind, namespace: str, meta: Object) -> None:
    if kind.namespaced and meta.setdefault("namespace", namespace) != namespace:
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def _born(kind: Kind, obj: Object, namespace: str) -> None:
    meta = obj["metadata"]
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        meta.pop(key, None)
    meta["uid"] = str(uuid.uuid4())
    meta["creationTimestamp"] = now()
    if kind.namespaced:
        meta["namespace"] = namespace
    if kind.has_generation:
        meta["generation"] = 1
    if kind.has_status:
        obj.pop("status", None)
    admission.initial(kind, obj)


def _content(kind: Kind, obj: Object) -> Object:
    """What counts for the generation."""
    ignored = {"metadata", "apiVersion", "kind"} | ({"status"} if kind.has_status else set())
    return {key: value for key, value in obj.items() if key not in ignored}


def may_go(obj: Object) -> bool:
    """Whether an object is to be deleted, and nothing is waited for."""
    meta = obj["metadata"]
    if "deletionTimestamp" not in meta or meta.get("finalizers"):
        return False
    return not meta.get("deletionGracePeriodSeconds")


def _grace(kind: Kind, present: Object, asked: Mapping[str, Any]) -> int:
    """Seconds: only pods that have a node and have not ended are waited for."""
    done = present.get("status", {}).get("phase") in {"Succeeded", "Failed"}
    if kind.plural != "pods" or done or not present["spec"].get("nodeName"):
        return 0
    given = asked.get("gracePeriodSeconds")
    return int(present["spec"].get("terminationGracePeriodSeconds", 30) if given is None else given)


def _check_preconditions(kind: Kind, present: Object, wanted: Mapping[str, str]) -> None:
    for name, words in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        found = present["metadata"][name]
        if wanted.get(name) not in (None, found):
            why = f"Precondition failed: {words} in precondition: {wanted[name]}, {words} in object meta: {found}"
            raise status.conflict(kind, present["metadata"]["name"], why)
