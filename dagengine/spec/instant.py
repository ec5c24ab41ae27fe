"""Points in time as people write them (RFC 3339) and as the machine counts them: microseconds since the Unix epoch."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["parse_instant"]

_TEXT: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(?:[Zz]|([+-])(\d\d):?(\d\d))?)?"
)
_EXPECTED: Final = "expected a time such as 2026-01-31T09:30:00Z, or seconds since 1970"
_LATEST: Final = 253_402_300_800
"""Seconds from 1970 to the end of the year 9999."""


def parse_instant(value: object) -> int:
    """Microseconds since the epoch of an RFC 3339 text (UTC when it names no offset) or of a number of seconds.

    Raises ValueError when `value` is neither.
    """
    match value:
        case bool():
            raise ValueError(f"{_EXPECTED}, got {str(value).lower()}")
        case int() | float() if 0 <= value < _LATEST:
            return round(value * 1_000_000)
        case str() if found := _TEXT.fullmatch(value.strip()):
            return _microseconds(found, value)
    raise ValueError(f"{_EXPECTED}, got {value!r}")


def _microseconds(found: re.Match[str], text: str) -> int:
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= _days(year, month) and hour < 24 and minute < 60 and second < 61):
        raise ValueError(f"there is no such time: {text!r}")
    if int(found[9] or 0) > 23 or int(found[10] or 0) > 59:
        raise ValueError(f"there is no such offset from UTC: {text!r}")
    offset = (int(found[9] or 0) * 60 + int(found[10] or 0)) * (-1 if found[8] == "-" else 1)
    minutes = (_days_before(year, month, day) * 24 + hour) * 60 + minute - offset
    return (minutes * 60 + second) * 1_000_000 + int((found[7] or "0").ljust(9, "0")[:6])


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _days_before(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`)."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
