"""Cron schedules: when is the next occurrence? Pure: time is an argument.

A schedule has five fields (minute, hour, day of month, month, day of week) or six with seconds first, or is one of
`@hourly @daily @midnight @weekly @monthly @yearly @annually`. As ever in cron, when both day fields are restricted, a
day that fits either of them fits. `croniter` reads the fields and finds matching wall-clock times; this module maps
them to instants, because on the two days a year when clocks change that mapping is a decision:

- A schedule that runs in every hour follows real time: it skips wall-clock times that do not exist, and runs at both
  instants of one that exists twice. `*/15 * * * *` is every 15 minutes on every day.
- Any other schedule follows the wall clock: a time that does not exist is moved to the end of the gap, and one that
  exists twice counts the first time. `30 2 * * *` is once a day on every day.

Used by the registration door (through `cron.check`) and by `cron.CronService`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

__all__ = ["Schedule", "parse_fields", "parse_timezone"]

SECOND: Final = 1_000_000
_WEEK: Final = 7 * 86_400
_EPOCH: Final = datetime(1970, 1, 1)
_LONGEST: Final = 256
_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_SECONDS: Final = ("seconds", "0-59")
_FIELDS: Final = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31 or l"),
    ("month", "1-12 or jan-dec"),
    ("day of week", "0-7 or sun-sat"),
)
_RANDOM: Final = re.compile(r"(^|,)[hr](\(|/|,|$)", re.IGNORECASE)


def parse_fields(text: str) -> str:
    """The schedule as croniter reads it: five fields, or six with seconds first, single spaces between them.

    Raises ValueError that names every field that is wrong.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"a schedule has at most {_LONGEST} characters, this one has {len(text)}")
    if text.strip().startswith("@"):
        alias = _ALIASES.get(text.strip().lower())
        if alias is None:
            raise ValueError(f"{text.strip()!r} is not one of {', '.join(_ALIASES)}")
        return alias
    fields = text.split()
    if len(fields) not in (5, 6):
        raise ValueError(
            "expected five fields (minute, hour, day of month, month, day of week), or six with seconds first,"
            f" got {len(fields)}"
        )
    names = _FIELDS if len(fields) == 5 else (_SECONDS, *_FIELDS)
    wrong = [
        f"{name} {field!r} (expected {expected})"
        for at, (field, (name, expected)) in enumerate(zip(fields, names, strict=True))
        if not _is_valid_field(field, at, len(fields))
    ]
    if wrong:
        raise ValueError(f"not a valid {', not a valid '.join(wrong)}")
    expression = " ".join(fields)
    try:
        _next_wall(expression, 0)
    except (CroniterError, ValueError) as exc:
        raise ValueError(f"no date fits {expression!r} within 50 years") from exc
    return expression


def _is_valid_field(field: str, at: int, count: int) -> bool:
    if _RANDOM.search(field):
        return False  # croniter would draw lots: each process, and each restart, would see another schedule
    fields = ["*"] * count
    fields[at] = field
    try:
        croniter.expand(" ".join(fields), second_at_beginning=True)
    except (CroniterError, ValueError, KeyError):
        return False
    return True


def parse_timezone(name: str) -> ZoneInfo:
    """The time zone with this IANA name. Raises ValueError when there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:  # a name that is a folder of the database is an OSError
        raise ValueError(f"{name!r} is not the IANA name of a time zone, such as UTC or Europe/Berlin") from exc


def _next_wall(expression: str, wall: int) -> int:
    return int(croniter(expression, wall, second_at_beginning=True).get_next(float))


def _runs_every_hour(expression: str) -> bool:
    hours = croniter.expand(expression, second_at_beginning=True)[0][1]
    return "*" in hours or len(set(hours)) == 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The occurrences of a cron expression in a time zone. Make it with `Schedule.parse`.

    Instants are microseconds since the Unix epoch; occurrences fall on whole seconds.
    """

    expression: str
    timezone: ZoneInfo
    every_hour: bool

    @classmethod
    def parse(cls, schedule: str, timezone: str = "UTC") -> Schedule:
        """The schedule that a person wrote. Raises ValueError that says which field, or that the zone, is wrong."""
        expression = parse_fields(schedule)
        return cls(expression=expression, timezone=parse_timezone(timezone), every_hour=_runs_every_hour(expression))

    def next_after(self, at: int) -> int:
        """The first occurrence after `at`."""
        second = at // SECOND
        found = self._next_in_real_time(second) if self.every_hour else self._next_on_the_wall(second)
        return found * SECOND

    def between(self, after: int, until: int, *, limit: int) -> list[int]:
        """The first `limit` occurrences after `after` and not after `until`."""
        found: list[int] = []
        at = self.next_after(after)
        while at <= until and len(found) < limit:
            found.append(at)
            at = self.next_after(at)
        return found

    # Below, an instant is in seconds since the epoch, and a wall-clock time is the instant at which a clock in UTC
    # would show it: wall = instant + offset.

    def _next_in_real_time(self, second: int) -> int:
        first = 1
        while True:
            offset = self._offset(second)
            found = _next_wall(self.expression, second + offset + first - 1) - offset
            change = self._first_change(second, found)
            if change is None:
                return found
            second, first = change, 0  # the search goes on under the new offset, at the change itself

    def _next_on_the_wall(self, second: int) -> int:
        offset = self._offset(second)
        wall = second + offset
        before = self._offset_of_wall(wall)
        if before > offset:  # this wall-clock time is here for the second time: go on where its repetition ends
            wall = self._change_within(second - (before - offset), second) + before - 1
        while True:
            wall = _next_wall(self.expression, wall)
            found = self._instant(wall)
            if found > second:
                return found

    def _instant(self, wall: int) -> int:
        before = self._offset_of_wall(wall)
        found = wall - before
        gap = self._offset(found) - before
        return found if gap <= 0 else self._change_within(found - gap, found)

    def _offset(self, second: int) -> int:
        return _seconds(datetime.fromtimestamp(second, self.timezone).utcoffset())

    def _offset_of_wall(self, wall: int) -> int:
        """The offset at the first instant that shows this time; in a gap, the offset before it (PEP 495)."""
        return _seconds((_EPOCH + timedelta(seconds=wall)).replace(tzinfo=self.timezone).utcoffset())

    def _first_change(self, after: int, until: int) -> int | None:
        """The first second after `after` with another offset, if there is one by `until`."""
        offset = self._offset(after)
        while after < until:
            step = min(after + _WEEK, until)  # no zone changes twice within a week
            if self._offset(step) != offset:
                return self._change_within(after, step)
            after = step
        return None

    def _change_within(self, low: int, high: int) -> int:
        """The first second in (low, high] with the offset of `high`, which is not that of `low`."""
        offset = self._offset(high)
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == offset:
                high = middle
            else:
                low = middle
        return high


def _seconds(offset: timedelta | None) -> int:
    return int(offset.total_seconds()) if offset is not None else 0
