from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main

from orchestrator.cli import dagctl as cli

HEAVY = ("fastapi", "grpc", "httpx", "lupa", "pydantic", "rich", "sqlalchemy", "yaml", "asyncio", "dagengine.app")


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from _commands(inner, (*path, name))


PATHS = list(_commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_has_an_example_in_its_help(path: tuple[str, ...], dagctl: Callable[..., Any]) -> None:
    answer = dagctl(*path, "--help")
    assert answer.code == 0
    _, _, examples = answer.out.partition("Examples:\n")
    lines = examples.split("\n\n")[0].splitlines()
    assert any("dagctl" in line and all(part in line for part in path) for line in lines), answer.out


def test_the_commands_are_those_that_are_documented() -> None:
    names = {" ".join(path) for path in PATHS if path}
    assert names == {
        "run", "repl", "validate", "graph", "schema", "manifest", "dev", "apply", "start", "logs", "watch", "why",
        "cancel", "terminate", "pause", "resume", "retry", "skip", "signal", "approve", "reject", "edit",
        "export", "replay", "purge", "backup", "restore", "token",
        "get", "get workflows", "get executions", "get engines", "get pools", "get replicas",
        "describe", "describe workflow", "describe execution", "delete", "delete workflow",
    }  # fmt: skip


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from orchestrator.cli.dagctl import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_running_a_workflow_imports_no_server(process: Callable[..., Any], hello: object) -> None:
    code = (
        "import sys\n"
        "from orchestrator.cli.dagctl import main\n"
        f"try:\n    main(['run', {str(hello)!r}])\nexcept SystemExit:\n    pass\n"
        "heavy = ('fastapi', 'grpc', 'httpx', 'sqlalchemy', 'uvicorn', 'rich.live')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_ctrl_c_before_the_program_is_read_prints_no_traceback() -> None:
    code = (
        "import signal, sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('typer'):\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from orchestrator.cli.dagctl import main\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_version(dagctl: Callable[..., Any]) -> None:
    answer = dagctl("--version")
    assert (answer.code, answer.out) == (0, f"dagctl {version('dagengine')}\n")


def test_no_command_shows_the_help(dagctl: Callable[..., Any]) -> None:
    answer = dagctl()
    assert answer.code == 2
    assert "Usage: dagctl" in answer.out + answer.err


@pytest.mark.parametrize("noun", ["workflow", "execution", "engine"])
def test_get_takes_the_singular_too(noun: str, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("get", noun, "--help")
    assert answer.code == 0
    assert f"dagctl get {noun}s" in answer.out


def test_dev_refuses_a_log_level_that_does_not_exist(dagctl: Callable[..., Any]) -> None:
    answer = dagctl("dev", "--log-level", "foo")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "dagctl: --log-level foo: expected debug, info, warning or error\n"


@pytest.mark.parametrize("place", ["a-file", "a-file/below"])
def test_dev_refuses_a_place_that_can_be_no_directory(tmp_path: Path, place: str, dagctl: Callable[..., Any]) -> None:
    (tmp_path / "a-file").write_text("")
    answer = dagctl("dev", "--port", "0", "--data", str(tmp_path / place))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"dagctl: {tmp_path / place} cannot be the directory of the store: ")
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("run",), ("run", "--nonsense", "x"), ("get", "executions", "--limit", "many")]
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], dagctl: Callable[..., Any]) -> None:
    answer = dagctl(*arguments)
    assert answer.code == 2
    assert "Error" in answer.err
    assert "Traceback" not in answer.err


def test_shell_completion_completes_commands(process: Callable[..., Any]) -> None:
    answer = process(env={"_DAGCTL_COMPLETE": "complete_bash", "COMP_WORDS": "dagctl va", "COMP_CWORD": "1"})
    assert answer.out.split() == ["validate"]
