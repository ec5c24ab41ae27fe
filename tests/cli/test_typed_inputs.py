from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from dagengine.errors import InputError
from orchestrator.cli import inputs

TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("given", "schema", "expected"),
    [
        ("5", {"type": "integer"}, 5),
        ("5", TEXT, "5"),
        ("007", {}, "007"),
        ("true", {}, True),
        ("null", TEXT, "null"),
        ("null", {"type": ["string", "null"]}, None),
        ('{"a": [1, 2.5]}', {}, {"a": [1, 2.5]}),
        ("{not json", {}, "{not json"),
        ("2024-01-31", {"format": "date"}, "2024-01-31"),
        ("1", {"enum": ["1", "2"]}, "1"),
        ("1", {"enum": [1, 2]}, 1),
        ("1", {"const": "1"}, "1"),
        ("NaN", {"type": "number"}, "NaN"),
        ("", {}, ""),
        ("a=b", TEXT, "a=b"),
        ("@@home", TEXT, "@home"),
    ],
)
def test_a_value_is_json_unless_a_text_is_declared(given: str, schema: dict[str, Any], expected: object) -> None:
    assert inputs.gather([f"x={given}"], None, {"x": schema}) == {"x": expected}


@pytest.mark.parametrize("given", ['{"size":', "[1, 2", '{"size": NaN}'])
def test_a_text_that_begins_like_json_is_told(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert inputs.value("--payload", given) == given
    assert inputs.gather([f"x={given}", f"text={given}"], None, {"text": TEXT}) == {"x": given, "text": given}
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("dagctl: --payload is taken as a text: it begins like JSON and is none (")
    assert second.startswith("dagctl: -i x is taken as a text: ")


def test_what_is_json_or_plainly_a_text_is_taken_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert [inputs.value("--payload", given) for given in ("[1]", "ready", "1.2.3")] == [[1], "ready", "1.2.3"]
    assert capsys.readouterr().err == ""


def test_an_input_that_is_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="n: given twice with -i"):
        inputs.gather(["n=3", "n=2"], None, {})


def test_a_file_gives_its_text(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("a,b\n1,2\n")
    assert inputs.gather([f"data=@{file}"], None, {}) == {"data": "a,b\n1,2\n"}


def test_a_json_file_gives_its_value_unless_a_text_is_declared(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text('{"a": 1}')
    assert inputs.gather([f"data=@{file}"], None, {}) == {"data": {"a": 1}}
    assert inputs.gather([f"data=@{file}"], None, {"data": TEXT}) == {"data": '{"a": 1}'}


def test_standard_input_gives_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("grüß\n".encode())))
    assert inputs.gather(["data=@-"], None, {}) == {"data": "grüß\n"}


def test_pairs_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "inputs.yaml"
    file.write_text("limit: 5\nday: 2024-01-31\nname: file\n")
    found = inputs.gather(["name=pair"], str(file), {})
    assert found == {"limit": 5, "day": "2024-01-31", "name": "pair"}


def test_everything_that_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError) as caught:
        inputs.gather(
            ["novalue", "=5", f"a=@{tmp_path}/missing", f"b=@{tmp_path}/bad.json", f"c=@{tmp_path}/latin.txt"],
            None,
            {},
        )
    message = str(caught.value)
    assert "-i novalue: expected NAME=VALUE" in message
    assert "-i =5: expected NAME=VALUE" in message
    assert "a: " in message
    assert "missing cannot be read: No such file or directory" in message
    assert "bad.json is not JSON" in message
    assert "latin.txt is not UTF-8 text (byte 0)" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: 1\na: 2\n", "line 2"),
        ("# nothing yet", "is empty"),
        ("[1, 2]", "must hold an object"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_wrong_file_of_inputs_is_told_with_its_line(tmp_path: Path, content: str, expected: str) -> None:
    file = tmp_path / "inputs.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=expected):
        inputs.gather([], str(file), {})
