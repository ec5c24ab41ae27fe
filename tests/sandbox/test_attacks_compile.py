"""Attacks of `attacks/compile.lua`, and code that is too big to be written down there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

ATTACKS = "compile"

LONG = "x" * 50_000


def test_an_attack_is_endured(attack: Any, isolation: str, endured: Callable[..., str]) -> None:
    assert endured(attack, isolation) == ""


@pytest.mark.parametrize("isolation", ["process", "inline"])
@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("return " + "(" * 5_000 + "1" + ")" * 5_000, "LuaSyntaxError"),
        ("return " + "{" * 5_000 + "}" * 5_000, "LuaSyntaxError"),
        ("return " + "not " * 5_000 + "1", "LuaSyntaxError"),
        ("return " + "function() return " * 500 + " end" * 500, "LuaSyntaxError"),
        ("return " + "'a' .. " * 5_000 + "'b'", "LuaSyntaxError"),
        ("local a = 1 " * 300, "LuaSyntaxError"),
        ("return {" + "1," * 300_000 + "}", "value"),
        ("do " * 5_000 + "end " * 5_000, "LuaSyntaxError"),
        ("return '" + "x" * 1_000_000, "LuaSyntaxError"),
        ("return 1" + "1" * 1_000_000 + "x", "LuaSyntaxError"),
        ("[" * 100_000, "LuaSyntaxError"),
        ("[=" * 100_000, "LuaSyntaxError"),
        ("--[" * 100_000 + "\nreturn", "value"),
        ("nodes." * 5_000, "LuaSyntaxError"),
        ("nodes[" * 5_000, "LuaSyntaxError"),
        ("local nodes = nodes " * 3_000, "LuaSyntaxError"),
        (
            f"local t = {{}} function t.{LONG}(n) if n == 0 then error('x') end t.{LONG}(n - 1) end t.{LONG}(60)",
            "LuaError",
        ),
        (f"{LONG}()", "LuaError"),
    ],
    ids=range(18),
)
def test_big_code_is_endured(
    attack_of: Callable[..., Any], isolation: str, endured: Callable[..., str], code: str, ends: str
) -> None:
    attack = attack_of(code, ends=(ends,), anything=ends == "value")
    assert endured(attack, isolation) == ""
