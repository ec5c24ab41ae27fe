"""Label selectors: what they select, and where a wrong one is wrong."""

from __future__ import annotations

import re

import pytest

from orchestrator import errors
from orchestrator.registry.selector import Selector

LABELS = {"team": "data", "tier": "gold", "owner": "", "app.example/part": "etl-1.2"}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("  ", True),
        ("team=data", True),
        ("team==data", True),
        ("team=ops", False),
        ("missing=data", False),
        ("tier!=gold", False),
        ("tier!=silver", True),
        ("missing!=gold", True),
        ("owner", True),
        ("missing", False),
        ("!legacy", True),
        ("!owner", False),
        ("! legacy", True),
        ("owner=", True),
        ("team=", False),
        ("team!=", True),
        ("team in (data,ops)", True),
        ("team in ( ops , data )", True),
        ("team in (ops)", False),
        ("missing in (data)", False),
        ("owner in ()", True),
        ("team notin (ops)", True),
        ("team notin (data)", False),
        ("missing notin (data)", True),
        ("app.example/part=etl-1.2", True),
        ("team=data,tier!=silver,owner,!legacy, tier in (gold,silver)", True),
        ("team=data,tier!=silver,owner,!legacy, tier in (silver)", False),
        (" team = data , tier = gold ", True),
    ],
)
def test_what_a_selector_selects(text: str, selected: bool) -> None:
    assert Selector.parse(text).matches(LABELS) is selected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",", "at character 1: expected the name of a label, got ','"),
        ("=x", "at character 1: expected the name of a label, got '='"),
        ("a,", "at character 3: expected the name of a label, got the end"),
        ("a,,b", "at character 3: expected the name of a label, got ','"),
        ("a b", "at character 3: expected '=', '!=', 'in', 'notin' or ',', got 'b'"),
        ("a>1", "at character 2: expected '=', '!=', 'in', 'notin' or ',', got '>'"),
        ("a=b c", "at character 5: expected ',' before the next requirement, got 'c'"),
        ("a==(b)", "at character 4: expected a value, got '('"),
        ("a===b", "at character 4: expected a value, got '='"),
        ("a in b", "at character 6: expected '(' after 'in', got 'b'"),
        ("a notin", "at character 8: expected '(' after 'notin', got the end"),
        ("a in (b", "at character 8: expected ',' or ')', got the end"),
        ("a in (b c)", "at character 9: expected ',' or ')', got 'c'"),
        ("!", "at character 2: expected the name of a label after '!', got the end"),
        ("!a=b", "at character 3: expected ',' before the next requirement, got '='"),
        ("a=b)", "at character 4: expected ',' before the next requirement, got ')'"),
    ],
)
def test_a_wrong_selector_is_refused_at_its_place(text: str, message: str) -> None:
    with pytest.raises(errors.RequestError, match=re.escape(f"The label selector {text!r} is wrong {message}.")):
        Selector.parse(text)
