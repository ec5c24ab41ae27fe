"""Every scenario still goes as it was recorded. `README.md` tells how to read and write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCENARIOS = sorted(Path(__file__).parent.glob("*.txt"))
RECORDED = {path: path.read_text() for path in SCENARIOS}


@pytest.mark.parametrize("path", SCENARIOS, ids=[path.stem for path in SCENARIOS])
async def test_it_goes_as_recorded(path: Path, stage: Callable[[Any], Any], pytestconfig: pytest.Config) -> None:
    import scenario_script

    recorded = RECORDED[path]
    script = scenario_script.read(recorded)
    on = stage(script)
    told = script.text([await on.perform(done) for done, _, _ in script.scenes])
    if pytestconfig.getoption("--rewrite", default=False):
        _record(path, told)
    else:
        assert told == recorded, f"{path.name} goes otherwise: pytest tests/scenarios --rewrite, and read the diff"


def _record(path: Path, told: str) -> None:
    path.write_text(told)


def test_there_is_one_for_every_semantic_and_each_has_a_title_of_its_own() -> None:
    import scenario_script

    titles = [scenario_script.read(recorded).title for recorded in RECORDED.values()]
    assert len(titles) >= 45
    assert len(set(titles)) == len(titles)
