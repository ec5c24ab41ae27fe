"""The sign-off example, with every way it can go: approved, rejected, one year broken, two years broken."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "03-sign-off"
DATA = FOLDER.parent / "01-weather" / "seattle-weather.csv"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def figures() -> dict[str, Any]:
    """What the workflow has to find, worked out again from the CSV."""
    years: dict[str, list[dict[str, str]]] = {}
    with DATA.open(newline="") as file:
        for row in csv.DictReader(file):
            years.setdefault(row["date"][:4], []).append(row)
    return {
        year: {
            "days": len(rows),
            "rain": float(sum(Decimal(row["precipitation"]) for row in rows)),
            "hottest": max(rows, key=lambda row: Decimal(row["temp_max"]))["date"].replace("/", "-"),
        }
        for year, rows in years.items()
    }


def broken(years: tuple[str, ...], path: Path) -> Path:
    """The data with one line of each of `years` that has no number where one belongs."""
    text = DATA.read_text()
    for year in years:
        line = next(line for line in text.splitlines() if line.startswith(f"{year}/07/04"))
        date, _, rest = line.split(",", 2)
        text = text.replace(line, f"{date},?,{rest}")
    path.write_text(text)
    return path


def told(ran: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    notices: list[dict[str, Any]] = json.loads(ran.stdout.rpartition("the press was told: ")[2])
    return notices


@pytest.mark.e2e
def test_what_two_approve_is_published_although_the_press_is_busy_at_first() -> None:
    ran = run("--approve")
    assert ran.returncode == 0, ran.stderr
    status, _, outputs = ran.stdout.splitlines()[-2].partition(": ")
    result = json.loads(outputs)
    assert (status, result["figures"], result["report"]) == ("succeeded", figures(), {"number": 1})
    assert [vote["author"] for vote in result["signed_by"]] == ["editor", "analyst"]
    assert told(ran) == [{"status": "succeeded", "reason": None}]
    assert ran.stderr.count("POST /reports") == 2


@pytest.mark.e2e
def test_what_one_rejects_is_not_published_and_the_press_is_told() -> None:
    ran = run("--reject")
    assert ran.returncode == 1
    (notice,) = told(ran)
    assert notice["status"] == "failed"
    assert "not today" in notice["reason"]
    assert "POST /reports" not in ran.stderr


@pytest.mark.e2e
def test_one_broken_year_is_left_out_and_two_are_too_many(tmp_path: Path) -> None:
    ran = run("--approve", "--data", str(broken(("2013",), tmp_path / "one.csv")))
    assert ran.returncode == 0, ran.stderr
    assert "left out: 2013, line 185: a measure is no number" in ran.stdout
    result = json.loads(ran.stdout.splitlines()[-2].partition(": ")[2])
    assert result["figures"] == figures() | {"2013": None}

    ran = run("--approve", "--data", str(broken(("2012", "2014"), tmp_path / "two.csv")))
    assert ran.returncode == 1
    (notice,) = told(ran)
    assert notice["status"] == "failed"
    assert "POST /reports" not in ran.stderr
