"""An environment without settings in it."""

from __future__ import annotations

import pytest

from orchestrator.settings import OrchestratorSettings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has set does not reach the tests."""
    for name in OrchestratorSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)
