"""The inputs of an execution against `spec.inputs`."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import pytest

from dagengine.errors import InputError
from dagengine.spec import document, inputs
from dagengine.spec.model import Document


def _with(**schemas: Any) -> Document:
    return document.from_dict(
        {
            "metadata": {"id": "w", "version": "1.0.0"},
            "spec": {"inputs": schemas, "nodes": [{"id": "a", "executor": {"type": "lua", "code": "return 1"}}]},
        }
    )


def _problems(read: Document, given: dict[Any, Any]) -> list[str]:
    with pytest.raises(InputError) as caught:
        inputs.check_inputs(read, given)
    return [str(problem) for problem in caught.value.problems]


def test_defaults_are_put_in_and_inputs_left_alone() -> None:
    read = _with(date={"type": "string"}, limit={"default": 100}, tags={"type": "array", "default": ["a"]})
    given = {"date": "today"}
    checked = inputs.check_inputs(read, given)
    assert checked == {"date": "today", "limit": 100, "tags": ["a"]}
    assert given == {"date": "today"}
    assert isinstance(checked["tags"], list)
    checked["tags"].append("b")
    assert inputs.check_inputs(read, given)["tags"] == ["a"]


def test_every_problem_is_told_at_once() -> None:
    read = _with(
        date={"type": "string", "format": "date"},
        limit={"type": "integer", "minimum": 1},
        rows={
            "type": "array",
            "items": {"type": "object", "required": ["id"], "properties": {"n": {"type": "number"}}},
        },
        mode={"enum": ["fast", "slow"]},
        missing={"type": "string"},
    )
    given = {"date": "2023-02-29", "limt": 3, "limit": 0, "rows": [{}, {"id": 1, "n": "x"}], "mode": 3}
    assert _problems(read, given) == [
        "inputs.date: '2023-02-29' is not a date such as 2024-12-31",
        "inputs.limit: must be at least 1, got 0",
        "inputs.limt: unknown input 'limt'; did you mean 'limit'?",
        "inputs.missing: required",
        "inputs.mode: must be one of 'fast', 'slow'; got 3",
        "inputs.rows[0].id: required",
        "inputs.rows[1].n: expected a number, got text",
    ]


def test_the_error_names_the_workflow() -> None:
    with pytest.raises(InputError, match=r"the inputs do not fit workflow w@1\.0\.0"):
        inputs.check_inputs(_with(a={}), {})


def test_unknown_inputs_are_told_what_is_declared() -> None:
    assert _problems(_with(date={"default": 1}, limit={"default": 1}), {"zebra": 1}) == [
        "inputs.zebra: unknown input 'zebra' (declared: date, limit)"
    ]


def test_a_workflow_that_declares_nothing_takes_anything_that_is_json() -> None:
    assert inputs.check_inputs(_with(), {"a": 1, "b": (1, {"c": None})}) == {"a": 1, "b": [1, {"c": None}]}
    assert _problems(_with(), {"a": {1}, "b": float("inf"), "c": 2**64, "d": "\udc80", 5: 1}) == [
        "inputs: names of inputs must be texts, got 5",
        "inputs.a: expected a JSON value, got a Python set",
        "inputs.b: inf is not a number that JSON can hold",
        "inputs.c: the integer does not fit into 64 bits",
        "inputs.d: the text holds half of a surrogate pair, which is not Unicode",
    ]


@pytest.mark.parametrize(
    ("schema", "right", "wrong", "message"),
    [
        ({"format": "date"}, "2024-02-29", "2024-2-29", "'2024-2-29' is not a date such as 2024-12-31"),
        ({"format": "date-time"}, "2024-02-29T10:00:00Z", "2024-02-29", "'2024-02-29' is not a time such as"),
        ({"format": "email"}, "a@example.org", "a@", "'a@' is not an e-mail address"),
        ({"format": "uri"}, "https://example.org/a", "a b", "'a b' is not a URI"),
        ({"format": "uuid"}, "123e4567-e89b-12d3-a456-426614174000", "123", "'123' is not a UUID"),
        ({"format": "ipv4"}, "127.0.0.1", "127.0.0.256", "'127.0.0.256' is not an IPv4 address"),
        ({"pattern": "^(a+)+$"}, "aaa", "a" * 50_000 + "b", "does not match the pattern ^(a+)+$"),
        ({"type": "integer"}, 3.0, 3.5, "expected a whole number, got 3.5"),
        ({"type": ["integer", "null"]}, None, "x", "expected a whole number or null, got text"),
        ({"const": "x"}, "x", "y", "must be 'x', got 'y'"),
        ({"multipleOf": 0.5}, 1.5, 1.6, "must be a multiple of 0.5, got 1.6"),
        ({"exclusiveMaximum": 3}, 2.9, 3, "must be less than 3, got 3"),
        ({"exclusiveMinimum": 3}, 4, 3, "must be more than 3, got 3"),
        ({"maximum": 3}, 3, 4, "must be at most 3, got 4"),
        ({"minLength": 2}, "ab", "a", "must have at least 2 characters, has 1"),
        ({"maxItems": 1}, [1], [1, 2], "must have at most 1 item, has 2"),
        ({"minProperties": 1}, {"a": 1}, {}, "must have at least 1 field, has 0"),
        ({"uniqueItems": True}, [1, 2], [1, 1], "the same item is there twice"),
        ({"contains": {"const": 1}}, [1, 2], [2], "none of the items is what at least one must be"),
        ({"not": {"const": 1}}, 2, 1, "1 is what it must not be"),
        ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, 3, 1, "expected text, got a number; or must be at least 3"),
        ({"oneOf": [{"minimum": 1}, {"minimum": 2}]}, 1, 2, "fits more than one of the alternatives"),
        ({"oneOf": [{"minimum": 1}, {"type": "string"}]}, 1, 0, "fits none of the alternatives: must be at least 1"),
        ({"properties": {}, "additionalProperties": False}, {}, {"a": 1}, "inputs.x.a: unknown field 'a'"),
        ({"propertyNames": {"maxLength": 1}}, {"a": 1}, {"ab": 1}, "a name of a field is wrong: must have at most 1"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "x", 1, "expected text, got a number"),
        ({"dependentRequired": {"a": ["b"]}}, {}, {"a": 1}, "inputs.x.b: required"),
        ({"items": False}, [], [1], "1 is not allowed"),
        ({"prefixItems": [{}], "unevaluatedItems": False}, [1], [1, 2], "not allowed"),
    ],
)
def test_values_are_checked_and_complaints_are_in_plain_words(
    schema: dict[str, Any], right: object, wrong: object, message: str
) -> None:
    read = _with(x=schema)
    assert inputs.check_inputs(read, {"x": right}) == {"x": right}
    (problem,) = _problems(read, {"x": wrong})
    assert message in problem
    assert problem.startswith("inputs.x")
    assert len(problem) < 300


def test_values_of_inputs_that_are_write_only_are_not_told() -> None:
    read = _with(token={"writeOnly": True, "anyOf": [{"pattern": "^t-"}, {"const": "none"}], "format": "uuid"})
    for problem in _problems(read, {"token": "hunter2"}):
        assert "hunter2" not in problem
        assert "a value that is not shown" in problem


def test_hostile_values_meet_a_limit() -> None:
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    (problem,) = _problems(_with(x={"type": "array"}), {"x": deep})
    assert problem.endswith("nested deeper than 200 levels")


def test_checking_is_cheap_where_there_is_nothing_to_check() -> None:
    read = _with()
    given = {"name": "x", "flag": True}
    best = min(_microseconds(read, given) for _ in range(5))
    assert best < 25  # measured: 1 to 2; the slack is for machines that are busy with other things


def _microseconds(read: Document, given: dict[str, object]) -> float:
    start = time.perf_counter()
    for _ in range(1_000):
        inputs.check_inputs(read, given)
    return (time.perf_counter() - start) * 1_000


def test_more_documents_than_are_remembered() -> None:
    reads = [_with(x={"type": "integer", "default": number}) for number in range(300)]
    for _ in range(2):
        assert [inputs.check_inputs(read, {})["x"] for read in reads] == list(range(300))


class TestPayloads:
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"amount": {"type": "number"}, "by": {"type": "string", "maxLength": 3}},
        "required": ["amount"],
    }

    def test_what_fits_comes_back_as_a_copy(self) -> None:
        payload: dict[str, Any] = {"amount": 1.5, "rows": [1]}
        checked = inputs.check_payload(self.SCHEMA, payload)
        assert checked == payload
        payload["rows"].append(2)
        assert checked == {"amount": 1.5, "rows": [1]}

    @pytest.mark.parametrize("value", [None, 1, "x", [1, {"a": None}]])
    def test_without_a_schema_any_json_will_do(self, value: object) -> None:
        assert inputs.check_payload({}, value) == value

    def test_everything_wrong_is_told_at_once(self) -> None:
        with pytest.raises(InputError, match="the payload does not fit the signal") as caught:
            inputs.check_payload(self.SCHEMA, {"by": "nobody"})
        assert {str(problem) for problem in caught.value.problems} == {
            "payload.amount: required",
            "payload.by: must have at most 3 characters, has 6",
        }

    def test_what_is_not_json_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"payload\.x: expected a JSON value, got a Python set"):
            inputs.check_payload({}, {"x": {1}})
