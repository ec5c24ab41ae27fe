"""Label selectors and field selectors: texts into predicates over objects, refused as the server refuses them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import kubernetes_status as status
from kubernetes_kinds import Kind

Object = dict[str, Any]
Selects = Callable[[Object], bool]

_KEY = r"(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
_REQUIREMENT = re.compile(
    rf"\s*(?:(?P<not>!)\s*)?(?P<key>{_KEY})\s*"
    rf"(?:(?P<op>==|!=|=)\s*(?P<value>{_VALUE})|(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?\s*"
)


def labels(text: str) -> Selects:
    """`app=a,tier in (x,y),!canary` as a predicate. Refusal 400 when it cannot be read."""
    tests: list[Selects] = []
    position = 0
    while position < len(text):
        match = _REQUIREMENT.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            raise status.bad_request(f"unable to parse requirement: found '{text[position:]}', expected: identifier")
        tests.append(_requirement(match))
        position = match.end() + 1
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def _requirement(match: re.Match[str]) -> Selects:
    key = match["key"]
    if match["set"]:
        values = {value.strip() for value in match["values"].split(",")}
        if match["set"] == "in":
            return lambda found: found.get(key) in values
        return lambda found: found.get(key) not in values
    if match["op"] == "!=":
        return lambda found: found.get(key) != match["value"]
    if match["op"]:
        return lambda found: found.get(key) == match["value"]
    return lambda found: (key in found) is not bool(match["not"])


# What may be selected by besides name and namespace.
_FIELDS = {
    "pods": {
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    },
    "secrets": {"type"},
    "namespaces": {"status.phase"},
    "nodes": {"spec.unschedulable"},
    "services": {"spec.clusterIP", "spec.type"},
    "replicasets": {"status.replicas"},
    "jobs": {"status.successful"},
    "events": {
        *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")),
        "reason",
        "reportingComponent",
        "source",
        "type",
    },
}


def fields(text: str, kind: Kind) -> Selects:
    """`metadata.name=a,status.phase!=Running` as a predicate. Refusal 400 for what the kind has no index of."""
    known = {"metadata.name", "metadata.namespace", *kind.selectable, *_FIELDS.get(kind.plural, ())}
    tests: list[Selects] = []
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"\s*([^=!]+?)\s*(==|!=|=)\s*(.*?)\s*", part)
        if found is None:
            raise status.bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        path, operator, wanted = found.groups()
        if path not in known:
            raise status.bad_request(f"field label not supported: {path}")
        tests.append(_field(path, wanted, equal=operator != "!="))
    return lambda obj: all(test(obj) for test in tests)


def _field(path: str, wanted: str, *, equal: bool) -> Selects:
    def test(obj: Object) -> bool:
        value = at(obj, path)
        text = str(value).lower() if isinstance(value, bool) else str("" if value is None else value)
        return (text == wanted) is equal

    return test


def at(obj: Any, path: str) -> Any:
    """What is at a dotted path; None where there is nothing."""
    for part in path.split("."):
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj


def text_of(selector: Any) -> str:
    """A `LabelSelector` object as text, as a scale subresource shows it."""
    if not isinstance(selector, dict):
        return str(selector or "")
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for rule in selector.get("matchExpressions") or ():
        values = ",".join(sorted(rule.get("values") or ()))
        operator = rule["operator"]
        key = rule["key"]
        parts.append(
            {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}.get(operator, f"!{key}")
        )
    return ",".join(parts)
