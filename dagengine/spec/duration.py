"""Durations as people write them (`1h30m`, `250ms`, `5`) and as the machine counts them: whole microseconds."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

__all__ = ["Duration", "format_duration", "parse_duration"]

SECOND: Final = 1_000_000
_UNITS: Final = {
    "us": 1,
    "ms": 1_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3_600 * SECOND,
    "d": 86_400 * SECOND,
}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST: Final = 10 * 365 * _UNITS["d"]
_EXPECTED: Final = "expected a duration such as 250ms, 30s, 5m or 1h30m, or a number of seconds"


def parse_duration(value: object) -> int:
    """Microseconds of a number of seconds (`300`, `0.5`) or of a text such as `1h30m` or `250ms`.

    Raises ValueError when `value` is neither, is negative, or is longer than ten years.
    """
    match value:
        case bool():
            raise ValueError(f"{_EXPECTED}, got {str(value).lower()}")
        case int() | float() if 0 <= value <= _LONGEST / SECOND:
            return round(value * SECOND)
        case str() if _WHOLE.fullmatch(value.strip()):
            total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
            if total <= _LONGEST:
                return round(total)
            raise ValueError(f"{value!r} is longer than ten years")
    raise ValueError(f"{_EXPECTED}, got {value!r}")


def format_duration(microseconds: int) -> str:
    """The shortest exact text of a duration: `90_000_000` gives `1m30s`."""
    if microseconds == 0:
        return "0s"
    parts: list[str] = []
    rest = microseconds
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def _validate(value: Any) -> int:
    return parse_duration(value)


Duration = Annotated[
    int,
    BeforeValidator(_validate),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(us|ms|s|m|h|d))+$"},
                {"type": "number", "minimum": 0},
            ],
            "description": "A duration: a text such as 250ms, 30s, 5m or 1h30m, or a number of seconds.",
        }
    ),
]
"""A duration: microseconds in Python, a text or a number of seconds in a document."""
