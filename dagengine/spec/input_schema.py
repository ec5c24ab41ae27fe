"""The JSON Schemas of `spec.inputs` and of the payloads of signals: whether they are schemas, and validators of them.

JSON Schema 2020-12, with what would make checking a value dangerous left out: references to anything but
`#` and `#/…` of the same schema, recursion, `$id` and its relatives, schemas that unfold without bounds, patterns that
need backtracking (the engine is linear-time: no look-around, no back references). Called by `document`, when a
document is read, and by `inputs`, when an execution is started.

jsonschema_rs is imported when first needed: a document without inputs does not pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from dagengine.spec.explanation import FORMATS, explained
from dagengine.spec.path import Finding, Path
from dagengine.spec.suggestion import did_you_mean

__all__ = ["InputValidator", "findings", "findings_of_payload", "misfits", "validator"]

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_MAX_UNFOLDED: Final = 10_000
_MAX_NESTED: Final = 100
_PATTERN_BYTES: Final = 1 << 20

_ONE: Final = (
    "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
_MANY: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED: Final = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_REFUSED: Final = (
    "$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveAnchor", "$recursiveRef", "$vocabulary",
)  # fmt: skip
_PLAIN: Final = (
    "$comment", "$ref", "$schema", "const", "contentEncoding", "contentMediaType", "default",
    "dependentRequired", "deprecated", "description", "enum", "examples", "exclusiveMaximum",
    "exclusiveMinimum", "format", "maxContains", "maxItems", "maxLength", "maxProperties", "maximum",
    "minContains", "minItems", "minLength", "minProperties", "minimum", "multipleOf", "pattern", "readOnly",
    "required", "title", "type", "uniqueItems", "writeOnly",
)  # fmt: skip
_KEYWORDS: Final = frozenset((*_ONE, *_MANY, *_NAMED, *_PLAIN))
_TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")


class InputValidator:
    """Checks values against one schema. Made by `validator`."""

    def __init__(self, compiled: Any, *, secret: bool) -> None:
        self._compiled = compiled
        self._secret = secret

    def accepts(self, value: object) -> bool:
        """Whether `value`, made of JSON values only, fits the schema. Well below a microsecond for a small one."""
        return bool(self._compiled.is_valid(value))

    def findings(self, value: object, path: Path) -> list[Finding]:
        """Everything in `value` that does not fit; `path` is where the value is.

        Values of an input that is `writeOnly` are not told.
        """
        return explained(self._compiled.iter_errors(value), path, hidden=self._secret)


def validator(schema: Mapping[str, object]) -> InputValidator:
    """A validator of a schema in which `findings` found nothing. Takes some 100 µs."""
    return InputValidator(_compile(dict(schema)), secret=schema.get("writeOnly") is True)


def findings(inputs: Mapping[str, object], path: Path) -> tuple[list[Finding], dict[str, InputValidator]]:
    """What is wrong with the schemas of `spec.inputs`, defaults included, and validators of those that are right."""
    found: list[Finding] = []
    validators: dict[str, InputValidator] = {}
    for name, schema in inputs.items():
        if not isinstance(schema, dict):
            continue  # `shape` complains
        place = (*path, name)
        if wrong := _schema_findings(schema, place):
            found.extend(wrong)
            continue
        validators[name] = validator(schema)
        if "default" in schema:
            found.extend(validators[name].findings(schema["default"], (*place, "default")))
    return found, validators


def findings_of_payload(schema: dict[str, Any], path: Path) -> tuple[list[Finding], InputValidator | None]:
    """What is wrong with the schema of a signal's payload, and a validator of it when nothing is."""
    wrong = _schema_findings(schema, path)
    return wrong, None if wrong else validator(schema)


def misfits(
    values: object, schemas: Mapping[str, object], validators: Mapping[str, InputValidator], path: Path
) -> list[Finding]:
    """What is wrong with `values`, given as inputs: unknown names, missing ones, values that do not fit.

    An input whose schema is itself wrong is in `schemas` but not in `validators`; its value is not looked at.
    """
    if not isinstance(values, dict):
        return []  # `shape` complains
    found: list[Finding] = []
    for name, value in values.items():
        if name not in schemas:
            hint = did_you_mean(name, schemas) or f" (declared: {', '.join(schemas)})"
            found.append(Finding((*path, name), f"unknown input {name!r}{hint}"))
        elif (known := validators.get(name)) is not None and not known.accepts(value):
            found.extend(known.findings(value, (*path, name)))
    found.extend(
        Finding((*path, name), "required")
        for name, schema in schemas.items()
        if name not in values and isinstance(schema, dict) and "default" not in schema
    )
    return found


def _schema_findings(schema: dict[str, Any], path: Path) -> list[Finding]:
    found = list(_against_draft(schema, path))
    complained = {finding.path for finding in found}
    found.extend(finding for finding in _Walk(schema, path).findings() if finding.path not in complained)
    found.extend(
        Finding((*path, keyword), f"unknown keyword {keyword!r}{hint}")
        for keyword in schema.keys() - _KEYWORDS - set(_REFUSED)
        if (hint := did_you_mean(keyword, _KEYWORDS))
    )
    return found or _does_not_compile(schema, path)


