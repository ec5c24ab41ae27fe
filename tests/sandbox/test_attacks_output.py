"""Attacks of `attacks/output.lua`: each ends as it must, in time, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ATTACKS = "output"


def test_an_attack_is_endured(attack: Any, isolation: str, endured: Callable[..., str]) -> None:
    assert endured(attack, isolation) == ""
