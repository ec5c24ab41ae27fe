"""Text to plain values: the scalars of YAML 1.2, aliases, places, and JSON by its own road."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagengine.spec import json_text, text, yaml_text
from dagengine.spec.source import FatalError

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=30)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("~", None),
        ("", None),
        ("null", None),
        ("True", True),
        ("false", False),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("y", "y"),
        ("12", 12),
        ("+12", 12),
        ("-0", 0),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("12:30:45", "12:30:45"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.", 1.0),
        ("1.2.3", "1.2.3"),
        ("2024-01-01", "2024-01-01"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("!!float 12", 12.0),
        ("! 12", "12"),
        ("=", "="),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written: str, value: object) -> None:
    parsed = yaml_text.parse(f"a: {written}\n")
    assert parsed.value == {"a": value}
    assert type(parsed.value["a"]) is type(value)
    assert parsed.problems == []


@pytest.mark.parametrize("written", ["!!int x", "!!bool 1", "!!null x", "!!set {a}", "!!binary aGk=", "!x y"])
def test_tags_that_do_not_fit_are_problems(written: str) -> None:
    assert len(yaml_text.parse(f"a: {written}\n").problems) == 1


def test_small_aliases_are_fine() -> None:
    parsed = yaml_text.parse("a: &x {b: [1, 2]}\nc: *x\n*x : 1\n&k d: *k\n")
    assert isinstance(parsed.value, dict)
    assert parsed.value["c"] == {"b": [1, 2]}
    assert parsed.value["d"] == "d"
    assert [problem.message for problem in parsed.problems] == ["an alias ('*x') cannot be a key"]


def test_aliases_may_not_dig_deeper_than_the_limit() -> None:
    deep = "a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 30 + "*a" + "]" * 30
    with pytest.raises(FatalError, match="nested deeper than 64 levels"):
        yaml_text.parse(deep)


@pytest.mark.parametrize("parse", [yaml_text.parse, json_text.parse])
def test_every_value_has_its_place(parse: object) -> None:
    assert callable(parse)
    parsed = parse('{\n  "a": [1, {"b": "x"},\n    [2]],\n  "a.b": {}, "é": 4, "f": 5}\n')
    places = {
        (): (1, 1),
        ("a",): (2, 3),
        ("a", 0): (2, 9),
        ("a", 1): (2, 12),
        ("a", 1, "b"): (2, 13),
        ("a", 2): (3, 5),
        ("a", 2, 0): (3, 6),
        ("a.b",): (4, 3),
        ("f",): (4, 22),
        ("a", 1, "missing", "deeper"): (2, 12),
        ("a", 9): (2, 3),
    }
    assert {path: parsed.locate(path) for path in places} == places


@given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_json_means_the_same_by_both_roads(value: object, indent: int | None, ascii_only: bool) -> None:
    written = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    by_json = json_text.parse(written)
    assert by_json.value == value
    assert by_json.findings == []
    if not ascii_only:  # YAML does not know surrogate pairs
        by_yaml = yaml_text.parse(written.replace("\x7f", "\\u007f"))
        assert by_yaml.value == value
        assert by_yaml.problems == []


@given(VALUES)
def test_places_have_the_shape_of_the_values(value: object) -> None:
    parsed = json_text.parse(json.dumps(value))
    assert parsed.places is not None
    stack = [(value, parsed.places())]
    while stack:
        inner, place = stack.pop()
        if isinstance(inner, dict):
            assert isinstance(place.inside, dict)
            assert list(place.inside) == list(inner)
            stack.extend((inner[key], place.inside[key]) for key in inner)
        elif isinstance(inner, list):
            assert isinstance(place.inside, list)
            stack.extend(zip(inner, place.inside, strict=True))
        else:
            assert place.inside is None


@given(st.text() | st.binary())
def test_any_text_is_read_or_refused_and_nothing_else(content: str | bytes) -> None:
    problem = None
    try:
        parsed = text.parse(content)
    except FatalError as exc:
        problem = exc.problem
    assert problem.message if problem is not None else parsed.locate(()) >= (1, 1)


def test_flow_yaml_that_is_not_json_is_read_as_yaml() -> None:
    assert text.parse("{a: 1, b: [x, 'y',],}").value == {"a": 1, "b": ["x", "y"]}


def test_problems_of_the_text_are_told_up_to_a_limit() -> None:
    assert len(yaml_text.parse("a: 1\n" * 2_000).problems) == 1_000


def test_floats_of_json_stay_floats() -> None:
    value = text.parse('{"a": 1.0, "b": 1e2, "c": 10}').value
    assert value == {"a": 1.0, "b": 100.0, "c": 10}
    assert isinstance(value, dict)
    assert [type(item) for item in value.values()] == [float, float, int]
    assert math.isclose(value["b"], 100)
