"""Who manages which field: `metadata.managedFields`, and server-side apply, which goes by it.

A set of fields is a set of paths; a path is a tuple of elements as `fieldsV1` has them: `f:spec`, `k:{"name":"a"}`,
`v:"x"`. A path in a set stands for the value there; containers are in it only where the real server has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import kubernetes_admission as admission
import kubernetes_resources as resources
import kubernetes_status as status
from kubernetes_kinds import Kind
from kubernetes_schemas import Place
from kubernetes_status import Cause
from kubernetes_storage import copied

if TYPE_CHECKING:
    from kubernetes_resources import Options

Object = dict[str, Any]
Path = tuple[str, ...]
Manager = tuple[str, str, str]
"""Name, operation (Apply or Update), subresource."""

_UNMANAGED: Final = frozenset(
    ("f:metadata", f"f:{name}")
    for name in ("name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion", "managedFields",
                 "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName")
) | {("f:apiVersion",), ("f:kind",), ("f:metadata",)}  # fmt: skip


def _fields(kind: Kind, obj: Object) -> dict[Path, Any]:
    """The managed fields of an object, with their values."""
    found = dict(_below(Place.top(kind), obj, ()))
    return {path: value for path, value in found.items() if path[:2] not in _UNMANAGED and path not in _UNMANAGED}


def _below(place: Place, value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and place.schema.get("x-kubernetes-map-type") != "atomic":
        for name, inner in value.items():
            below = place.field(name) or Place({}, place.custom)
            yield from _below(below, inner, (*path, f"f:{name}"))
    elif isinstance(value, list) and value and place.schema.get("x-kubernetes-list-type") in {"map", "set"}:
        for item in value:
            element = _element(place, item)
            yield (*path, element), None
            if element.startswith("k:"):
                yield from _below(place.item(0), item, (*path, element))
    else:
        yield path, value


def _element(place: Place, item: Any) -> str:
    """What an item of a list that is merged is called."""
    keys = place.keys(item)
    if keys is None:
        return "v:" + json.dumps(item)
    return "k:" + json.dumps(keys, separators=(",", ":"), sort_keys=True)


def _nested(paths: set[Path]) -> Object:
    """A set as `fieldsV1`."""
    tree: Object = {}
    for path in sorted(paths):
        inner = tree
        for element in path:
            inner = inner.setdefault(element, {})
    for path in paths:
        inner = tree
        for element in path:
            inner = inner[element]
        if inner:
            inner["."] = {}
    return tree


def _flat(tree: Object, path: Path = ()) -> Iterator[Path]:
    """`fieldsV1` as a set."""
    if (not tree or "." in tree) and path:
        yield path
    for element, inner in tree.items():
        if element != ".":
            yield from _flat(inner, (*path, element))


def _managers(obj: Object) -> dict[Manager, set[Path]]:
    entries = obj["metadata"].get("managedFields") or ()
    return {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): set(_flat(entry["fieldsV1"]))
        for entry in entries
        if entry.get("manager")
    }


def _record(kind: Kind, obj: Object, before: Object | None, managers: dict[Manager, set[Path]]) -> None:
    """Write who manages what into an object; times stay where nothing changed."""
    known = {}
    for entry in (before or {"metadata": {}})["metadata"].get("managedFields") or ():
        known[entry.get("manager"), entry.get("operation"), entry.get("subresource", "")] = entry
    entries = []
    for manager, paths in managers.items():
        if not paths:
            continue
        name, operation, subresource = manager
        tree = _nested(paths)
        old = known.get(manager)
        entries.append(
            {
                "manager": name,
                "operation": operation,
                "apiVersion": kind.api_version,
                "time": old["time"] if old and old["fieldsV1"] == tree else resources.now(),
                "fieldsType": "FieldsV1",
                "fieldsV1": tree,
                **({"subresource": subresource} if subresource else {}),
            }
        )
    obj["metadata"]["managedFields"] = entries


def updated(kind: Kind, present: Object | None, new: Object, options: Options) -> None:
    """Note in `new` that whoever asks manages now what they have changed."""
    before, after = _fields(kind, present) if present else {}, _fields(kind, new)
    managers = _managers(new) if present else {}
    if kind.has_status and options.subresource != "status":  # what a new object begins with is the server's own
        before, after = (
            {path: value for path, value in fields.items() if path[0] != "f:status"} for fields in (before, after)
        )
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = before.keys() - after.keys()
    for paths in managers.values():
        paths -= changed | gone
    mine = (options.manager, "Update", options.subresource)
    managers[mine] = managers.get(mine, set()) | changed
    _record(kind, new, present, managers)


def applied(kind: Kind, name: str, present: Object | None, body: Any, options: Options) -> Object:
    """The object that server-side apply makes. Refusals: 400, 409 with every conflict, 422 without a field manager."""
    config = _configuration(kind, name, body, options)
    mine = (options.manager, "Apply", options.subresource)
    wanted = _fields(kind, config)
    if present is None:
        _record(kind, config, None, {mine: set(wanted)})
        return config
    managers = _managers(present)
    live = _fields(kind, present)
    conflicts = {
        manager: sorted(path for path in paths & wanted.keys() if live.get(path) != wanted[path])
        for manager, paths in managers.items()
        if manager != mine
    }
    conflicts = {manager: paths for manager, paths in conflicts.items() if paths}
    if conflicts and not options.force:
        raise _conflict(kind, name, conflicts)
    for manager, paths in conflicts.items():
        managers[manager] -= set(paths)
    given_up = managers.get(mine, set()) - wanted.keys()
    others = set().union(*(paths for manager, paths in managers.items() if manager != mine))
    place = Place.top(kind)
    new: Object = _merged(place, copied(present), config)
    for path in sorted(given_up - others, key=len):
        _drop(place, new, path)
    managers[mine] = set(wanted)
    asked = config["metadata"]
    new["metadata"] |= {key: asked[key] for key in ("uid", "resourceVersion") if key in asked}
    _record(kind, new, present, managers)
    return new


def _configuration(kind: Kind, name: str, body: Any, options: Options) -> Object:
    if not options.manager:
        words = "Required value: is required for apply patch"
        cause = Cause(reason="FieldValueRequired", message=words, field="fieldManager")
        refusal = status.invalid(kind, "", [cause])
        raise status.Refusal(422, "Invalid", f'PatchOptions.meta.k8s.io "" is invalid: {cause}', **refusal.details)
    if not isinstance(body, Mapping) or not isinstance(body.get("metadata") or {}, dict):
        raise status.bad_request("error decoding YAML: the patch is no object")
    if (body.get("metadata") or {}).get("managedFields") is not None:
        raise status.bad_request("metadata.managedFields must be nil")
    given = {**body, "metadata": {"name": name, **(body.get("metadata") or {})}}
    defaults = {"apiVersion": kind.api_version, "kind": kind.kind}
    if any(given.get(key) != value for key, value in defaults.items()):
        raise status.bad_request(
            "invalid object type: apiVersion and kind of an applied object must be those of the URL"
        )
    if given["metadata"]["name"] != name:
        raise status.bad_request(
            f"the name of the object ({given['metadata']['name']}) is not that of the URL ({name})"
        )
    config = admission.decoded(kind, given, options, defaults=False)
    if options.subresource == "status":
        return {key: value for key, value in config.items() if key in {"apiVersion", "kind", "status"}} | {
            "metadata": {"name": name}
        }
    if kind.has_status:
        config.pop("status", None)
    return config


def _merged(place: Place, live: Any, config: Any) -> Any:
    if isinstance(live, dict) and isinstance(config, dict) and place.schema.get("x-kubernetes-map-type") != "atomic":
        result = dict(live)
        for name, value in config.items():
            below = place.field(name) or Place({}, place.custom)
            result[name] = _merged(below, live[name], value) if name in live else value
        return result
    if (
        isinstance(live, list)
        and isinstance(config, list)
        and place.schema.get("x-kubernetes-list-type") in {"map", "set"}
    ):
        items = {_element(place, item): item for item in live}
        for item in config:
            element = _element(place, item)
            items[element] = _merged(place.item(0), items[element], item) if element in items else item
        return list(items.values())
    return config


def _drop(place: Place, value: Any, path: Path) -> None:
    """Take a field out, and containers that only it was in."""
    element, rest = path[0], path[1:]
    if element.startswith("f:"):
        name = element[2:]
        if not isinstance(value, dict) or name not in value:
            return
        if rest:
            _drop(place.field(name) or Place({}, place.custom), value[name], rest)
        if not rest or value[name] in ({}, []):
            del value[name]
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if _element(place, item) == element:
                if rest:
                    _drop(place.item(0), item, rest)
                else:
                    del value[index]
                return


def _conflict(kind: Kind, name: str, conflicts: dict[Manager, list[Path]]) -> status.Refusal:
    causes = []
    for (manager, operation, subresource), paths in conflicts.items():
        through = f' with subresource "{subresource}"' if subresource else ""
        using = f" using {kind.api_version}" if operation == "Update" else ""
        causes += [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{manager}"{through}{using}',
                "field": "".join("." + e[2:] if e[0] == "f" else f"[{e[2:]}]" for e in path),
            }
            for path in paths
        ]
    count = len(causes)
    if count == 1:
        words = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        lines = "\n".join(f"- {cause['message']}: {cause['field']}" for cause in causes)
        words = f"Apply failed with {count} conflicts:\n{lines}"
    return status.Refusal(409, "Conflict", words, name=name, kind=kind.plural, causes=causes)
