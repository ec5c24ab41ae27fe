"""What a JSON Schema validator says, in our own words and with our own paths.

Used for inputs (`inputs`), for default values, and for the schemas themselves, which are checked against the schema of
JSON Schema (`input_schema`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from dagengine.spec.path import Finding, Path
from dagengine.spec.plain import describe, show
from dagengine.spec.suggestion import did_you_mean

__all__ = ["FORMATS", "explained"]

FORMATS: Final = {
    "date": "a date such as 2024-12-31",
    "date-time": "a time such as 2024-12-31T23:59:00Z",
    "time": "a time of day such as 23:59:00Z",
    "duration": "a duration such as P1DT12H",
    "email": "an e-mail address",
    "idn-email": "an e-mail address",
    "hostname": "a host name",
    "idn-hostname": "a host name",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "uri": "a URI",
    "uri-reference": "a URI reference",
    "iri": "an IRI",
    "iri-reference": "an IRI reference",
    "uri-template": "a URI template",
    "uuid": "a UUID",
    "json-pointer": "a JSON pointer",
    "relative-json-pointer": "a relative JSON pointer",
    "regex": "a regular expression without look-around and back references",
}
"""The values of `format` that are checked, and what each expects."""

_HIDDEN: Final = "a value that is not shown"
_KINDS: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_COUNTS: Final = {
    "minLength": ("must have at least", "character"),
    "maxLength": ("must have at most", "character"),
    "minItems": ("must have at least", "item"),
    "maxItems": ("must have at most", "item"),
    "minProperties": ("must have at least", "field"),
    "maxProperties": ("must have at most", "field"),
}
_BOUNDS: Final = {
    "minimum": "must be at least",
    "maximum": "must be at most",
    "exclusiveMinimum": "must be more than",
    "exclusiveMaximum": "must be less than",
    "multipleOf": "must be a multiple of",
}


def explained(errors: Iterable[Any], base: Path = (), *, hidden: bool = False) -> list[Finding]:
    """Findings, each once, for errors of `jsonschema_rs`; their paths begin with `base`.

    With `hidden`, no value is told, for values that are secret.
    """
    return list(dict.fromkeys(finding for error in errors for finding in _explain(error, base, hidden)))


def _explain(error: Any, base: Path, hidden: bool) -> Iterator[Finding]:
    path: Path = (*base, *error.instance_path)
    kind = error.kind
    match kind.name:
        case "required":
            yield Finding((*path, kind.property), "required")
        case "additionalProperties" | "unevaluatedProperties" if hasattr(kind, "unexpected"):
            for name in kind.unexpected:
                yield Finding((*path, name), f"unknown field {name!r}")
        case "propertyNames":
            for inner in explained([kind.error], hidden=hidden):
                yield Finding(path, f"a name of a field is wrong: {inner.message}")
        case _:
            yield Finding(path, _sentence(kind, error.instance, _HIDDEN if hidden else show(error.instance)))


def _sentence(kind: Any, given: Any, shown: str) -> str:
    name = kind.name
    if name in _COUNTS:
        words, unit = _COUNTS[name]
        return f"{words} {kind.limit} {unit}{'' if kind.limit == 1 else 's'}, has {len(given)}"
    if name in _BOUNDS:
        return f"{_BOUNDS[name]} {show(kind.value)}, got {shown}"
    match name:
        case "type":
            expected = " or ".join(sorted(_KINDS.get(word, word) for word in kind.types))
            fraction = "integer" in kind.types and isinstance(given, float)
            return f"expected {expected}, got {shown if fraction else describe(given)}"
        case "enum":
            hint = (
                did_you_mean(given, [option for option in kind.options if isinstance(option, str)])
                if isinstance(given, str)
                else ""
            )
            return f"must be one of {', '.join(show(option) for option in kind.options)}; got {shown}{hint}"
        case "const":
            return f"must be {show(kind.expected_value)}, got {shown}"
        case "pattern":
            return f"{shown} does not match the pattern {kind.pattern}"
        case "format":
            return f"{shown} is not {FORMATS.get(kind.format, kind.format)}"
        case "uniqueItems":
            return "the same item is there twice"
        case "anyOf" | "oneOf" if hasattr(kind, "context"):
            return _alternatives(kind, hidden=shown == _HIDDEN)
        case "contains":
            return "none of the items is what at least one must be"
        case "not":
            return f"{shown} is what it must not be"
    return f"{shown} is not allowed"


def _alternatives(kind: Any, *, hidden: bool) -> str:
    branches = [explained(branch, hidden=hidden) for branch in kind.context]
    if not all(branches):
        return "fits more than one of the alternatives of which it may fit one"
    reasons = list(dict.fromkeys(branch[0].message for branch in branches))
    return f"fits none of the alternatives: {'; or '.join(reasons[:4])}"
