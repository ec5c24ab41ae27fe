"""What nodes may do in `dagctl run`: set by flags and by the variables of `dag-engine`."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """\
metadata: {id: program, version: 1.0.0}
spec:
  outputs: {said: "{{ nodes.say }}"}
  nodes:
    - {id: say, executor: {type: shell, command: [sh, -c, "echo heard $WORD"]}}
"""

FUNCTION = """\
metadata: {id: function, version: 1.0.0}
spec:
  outputs: {twice: "{{ nodes.double }}"}
  nodes:
    - {id: double, executor: {type: python, function: "doubling.work:double", args: {number: 21}}}
"""

NAMED = FUNCTION.replace("doubling.work:double", "double")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ENGINE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "program.yaml").write_text(PROGRAM)
    return str(tmp_path / "program.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a package, and with a module that has the name of one of the standard library."""
    (tmp_path / "doubling").mkdir()
    (tmp_path / "doubling" / "work.py").write_text("def double(number):\n    return number * 2\n")
    (tmp_path / "queue.py").write_text("raise RuntimeError('the wrong queue')\n")
    (tmp_path / "function.yaml").write_text(FUNCTION)
    (tmp_path / "named.yaml").write_text(NAMED)
    return tmp_path


@pytest.fixture
def port() -> Iterator[int]:
    """A server on loopback that answers `lamp`."""

    class Lamp(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"lamp")

        def log_message(self, *_args: object) -> None:
            """Be silent."""

    with http.server.HTTPServer(("127.0.0.1", 0), Lamp) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_no_program_runs_unless_it_is_allowed(program: str, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("run", program, "-q")
    assert answer.code == 1
    assert "node 'say' runs a program, and this engine runs none: allow it with --shell" in answer.err


@pytest.mark.parametrize(("flags", "variables"), [(["--shell"], {}), ([], {"ENGINE_SHELL": "true"})])
def test_programs_run_where_a_flag_or_the_environment_allows_them(
    program: str, dagctl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, flags: list[str], variables: Any
) -> None:
    for name, value in {**variables, "WORD": "nothing", "ENGINE_SHELL_ENV": "WORD"}.items():
        monkeypatch.setenv(name, value)
    answer = dagctl("run", program, "-q", *flags)
    assert (answer.code, answer.out, answer.err) == (0, "heard nothing\n", "")


def test_what_all_programs_of_a_workflow_lack_is_said_once(tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    nodes = "\n".join(f"    - {{id: n{number}, executor: {{type: shell, command: ['true']}}}}" for number in range(13))
    (tmp_path / "many.yaml").write_text(f"metadata: {{id: many, version: 1.0.0}}\nspec:\n  nodes:\n{nodes}\n")
    answer = dagctl("run", str(tmp_path / "many.yaml"), "-q")
    assert answer.err.count("run programs, and this engine runs none") == 1
    assert "13 nodes ('n0', 'n1', 'n2', 'n3', …)" in answer.err


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["function.yaml", "--python-allow", "doubling.work:*"], {}),
        (["function.yaml"], {"ENGINE_PYTHON_ALLOW": "doubling.work:*"}),
        (["named.yaml"], {"ENGINE_PYTHON_MODULES": "doubling.work:double"}),
    ],
)
def test_functions_of_the_current_directory(
    folder: Path, command: Callable[..., list[str]], arguments: list[str], variables: dict[str, str]
) -> None:
    line = [sys.executable, "-P", *command("run", "-q", *arguments)[1:]]
    environment = {**os.environ, **variables}
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "twice: 42\n", "")


def test_requests_go_where_a_flag_says(tmp_path: Path, port: int, dagctl: Callable[..., Any]) -> None:
    (tmp_path / "ask.yaml").write_text(
        "metadata: {id: ask, version: 1.0.0}\n"
        'spec:\n  outputs: {lamp: "{{ nodes.get }}"}\n  nodes:\n'
        f"    - {{id: get, executor: {{type: http, url: 'http://127.0.0.1:{port}/'}}}}\n"
    )
    assert dagctl("run", str(tmp_path / "ask.yaml"), "-q").code == 1
    answer = dagctl("run", str(tmp_path / "ask.yaml"), "-q", "--http-allow", f"127.0.0.1:{port}")
    assert answer.code == 0
    assert "lamp" in answer.out


def test_a_pool_of_the_environment_and_one_of_the_flag(
    tmp_path: Path, dagctl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool.yaml").write_text(
        "metadata: {id: pool, version: 1.0.0}\nspec:\n  nodes:\n"
        "    - {id: use, pool: db, executor: {type: lua, code: return 1}}\n"
    )
    monkeypatch.setenv("ENGINE_POOLS", "db=1")
    assert dagctl("run", str(tmp_path / "pool.yaml"), "-q").code == 0
    refused = dagctl("run", str(tmp_path / "pool.yaml"), "-q", "--pools", "api=1")
    assert (refused.code, "needs the pool 'db'" in refused.err) == (1, True)


def test_what_cannot_be_used_is_refused(hello: Path, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("run", str(hello), "--python-allow", "no function")
    assert answer.code == 2
    assert "engine_python_allow" in answer.err


def test_settings_are_not_imported_for_a_workflow_that_needs_none(
    hello: Path, command: Callable[..., list[str]]
) -> None:
    code = (
        "import sys; from orchestrator.cli.dagctl import app;"
        f"app(['run', {str(hello)!r}, '-q'], standalone_mode=False);"
        "print('pydantic_settings' in sys.modules, 'dagengine.executors.http.policy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("False False\n")
