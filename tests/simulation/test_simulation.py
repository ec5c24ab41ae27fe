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


def test_a_story_does_not_depend_on_where_things_are_in_memory_or_on_the_worlds_before_it(live: Live) -> None:
    """Each process has its objects elsewhere, so sets of what is hashed by its address are in another order there."""

    def stories(first: int, end: int) -> dict[str, str]:
        ended = live("--seeds", f"{first}:{end}", "--stories")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return dict(re.findall(r"seed (\d+): story (\w+)", ended.stdout))

    after_others = stories(284, 300)
    assert len(after_others) == 16
    for first in (292, 296):
        alone = stories(first, first + 4)
        assert alone == {seed: after_others[seed] for seed in alone}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("rule", "ways"),
    [
        ("acknowledged-early", ""),
        ("blind-park", ""),
        ("commands-twice", "reset,slow_disk"),
        ("deaf-to-drops", ""),
        ("effects-run-ahead", ""),
        ("endless-lease", "cut"),
        ("forgotten-inbox", ""),
        ("no-counting", ""),
        ("no-keys", ""),
        ("no-orphans", ""),
        ("nobody-is-fenced", ""),
        ("not-alone", ""),
        ("not-outbid", ""),
        ("two-leaders", ""),
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
