"""Every figure of the weather example, computed a second time from the CSV in Python."""

from __future__ import annotations

import calendar
import csv
import datetime
import itertools
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dagengine.app import DAGEngine
from dagengine.errors import ExecutionFailed, InputError

FOLDER = Path(__file__).parents[2] / "examples" / "01-weather"
WORKFLOW = FOLDER / "workflow.yaml"
DATA = FOLDER / "seattle-weather.csv"
HEADER = "date,precipitation,temp_max,temp_min,wind,weather\n"

ROUNDED = Decimal("0.05001")
"""How far a figure with one decimal may be from the exact one."""

Day = dict[str, Any]


@pytest.fixture(scope="module")
def days() -> list[Day]:
    with DATA.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {
            "date": datetime.date(*map(int, row["date"].split("/"))),
            **{name: Decimal(row[name]) for name in ("precipitation", "temp_max", "temp_min", "wind")},
            "weather": row["weather"],
        }
        for row in rows
    ]


@pytest.fixture(scope="module")
def outputs() -> dict[str, Any]:
    return DAGEngine().run_sync(WORKFLOW, {"data": DATA.read_text()})


def mean(values: list[Decimal]) -> Decimal:
    return sum(values, Decimal()) / len(values)


def assert_rounded(shown: float, exact: Decimal) -> None:
    assert abs(Decimal(str(shown)) - exact) <= ROUNDED, (shown, exact)


def assert_extreme(shown: dict[str, Any], days: list[Day], field: str, pick: Any) -> None:
    expected = pick(days, key=lambda day: day[field])  # min and max give the first one of several
    assert (shown["date"], Decimal(str(shown["value"]))) == (expected["date"].isoformat(), expected[field])


def test_the_data_is_four_whole_years(days: list[Day]) -> None:
    assert len(days) == 1461
    assert all(b["date"] - a["date"] == datetime.timedelta(days=1) for a, b in itertools.pairwise(days))


def test_the_figures_of_each_year(outputs: dict[str, Any], days: list[Day]) -> None:
    assert [year["year"] for year in outputs["years"]] == [2012, 2013, 2014, 2015]
    for year in outputs["years"]:
        own = [day for day in days if day["date"].year == year["year"]]
        assert year["days"] == len(own)
        assert year["wet_days"] == sum(day["precipitation"] > 0 for day in own)
        assert year["sunny_days"] == sum(day["weather"] == "sun" for day in own)
        assert_rounded(year["rain"], sum((day["precipitation"] for day in own), Decimal()))
        assert_rounded(year["mean_temperature"], mean([(day["temp_max"] + day["temp_min"]) / 2 for day in own]))
        assert_rounded(year["mean_wind"], mean([day["wind"] for day in own]))


def test_the_climate_of_each_month(outputs: dict[str, Any], days: list[Day]) -> None:
    assert [month["month"] for month in outputs["months"]] == list(range(1, 13))
    for month in outputs["months"]:
        own = [day for day in days if day["date"].month == month["month"]]
        assert_rounded(month["rain"], sum((day["precipitation"] for day in own), Decimal()) / 4)
        assert_rounded(month["wet_days"], Decimal(sum(day["precipitation"] > 0 for day in own)) / 4)
        assert_rounded(month["mean_high"], mean([day["temp_max"] for day in own]))
        assert_rounded(month["mean_low"], mean([day["temp_min"] for day in own]))


def test_the_records(outputs: dict[str, Any], days: list[Day]) -> None:
    records = outputs["records"]
    assert_extreme(records["hottest"], days, "temp_max", max)
    assert_extreme(records["coldest"], days, "temp_min", min)
    assert_extreme(records["wettest"], days, "precipitation", max)
    assert_extreme(records["windiest"], days, "wind", max)
    rain = {
        year: sum(day["precipitation"] for day in days if day["date"].year == year) for year in (2012, 2013, 2014, 2015)
    }
    assert records["driest_year"] == outputs["driest_year"] == min(rain, key=lambda year: rain[year])


def test_the_longest_dry_spell(outputs: dict[str, Any], days: list[Day]) -> None:
    runs = [list(run) for dry, run in itertools.groupby(days, lambda day: day["precipitation"] == 0) if dry]
    longest = max(runs, key=len)
    assert outputs["dry_spell"] == {
        "days": len(longest),
        "from": longest[0]["date"].isoformat(),
        "to": longest[-1]["date"].isoformat(),
    }


