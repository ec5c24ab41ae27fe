from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cli import printing
from orchestrator.cli.options import Format

NOW = 1_700_000_000_000_000


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s ago"),
        (3, "3s ago"),
        (59, "59s ago"),
        (113, "1m ago"),
        (180, "3m ago"),
        (3_600, "1h ago"),
        (7_300, "2h ago"),
        (200_000, "2d ago"),
    ],
)
def test_times_are_relative(seconds: int, expected: str) -> None:
    assert printing.ago(NOW - seconds * 1_000_000, NOW) == expected


def test_a_time_that_has_not_come_is_empty() -> None:
    assert printing.ago(None, NOW) == ""


def test_exact_times_are_utc() -> None:
    assert printing.moment(NOW) == "2023-11-14T22:13:20.000Z"


def test_tables_cut_nothing_short() -> None:
    long = "x" * 300
    drawn = printing.table(("ID", "STATUS", "NOTE"), [(long, "succeeded", ""), ("y", "failed", "why")])
    lines = drawn.splitlines()
    assert lines[0] == "ID" + " " * 301 + "STATUS      NOTE"
    assert lines[1].startswith(f"{long}   succeeded   -")
    assert "\x1b" not in drawn


@pytest.mark.parametrize(
    ("columns", "expected"),
    [(80, ["ID", "STATUS", "ENGINE", "TRIGGER"]), (25, ["ID", "STATUS", "ENGINE"]), (5, ["ID", "STATUS"])],
)
def test_on_a_narrow_terminal_the_least_important_columns_go(
    columns: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    headings, rows = ("ID", "STATUS", "ENGINE", "TRIGGER"), [("an-id", "queued", "e-1", "api")]
    monkeypatch.setenv("COLUMNS", str(columns))
    assert printing.table(headings, rows, least=("TRIGGER", "ENGINE")).split()[:4] == list(headings)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    drawn = printing.table(headings, rows, least=("TRIGGER", "ENGINE"))
    assert drawn.splitlines()[0].split() == expected
    assert "an-id" in drawn


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"report": "a\nb\n"}, "a\nb\n"),
        ({"total": 3}, "total: 3"),
        ({"total": 3, "name": "é", "list": [1, None]}, "total: 3\nname: é\nlist: [1, null]"),
        ({"report": "a\nb", "n": 1}, "report:\na\nb\nn: 1"),
        ({}, ""),
    ],
)
def test_outputs_for_people(values: dict[str, Any], expected: str) -> None:
    assert printing.value_block(values) == expected


def test_structured_output_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    printing.structured({"a": "é", "b": [1]}, Format.JSON)
    assert capsys.readouterr().out == '{\n  "a": "é",\n  "b": [\n    1\n  ]\n}\n'
    printing.structured({"b": 1, "a": "é"}, Format.YAML)
    assert capsys.readouterr().out == "b: 1\na: é\n"
