"""Statuses as values: conditions, messages that fit, and patches."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dagengine.errors import Problem, SpecError
from dagengine.testing import START
from orchestrator.controller import conditions
from orchestrator.controller.conditions import Condition

LEAVES = st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.lists(st.none() | st.integers(0, 3), max_size=2)
VALUES = st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3), max_leaves=8)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


def patched(value: Any, patch: Any) -> Any:
    """RFC 7386, as it is written there."""
    if not isinstance(patch, dict):
        return patch
    made = dict(value) if isinstance(value, dict) else {}
    for name, item in patch.items():
        if item is None:
            made.pop(name, None)
        else:
            made[name] = patched(made.get(name), item)
    return made


@given(before=OBJECTS, after=OBJECTS)
def test_a_difference_makes_the_one_of_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = conditions.difference(before, after)
    assert patched(before, patch) == after
    assert (patch == {}) == (before == after)


def test_the_status_of_an_object_that_has_none_is_written_whole() -> None:
    assert conditions.difference(None, {"phase": "Pending"}) == {"phase": "Pending"}


def test_members_that_are_null_are_left_out_but_not_those_of_lists() -> None:
    value = {"a": None, "b": {"c": None, "d": 1}, "e": [None, {"f": None}]}
    assert conditions.without_nulls(value) == {"b": {"d": 1}, "e": [None, {"f": None}]}


def _ready(status: conditions.Answer, reason: str) -> Condition:
    return Condition(type="Ready", status=status, reason=reason, message=reason.lower())


def test_the_time_of_a_transition_is_that_of_the_last_change_of_the_answer() -> None:
    first = conditions.updated([], [_ready("False", "NoEngine")], generation=1, now=START)
    second = conditions.updated(first, [_ready("False", "AllDraining")], generation=2, now=START + 60_000_000)
    third = conditions.updated(second, [_ready("True", "EngineAvailable")], generation=2, now=START + 120_000_000)
    times = [each["lastTransitionTime"] for (each,) in (first, second, third)]
    assert times == ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:02:00Z"]
    assert [each["reason"] for (each,) in (first, second, third)] == ["NoEngine", "AllDraining", "EngineAvailable"]
    assert [each["observedGeneration"] for (each,) in (first, second, third)] == [1, 2, 2]


def test_conditions_of_others_stay() -> None:
    other = {"type": "Audited", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"}
    made = conditions.updated([other], [_ready("True", "EngineAvailable")], generation=1, now=START)
    assert made[0] == other
    assert conditions.find({"conditions": made}, "Ready")["status"] == "True"
    assert conditions.find({}, "Ready") == {}


def test_codes_become_reasons() -> None:
    made = [conditions.reason_of(code) for code in ("no_engine", "no_executor:shell+http", "no_label:pool=gpu")]
    assert made == ["NoEngine", "NoExecutor", "NoLabel"]


def test_all_problems_are_told_or_how_many_more_there_are() -> None:
    few = SpecError(
        "the workflow document has 2 problems", [Problem(path=f"spec.{name}", message="no") for name in "ab"]
    )
    assert conditions.told(few) == "the workflow document has 2 problems:\n- spec.a: no\n- spec.b: no"
    many = SpecError("it has many", [Problem(path=f"spec.nodes[{index}]", message="x" * 100) for index in range(2_000)])
    text = conditions.told(many)
    assert 29_000 < len(text) < 32_000
    told = text.count("\n- ")
    assert text.endswith(f"\n… and {2_000 - told:,} more")
    assert told > 200


def test_times_are_written_as_the_api_has_them() -> None:
    assert conditions.instant(START + 1_999_999) == "2026-01-01T00:00:01Z"
    assert conditions.microseconds("2026-01-01T00:00:01Z") == START + 1_000_000
