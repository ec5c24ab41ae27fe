"""Attacks of `attacks/escape.lua`: each ends as it must, in time, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ATTACKS = "escape"


def test_an_attack_is_endured(attack: Any, isolation: str, endured: Callable[..., str]) -> None:
    assert endured(attack, isolation) == ""


def test_there_are_enough_of_them(all_attacks: Any) -> None:
    assert len(all_attacks) >= 100
    assert len({attack.name for attack in all_attacks}) > 0.9 * len(all_attacks)
