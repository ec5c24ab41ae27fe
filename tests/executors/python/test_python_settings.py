"""The settings of Python functions: how they are written, and what is said of wrong ones."""

from __future__ import annotations

import pytest

from dagengine import settings
from dagengine.errors import SettingsError


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.EngineSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_by_default_nothing_may_be_imported() -> None:
    assert settings.load().engine_python_allow == ()
    assert settings.load().engine_python_workers is None


def test_patterns_are_read_from_one_line_and_from_a_list(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("ENGINE_PYTHON_ALLOW", "images.work:*, other.*:run_?,")
    monkeypatch.setenv("ENGINE_PYTHON_WORKERS", "3")
    loaded = settings.load()
    assert loaded.engine_python_allow == ("images.work:*", "other.*:run_?")
    assert loaded.engine_python_workers == 3
    monkeypatch.delenv("ENGINE_PYTHON_ALLOW")
    (tmp_path / "engine.yaml").write_text("engine_python_allow: ['a:f', 'b:*']\n")
    assert settings.load(config=tmp_path / "engine.yaml").engine_python_allow == ("a:f", "b:*")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ENGINE_PYTHON_ALLOW", "images.work", "'images.work' allows no function: write package.module:function"),
        ("ENGINE_PYTHON_ALLOW", "a:f,b:c.d", "'b:c.d' allows no function"),
        ("ENGINE_PYTHON_WORKERS", "0", "Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"environment variable {name}") as caught:
        settings.load()
    assert message in str(caught.value)
