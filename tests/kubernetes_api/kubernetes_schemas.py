"""Objects against their schemas: fields nobody knows, defaults, and what is wrong with the rest.

Built-in kinds are decoded into structures, so what does not fit them is a bad request (400); custom ones are JSON that
is pruned and then validated (422). Both read the same OpenAPI schemas here; one reached by `$ref` is a built-in one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import re2
from kubernetes_kinds import META, Kind, resolve
from kubernetes_status import Cause

Object = dict[str, Any]

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
# Exactly six digits: Go parses a MicroTime by that layout.
_MICRO_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)", re.ASCII)
_SIZES: Final = (
    (str, "chars long", "minLength", "maxLength"),
    (list, "items", "minItems", "maxItems"),
    (dict, "properties", "minProperties", "maxProperties"),
)


def root(kind: Kind) -> Object:
    """The schema of a whole object of a kind."""
    if not kind.custom:
        return kind.schema
    own = {key: value for key, value in kind.schema.get("properties", {}).items() if key != "metadata"}
    text = {"type": "string"}
    return {**kind.schema, "type": "object", "properties": {"apiVersion": text, "kind": text, "metadata": META, **own}}


@dataclass(frozen=True, slots=True)
class Place:
    """A value in an object: what it should be, and where it is."""

    schema: Object
    custom: bool
    path: str = ""

    @classmethod
    def top(cls, kind: Kind) -> Place:
        return cls(root(kind), kind.custom)

    def _to(self, schema: Object, path: str) -> Place:
        return Place(resolve(schema), self.custom and "$ref" not in schema, path)

    def field(self, name: str) -> Place | None:
        """The place of a field of an object; None when the schema knows no such field."""
        path = f"{self.path}.{name}" if self.path else name
        known = self.schema.get("properties", {})
        more = self.schema.get("additionalProperties")
        if name in known:
            return self._to(known[name], path)
        if self.schema.get("x-kubernetes-embedded-resource") and name in {"apiVersion", "kind", "metadata"}:
            return self._to(META if name == "metadata" else {"type": "string"}, path)
        if isinstance(more, dict):
            return self._to(more, path)
        if more or self.free:
            return Place({"x-kubernetes-preserve-unknown-fields": True}, self.custom, path)
        return None

    @property
    def free(self) -> bool:
        """Whether there may be fields here that the schema does not name."""
        if self.schema.get("x-kubernetes-preserve-unknown-fields"):
            return True
        return not self.custom and not self.schema.get("properties") and "additionalProperties" not in self.schema

    def item(self, index: int) -> Place:
        return self._to(
            self.schema.get("items", {"x-kubernetes-preserve-unknown-fields": True}), f"{self.path}[{index}]"
        )

    @property
    def types(self) -> tuple[str, ...]:
        """The JSON types that may be here; empty for any."""
        found = self.schema.get("type", ())
        if self.schema.get("x-kubernetes-int-or-string"):
            return ("integer", "string")
        types = (found,) if isinstance(found, str) else tuple(found)
        return (*types, "null") if self.schema.get("nullable") and types else types

    def keys(self, item: Any) -> Object | None:
        """What an item of an associative list here is known by; None when this is no such list."""
        if self.schema.get("x-kubernetes-list-type") != "map" or not isinstance(item, dict):
            return None
        defaults = {"protocol": "TCP"}
        shapes = self.item(0).schema.get("properties", {})
        names = self.schema["x-kubernetes-list-map-keys"]
        given = {name: item.get(name, shapes.get(name, {}).get("default", defaults.get(name))) for name in names}
        return {name: value for name, value in given.items() if value is not None}


def prune(place: Place, value: Any) -> Iterator[str]:
    """Take out of `value`, in place, what its schema does not know: the paths of that."""
    if isinstance(value, dict):
        for name in list(value):
            below = place.field(name)
            if below is None:
                del value[name]
                yield f"{place.path}.{name}" if place.path else name
            elif value[name] is None and (
                not below.custom or ("default" in below.schema and "null" not in below.types)
            ):
                del value[name]
            else:
                yield from prune(below, value[name])
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from prune(place.item(index), item)


def default(place: Place, value: Any) -> None:
    """Put the defaults of a schema into `value`, in place."""
    if isinstance(value, dict):
        for name, schema in place.schema.get("properties", {}).items():
            if name not in value and "default" in schema and place.custom:
                value[name] = json.loads(json.dumps(schema["default"]))
        for name in value:
            below = place.field(name)
            if below is not None:
                default(below, value[name])
    elif isinstance(value, list):
        for index, item in enumerate(value):
            default(place.item(index), item)


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float) and value.is_integer():
        return "integer"
    names = {dict: "object", list: "array", str: "string", int: "integer", float: "number", type(None): "null"}
    return names[type(value)]


def _shown(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _invalid(place: Place, value: Any, rule: str) -> Cause:
    words = f"Invalid value: {_shown(value)}: {place.path} in body {rule}"
    return Cause(reason="FieldValueInvalid", message=words, field=place.path)


def validate(place: Place, value: Any) -> Iterator[Cause]:
    """What is wrong with `value`, which is pruned already."""
    found = _type_of(value)
    types = place.types
    if types and found not in types and not (found == "integer" and "number" in types):
        shown = value if found not in {"object", "array"} else found
        wanted = ",".join(kind for kind in types if kind != "null")
        rule = f'must be of type {wanted}: "{found}"'
        words = f"Invalid value: {_shown(shown)}: {place.path} in body {rule}"
        yield Cause(reason="FieldValueTypeInvalid", message=words, field=place.path)
        return
    yield from _limits(place, value)
    yield from _junctions(place, value)
    if isinstance(value, dict):
        for name in place.schema.get("required", ()):
            if name not in value:
                path = f"{place.path}.{name}" if place.path else name
                yield Cause(reason="FieldValueRequired", message="Required value", field=path)
        for name, below in value.items():
            to = place.field(name)
            if to is not None:
                yield from validate(to, below)
    elif isinstance(value, list):
        yield from _duplicates(place, value)
        for index, item in enumerate(value):
            yield from validate(place.item(index), item)


def _limits(place: Place, value: Any) -> Iterator[Cause]:
    schema = place.schema
    if "enum" in schema and value is not None and value not in schema["enum"]:
        supported = ", ".join(_shown(item) for item in schema["enum"])
        words = f"Unsupported value: {_shown(value)}: supported values: {supported}"
        yield Cause(reason="FieldValueNotSupported", message=words, field=place.path)
    if isinstance(value, str):
        yield from _text(place, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number(place, value)
    for kind, unit, least, most in _SIZES:
        if isinstance(value, kind):
            verb = "be" if kind is str else "have"
            if len(value) < schema.get(least, 0):
                yield _invalid(place, value, f"should {verb} at least {schema[least]} {unit}")
            if most in schema and len(value) > schema[most]:
                words = f"Too long: may not be more than {schema[most]} bytes"
                words = words if kind is str else f"Too many: {len(value)}: must have at most {schema[most]} items"
                reason = "FieldValueTooLong" if kind is str else "FieldValueTooMany"
                yield Cause(reason=reason, message=words, field=place.path)


def _text(place: Place, value: str) -> Iterator[Cause]:
    schema = place.schema
    if "pattern" in schema and not re2.search(schema["pattern"], value):
        yield _invalid(place, value, f"should match '{schema['pattern']}'")
    if schema.get("format") == "date-time":
        micro = "microsecond" in schema.get("description", "")
        if not (_MICRO_TIME if micro else _TIME).fullmatch(value):
            yield _invalid(place, value, "must be of type date-time: " + _shown(value))


def _number(place: Place, value: float) -> Iterator[Cause]:
    schema = place.schema
    if "minimum" in schema and value < schema["minimum"]:
        yield _invalid(place, value, f"should be greater than or equal to {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        yield _invalid(place, value, f"should be less than or equal to {schema['maximum']}")
    if schema.get("exclusiveMinimum") is True and value == schema.get("minimum"):
        yield _invalid(place, value, f"should be greater than {schema['minimum']}")
    if schema.get("exclusiveMaximum") is True and value == schema.get("maximum"):
        yield _invalid(place, value, f"should be less than {schema['maximum']}")
    if schema.get("multipleOf") and value % schema["multipleOf"]:
        yield _invalid(place, value, f"should be a multiple of {schema['multipleOf']}")


def _junctions(place: Place, value: Any) -> Iterator[Cause]:
    """`oneOf` and its like, which in these schemas only say more about fields that are named outside of them."""

    def fits(schema: Object) -> bool:
        inner = {"x-kubernetes-preserve-unknown-fields": True, **schema}
        return not any(validate(Place(inner, place.custom, place.path), value))

    schema = place.schema
    if "oneOf" in schema:
        count = sum(map(fits, schema["oneOf"]))
        if count != 1:
            found = "Found none valid" if not count else f"Found {count} valid alternatives"
            yield _invalid(place, value, f"must validate one and only one schema (oneOf). {found}")
    if "anyOf" in schema and not any(map(fits, schema["anyOf"])):
        yield _invalid(place, value, "must validate at least one schema (anyOf)")
    if not all(map(fits, schema.get("allOf", ()))):
        yield _invalid(place, value, "must validate all the schemas (allOf)")
    if "not" in schema and fits(schema["not"]):
        yield _invalid(place, value, "must not validate the schema (not)")


def _duplicates(place: Place, items: list[Any]) -> Iterator[Cause]:
    seen: set[str] = set()
    whole = place.schema.get("x-kubernetes-list-type") == "set"
    for index, item in enumerate(items):
        known_by = item if whole else place.keys(item)
        if known_by is None:
            return
        text = _shown(known_by)
        if text in seen:
            words = f"Duplicate value: {text}"
            yield Cause(reason="FieldValueDuplicate", message=words, field=f"{place.path}[{index}]")
        seen.add(text)
