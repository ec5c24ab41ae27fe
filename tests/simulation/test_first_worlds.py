"""Worlds in which much breaks: half of those that `make test` lives through (`make test-sim` has more)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

Live = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("first", [0, 25, 50, 75, 100, 125])
def test_whatever_breaks_nothing_is_lost_and_nothing_committed_runs_twice(live: Live, first: int) -> None:
    ended = live("--seeds", f"{first}:{first + 25}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "25 worlds in" in ended.stdout
