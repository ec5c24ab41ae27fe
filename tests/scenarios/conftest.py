"""`--rewrite`, and the modules of the stage: pytest imports test files alone, so the folder is put on the path here."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="record what the scenarios lead to; then read the diff")


@pytest.fixture
async def stage() -> AsyncIterator[Callable[[Any], Any]]:
    """`stage(script)`: where a scenario plays."""
    from scenario_driver import DriverStage
    from scenario_stage import Stage

    stages: list[Any] = []

    def make(script: Any) -> Any:
        stages.append((DriverStage if script.setting.get("journal") else Stage)(script))
        return stages[-1]

    yield make
    for made in stages:
        await made.close()