def test_the_report_shows_the_figures(outputs: dict[str, Any], days: list[Day]) -> None:
    first, by_year, by_month, records = outputs["report"].rstrip("\n").split("\n\n")
    assert first == "Seattle weather, 2012 to 2015 (1461 days)"
    for line, year in zip(by_year.splitlines()[1:], outputs["years"], strict=True):
        own = [day for day in days if day["date"].year == year["year"]]
        hottest = max(own, key=lambda day: day["temp_max"])
        coldest = min(own, key=lambda day: day["temp_min"])
        windiest = max(own, key=lambda day: day["wind"])
        assert line.split() == [
            *(str(year[name]) for name in ("year", "rain", "wet_days", "sunny_days", "mean_temperature")),
            *(str(hottest["temp_max"]), f"({hottest['date']:%m-%d})"),
            *(str(coldest["temp_min"]), f"({coldest['date']:%m-%d})"),
            *(str(windiest["wind"]), f"({windiest['date']:%m-%d})"),
        ]
    for line, month in zip(by_month.splitlines()[1:], outputs["months"], strict=True):
        names = ("rain", "wet_days", "mean_high", "mean_low")
        assert line.split() == [calendar.month_name[month["month"]], *(str(month[name]) for name in names)]
    assert records.splitlines() == [
        "Hottest day:   2014-08-11, 35.6 °C",
        "Coldest night: 2013-12-07, -7.1 °C",
        "Wettest day:   2015-03-15, 55.9 mm",
        "Windiest day:  2012-12-17, 9.5 m/s",
        "Driest year:   2013",
        "Longest dry spell: 48 days, 2012-07-23 to 2012-09-08",
    ]


def test_the_tables_are_aligned(outputs: dict[str, Any]) -> None:
    _, by_year, by_month, _ = outputs["report"].rstrip("\n").split("\n\n")
    for table in (by_year, by_month):
        assert len({len(line) for line in table.splitlines()}) == 1


def test_dagctl_prints_the_outputs_as_one_json_object(outputs: dict[str, Any]) -> None:
    command = "import sys; from orchestrator.cli.dagctl import main; sys.exit(main())"
    arguments = ["run", str(WORKFLOW), "-i", f"data=@{DATA}", "-o", "json"]
    ran = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == outputs
    assert "report" in ran.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "day,rain\n",
            f'line 1: expected the header "{HEADER.strip()}", got "day,rain"',
        ),
        (HEADER, "the data has a header, but no days"),
        (HEADER + "2012/01/01,0.0,12.8,5.0,4.7\n", 'line 2: expected 6 fields, got "2012/01/01,0.0,12.8,5.0,4.7"'),
        (
            HEADER + "2012/01/01,0.0,12.8,5.0,4.7,sun\n2012/01/02,0,warm,5,4,sun\n",
            'line 3: temp_max is "warm", which is not a number',
        ),
        (HEADER + "2012/02/30,0.0,12.8,5.0,4.7,sun\n", 'line 2: "2012/02/30" is not a date'),
        (HEADER + "1 May 2012,0.0,12.8,5.0,4.7,sun\n", 'line 2: "1 May 2012" is not a date'),
        (
            HEADER + "2012/01/02,0.0,12.8,5.0,4.7,sun\n2012/01/01,0.0,12.8,5.0,4.7,sun\n",
            "line 3: 2012/01/01 does not come after 2012/01/02",
        ),
    ],
)
def test_a_broken_line_is_refused_with_its_number(text: str, message: str) -> None:
    with pytest.raises(ExecutionFailed) as caught:
        DAGEngine().run_sync(WORKFLOW, {"data": text})
    assert message in caught.value.nodes["parse"]


def test_no_data_is_refused_at_the_door() -> None:
    with pytest.raises(InputError, match=r"inputs\.data"):
        DAGEngine().run_sync(WORKFLOW, {})
    with pytest.raises(InputError, match=r"inputs\.data"):
        DAGEngine().run_sync(WORKFLOW, {"data": ""})


def test_windows_line_ends_and_missing_days_are_understood() -> None:
    rows = ["2012/12/30,0,5,1,2,sun", "2012/12/31,0,6,1,2,sun", "2013/01/01,0,7,1,2,sun", "2013/01/04,0,8,1,2,sun"]
    text = HEADER.strip() + "\r\n" + "\r\n".join(rows) + "\r\n"
    outputs = DAGEngine().run_sync(WORKFLOW, {"data": text})
    assert [year["days"] for year in outputs["years"]] == [2, 2]
    assert outputs["dry_spell"] == {"days": 3, "from": "2012-12-30", "to": "2013-01-01"}
    assert [month["month"] for month in outputs["months"]] == [1, 12]


def test_a_year_of_rain_has_no_dry_spell() -> None:
    outputs = DAGEngine().run_sync(WORKFLOW, {"data": HEADER + "2012/01/01,0.1,12.8,5.0,4.7,rain\n"})
    assert outputs["dry_spell"] == {"days": 0}
    assert "Longest dry spell: none, it rained every day" in outputs["report"]
