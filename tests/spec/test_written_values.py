"""Rates, sizes and points in time as people write them."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagengine.spec.instant import parse_instant
from dagengine.spec.rate import Rate, parse_rate
from dagengine.spec.size import format_size, parse_size

UTC = datetime.UTC
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)


class TestRates:
    @pytest.mark.parametrize(
        ("text", "count", "seconds", "shortest"),
        [
            ("10/s", 10, 1, "10/s"),
            (" 300 / m ", 300, 60, "300/m"),
            ("5000/h", 5000, 3600, "5000/h"),
            ("5/10m", 5, 600, "5/10m"),
            ("5/60m", 5, 3600, "5/h"),
            ("1/24h", 1, 86_400, "1/d"),
            ("1/90s", 1, 90, "1/90s"),
        ],
    )
    def test_they_are_so_many_in_a_span(self, text: str, count: int, seconds: int, shortest: str) -> None:
        rate = parse_rate(text)
        assert rate == Rate(count=count, per=seconds * 1_000_000)
        assert str(rate) == shortest
        assert parse_rate(str(rate)) == rate

    @pytest.mark.parametrize(
        "value", ["", "10", "10/", "/s", "1.5/s", "-1/s", "10/w", "10 per s", 10, None, True, ["1/s"]]
    )
    def test_anything_else_is_refused(self, value: object) -> None:
        with pytest.raises(ValueError, match="expected a rate such as"):
            parse_rate(value)

    @pytest.mark.parametrize("text", ["0/s", "5/0s"])
    def test_one_that_lets_nothing_begin_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="would never let anything begin"):
            parse_rate(text)


class TestSizes:
    @pytest.mark.parametrize(
        ("value", "size"),
        [
            (0, 0),
            (4096, 4096),
            ("4096", 4096),
            ("64KiB", 65_536),
            ("1.5 MiB", 1_572_864),
            ("1GB", 1_000_000_000),
            ("500kB", 500_000),
            ("7B", 7),
        ],
    )
    def test_they_are_bytes(self, value: object, size: int) -> None:
        assert parse_size(value) == size

    @pytest.mark.parametrize("value", ["", "x", "4KB", "4 k", "-1", -1, 1.5, True, None, "1.2.3MB", 1 << 51])
    def test_anything_else_is_refused(self, value: object) -> None:
        with pytest.raises(ValueError, match="expected a size such as"):
            parse_size(value)

    def test_one_that_is_too_large_is_refused(self) -> None:
        with pytest.raises(ValueError, match="more than a pebibyte"):
            parse_size("2000000GiB")

    @given(st.integers(0, 1 << 50))
    def test_what_is_written_is_read_again(self, size: int) -> None:
        assert parse_size(format_size(size)) == size


class TestInstants:
    @given(
        st.datetimes(datetime.datetime(1970, 1, 2), datetime.datetime(9999, 12, 30)),
        st.integers(-23 * 60, 23 * 60),
    )
    def test_rfc_3339_is_what_the_standard_library_reads(self, naive: datetime.datetime, offset: int) -> None:
        moment = naive.replace(tzinfo=datetime.timezone(datetime.timedelta(minutes=offset)))
        assert parse_instant(moment.isoformat()) == (moment - EPOCH) // datetime.timedelta(microseconds=1)

    @pytest.mark.parametrize(
        ("value", "microseconds"),
        [
            (0, 0),
            (1.5, 1_500_000),
            ("1970-01-02", 86_400_000_000),
            ("1970-01-01T00:01", 60_000_000),
            ("1970-01-01t00:00:01z", 1_000_000),
            ("1970-01-01 02:00:00+0200", 0),
            ("1970-01-01T00:00:00.1234567Z", 123_456),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000),
        ],
    )
    def test_shorter_forms_and_numbers(self, value: object, microseconds: int) -> None:
        assert parse_instant(value) == microseconds

    @pytest.mark.parametrize(
        "value", ["", "now", "31.01.2026", "2026-1-1", "09:30", "2026-01-31T9:30", True, None, -1, 1e12, [1]]
    )
    def test_anything_else_is_refused(self, value: object) -> None:
        with pytest.raises(ValueError, match="expected a time such as"):
            parse_instant(value)

    @pytest.mark.parametrize(
        "value",
        [
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "1900-02-29",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+01:60",
        ],
    )
    def test_times_that_do_not_exist_are_refused(self, value: str) -> None:
        with pytest.raises(ValueError, match="there is no such"):
            parse_instant(value)
