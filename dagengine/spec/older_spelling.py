"""The older spelling of a node's limits, `metadata: {timeout: 300, retries: 3}`, in today's words.

`retries` counts the tries after the first one: `retries: 3` is `retry.fail.max_attempts: 4`, and at least as many
attempts after an `error` (which has 3 by default). `timeout` is `timeout`. Called by `document` before anything else
looks at the nodes.
"""

from __future__ import annotations

from typing import Final

from dagengine.spec.duration import parse_duration
from dagengine.spec.path import Finding, Path
from dagengine.spec.plain import describe, show
from dagengine.spec.suggestion import did_you_mean

__all__ = ["modernized"]

_FIELDS: Final = ("timeout", "retries")
_MAX_RETRIES: Final = 999
_DEFAULT_ERROR_ATTEMPTS: Final = 3


def modernized(document: dict[str, object]) -> tuple[dict[str, object], list[Finding]]:
    """The document without older spellings, and what was wrong with them. `document` is not changed."""
    spec = document.get("spec")
    if not isinstance(spec, dict):
        return document, []
    findings: list[Finding] = []
    changed: dict[str, object] = {}
    for group in ("nodes", "on_exit"):
        nodes = spec.get(group)
        if isinstance(nodes, list) and any(isinstance(node, dict) and "metadata" in node for node in nodes):
            changed[group] = [_node(node, ("spec", group, place), findings) for place, node in enumerate(nodes)]
    return ({**document, "spec": {**spec, **changed}} if changed else document), findings


def _node(node: object, path: Path, findings: list[Finding]) -> object:
    if not isinstance(node, dict) or "metadata" not in node:
        return node
    modern = {key: value for key, value in node.items() if key != "metadata"}
    older = node["metadata"]
    path = (*path, "metadata")
    if not isinstance(older, dict):
        findings.append(Finding(path, f"expected a mapping, got {describe(older)}"))
        return modern
    findings.extend(
        Finding((*path, name), f"unknown field {name!r}{did_you_mean(name, _FIELDS)}")
        for name in older.keys() - set(_FIELDS)
    )
    if "timeout" in older:
        _timeout(older["timeout"], modern, (*path, "timeout"), findings)
    if "retries" in older:
        _retries(older["retries"], modern, (*path, "retries"), findings)
    return modern


def _timeout(value: object, modern: dict[str, object], path: Path, findings: list[Finding]) -> None:
    if "timeout" in modern:
        findings.append(Finding(path, "the node has a `timeout` as well; keep one of the two"))
        return
    try:
        if parse_duration(value) == 0:
            raise ValueError("must be longer than 0")
    except ValueError as exc:
        findings.append(Finding(path, str(exc)))
    else:
        modern["timeout"] = value


def _retries(value: object, modern: dict[str, object], path: Path, findings: list[Finding]) -> None:
    if "retry" in modern:
        findings.append(Finding(path, "the node has a `retry` as well; keep one of the two"))
    elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_RETRIES:
        findings.append(Finding(path, f"expected a whole number from 0 to {_MAX_RETRIES}, got {show(value)}"))
    else:
        attempts = value + 1
        modern["retry"] = {
            "fail": {"max_attempts": attempts},
            "error": {"max_attempts": max(_DEFAULT_ERROR_ATTEMPTS, attempts)},
        }
