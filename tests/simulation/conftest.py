"""Worlds are lived through in a process of their own: what is replaced of the product there is replaced for good."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "run.py"
_PATIENCE = 900.0

Live = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def live() -> Live:
    """`live("--seeds", "0:20", …)`: `run.py` with these arguments, and what it printed."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(RUN), *arguments], capture_output=True, text=True, timeout=_PATIENCE, check=False
        )

    return run
