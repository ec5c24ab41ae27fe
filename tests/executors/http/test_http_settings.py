"""The operator's part: ENGINE_HTTP and what belongs to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagengine import settings
from dagengine.errors import SettingsError
from dagengine.executors.http import Policy


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.EngineSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_requests_are_sent_to_the_internet_by_default() -> None:
    assert settings.load().http_policy() == Policy()


def test_they_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_HTTP", "false")
    assert settings.load().http_policy() is None


def test_every_setting_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ALLOW": "localhost:8080, *.internal,10.0.0.0/8,",
        "DENY": "[fd00::/8]:80",
        "ONLY_ALLOWED": "true",
        "CA": "/etc/ca.pem",
        "INSECURE": "true",
        "PROXY": "http://user:word@proxy.example.com:3128",
        "CONNECTIONS": "7",
        "MAX_RESPONSE": "2",
    }.items():
        monkeypatch.setenv(f"ENGINE_HTTP_{name}", value)
    loaded = settings.load()
    assert "word" not in repr(loaded)
    assert loaded.http_policy() == Policy(
        allow=("localhost:8080", "*.internal", "10.0.0.0/8"),
        deny=("[fd00::/8]:80",),
        only_allowed=True,
        ca=Path("/etc/ca.pem"),
        insecure=True,
        proxy="http://user:word@proxy.example.com:3128",
        connections=7,
        max_response=2 << 20,
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ENGINE_HTTP_ALLOW", "good.example.com,http://bad/", "'http://bad/' is no rule: write a name"),
        ("ENGINE_HTTP_DENY", "10.0.0.0/99", "'10.0.0.0/99' is no rule"),
        ("ENGINE_HTTP_PROXY", "socks5://user:word@x", "the proxy must be a URL such as"),
        ("ENGINE_HTTP_CONNECTIONS", "0", "ENGINE_HTTP_CONNECTIONS"),
    ],
)
def test_what_makes_no_sense_is_told_at_the_start(monkeypatch, name, value, words) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        settings.load()
    assert words in str(caught.value)
    assert "user:word" not in str(caught.value)
