"""Workflows with triggers, and a real store to keep them in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from dagengine.spec.model import Document
from dagengine.testing import START, VirtualClock
from orchestrator.store.base import VersionRecord
from orchestrator.store.sqlite import SQLiteStore

Register = Callable[..., VersionRecord]


@pytest.fixture
def version(document: Callable[..., Document]) -> Register:
    """`version("w@1.0.0", at=…, cron=…, http=…)`: a registered version. `at` counts seconds from the clock's start."""

    def make(
        reference: str,
        *,
        at: float = 0,
        cron: dict[str, Any] | str | None = None,
        http: dict[str, Any] | str | None = None,
    ) -> VersionRecord:
        triggers: dict[str, Any] = {}
        if cron is not None:
            triggers["cron"] = {"schedule": cron} if isinstance(cron, str) else cron
        if http is not None:
            triggers["http"] = {"path": http} if isinstance(http, str) else http
        workflow, _, number = reference.partition("@")
        made = document([{"id": "a"}], id=workflow, version=number, triggers=triggers)
        return VersionRecord(
            workflow=workflow,
            version=number,
            digest=made.digest,
            document=made.canonical,
            labels={},
            name="",
            description="",
            registered_at=START + round(at * 1e6),
        )

    return make


@pytest.fixture
def clock() -> VirtualClock:
    """Stands at 2026-01-01 00:00:00 UTC."""
    return VirtualClock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store in a file."""
    opened = SQLiteStore(f"sqlite:///{tmp_path}/orchestrator.db")
    await opened.open()
    yield opened
    await opened.close()
