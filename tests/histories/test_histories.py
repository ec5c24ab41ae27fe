"""Every journal in this folder still folds, and could have gone on from each of its facts. See `README.md`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from dagengine.events import facts
from orchestrator.history import lines
from orchestrator.history.replay import replay

JOURNALS = sorted(Path(__file__).parent.glob("*.jsonl"))


def _read(path: Path) -> lines.History:
    with path.open("rb") as source:
        return lines.read(source, name=path.name)


@pytest.mark.parametrize("path", JOURNALS, ids=[path.stem for path in JOURNALS])
def test_it_folds_and_every_invariant_holds_after_every_fact(path: Path) -> None:
    result = replay(_read(path), every=1)
    assert result.problem is None
    assert result.folded == result.checked


def test_there_is_one_with_every_kind_of_fact() -> None:
    recorded = {type(fact) for path in JOURNALS for fact in _read(path).facts}
    assert recorded == set(get_args(facts.Fact)), "record what is missing: see README.md"


def test_some_went_on_elsewhere_and_some_ended_in_each_way() -> None:
    headers = [_read(path).header for path in JOURNALS]
    assert {header.status for header in headers} == {"running", "succeeded", "failed", "cancelled"}
    assert sum(header.epoch > 1 for header in headers) >= 4
