"""`docs/environment.md` says what the settings classes say."""

from __future__ import annotations

import runpy
from pathlib import Path

from dagengine.settings import EngineSettings
from orchestrator.settings import OrchestratorSettings

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_up_to_date() -> None:
    generated = runpy.run_path(str(ROOT / "scripts" / "generate_environment.py"))["document"]()
    assert (ROOT / "docs" / "environment.md").read_text(encoding="utf-8") == generated, "run `make docs`"


def test_every_setting_is_on_the_page() -> None:
    page = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    for name in {*OrchestratorSettings.model_fields, *EngineSettings.model_fields}:
        assert f"| `{name.upper()}` |" in page
