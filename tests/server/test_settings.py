"""Settings of the engine: where values come from, which one wins, and what is said of wrong ones."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dagengine import settings
from dagengine.errors import SettingsError
from dagengine.server import functions


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.EngineSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_the_defaults_are_safe_and_known() -> None:
    loaded = settings.load()
    assert (loaded.engine_id, loaded.host, loaded.port, loaded.capacity) == (
        socket.gethostname(),
        "127.0.0.1",
        50051,
        10,
    )
    assert loaded.dagengine_token is None
    assert not loaded.engine_reflection


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "engine.yaml"
    file.write_text("engine_id: from-file\ncapacity: 3\nport: 1\nengine_labels: {pool: cpu, zone: a}\n")
    monkeypatch.setenv("CAPACITY", "4")
    monkeypatch.setenv("PORT", "2")
    loaded = settings.load({"port": 3, "engine_labels": "pool=gpu", "host": None}, config=file)
    assert (loaded.engine_id, loaded.capacity, loaded.port) == ("from-file", 4, 3)
    assert loaded.engine_labels == {"pool": "gpu"}


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_ID", "")
    monkeypatch.setenv("PORT", "")
    assert settings.load().port == 50051


def test_labels_and_functions_are_read_from_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_LABELS", "pool=gpu, zone = a=b,")
    monkeypatch.setenv("ENGINE_PYTHON_MODULES", "os.path:join,up=os.path:dirname")
    loaded = settings.load()
    assert loaded.engine_labels == {"pool": "gpu", "zone": "a=b"}
    assert loaded.engine_python_modules == {"join": "os.path:join", "up": "os.path:dirname"}
    assert functions.load(loaded.engine_python_modules) == {"join": os.path.join, "up": os.path.dirname}


def test_the_pool_of_an_engine_is_a_label_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_POOL", "gpu")
    monkeypatch.setenv("ENGINE_LABELS", "zone=a")
    assert settings.load().labels() == {"zone": "a", "pool": "gpu"}
    monkeypatch.setenv("ENGINE_LABELS", "pool=gpu")
    assert settings.load().labels() == {"pool": "gpu"}
    monkeypatch.setenv("ENGINE_LABELS", "pool=cpu")
    with pytest.raises(SettingsError, match="ENGINE_POOL is gpu, and ENGINE_LABELS says pool=cpu: an engine is in one"):
        settings.load()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ENGINE_POOL", "gpu,cpu", "environment variable ENGINE_POOL: String should match pattern"),
        ("PORT", "70000", "environment variable PORT: Input should be less than or equal to 65535"),
        ("CAPACITY", "many", "environment variable CAPACITY: Input should be a valid integer"),
        ("ENGINE_LABELS", "gpu", "environment variable ENGINE_LABELS: 'gpu' is no label: write key=value"),
        ("ENGINE_LABELS", "a=1,a=2", "environment variable ENGINE_LABELS: the label 'a' is given twice"),
        ("ENGINE_PYTHON_MODULES", "os.path", "'os.path' is no function: write [name=]package.module:function"),
        ("ENGINE_PYTHON_MODULES", "a:f,b:f", "the function name 'f' is given twice"),
        ("LOG_LEVEL", "loud", "environment variable LOG_LEVEL: Input should be 'debug', 'info'"),
        ("DRAIN_TIMEOUT", "-1", "environment variable DRAIN_TIMEOUT: Input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_source(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        settings.load()
    assert message in str(caught.value)


def test_everything_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "engine.yaml"
    file.write_text("capactiy: 3\nlog_format: xml\n")
    monkeypatch.setenv("PORT", "-1")
    with pytest.raises(SettingsError) as caught:
        settings.load({"capacity": 0}, config=file)
    assert set(str(caught.value).splitlines()) == {
        f"{file}: capactiy: there is no such setting; did you mean 'capacity'?",
        f"{file}: log_format: Input should be 'auto', 'console' or 'json'",
        "environment variable PORT: Input should be greater than or equal to 0",
        "flag for capacity: Input should be greater than or equal to 1",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [("- 1", "must be a mapping"), ("a: [", "is not YAML"), (None, "cannot read the configuration file")],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "engine.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=message) as caught:
        settings.load(config=file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "content", ["dagengine_token: [very-secret\n", "dagengine_token: very-secret: x\n", "x: @very-secret"]
)
def test_a_file_that_is_not_yaml_is_not_quoted(tmp_path: Path, content: str) -> None:
    file = tmp_path / "engine.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"is not YAML \(line \d+, column \d+\)$") as caught:
        settings.load(config=file)
    assert "very-secret" not in str(caught.value) + repr(caught.value.__cause__)


def test_two_tokens_are_one_too_many_and_neither_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAGENGINE_TOKEN", "very-secret")
    assert "very-secret" not in repr(settings.load())
    with pytest.raises(SettingsError, match="both DAGENGINE_TOKEN and DAGENGINE_TOKEN_FILE") as caught:
        settings.load({"dagengine_token_file": tmp_path / "token"})
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b" \n", "is empty"),
        (b"one\ntwo", "must be one line of printable ASCII"),
        ("schlüssel-sehr-geheim".encode(), "must be one line of printable ASCII"),
        (b"\xff\xfe", "it is not text"),
    ],
)
def test_a_token_file_without_a_token_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        settings.load({"dagengine_token_file": file}).token()
    assert str(file) in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no_such_module:f", "cannot import 'no_such_module': ModuleNotFoundError"),
        ("os.path:no_such_function", "the module 'os.path' has no function 'no_such_function'"),
        ("os.path:sep", "the module 'os.path' has no function 'sep'"),
    ],
)
def test_a_function_that_is_not_there_is_named(place: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        functions.load({"f": place})


def test_lua_runs_in_processes_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = settings.load()
    assert (loaded.lua_isolation, loaded.lua_memory, loaded.lua_workers, loaded.lua_cpu) == ("process", 256, None, None)
    monkeypatch.setenv("LUA_ISOLATION", "thread")
    monkeypatch.setenv("LUA_MEMORY", "64")
    assert (settings.load().lua_isolation, settings.load().lua_memory) == ("thread", 64)


@pytest.mark.parametrize("name", ["LUA_WORKERS", "LUA_CPU"])
def test_limits_of_processes_are_refused_on_a_thread(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "2")
    assert settings.load({"lua_isolation": "process"}).lua_isolation == "process"
    with pytest.raises(SettingsError, match="LUA_WORKERS and LUA_CPU are for Lua in processes, and LUA_ISOLATION is"):
        settings.load({"lua_isolation": "thread"})


def test_lua_does_not_run_inline_in_a_server() -> None:
    with pytest.raises(SettingsError, match="flag for lua_isolation"):
        settings.load({"lua_isolation": "inline"})


def test_buffers_are_set_in_mebibytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    budget = settings.load().budget()
    assert budget.spool is not None
    assert (budget.limit, budget.spool.limit) == (64 << 20, 1 << 30)
    monkeypatch.setenv("ENGINE_BUFFER", "8")
    monkeypatch.setenv("ENGINE_SPOOL", "32")
    monkeypatch.setenv("ENGINE_SPOOL_DIR", str(tmp_path))
    budget = settings.load().budget()
    assert budget.spool is not None
    assert (budget.limit, budget.spool.limit) == (8 << 20, 32 << 20)
    monkeypatch.setenv("ENGINE_SPOOL", "0")
    assert settings.load().budget().spool is None


def test_a_directory_for_the_spool_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENGINE_SPOOL_DIR", str(tmp_path / "gone"))
    with pytest.raises(SettingsError, match=r"ENGINE_SPOOL_DIR: .*gone is no directory that this user may write to"):
        settings.load()
