"""Whether every field of a document is there, known and of the right kind; in plain words.

pydantic does the looking; nothing of its vocabulary gets out. Called by `document`, which adds the lines.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from dagengine.spec import model
from dagengine.spec.path import Finding, Path
from dagengine.spec.plain import describe, show
from dagengine.spec.suggestion import did_you_mean

__all__ = ["repaired", "validated"]

_AVAILABLE: Final[Mapping[str, type[BaseModel]]] = {
    "lua": model.LuaExecutor,
    "python": model.PythonExecutor,
}
_PLANNED: Final = ("agent", "container", "http", "shell", "wait", "wasm", "workflow")
_RESERVED: Final = {
    "secrets": "secrets are not supported in this version; remove the entry",
    "kubernetes": "settings for Kubernetes are not supported in this version; remove the entry",
}
_WORDS_OF_PATTERNS: Final = {
    r"^[a-zA-Z0-9_-]+$": "only letters, digits, '-' and '_' are allowed",
    r"^/[A-Za-z0-9_\-./]*$": "expected a path such as /trigger/name, of letters, digits, '-', '_', '.' and '/'",
    r"^[A-Za-z0-9_-][A-Za-z0-9_.@+-]*$": "expected the name of a function, of letters, digits and any of _ - . @ +",
}
_STAND_IN: Final = {"executor": {"type": "lua", "code": "return nil"}}


def validated(value: Mapping[str, object]) -> tuple[model.Document | None, list[Finding]]:
    """The document that `value` is, or None and every field that is wrong."""
    try:
        return model.Document.model_validate(value), []
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
    findings: list[Finding] = []
    for error in errors:
        path = _path(error["loc"])
        if not (error["type"] == "too_short" and error["input"]):
            findings.append(_finding(path, error, value))
    return None, findings


def repaired(value: Mapping[str, object], findings: list[Finding]) -> model.Document | None:
    """A document in which harmless values stand in for every part that `findings` complain about.

    For checks of the parts that are right. Positions in `spec.nodes` stay as they are. None when too little is left.
    """
    spec = value.get("spec")
    spec = dict(spec) if isinstance(spec, dict) else {}
    nodes = spec.get("nodes")
    nodes = list(nodes) if isinstance(nodes, list) and nodes else [{"id": "stand-in", **_STAND_IN}]
    metadata = value.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    for path, _ in findings:
        match path:
            case ("spec", "nodes", int(index), *rest) if index < len(nodes):
                nodes[index] = _repaired_node(nodes[index], rest[0] if rest else None)
            case ("spec", str(section), *_) if section != "nodes":
                spec.pop(section, None)
            case ("metadata", str(name), *_):
                metadata.pop(name, None)
    metadata = {"id": "stand-in", "version": "0.0.0", **metadata}
    try:
        return model.Document.model_validate({"metadata": metadata, "spec": {**spec, "nodes": nodes}})
    except ValidationError:
        return None


def _repaired_node(node: object, wrong: object) -> dict[str, object]:
    """What can be checked of a node whose field `wrong` (or all of it: None) is wrong."""
    if not isinstance(node, dict) or wrong is None:
        return {"id": _id(node), **_STAND_IN}
    kept = {field: node[field] for field in ("executor", "when", "foreach") if field in node and field != wrong}
    return {"id": _id(node), **_STAND_IN, **kept}


def _id(node: object) -> str:
    found = node.get("id") if isinstance(node, dict) else None
    valid = isinstance(found, str) and 0 < len(found) <= 128 and found.replace("-", "").replace("_", "").isalnum()
    return found if valid and isinstance(found, str) and found.isascii() else "stand-in"


def _path(loc: tuple[str | int, ...]) -> Path:
    """Where an error is in the document: pydantic puts the executor's type between the executor and its fields."""
    match loc:
        case ("spec", "nodes", int(), "executor", str(kind), *rest) if kind in _AVAILABLE and rest:
            return (*loc[:4], *rest)
    return loc


