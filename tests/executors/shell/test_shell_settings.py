"""Settings of shell nodes: what the operator says reaches the executor in its units."""

from __future__ import annotations

import pytest

from dagengine import settings
from dagengine.app import DAGEngine, read_workflow
from dagengine.errors import SettingsError


def test_programs_do_not_run_unless_somebody_says_so() -> None:
    assert settings.load().engine_shell is False


def test_a_flag_or_the_environment_allows_them(monkeypatch) -> None:
    assert settings.load({"engine_shell": True}).engine_shell
    monkeypatch.setenv("ENGINE_SHELL", "true")
    monkeypatch.setenv("ENGINE_SHELL_ENV", "HTTPS_PROXY, NO_PROXY")
    loaded = settings.load()
    assert loaded.engine_shell
    assert loaded.engine_shell_env == ("HTTPS_PROXY", "NO_PROXY")


@pytest.mark.parametrize(
    ("name", "value"), [("ENGINE_SHELL_PROGRAMS", "0"), ("ENGINE_SHELL_ENV", "A=1"), ("ENGINE_SHELL_MEMORY", "1")]
)
def test_what_cannot_be_is_refused_by_name(monkeypatch, name, value) -> None:
    monkeypatch.setenv("ENGINE_SHELL", "true")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        settings.load()


def test_a_limit_of_programs_that_do_not_run_is_a_mistake(monkeypatch) -> None:
    monkeypatch.setenv("ENGINE_SHELL_CPU", "10")
    with pytest.raises(SettingsError, match="ENGINE_SHELL_CPU is for programs, and ENGINE_SHELL is not true"):
        settings.load()


async def test_an_engine_without_programs_says_how_to_allow_them() -> None:
    program = {"type": "shell", "command": ["true"]}
    other = {"id": "other", "executor": {"type": "python", "function": "f"}}

    async def missing(count: int) -> list[str]:
        nodes = [{"id": f"n{number}", "executor": program} for number in range(count)]
        document = read_workflow({"metadata": {"id": "w", "version": "1.0.0"}, "spec": {"nodes": [*nodes, other]}})
        async with DAGEngine() as engine:
            return engine.missing(document)

    how = "and this engine runs none: allow it with --shell (of `dag-engine` and `dagctl run`), ENGINE_SHELL=true or"
    one, function = await missing(1)
    assert one.startswith(f"node 'n0' runs a program, {how}")
    assert function == "node 'other' needs the Python function 'f', which is not registered here"
    assert (await missing(3))[0].startswith(f"nodes 'n0', 'n1' and 'n2' run programs, {how}")
    assert (await missing(13))[0].startswith(f"13 nodes ('n0', 'n1', 'n2', 'n3', …) run programs, {how}")
