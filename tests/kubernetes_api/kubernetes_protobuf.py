"""Requests in protobuf, which kubectl and helm use for a few kinds that they know by heart: into JSON.

Answers are always JSON; clients accept it. The numbers are those of `generated.proto` in k8s.io/api and
k8s.io/apimachinery, for the messages that these programs send; any other is refused with 415, as by a server that knows
no protobuf. A table says for each field: its name and what it is (a message's name; `text`, `bytes`, `int`, `bool`,
`map:...`; `[]` in front where there are several).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final

import kubernetes_status as status

Object = dict[str, Any]

_MAGIC: Final = b"k8s\x00"
_META: Final = "1 metadata Meta"
_MESSAGES: Final = {
    "Unknown": "1 type Type, 2 raw raw",
    "Type": "1 apiVersion text, 2 kind text",
    "Meta": (
        "1 name text, 2 generateName text, 3 namespace text, 5 uid text, 6 resourceVersion text, 7 generation int,"
        " 8 creationTimestamp Skipped, 11 labels map:text, 12 annotations map:text, 13 ownerReferences []Owner,"
        " 14 finalizers []text, 17 managedFields []Skipped"
    ),
    "Owner": "1 kind text, 3 name text, 4 uid text, 5 apiVersion text, 6 controller bool, 7 blockOwnerDeletion bool",
    "Skipped": "",
    "Secret": f"{_META}, 2 data map:bytes, 3 type text, 4 stringData map:text, 5 immutable bool",
    "ConfigMap": f"{_META}, 2 data map:text, 3 binaryData map:bytes, 4 immutable bool",
    "Namespace": f"{_META}, 2 spec Skipped, 3 status Skipped",
    "ServiceAccount": f"{_META}, 4 automountServiceAccountToken bool",
    "TokenRequest": f"{_META}, 2 spec TokenRequestSpec, 3 status Skipped",
    "TokenRequestSpec": "1 audiences []text, 3 boundObjectRef Skipped, 4 expirationSeconds int",
    "SelfSubjectAccessReview": f"{_META}, 2 spec Review, 3 status Skipped",
    "Review": "1 resourceAttributes Wish, 2 nonResourceAttributes Path",
    "Wish": (
        "1 namespace text, 2 verb text, 3 group text, 4 version text, 5 resource text, 6 subresource text, 7 name text"
    ),
    "Path": "1 path text, 2 verb text",
    "DeleteOptions": (
        "1 gracePeriodSeconds int, 2 preconditions Preconditions, 3 orphanDependents bool, 4 propagationPolicy text,"
        " 5 dryRun []text"
    ),
    "Preconditions": "1 uid text, 2 resourceVersion text",
}
_FIELDS: Final = {
    message: {int(number): (name, kind) for number, name, kind in (line.split() for line in fields.split(",") if line)}
    for message, fields in _MESSAGES.items()
}


def decoded(raw: bytes) -> Object:
    """The object in a request. Refusal 415 for kinds that are not known here."""
    if not raw.startswith(_MAGIC):
        raise status.bad_request("the body is no protobuf of Kubernetes: it does not begin as one")
    outer = _message("Unknown", raw[len(_MAGIC) :])
    kind = outer["type"]["kind"]
    if kind not in _FIELDS:
        accepted = "application/json, application/yaml"
        words = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        raise status.Refusal(415, "UnsupportedMediaType", f"{words} (the test double reads no protobuf of a {kind})")
    return {**outer["type"], **_message(kind, outer.get("raw", b""))}


def _message(message: str, raw: bytes) -> Object:
    result: Object = {}
    for number, value in _wire(raw):
        name, kind = _FIELDS[message].get(number, ("", ""))
        if kind in {"", "Skipped", "[]Skipped"}:
            continue
        if kind.startswith("map:"):
            pair = dict(_wire(value))
            result.setdefault(name, {})[pair.get(1, b"").decode()] = _value(kind[4:], pair.get(2, b""))
        elif kind.startswith("[]"):
            result.setdefault(name, []).append(_value(kind[2:], value))
        elif (found := _value(kind, value)) != "":  # written by Go for every text that is not set
            result[name] = found
    return result


def _value(kind: str, value: Any) -> Any:
    match kind:
        case "text":
            return value.decode()
        case "bytes":
            return base64.b64encode(value).decode()
        case "bool":
            return bool(value)
        case "int":
            return value - (1 << 64) if value >= 1 << 63 else value
        case "raw":
            return value
        case _:
            return _message(kind, value)


def _wire(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and values: integers, and bytes of known length."""
    position = 0
    while position < len(raw):
        tag, position = _varint(raw, position)
        value, position = _varint(raw, position)
        if tag & 7 == 2:
            value, position = raw[position : position + value], position + value
        elif tag & 7 != 0:
            raise status.bad_request(f"protobuf of a wire type that no known message has: {tag & 7}")
        yield tag >> 3, value


def _varint(raw: bytes, position: int) -> tuple[Any, int]:
    value = shift = 0
    while True:
        if position >= len(raw):
            raise status.bad_request("protobuf that ends too early")
        byte = raw[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return value, position
