from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import dagctl as cli
from orchestrator.cli import plan

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """What a run of `dagctl` came to."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command sees what the developer's own shell or `dagctl dev` has set."""
    names = ("DAGCTL_SERVER", "DAGENGINE_TOKEN", "DAGENGINE_TOKEN_FILE", "XDG_CONFIG_HOME")
    for name in (*names, "DAGCTL_TLS_CA", "DAGCTL_TLS_CERT", "DAGCTL_TLS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DAGCTL_CONFIG", str(tmp_path / "dagctl.json"))


@pytest.fixture
def dagctl() -> Callable[..., Answer]:
    """Runs `dagctl` in this process."""

    def run(*arguments: str, stdin: str | None = None) -> Answer:
        result = CliRunner().invoke(cli.app, list(arguments), input=stdin, prog_name="dagctl")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def command() -> Callable[..., list[str]]:
    """The command line that runs `dagctl` as a process of its own."""
    return _line


def _line(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from orchestrator.cli.dagctl import main; main()", *arguments]


@contextmanager
def _development(folder: Path, *arguments: str, config: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    config = config or folder / "dev.json"
    with (
        (folder / "errors.txt").open("w") as errors,
        subprocess.Popen(
            _line("dev", "--port", "0", *arguments),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "DAGCTL_CONFIG": str(config)},
        ) as running,
    ):
        assert running.stdout is not None
        said = []
        for line in running.stdout:
            said.append(line)
            if line.startswith("Ctrl-C"):
                break
        else:
            pytest.fail((folder / "errors.txt").read_text())
        (folder / "said.txt").write_text("".join(said))
        try:
            yield running
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGINT)
            running.wait(timeout=60)


@pytest.fixture(scope="session")
def development() -> Callable[..., AbstractContextManager[subprocess.Popen[str]]]:
    """A running `dagctl dev` that has said where it listens: in `said.txt`; its errors go into `errors.txt`."""
    return _development


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a `dagctl dev` that runs for all tests of one file."""
    folder = tmp_path_factory.mktemp("dev")
    with _development(folder, "--engines", "2", "--log-level", "error"):
        yield folder


@pytest.fixture
def known(installation: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`dagctl` finds the installation as it would on a developer's machine: by the file that `dev` wrote."""
    monkeypatch.setenv("DAGCTL_CONFIG", str(installation / "dev.json"))
    return installation


@pytest.fixture
def process(command: Callable[..., list[str]]) -> Callable[..., Answer]:
    """Runs `dagctl` as a process and waits for it."""

    def run(*arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> Answer:
        done = subprocess.run(
            command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            timeout=60,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """A workflow of three nodes in a file."""
    return _write(tmp_path / "hello.yaml", HELLO)


@pytest.fixture
def failing(tmp_path: Path) -> Path:
    """A workflow whose second item of a `foreach` raises an error."""
    return _write(tmp_path / "failing.yaml", FAILING)


@pytest.fixture
def sample() -> plan.Plan:
    """A plan of five nodes: two ways from one start to one end, with a `foreach` and a `when`."""
    lua = {"type": "lua", "code": "local rows = {}\nreturn rows"}
    return plan.read(
        {
            "metadata": {"id": "sample", "version": "1.2.0"},
            "spec": {
                "inputs": {"limit": {"type": "integer"}},
                "nodes": [
                    {"id": "end", "executor": lua, "dependencies": ["map", "check"]},
                    {"id": "load", "executor": lua},
                    {"id": "split", "executor": lua, "dependencies": ["load"]},
                    {"id": "map", "executor": lua, "dependencies": ["split"], "foreach": "nodes.split"},
                    {
                        "id": "check",
                        "executor": {"type": "python", "function": "check"},
                        "dependencies": ["load"],
                        "when": 'inputs.limit > 0 and inputs.name == "x"',
                    },
                ],
            },
        }
    )


def _write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


HELLO = """\
apiVersion: workflows/v1
kind: Workflow
metadata: {id: hello, version: 1.0.0, labels: {team: docs}}
spec:
  inputs:
    name: {type: string, default: World, description: Who is greeted.}
    times: {type: integer, default: 1}
  outputs: {greeting: "{{ nodes.greet.text }}"}
  nodes:
    - id: name
      executor: {type: lua, code: "return inputs.name:upper()"}
    - id: times
      executor: {type: lua, code: "return inputs.times"}
    - id: greet
      dependencies: [name, times]
      executor:
        type: lua
        code: |
          print("greeting " .. nodes.name)
          return {text = ("Hello, " .. nodes.name .. "! "):rep(nodes.times)}
"""

FAILING = """\
metadata: {id: failing, version: 1.0.0}
spec:
  nodes:
    - id: numbers
      executor: {type: lua, code: "return {1, 2, 3}"}
    - id: each
      dependencies: [numbers]
      foreach: nodes.numbers
      executor:
        type: lua
        code: |
          if item == 2 then
            error("two is not welcome")
          end
          return item
    - id: after
      dependencies: [each]
      executor: {type: lua, code: "return 1"}
"""
