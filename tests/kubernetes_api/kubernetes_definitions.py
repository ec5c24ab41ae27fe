"""CRDs: what the server asks of a definition before it serves it, and how it says that it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import re2
from kubernetes_status import Cause

Object = dict[str, Any]

_JUNCTIONS = ("allOf", "anyOf", "oneOf", "not")
# What says what a value is; a junction may only say more about values that are described outside of it.
_STRUCTURAL = ("description", "type", "default", "additionalProperties", "nullable", "title")


def establish(crd: Object) -> None:
    """What the server fills in: names, and that it serves them."""
    names = crd["spec"]["names"]
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    crd["spec"].setdefault("conversion", {"strategy": "None"})
    crd["status"] = {
        "acceptedNames": dict(names),
        "storedVersions": [version["name"] for version in crd["spec"]["versions"] if version["storage"]],
        "conditions": [
            {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found",
             "lastTransitionTime": crd["metadata"]["creationTimestamp"]},
            {"type": "Established", "status": "True", "reason": "InitialNamesAccepted",
             "message": "the initial names have been accepted",
             "lastTransitionTime": crd["metadata"]["creationTimestamp"]},
        ],
    }  # fmt: skip


def problems(crd: Object) -> Iterator[Cause]:
    """Everything that is wrong with a definition."""
    spec = crd["spec"]
    wanted = f"{spec['names']['plural']}.{spec['group']}"
    if crd["metadata"]["name"] != wanted:
        yield _invalid("metadata.name", crd["metadata"]["name"], 'must be spec.names.plural+"."+spec.group')
    if spec["scope"] not in {"Namespaced", "Cluster"}:
        yield _not_supported("spec.scope", spec["scope"], ("Cluster", "Namespaced"))
    if spec["names"]["plural"] != spec["names"]["plural"].lower():
        yield _invalid("spec.names.plural", spec["names"]["plural"], "a DNS-1035 label must be lower case")
    if sum(bool(version["storage"]) for version in spec["versions"]) != 1:
        yield _invalid("spec.versions", "", "must have exactly one version marked as storage version")
    group = spec["group"]
    approved = crd["metadata"].get("annotations", {}).get("api-approved.kubernetes.io")
    if not approved and (group.endswith((".k8s.io", ".kubernetes.io")) or group in {"k8s.io", "kubernetes.io"}):
        words = 'Required value: protected groups must have approval annotation "api-approved.kubernetes.io"'
        yield Cause(
            reason="FieldValueRequired", message=words, field="metadata.annotations[api-approved.kubernetes.io]"
        )
    for index, version in enumerate(spec["versions"]):
        path = f"spec.versions[{index}].schema.openAPIV3Schema"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            yield _required(path, "schemas are required")
            continue
        if schema.get("type") != "object":
            yield _invalid(f"{path}.type", schema.get("type"), "must be object at the root")
        yield from _structural(schema, path, inside=False)
        yield from _subresources(version, schema, f"spec.versions[{index}].subresources")
        for number, column in enumerate(version.get("additionalPrinterColumns", ())):
            if not column["jsonPath"].startswith("."):
                where = f"spec.versions[{index}].additionalPrinterColumns[{number}].jsonPath"
                yield _invalid(where, column["jsonPath"], "must start with a '.'")


def _structural(schema: Object, path: str, *, inside: bool) -> Iterator[Cause]:
    """The rules of a structural schema. `inside`: in a junction."""
    if inside:
        for name in _STRUCTURAL:
            if name in schema:
                yield _forbidden(f"{path}.{name}", "must be empty to be structural")
        for name in schema:
            if name.startswith("x-kubernetes-") and name != "x-kubernetes-validations":
                yield _forbidden(f"{path}.{name}", "must not be set to be structural")
    elif not schema.get("type") and not (
        schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        yield _required(f"{path}.type", "must not be empty for specified object fields")
    yield from _limits(schema, path)
    below = dict(schema.get("properties", {}))
    more = schema.get("additionalProperties")
    if below and more:
        yield _forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
    if more is False:
        yield _forbidden(f"{path}.additionalProperties", "must not be used")
    for name, inner in below.items():
        yield from _structural(inner, f"{path}.properties[{name}]", inside=inside)
        if (
            name == "metadata"
            and path.endswith("openAPIV3Schema")
            and set(inner) - {"type", "properties", "description"}
        ):
            yield _forbidden(
                f"{path}.properties[metadata]", "must not specify anything other than name and generateName"
            )
    if isinstance(more, dict):
        yield from _structural(more, f"{path}.additionalProperties", inside=inside)
    if isinstance(schema.get("items"), dict):
        yield from _structural(schema["items"], f"{path}.items", inside=inside)
    for name in _JUNCTIONS:
        inner = schema.get(name, ())
        for index, part in enumerate([inner] if isinstance(inner, dict) else inner):
            where = f"{path}.{name}" if name == "not" else f"{path}.{name}[{index}]"
            yield from _structural(part, where, inside=True)
            yield from _covered(schema, part, where)


def _covered(schema: Object, part: Object, path: str) -> Iterator[Cause]:
    """What a junction speaks of has to be described outside of it."""
    for name in part.get("properties", {}):
        if name not in schema.get("properties", {}) and not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield _required(f"{path}.properties[{name}]", "because it is defined in a junction of the schema")


def _limits(schema: Object, path: str) -> Iterator[Cause]:
    for name in ("$ref", "definitions", "dependencies", "patternProperties", "additionalItems", "id"):
        if name in schema:
            yield _forbidden(f"{path}.{name}", f"{name} is not supported")
    if schema.get("uniqueItems"):
        yield _forbidden(f"{path}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes"
                         " quadratic")  # fmt: skip
    if schema.get("type") == "array" and "items" not in schema:
        yield _required(f"{path}.items", "must be specified")
    if schema.get("type") not in (None, "object", "array", "string", "integer", "number", "boolean"):
        yield _not_supported(
            f"{path}.type", schema["type"], ("array", "boolean", "integer", "number", "object", "string")
        )
    if "pattern" in schema:
        try:
            re2.compile(schema["pattern"])
        except re2.error as error:
            yield _invalid(
                f"{path}.pattern", schema["pattern"], f"must be a valid regular expression, but isn't: {error}"
            )
    if schema.get("x-kubernetes-list-type") == "map":
        keys = schema.get("x-kubernetes-list-map-keys")
        items = schema.get("items") or {}
        if not keys:
            yield _required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
        for key in keys or ():
            if key not in items.get("required", ()) and "default" not in items.get("properties", {}).get(key, {}):
                words = "this property is in x-kubernetes-list-map-keys, so it must have a default or be required"
                yield _required(f"{path}.items.properties[{key}].default", words)
    if schema.get("x-kubernetes-validations"):
        yield _forbidden(f"{path}.x-kubernetes-validations", "this test double evaluates no CEL rules")


def _subresources(version: Object, schema: Object, path: str) -> Iterator[Cause]:
    scale = (version.get("subresources") or {}).get("scale")
    for name, root in (("specReplicasPath", "spec"), ("statusReplicasPath", "status")) if scale else ():
        value = scale.get(name, "")
        if not value.startswith(f".{root}."):
            yield _invalid(f"{path}.scale.{name}", value, f"should be a json path under .{root}")


def _invalid(field: str, value: Any, words: str) -> Cause:
    return Cause(reason="FieldValueInvalid", message=f"Invalid value: {json.dumps(value)}: {words}", field=field)


def _required(field: str, words: str) -> Cause:
    return Cause(reason="FieldValueRequired", message=f"Required value: {words}", field=field)


def _forbidden(field: str, words: str) -> Cause:
    return Cause(reason="FieldValueForbidden", message=f"Forbidden: {words}", field=field)


def _not_supported(field: str, value: Any, supported: tuple[str, ...]) -> Cause:
    known = ", ".join(json.dumps(item) for item in supported)
    words = f"Unsupported value: {json.dumps(value)}: supported values: {known}"
    return Cause(reason="FieldValueNotSupported", message=words, field=field)