def _finding(path: Path, error: Any, document: Mapping[str, object]) -> Finding:
    given, context = error["input"], error.get("ctx", {})
    if path[:2] == ("spec", "configuration") and len(path) > 2 and path[2] in _RESERVED and given:
        return Finding(path[:3], _RESERVED[str(path[2])])
    match error["type"]:
        case "missing":
            return Finding(path, "required")
        case "extra_forbidden":
            known = _fields(path[:-1], document)
            return Finding(path, f"unknown field {path[-1]!r}{did_you_mean(str(path[-1]), known)}")
        case "union_tag_not_found":
            return Finding((*path, "type"), f"required (available: {', '.join(_AVAILABLE)})")
        case "union_tag_invalid":
            return Finding((*path, "type"), _unavailable(given))
        case "literal_error":
            return Finding(path, _not_one_of(given, context["expected"]))
        case "value_error":
            return Finding(path, str(context["error"]))
        case "string_pattern_mismatch":
            words = _WORDS_OF_PATTERNS.get(context["pattern"], f"it does not match {context['pattern']}")
            return Finding(path, f"{words}; got {show(given)}")
    return Finding(path, _out_of_bounds(error["type"], context, given) or _wrong_kind(error, given))


def _wrong_kind(error: Any, given: object) -> str:
    kind = {
        "string_type": "text",
        "int_type": "a whole number",
        "float_type": "a number",
        "bool_type": "true or false",
        "tuple_type": "a list",
        "dict_type": "a mapping",
        "model_type": "a mapping",
        "model_attributes_type": "a mapping",
    }.get(error["type"])
    if kind is None:
        return f"not allowed here: {show(given)}"
    got = f"expected {kind}, got {describe(given)}"
    if kind == "text" and isinstance(given, bool | int | float):
        return f"{got}; put it in quotes"
    if kind == "a list" and isinstance(given, str):
        return f"{got}; write [{given[:60]}]"
    return got


def _out_of_bounds(kind: str, context: Mapping[str, Any], given: object) -> str:
    match kind:
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}, got {show(given)}"
        case "greater_than":
            return f"must be longer than {context['gt']:g}, got {show(given)}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}, got {show(given)}"
        case "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "too_short":
            return "at least one node is needed"
    return ""


def _unavailable(executor: object) -> str:
    kind = executor.get("type") if isinstance(executor, dict) else None
    available = f"available: {', '.join(_AVAILABLE)}"
    if kind in _PLANNED:
        return f"executor type {kind!r} is not available in this version ({available})"
    if not isinstance(kind, str):
        return f"expected text, got {describe(kind)} ({available})"
    return f"unknown executor type {kind!r}{did_you_mean(kind, _AVAILABLE) or f' ({available})'}"


def _not_one_of(given: object, expected: str) -> str:
    choices = [choice for choice in expected.split("'") if choice.replace("_", "").replace("/", "").isalnum()]
    words = ", ".join(choices)
    hint = did_you_mean(given, choices) if isinstance(given, str) else ""
    return (
        f"must be {words}; got {show(given)}"
        if len(choices) == 1
        else f"must be one of {words}; got {show(given)}{hint}"
    )


def _fields(path: Path, document: Mapping[str, object]) -> list[str]:
    """The fields that are known where `path` leads."""
    current: type[BaseModel] | None = model.Document
    value: object = document
    for step in path:
        value = _child(value, step)
        if isinstance(step, int) or current is None:
            continue
        if step == "executor":
            kind = value.get("type") if isinstance(value, dict) else None
            current = _AVAILABLE.get(str(kind))
        else:
            current = _children(current).get(step)
    return [info.alias or name for name, info in current.model_fields.items()] if current is not None else []


def _child(value: object, step: str | int) -> object:
    if isinstance(value, dict):
        return value.get(step)
    return value[step] if isinstance(value, list) and isinstance(step, int) and step < len(value) else None


@cache
def _children(parent: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The models that the fields of a model hold."""
    found: dict[str, type[BaseModel]] = {}
    for name, info in parent.model_fields.items():
        for kind in (info.annotation, *typing.get_args(info.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[name] = kind
    return found
