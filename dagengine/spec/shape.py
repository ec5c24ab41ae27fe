"""Whether every field of a document is there, known and of the right kind; in plain words.

pydantic does the looking; nothing of its vocabulary gets out. Called by `document`, which adds the lines.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from dagengine.spec import executors, model
from dagengine.spec.path import Finding, Path
from dagengine.spec.plain import describe, show
from dagengine.spec.size import format_size
from dagengine.spec.suggestion import did_you_mean

__all__ = ["repaired", "validated"]

_AVAILABLE: Final[Mapping[str, type[BaseModel]]] = {
    "lua": executors.LuaExecutor,
    "python": executors.PythonExecutor,
    "shell": executors.ShellExecutor,
    "http": executors.HTTPExecutor,
    "wait": executors.WaitExecutor,
}
_CREDENTIALS: Final[Mapping[str, type[BaseModel]]] = {
    "bearer": executors.BearerAuth,
    "basic": executors.BasicAuth,
    "header": executors.HeaderAuth,
}
_PLANNED: Final = ("agent", "container", "wasm", "workflow")
_RESERVED: Final = {
    "kubernetes": "settings for Kubernetes are not supported in this version; remove the entry",
}
_SIZES: Final = ("memory", "output")
_WORDS_OF_PATTERNS: Final = {
    r"^[a-zA-Z0-9_-]+$": "only letters, digits, '-' and '_' are allowed",
    r"^/[A-Za-z0-9_\-./]*$": "expected a path such as /trigger/name, of letters, digits, '-', '_', '.' and '/'",
    r"^[A-Za-z0-9_-][A-Za-z0-9_.@+:-]*$": "expected the name of a function, of letters, digits and any of _ - . @ + :",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "expected the name of an environment variable, of letters, digits and '_'",
    r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$": "expected the name of a module, such as rows or shop.rows",
    r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$": "expected the name of a header, such as X-Request-Id",
    r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$": "expected the value of a label, of letters, digits and any of . - _ "
    "between them",
    r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$": "expected the name of a label, such as zone or example.org/zone",
    r"^(/([^~/]|~[01])*)*$": "expected a JSON pointer such as /items/0/name, or '' for all of it",
}
_STAND_IN: Final = {"executor": {"type": "lua", "code": "return nil"}}
_EMPTY: Final[Mapping[str, tuple[object, ...]]] = {"nodes": ({"id": "stand-in", **_STAND_IN},), "on_exit": ()}


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
    return None, list(dict.fromkeys(findings))


def repaired(value: Mapping[str, object], findings: list[Finding]) -> model.Document | None:
    """A document in which harmless values stand in for every part that `findings` complain about.

    For checks of the parts that are right. Positions in both lists of nodes stay as they are. None when too little is
    left.
    """
    spec = value.get("spec")
    spec = dict(spec) if isinstance(spec, dict) else {}
    groups: dict[str, list[object]] = {}
    for group, empty in _EMPTY.items():
        nodes = spec.pop(group, None)
        groups[group] = list(nodes) if isinstance(nodes, list) and nodes else list(empty)
    metadata = value.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    for path, _ in findings:
        match path:
            case ("spec", ("nodes" | "on_exit") as group, int(index), *rest) if index < len(groups[group]):
                groups[group][index] = _repaired_node(groups[group][index], rest[0] if rest else None)
            case ("spec", str(section), *_):
                spec.pop(section, None)
            case ("metadata", str(name), *_):
                metadata.pop(name, None)
    metadata = {"id": "stand-in", "version": "0.0.0", **metadata}
    try:
        return model.Document.model_validate({"metadata": metadata, "spec": {**spec, **groups}})
    except ValidationError:
        return None


def _repaired_node(node: object, wrong: object) -> dict[str, object]:
    """What can be checked of a node whose field `wrong` (or all of it: None) is wrong."""
    if not isinstance(node, dict) or wrong is None:
        return {"id": _id(node), **_STAND_IN}
    kept = {
        field: node[field] for field in ("executor", "when", "foreach", "cache") if field in node and field != wrong
    }
    return {"id": _id(node), **_STAND_IN, **kept}


def _id(node: object) -> str:
    found = node.get("id") if isinstance(node, dict) else None
    valid = isinstance(found, str) and 0 < len(found) <= 128 and found.replace("-", "").replace("_", "").isalnum()
    return found if valid and isinstance(found, str) and found.isascii() else "stand-in"


def _path(loc: tuple[str | int, ...]) -> Path:
    """Where an error is in the document: pydantic puts the type of one of several models before its fields."""
    match loc:
        case ("spec", "nodes" | "on_exit", int(), "executor", str(kind), *rest) if kind in _AVAILABLE:
            credentials = rest[:1] == ["auth"] and len(rest) > 1
            loc = (*loc[:4], "auth", *rest[2:]) if credentials else (*loc[:4], *rest)
    return loc[:-1] if loc and loc[-1] == "[key]" else loc


def _finding(path: Path, error: Any, document: Mapping[str, object]) -> Finding:
    given, context = error["input"], error.get("ctx", {})
    if path[:2] == ("spec", "configuration") and len(path) > 2 and path[2] in _RESERVED and given:
        return Finding(path[:3], _RESERVED[str(path[2])])
    kinds = _CREDENTIALS if path[-1:] == ("auth",) else _AVAILABLE
    match error["type"]:
        case "missing":
            return Finding(path, "required")
        case "extra_forbidden":
            known = _fields(path[:-1], document)
            return Finding(path, f"unknown field {path[-1]!r}{did_you_mean(str(path[-1]), known)}")
        case "union_tag_not_found":
            return Finding((*path, "type"), f"required (available: {', '.join(kinds)})")
        case "union_tag_invalid":
            return Finding((*path, "type"), _unavailable(given, kinds))
        case "literal_error":
            return Finding(path, _not_one_of(given, context["expected"]))
        case "value_error":
            return Finding(path, f"{context['error']}{_template_hint(given)}")
        case "string_pattern_mismatch":
            words = _WORDS_OF_PATTERNS.get(context["pattern"], f"it does not match {context['pattern']}")
            return Finding(path, f"{words}; got {show(given)}")
    return Finding(path, _out_of_bounds(path, error["type"], context, given) or _wrong_kind(error, given))


def _template_hint(given: object) -> str:
    return "; templates are not read here" if isinstance(given, str) and "{{" in given else ""


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
    fraction = kind == "a whole number" and isinstance(given, float)
    got = f"expected {kind}, got {show(given) if fraction else describe(given)}"
    if kind == "text" and isinstance(given, bool | int | float):
        return f"{got}; put it in quotes"
    if kind == "a list" and isinstance(given, str | int) and not isinstance(given, bool):
        return f"{got}; write [{str(given)[:60]}]"
    return got


def _out_of_bounds(path: Path, kind: str, context: Mapping[str, Any], given: object) -> str:
    match kind:
        case "greater_than_equal":
            least = format_size(int(context["ge"])) if path[-1] in _SIZES else f"{context['ge']:g}"
            return f"must be at least {least}, got {show(given)}"
        case "greater_than":
            more = "more" if path[-1] in _SIZES else "longer"
            return f"must be {more} than {context['gt']:g}, got {show(given)}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}, got {show(given)}"
        case "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "too_short":
            return "at least one node is needed" if path == ("spec", "nodes") else "must not be empty"
    return ""


def _unavailable(part: object, kinds: Mapping[str, type[BaseModel]]) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    available = f"available: {', '.join(kinds)}"
    if not isinstance(kind, str):
        return f"expected text, got {describe(kind)} ({available})"
    if kinds is _CREDENTIALS:
        return f"unknown type of credentials {kind!r}{did_you_mean(kind, kinds) or f' ({available})'}"
    if kind in _PLANNED:
        return f"executor type {kind!r} is not available in this version ({available})"
    return f"unknown executor type {kind!r}{did_you_mean(kind, kinds) or f' ({available})'}"


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
        if step in ("executor", "auth"):
            kind = value.get("type") if isinstance(value, dict) else None
            current = (_AVAILABLE if step == "executor" else _CREDENTIALS).get(str(kind))
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
