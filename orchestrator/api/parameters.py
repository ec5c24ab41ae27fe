"""Query parameters: declared once, read strictly, described in OpenAPI from the same declaration.

An unknown, repeated or ill-typed parameter is refused with its name: a misspelled `?froce=true` must not be silently
ignored. Used by the operations, and by `openapi` for their description.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from orchestrator.errors import RequestError

__all__ = ["Parameter", "flag", "integer", "read", "seconds", "text", "words"]

MAX_TEXT = 1_024
MAX_INTEGER = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One query parameter. `parse` gives its value or raises ValueError with what it must be."""

    name: str
    description: str
    schema: dict[str, Any]
    parse: Callable[[str], Any]
    default: Any = field(default=None)


def text(name: str, description: str, *, example: str | None = None) -> Parameter:
    """A text of at most 1,024 characters."""

    def parse(value: str) -> str:
        if not value or len(value) > MAX_TEXT:
            raise ValueError(f"must be a text of 1 to {MAX_TEXT} characters")
        return value

    schema: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
    if example is not None:
        schema["examples"] = [example]
    return Parameter(name=name, description=description, schema=schema, parse=parse)


def words(name: str, description: str, choices: Sequence[str]) -> Parameter:
    """One or several of a few words, with commas in between."""

    def parse(value: str) -> str:
        if not set(value.split(",")) <= set(choices):
            raise ValueError(f"must be one or several (with commas) of {', '.join(choices)}")
        return value

    one = "|".join(choices)
    schema = {"type": "string", "pattern": f"^({one})(,({one}))*$", "examples": [choices[0]]}
    return Parameter(name=name, description=description, schema=schema, parse=parse)


def flag(name: str, description: str) -> Parameter:
    """`true` or `false`; false when it is not given."""

    def parse(value: str) -> bool:
        if value not in ("true", "false"):
            raise ValueError("must be true or false")
        return value == "true"

    schema = {"type": "boolean", "default": False}
    return Parameter(name=name, description=description, schema=schema, parse=parse, default=False)


def integer(
    name: str, description: str, *, low: int = 0, high: int = MAX_INTEGER, default: int | None = 0
) -> Parameter:
    """A whole number from `low` to `high`."""

    def parse(value: str) -> int:
        # int() also takes "1_0", " 1" and digits of other scripts
        number = int(value) if value.isascii() and value.isdigit() and len(value) <= 16 else -1
        if not low <= number <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return number

    schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    if default is not None:
        schema["default"] = default
    return Parameter(name=name, description=description, schema=schema, parse=parse, default=default)


def seconds(name: str, description: str, *, high: float, default: float) -> Parameter:
    """A time in seconds, from 0 to `high`."""

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number <= high:
            raise ValueError(f"must be a number of seconds from 0 to {high:g}")
        return number

    schema = {"type": "number", "minimum": 0, "maximum": high, "default": default}
    return Parameter(name=name, description=description, schema=schema, parse=parse, default=default)


def read(request: Request, known: Sequence[Parameter]) -> dict[str, Any]:
    """The value of every known parameter, by name. Raises RequestError naming the parameter that is wrong."""
    values = {parameter.name: parameter.default for parameter in known}
    query: bytes = request.scope["query_string"]
    if not query:
        return values
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32)
    except ValueError as exc:
        raise RequestError(f"the query cannot be read: {exc}") from exc
    by_name = {parameter.name: parameter for parameter in known}
    seen = set()
    for name, value in pairs:
        parameter = by_name.get(name)
        if parameter is None:
            offered = ", ".join(by_name) or "none"
            raise RequestError(f"unknown query parameter {name[:100]!r}; this operation takes: {offered}")
        if name in seen:
            raise RequestError(f"query parameter {name!r} is given twice")
        seen.add(name)
        try:
            values[name] = parameter.parse(value)
        except ValueError as exc:
            raise RequestError(f"query parameter {name!r} {exc}, not {value[:100]!r}") from exc
    return values
