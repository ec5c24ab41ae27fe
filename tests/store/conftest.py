"""What several suites of the store begin with."""

from __future__ import annotations

import pytest

from orchestrator.store.base import VersionRecord


@pytest.fixture
def version() -> VersionRecord:
    """`w@1.0.0`, with the digest `d`."""
    return VersionRecord(
        workflow="w",
        version="1.0.0",
        digest="d",
        document=b"{}",
        labels={},
        name="",
        description="",
        registered_at=1,
    )
