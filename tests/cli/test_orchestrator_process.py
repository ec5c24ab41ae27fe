from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from orchestrator.cli import server

ROOT = Path(__file__).parents[2]


@contextmanager
def orchestrator(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A running `dag-orchestrator` and what it announced."""
    with subprocess.Popen(
        [sys.executable, "cmd/run_orchestrator.py", "--announce", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as running:
        assert running.stdout is not None
        try:
            yield running, json.loads(running.stdout.readline())
        finally:
            running.terminate()
            running.communicate(timeout=60)


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_announces_itself_and_stops_at_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    with orchestrator("--database-url", f"sqlite:///{tmp_path / 'o.db'}") as (running, announced):
        assert set(announced) == {"orchestrator", "url"}
        assert httpx.get(f"{announced['url']}/healthz").status_code == 200
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (0, "")
    told = [json.loads(line)["event"] for line in err.splitlines()]
    assert told == ["replica_joined", "leader_now", "listening", "stop_requested", "stopped"]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--load-balancer", "magic"], 2, "flag for load_balancer_type"),
        (["--host", "0.0.0.0"], 2, "refusing to listen on 0.0.0.0"),
        (["--engines", "nonsense"], 2, "nonsense"),
        (["--config", "/nowhere/settings.yaml"], 2, "cannot read the configuration file"),
        (["--database-url", "sqlite:////dev/null/x.db", "--port", "0"], 1, "/dev/null"),
        (["--nonsense"], 2, "No such option"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_what_it_cannot_begin_with_is_told(arguments: list[str], code: int, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli.server", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told_before_a_store_is_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "cmd/run_orchestrator.py", "--port", str(port)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path / 'o.db'}"},
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"dag-orchestrator: cannot listen on 127.0.0.1:{port}: Address already in use")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", ["DAGENGINE_TLS_CA", "HTTP_TLS_CERT"])
def test_a_tls_file_that_cannot_be_used_is_named_with_its_setting(setting: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli.server", "--port", "0", "--database-url", "sqlite://"],
        env={**os.environ, "HTTP_TLS_KEY" if setting.startswith("HTTP") else setting: missing, setting: missing},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert f"dag-orchestrator: cannot read {missing} ({setting}): No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_has_examples_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from orchestrator.cli.server import main\n"
        "sys.argv[1:] = ['--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = ('fastapi', 'grpc', 'pydantic', 'sqlalchemy', 'rich', 'structlog')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "Examples:\n    dag-orchestrator --engines" in done.stdout


def test_version() -> None:
    answer = CliRunner().invoke(server.app, ["--version"])
    assert (answer.exit_code, answer.output) == (0, f"dag-orchestrator {version('dagengine')}\n")
