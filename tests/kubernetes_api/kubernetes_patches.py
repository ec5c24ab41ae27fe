"""Patches: JSON merge patches, JSON patches, and strategic merge patches as `kubectl apply` sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kubernetes_schemas as schemas
import kubernetes_status as status
from kubernetes_kinds import Kind
from kubernetes_storage import copied

if TYPE_CHECKING:
    from kubernetes_resources import PatchKind

Object = dict[str, Any]


def patched(kind: Kind, present: Object, patch: Any, how: PatchKind) -> Object:
    """`present` with a patch applied. Refusals: 400, 415 (strategic, for a custom kind), 422 (a JSON patch fails)."""
    if how == "json":
        return _json_patch(copied(present), patch)
    if not isinstance(patch, dict):
        raise status.bad_request("the patch is no JSON object")
    if how == "merge":
        merged: Object = _merge(copied(present), patch)
        return merged
    if kind.custom:
        accepted = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        words = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        raise status.Refusal(415, "UnsupportedMediaType", words)
    strategic: Object = _strategic(schemas.Place.top(kind), copied(present), copied(patch))
    return strategic


def _merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value)
    return result


def _json_patch(document: Object, patch: Any) -> Object:
    """RFC 6902."""
    if not isinstance(patch, list) or not all(isinstance(step, dict) for step in patch):
        raise status.bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    whole: Object = {"": document}
    for step in patch:
        try:
            _step(whole, step)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            words = "the server rejected our request due to an error in our request"
            raise status.Refusal(422, "Invalid", words) from error
    result: Object = whole[""]
    return result


def _step(whole: Object, step: Object) -> None:
    parent, key = _find(whole, step["path"])
    match step["op"]:
        case "test":
            if _child(parent, key) != step["value"]:
                raise ValueError(f"testing path {step['path']} value failed")
        case "remove":
            del parent[_index(parent, key)]
        case "replace":
            _child(parent, key)
            parent[_index(parent, key)] = step["value"]
        case "add":
            _add(parent, key, step["value"])
        case "copy" | "move":
            source, name = _find(whole, step["from"])
            value = _child(source, name)
            if step["op"] == "move":
                del source[_index(source, name)]
            _add(*_find(whole, step["path"]), copied({"": value})[""])
        case operation:
            raise ValueError(f"unexpected kind: {operation}")


def _find(whole: Object, pointer: str) -> tuple[Any, str]:
    *parents, last = ("/" + pointer.lstrip("/") if pointer else "").split("/")
    found: Any = whole
    for part in parents:
        found = _child(found, _plain(part))
    return found, _plain(last)


def _plain(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _index(parent: Any, key: str) -> Any:
    return int(key) if isinstance(parent, list) else key


def _child(parent: Any, key: str) -> Any:
    return parent[_index(parent, key)]


def _add(parent: Any, key: str, value: Any) -> None:
    if isinstance(parent, list):
        position = len(parent) if key == "-" else int(key)
        if position > len(parent):
            raise IndexError(position)
        parent.insert(position, value)
    else:
        parent[key] = value


def _strategic(place: schemas.Place, target: Any, patch: Any) -> Any:
    """A strategic merge patch: lists that have a merge key are merged by it."""
    if not isinstance(patch, dict):
        return patch
    directive = patch.pop("$patch", "merge")
    if directive == "delete":
        return {}
    result: Object = dict(target) if isinstance(target, dict) and directive == "merge" else {}
    kept = patch.pop("$retainKeys", None)
    if kept is not None:
        result = {name: value for name, value in result.items() if name in kept}
    orders = {name: patch.pop(name) for name in list(patch) if name.startswith("$setElementOrder/")}
    for name in [name for name in patch if name.startswith("$deleteFromPrimitiveList/")]:
        unwanted, field = patch.pop(name), name.partition("/")[2]
        result[field] = [item for item in result.get(field, ()) if item not in unwanted]
    for name, value in patch.items():
        below = place.field(name)
        if value is None:
            result.pop(name, None)
        elif below is None:
            result[name] = value
        elif isinstance(value, list):
            result[name] = _strategic_list(below, result.get(name) or [], value)
        else:
            result[name] = _strategic(below, result.get(name), value)
    for name, order in orders.items():
        field = name.partition("/")[2]
        below = place.field(field)
        if below is not None and field in result:
            result[field] = _ordered(below, result[field], order)
    return result


def _strategic_list(place: schemas.Place, target: list[Any], patch: list[Any]) -> list[Any]:
    if place.schema.get("x-kubernetes-patch-strategy") not in {"merge", "merge,retainKeys", "retainKeys,merge"}:
        return patch
    key = place.schema.get("x-kubernetes-patch-merge-key")
    if key is None:
        return target + [item for item in patch if item not in target]
    if {"$patch": "replace"} in patch:
        return [item for item in patch if item != {"$patch": "replace"}]
    result = list(target)
    for item in patch:
        at = next((index for index, present in enumerate(result) if present.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            result = [present for present in result if present.get(key) != item.get(key)]
        elif at is None:
            result.append(_strategic(place.item(0), {}, item))
        else:
            result[at] = _strategic(place.item(0), result[at], item)
    return result


def _ordered(place: schemas.Place, items: list[Any], order: list[Any]) -> list[Any]:
    key = place.schema.get("x-kubernetes-patch-merge-key")
    wanted = [item.get(key) if key and isinstance(item, dict) else item for item in order]

    def rank(item: Any) -> int:
        name = item.get(key) if key else item
        return wanted.index(name) if name in wanted else len(wanted)

    return sorted(items, key=rank)
