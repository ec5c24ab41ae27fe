from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dagengine.errors import SettingsError
from orchestrator.cli import connection, profile

SAVED = profile.Profile(server="http://127.0.0.1:9999", token="secret-of-dev")


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGCTL_CONFIG", str(tmp_path / "new" / "place.json"))
    profile.save(SAVED)
    assert stat.S_IMODE(profile.path().stat().st_mode) == 0o600
    assert stat.S_IMODE(profile.path().parent.stat().st_mode) == 0o700
    assert list(profile.path().parent.iterdir()) == [profile.path()]
    assert profile.load() == SAVED


def test_the_place_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGCTL_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/xdg")
    assert profile.path() == Path("/xdg/dagengine/dagctl.json")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert profile.path() == Path("/home/somebody/.config/dagengine/dagctl.json")


def test_forgetting_leaves_a_later_profile_alone() -> None:
    later = profile.Profile(server="http://127.0.0.1:1", token="another")
    profile.save(later)
    profile.forget(SAVED)
    assert profile.load() == later
    profile.forget(later)
    assert profile.load() is None


@contextmanager
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_the_profile_of_a_running_dev_is_left_alone() -> None:
    with listening() as server:
        first = profile.Profile(server=server, token="token-of-the-first", pid=os.getpid())
        assert profile.claim(first) is None
        second = profile.Profile(server="http://127.0.0.1:9999", token="token-of-the-second", pid=os.getpid())
        assert profile.claim(second) == first
        assert profile.load() == first
        assert connection.resolve(None, None, None) == (server, "token-of-the-first")
        assert connection.resolve("127.0.0.1:9999", None, None)[1] == "token-of-the-second"
        profile.forget(second)
        assert profile.load() == first
        assert profile.find(second.server) is None


def test_the_profile_of_a_dev_that_is_gone_is_replaced() -> None:
    with listening() as server:
        pass
    profile.save(profile.Profile(server=server, token="of-somebody-gone", pid=os.getpid()))
    assert profile.claim(SAVED) is None
    assert profile.load() == SAVED


def test_a_broken_file_is_told() -> None:
    profile.path().write_text("{}")
    with pytest.raises(SettingsError, match="is not a file of dagctl"):
        profile.load()


def test_the_token_is_never_shown() -> None:
    assert "secret-of-dev" not in repr(SAVED)


def test_what_dev_saved_is_found() -> None:
    assert connection.resolve(None, None, None) == (connection.DEFAULT_SERVER, None)
    profile.save(SAVED)
    assert connection.resolve(None, None, None) == ("http://127.0.0.1:9999", "secret-of-dev")


def test_the_saved_token_goes_to_its_own_server_only() -> None:
    profile.save(SAVED)
    assert connection.resolve("https://elsewhere.example", None, None) == ("https://elsewhere.example", None)
    assert connection.resolve("127.0.0.1:9999/", None, None) == ("http://127.0.0.1:9999", "secret-of-dev")


def test_a_flag_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    monkeypatch.setenv("DAGENGINE_TOKEN", "from-environment")
    assert connection.resolve(None, None, None)[1] == "from-environment"
    assert connection.resolve(None, None, str(file))[1] == "from-file"
    assert connection.resolve(None, "from-flag", None)[1] == "from-flag"


def test_two_tokens_from_one_place_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGENGINE_TOKEN", "one")
    monkeypatch.setenv("DAGENGINE_TOKEN_FILE", str(tmp_path / "other"))
    with pytest.raises(SettingsError, match="DAGENGINE_TOKEN and DAGENGINE_TOKEN_FILE"):
        connection.resolve(None, None, None)


@pytest.mark.parametrize(("content", "expected"), [(None, "No such file"), ("", "is empty"), ("é", "not hold a token")])
def test_a_token_file_that_holds_none_is_told(tmp_path: Path, content: str | None, expected: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=expected):
        connection.resolve(None, None, str(file))