def _against_draft(schema: dict[str, Any], path: Path) -> Iterator[Finding]:
    """What the schema of JSON Schema says, with better words for the most common mistakes."""
    for error in explained(_draft().iter_errors(schema), path):
        given = _value_at(schema, error.path[len(path) :])
        keyword = error.path[-1] if len(error.path) > len(path) else ""
        if keyword == "type" and isinstance(given, str):
            yield Finding(error.path, f"unknown type {given!r}{did_you_mean(given, _TYPES) or _one_of(_TYPES)}")
        elif keyword == "required" and isinstance(given, bool):
            an_input = "an input is required unless it has a `default`; " if path[1:2] == ("inputs",) else ""
            yield Finding(error.path, f"{an_input}inside a mapping, `required` is a list of names")
        else:
            yield error


def _bad_pattern(pattern: str) -> str:
    return (
        f"the pattern {pattern} cannot be used (expected a regular expression without look-around and back references)"
    )


def _one_of(names: tuple[str, ...]) -> str:
    return f" (one of {', '.join(names)})"


def _does_not_compile(schema: dict[str, Any], path: Path) -> list[Finding]:
    import jsonschema_rs

    try:
        _compile(schema)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as exc:
        message = str(getattr(exc, "message", exc)).split("\n")[0]
        return [Finding(path, f"the schema cannot be used: {message}")]
    return []


class _Walk:
    """Visits every schema inside of a schema, following references."""

    def __init__(self, schema: dict[str, Any], path: Path) -> None:
        self._root = schema
        self._base = path
        self._found: list[Finding] = []
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def findings(self) -> list[Finding]:
        if self._size(self._root, self._base) > _MAX_UNFOLDED:
            message = f"its references unfold to more than {_MAX_UNFOLDED:,} schemas"
            self._found.append(Finding(self._base, message))
        return list(dict.fromkeys(self._found))

    def _size(self, schema: object, path: Path) -> int:
        """How many schemas one value may be checked against, each counted as often as it is referred to."""
        if not isinstance(schema, dict):
            return 1
        key = id(schema)
        if key in self._open:
            self._found.append(Finding(path, "the schema refers back to itself; recursive schemas are not supported"))
            return 1
        if len(self._open) >= _MAX_NESTED:
            self._found.append(Finding(self._base, f"its schemas are nested deeper than {_MAX_NESTED} levels"))
            return 1
        if key not in self._sizes:
            self._open.add(key)
            self._look(schema, path)
            self._sizes[key] = 1 + sum(self._size(inner, place) for inner, place in self._inside(schema, path))
            self._open.discard(key)
        return self._sizes[key]

    def _look(self, schema: dict[str, Any], path: Path) -> None:
        for keyword in _REFUSED:
            if keyword in schema:
                self._found.append(Finding((*path, keyword), f"{keyword!r} is not supported in a schema here"))
        if schema.get("$schema", DRAFT) not in (DRAFT, DRAFT + "#"):
            self._found.append(Finding((*path, "$schema"), f"only JSON Schema 2020-12 is supported ({DRAFT})"))
        name = schema.get("format")
        if isinstance(name, str) and name not in FORMATS:
            self._found.append(Finding((*path, "format"), f"unknown format {name!r}{did_you_mean(name, FORMATS)}"))
        pattern = schema.get("pattern")
        if isinstance(pattern, str) and not _is_pattern(pattern):
            self._found.append(Finding((*path, "pattern"), _bad_pattern(pattern)))
        patterns = schema.get("patternProperties")
        for pattern in patterns if isinstance(patterns, dict) else ():
            if not _is_pattern(pattern):
                self._found.append(Finding((*path, "patternProperties", pattern), _bad_pattern(pattern)))

    def _inside(self, schema: dict[str, Any], path: Path) -> Iterator[tuple[object, Path]]:
        for keyword in _ONE:
            if keyword in schema:
                yield schema[keyword], (*path, keyword)
        for keyword in _MANY:
            several = schema.get(keyword)
            for index, inner in enumerate(several if isinstance(several, list) else ()):
                yield inner, (*path, keyword, index)
        for keyword in _NAMED:
            named = schema.get(keyword)
            for name, inner in (named if isinstance(named, dict) else {}).items():
                yield inner, (*path, keyword, name)
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield self._target(reference, (*path, "$ref")), (*path, "$ref")

    def _target(self, reference: str, path: Path) -> object:
        if reference != "#" and not reference.startswith("#/"):
            message = f"{reference!r} is not in this schema; only references such as '#/$defs/name' are followed"
            self._found.append(Finding(path, message))
            return None
        target: object = self._root
        for step in reference.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and name.isdecimal() and int(name) < len(target):
                target = target[int(name)]
            elif isinstance(target, dict) and name in target:
                target = target[name]
            else:
                self._found.append(Finding(path, f"{reference!r} leads nowhere in this schema"))
                return None
        return target


def _value_at(value: object, path: Path) -> object:
    for step in path:
        match value, step:
            case dict(), str() if step in value:
                value = value[step]
            case list(), int() if step < len(value):
                value = value[step]
            case _:
                return None
    return value


def _is_pattern(pattern: str) -> bool:
    import jsonschema_rs

    try:
        _compile({"pattern": pattern})
    except (jsonschema_rs.ValidationError, ValueError):
        return False
    return True


def _compile(schema: dict[str, Any]) -> Any:
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator(
        schema,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES),
        validate_formats=True,
        offline=True,
    )


@cache
def _draft() -> Any:
    return _compile({"$ref": DRAFT})
