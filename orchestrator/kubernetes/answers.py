"""What the Kubernetes API answers, read: lists, objects and events that are what they should be, or an error.

Proxies and load balancers answer in the API's place now and then, and cheerfully. What is no answer of the API must
not be taken for one: an empty object is no empty list. Used by `client`.
"""

from __future__ import annotations

import gc
from typing import Any

import msgspec

from orchestrator.errors import ClusterUnavailable
from orchestrator.kubernetes import refusals
from orchestrator.kubernetes.base import Event, Object, Page

__all__ = ["as_object", "as_page", "decoded", "event", "status", "value"]


def decoded(content: bytes) -> Any:
    """A JSON value, made while the garbage collector rests. msgspec.DecodeError.

    It would look through the thousands of objects of a list again and again while they are made, which takes six times
    as long as making them; and nothing else runs on the loop meanwhile.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return msgspec.json.decode(content)
    finally:
        if collects:
            gc.enable()


def value(what: refusals.Call, content: bytes) -> Object:
    """Whatever was answered, as JSON. Raises ClusterUnavailable."""
    try:
        found = decoded(content)
    except msgspec.DecodeError as exc:
        raise ClusterUnavailable(f"{what}: the answer is not JSON: is there something in between?") from exc
    if not isinstance(found, dict):
        raise ClusterUnavailable(f"{what}: the answer is no object")
    return found


def as_object(what: refusals.Call, answer: Object) -> Object:
    """An answer that is an object with a name. Raises ClusterUnavailable."""
    if not _has(answer, "name", "resourceVersion"):
        raise ClusterUnavailable(f"{what}: the answer is not as the API gives objects: is there something in between?")
    return answer


def as_page(what: refusals.Call, answer: Object) -> tuple[Page, str]:
    """An answer that is a list, or a part of it, and the token for the next part, if any. Raises ClusterUnavailable."""
    items = answer.get("items", ())
    if items is None:  # so Go writes a list that was never made
        items = []
    if not (_has(answer, "resourceVersion") and isinstance(items, list)):
        raise ClusterUnavailable(f"{what}: the answer is not as the API gives lists: is there something in between?")
    for item in items:
        as_object(what, item)
    meta = answer["metadata"]
    return Page(items=items, resource_version=meta["resourceVersion"]), str(meta.get("continue") or "")


def event(what: refusals.Call, line: bytes) -> Event:
    """An event of a watch. Raises ClusterError: what the event says if it is one of an error."""
    found = value(what, line)
    kind: Any = found.get("type")
    body: Any = found.get("object")
    if kind == "ERROR" and isinstance(body, dict):
        code = body.get("code")
        raise refusals.error(what, code if isinstance(code, int) else 500, body, None)
    parts = ("resourceVersion",) if kind == "BOOKMARK" else ("name", "resourceVersion")
    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not _has(body, *parts):
        raise ClusterUnavailable(f"{what}: an event is not as the API sends them")
    return Event(type=kind, object=body)


def status(content: bytes) -> Object:
    """The API's own words about an error; nothing when they are not the API's."""
    try:
        found = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _has(body: Any, *parts: str) -> bool:
    meta = body.get("metadata") if isinstance(body, dict) else None
    return isinstance(meta, dict) and all(meta.get(part) and isinstance(meta[part], str) for part in parts)
