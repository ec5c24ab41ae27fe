"""Tables, as `kubectl get` asks for them: the printer columns of a kind, filled in by the server."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import kubernetes_selectors as selectors
from kubernetes_kinds import Kind

Object = dict[str, Any]


def wanted(accept: str) -> bool:
    return "as=Table" in accept and "g=meta.k8s.io" in accept


def table(kind: Kind, items: list[Object], meta: Object, *, columns: bool = True) -> Object:
    """`items` as a Table."""
    own = [column for column in kind.columns if not (kind.custom and column["jsonPath"] == ".metadata.name")]
    last = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
    if not any(column["jsonPath"] == last["jsonPath"] for column in own):
        own = [*own, last]
    headings = [{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}]
    headings += [
        {
            "name": column["name"],
            "type": column["type"],
            "format": column.get("format", ""),
            "description": column.get("description", ""),
            "priority": column.get("priority", 0),
        }
        for column in own
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": headings if columns else [],
        "rows": [
            {
                "cells": [item["metadata"]["name"], *(_cell(item, column) for column in own)],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": item["metadata"],
                },
            }
            for item in items
        ],
    }


_CONDITION = re.compile(r"(?P<list>.+)\[\?\(@\.(?P<key>\w+)\s*==\s*[\"'](?P<value>[^\"']+)[\"']\)\](?P<rest>.*)")


def _cell(item: Object, column: Object) -> Any:
    """The value of a column: at a path, which may choose an item of a list by a value (`[?(@.type=="Ready")]`)."""
    path = column["jsonPath"].lstrip(".")
    found = _CONDITION.fullmatch(path)
    if found is None:
        value = selectors.at(item, path.replace("\\.", "."))
    else:
        items = selectors.at(item, found["list"]) or ()
        chosen = [entry for entry in items if entry.get(found["key"]) == found["value"]]
        value = selectors.at(chosen[0], found["rest"].lstrip(".")) if chosen else None
    if column["type"] == "date" and value:
        return _age(str(value))
    return value


def _age(text: str) -> str:
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(text.replace("Z", "+00:00"))).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (120, "m")):
        if seconds >= size:
            return f"{seconds // (60 if unit == 'm' else size)}{unit}"
    return f"{seconds}s"
