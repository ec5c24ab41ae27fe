"""What is kept of a workflow's executions: what its document says, else what the server says."""

from __future__ import annotations

from typing import Any

import pytest

from dagengine.spec.model import Retention
from orchestrator.retention.policy import Kept, kept

DAY = 86_400_000_000
DEFAULTS = Kept(ttl=30 * DAY, keep=500, log_ttl=7 * DAY)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, DEFAULTS),
        ({}, DEFAULTS),
        ({"executions": {"ttl": "1d"}}, Kept(ttl=DAY, keep=None, log_ttl=7 * DAY)),
        ({"executions": {"keep": 3}}, Kept(ttl=None, keep=3, log_ttl=7 * DAY)),
        ({"executions": {}}, Kept(ttl=None, keep=None, log_ttl=7 * DAY)),
        ({"logs": {"ttl": "1h"}}, Kept(ttl=30 * DAY, keep=500, log_ttl=DAY // 24)),
        ({"executions": {}, "logs": {}}, Kept()),
    ],
    ids=["deleted", "silent", "ttl", "keep", "all", "logs", "everything"],
)
def test_each_part_that_a_document_gives_stands_in_place_of_the_default(
    said: dict[str, Any] | None, expected: Kept
) -> None:
    assert kept(None if said is None else Retention.model_validate(said), DEFAULTS) == expected


def test_without_a_word_from_anybody_everything_is_kept() -> None:
    assert kept(Retention(), Kept()) == Kept()
    assert not Kept().executions_go
