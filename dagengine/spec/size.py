"""Sizes as people write them (`64MiB`, `500kB`, `4096`) and as the engine counts them: whole bytes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

__all__ = ["Size", "format_size", "parse_size"]

_UNITS: Final = {
    "": 1,
    "B": 1,
    "kB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_TEXT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_LARGEST: Final = 1 << 50
_EXPECTED: Final = "expected a size such as 64KiB, 4MiB or 1GB, or a number of bytes"


def parse_size(value: object) -> int:
    """Bytes of a whole number or of a text such as `64MiB`. Raises ValueError when it is neither, or is too large."""
    match value:
        case bool():
            raise ValueError(f"{_EXPECTED}, got {str(value).lower()}")
        case int() if 0 <= value <= _LARGEST:
            return value
        case str() if (found := _TEXT.fullmatch(value.strip())) and found[2] in _UNITS:
            size = round(float(found[1]) * _UNITS[found[2]])
            if size <= _LARGEST:
                return size
            raise ValueError(f"{value!r} is more than a pebibyte")
    raise ValueError(f"{_EXPECTED}, got {value!r}")


def format_size(size: int) -> str:
    """The shortest exact text of a size: `4_194_304` gives `4MiB`."""
    for unit in ("GiB", "GB", "MiB", "MB", "KiB", "kB"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return f"{size}B"


def _validate(value: Any) -> int:
    return parse_size(value)


Size = Annotated[
    int,
    BeforeValidator(_validate),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*(B|kB|MB|GB|KiB|MiB|GiB)?$"},
                {"type": "integer", "minimum": 0},
            ],
            "description": "A size: a text such as 64KiB, 4MiB or 1GB, or a number of bytes.",
        }
    ),
]
"""A size: bytes in Python, a text or a number of bytes in a document."""
