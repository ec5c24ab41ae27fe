"""The simulation itself: a seed tells the same story each time, and a rule of the product that is broken is noticed."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable

import pytest

Live = Callable[..., subprocess.CompletedProcess[str]]


def test_the_same_seed_tells_the_same_story(live: Live) -> None:
    ended = live("--seeds", "0:20", "--twice")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    stories = {live("--seed", "3").stdout for _ in range(2)}
    assert len(stories) == 1, stories


@pytest.mark.parametrize(
    ("rule", "ways"),
    [
        ("acknowledged-early", ""),
        ("blind-park", ""),
        ("commands-twice", "reset"),
        ("deaf-to-drops", ""),
        ("effects-run-ahead", ""),
        ("endless-lease", "cut"),
        ("forgotten-inbox", ""),
        ("no-keys", ""),
        ("no-orphans", ""),
        ("nobody-is-fenced", ""),
    ],
)
def test_a_broken_rule_is_noticed_and_its_story_can_be_told_again(live: Live, rule: str, ways: str) -> None:
    ended = live("--seeds", "0:600", "--broken", rule, "--ways", ways)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    found = re.search(r"seed (\d+) FAILED: (.*)\nreplay: (.*)", ended.stdout)
    assert found is not None, ended.stdout
    again = live(*shlex.split(found[3])[2:])
    assert again.returncode == 1
    assert found[2] in again.stdout
    assert len(again.stdout.splitlines()) > 50, "the story is told"
