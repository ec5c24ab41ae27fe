"""Cron schedules: reading them, and the times they mean."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.triggers.schedule import Schedule


def _at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def _next(schedule: Schedule, after: str, count: int) -> list[str]:
    times = schedule.between(_at(after), _at("2100-01-01T00:00+00:00"), limit=count)
    return [datetime.fromtimestamp(at / 1e6, schedule.timezone).isoformat() for at in times]


class TestReading:
    @pytest.mark.parametrize(
        ("text", "first"),
        [
            ("*/5 * * * *", "2026-01-01T00:05:00+00:00"),
            ("0 */5 * * * *", "2026-01-01T00:05:00+00:00"),
            ("*/10 * * * * *", "2026-01-01T00:00:10+00:00"),
            ("30 0 12 * * *", "2026-01-01T12:00:30+00:00"),
            ("0 9 * * mon-fri", "2026-01-01T09:00:00+00:00"),
            ("0 0 1 jan *", "2027-01-01T00:00:00+00:00"),
            ("0 0 l * *", "2026-01-31T00:00:00+00:00"),
            ("0 0 29 2 *", "2028-02-29T00:00:00+00:00"),
            ("  0   12 * * *  ", "2026-01-01T12:00:00+00:00"),
            ("0 0 13 * fri", "2026-01-02T00:00:00+00:00"),
            ("@hourly", "2026-01-01T01:00:00+00:00"),
            ("@Daily", "2026-01-02T00:00:00+00:00"),
            ("@weekly", "2026-01-04T00:00:00+00:00"),
            ("@monthly", "2026-02-01T00:00:00+00:00"),
            ("@yearly", "2027-01-01T00:00:00+00:00"),
        ],
    )
    def test_five_fields_six_fields_and_names(self, text: str, first: str) -> None:
        assert _next(Schedule.parse(text), "2026-01-01T00:00+00:00", 1) == [first]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "expected five fields (minute, hour, day of month, month, day of week), or six with seconds first"),
            ("* * * *", "got 4"),
            ("* * * * * * *", "got 7"),
            ("61 * * * *", "not a valid minute '61' (expected 0-59)"),
            ("61 * * * * *", "not a valid seconds '61' (expected 0-59)"),
            ("* 24 * * *", "not a valid hour '24' (expected 0-23)"),
            ("* * 0 * *", "not a valid day of month '0'"),
            ("* * * 13 *", "not a valid month '13'"),
            ("* * * * 8", "not a valid day of week '8'"),
            ("* * * * someday", "not a valid day of week 'someday'"),
            ("x * * y *", "not a valid minute 'x' (expected 0-59), not a valid month 'y'"),
            ("*/0 * * * *", "not a valid minute '*/0'"),
            ("H * * * *", "not a valid minute 'H'"),
            ("R(0-30) * * * *", "not a valid minute 'R(0-30)'"),
            ("0 0 31 2 *", "no date fits '0 0 31 2 *' within 50 years"),
            ("@reboot", "'@reboot' is not one of @hourly, @daily"),
            ("@every 5m", "'@every 5m' is not one of"),
            ("1," * 200 + "1 * * * *", "a schedule has at most 256 characters, this one has 409"),
        ],
    )
    def test_what_is_wrong_is_named(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            Schedule.parse(text)

    @pytest.mark.parametrize("name", ["Nowhere/City", "Europe", "", "../etc/passwd", "\0"])
    def test_a_zone_that_is_none_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="is not the IANA name of a time zone"):
            Schedule.parse("@hourly", name)


class TestDaylightSaving:
    """In Berlin, 02:00-03:00 did not exist on 2026-03-29 and existed twice on 2026-10-25."""

    def test_a_daily_time_that_does_not_exist_is_moved_to_the_end_of_the_gap(self) -> None:
        schedule = Schedule.parse("30 2 * * *", "Europe/Berlin")
        assert _next(schedule, "2026-03-28T00:00+01:00", 3) == [
            "2026-03-28T02:30:00+01:00",
            "2026-03-29T03:00:00+02:00",
            "2026-03-30T02:30:00+02:00",
        ]

    def test_several_times_in_a_gap_become_one(self) -> None:
        schedule = Schedule.parse("0,20,40 2 * * *", "Europe/Berlin")
        assert _next(schedule, "2026-03-29T00:00+01:00", 2) == [
            "2026-03-29T03:00:00+02:00",
            "2026-03-30T02:00:00+02:00",
        ]

    def test_a_daily_time_that_exists_twice_counts_once(self) -> None:
        schedule = Schedule.parse("30 2 * * *", "Europe/Berlin")
        assert _next(schedule, "2026-10-25T00:00+02:00", 2) == [
            "2026-10-25T02:30:00+02:00",
            "2026-10-26T02:30:00+01:00",
        ]

    def test_the_search_can_begin_in_the_repeated_hour(self) -> None:
        schedule = Schedule.parse("* 10-50 2 * * *", "Europe/Berlin")
        assert _next(schedule, "2026-10-25T02:15+01:00", 1) == ["2026-10-26T02:10:00+01:00"]

    def test_an_hourly_schedule_follows_real_time(self) -> None:
        schedule = Schedule.parse("0 * * * *", "Europe/Berlin")
        spring = _next(schedule, "2026-03-29T00:30+01:00", 3)
        autumn = _next(schedule, "2026-10-25T01:30+02:00", 3)
        assert spring == ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"]
        assert autumn == ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"]

    def test_a_day_that_a_country_left_out_keeps_its_daily_run(self) -> None:
        schedule = Schedule.parse("0 12 * * *", "Pacific/Apia")  # there was no 30 December 2011
        assert _next(schedule, "2011-12-29T00:00-10:00", 3) == [
            "2011-12-29T12:00:00-10:00",
            "2011-12-31T00:00:00+14:00",
            "2011-12-31T12:00:00+14:00",
        ]


_ZONES = [
    ("UTC", "2026-01-01"),
    ("Asia/Kolkata", "2026-01-01"),
    ("Europe/Berlin", "2026-03-28"),
    ("Europe/Berlin", "2026-10-24"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("Australia/Lord_Howe", "2026-10-03"),
    ("America/Havana", "2026-03-07"),
    ("America/Havana", "2026-10-31"),
    ("Pacific/Apia", "2011-12-29"),
]


@pytest.mark.parametrize(("zone", "day"), _ZONES)
@pytest.mark.parametrize("text", ["*/30 * * * *", "7 * * * *", "0,30 * 1 11 *", "30 * 25 10 *"])
def test_an_hourly_schedule_has_every_instant_whose_wall_clock_fits(text: str, zone: str, day: str) -> None:
    schedule = Schedule.parse(text, zone)
    start, hours = _at(f"{day}T00:00+00:00"), 72
    instants = [start + minute * 60_000_000 for minute in range(hours * 60)]
    walls = [datetime.fromtimestamp(at // 1_000_000, ZoneInfo(zone)).replace(tzinfo=None) for at in instants]
    minutes = {0, 7, 30}  # those of the schedules above: spares the oracle, which is slow
    expected = [
        at for at, wall in zip(instants, walls, strict=True) if wall.minute in minutes and croniter.match(text, wall)
    ]
    assert schedule.between(start - 1, instants[-1], limit=10_000) == expected


@given(
    zone=st.sampled_from(_ZONES),
    offset=st.timedeltas(timedelta(), timedelta(days=3)),
    text=st.sampled_from(["30 2 * * *", "15 0 * * *", "0 */2 * * *", "* 1-3 * * *", "0 0 30 12 *", "5 4 * * sun"]),
)
def test_a_wall_clock_schedule_goes_forward_and_does_not_depend_on_where_the_search_begins(
    zone: tuple[str, str], offset: timedelta, text: str
) -> None:
    schedule = Schedule.parse(text, zone[0])
    at = _at(f"{zone[1]}T00:00+00:00") + offset // timedelta(microseconds=1)
    first = schedule.next_after(at)
    assert first > at
    assert schedule.next_after((at + first) // 2) == first
    assert schedule.next_after(first - 1) == first
    assert schedule.next_after(first) > first
