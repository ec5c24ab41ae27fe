"""Rates as people write them (`10/s`, `300/m`) and as limiters count them: so many per so many microseconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import GetPydanticSchema, WithJsonSchema
from pydantic_core import core_schema

__all__ = ["Rate", "RateField", "parse_rate"]

_UNITS: Final = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_TEXT: Final = re.compile(r"(\d{1,9})\s*/\s*(\d{0,6})(s|m|h|d)")
_EXPECTED: Final = "expected a rate such as 10/s, 300/m or 5000/h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`count` begins in every span of `per` microseconds."""

    count: int
    per: int

    def __str__(self) -> str:
        unit = next(unit for unit in ("d", "h", "m", "s") if self.per % _UNITS[unit] == 0)
        number = self.per // _UNITS[unit]
        return f"{self.count}/{number if number > 1 else ''}{unit}"


def parse_rate(value: object) -> Rate:
    """The rate that a text such as `10/s` or `5/10m` means. Raises ValueError when it is none, or allows nothing."""
    found = _TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{_EXPECTED}, got {value!r}")
    rate = Rate(count=int(found[1]), per=int(found[2] or 1) * _UNITS[found[3]])
    if not rate.count or not rate.per:
        raise ValueError(f"{value!r} would never let anything begin; {_EXPECTED}")
    return rate


def _validate(value: Any) -> Rate:
    return value if isinstance(value, Rate) else parse_rate(value)


RateField = Annotated[
    Rate,
    GetPydanticSchema(
        lambda _source, _handler: core_schema.no_info_plain_validator_function(
            _validate, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )
    ),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^[0-9]+\s*/\s*[0-9]*(s|m|h|d)$",
            "description": "A rate: a text such as 10/s, 300/m or 5000/h.",
        }
    ),
]
"""A rate: `Rate` in Python, a text in a document."""
