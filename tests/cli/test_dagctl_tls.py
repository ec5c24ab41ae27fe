"""`dagctl` towards an orchestrator whose certificate is signed by a private CA, and which asks for one itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PEM = str(ROOT / "tests" / "api" / "localhost.pem")
"""Certificate, signed by itself, and key for `localhost` and 127.0.0.1."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An orchestrator that speaks mutual TLS."""
    settings = {"HTTP_TLS_CERT": PEM, "HTTP_TLS_KEY": PEM, "HTTP_TLS_CLIENT_CA": PEM, "DATABASE_URL": "sqlite://"}
    with subprocess.Popen(
        [sys.executable, "cmd/run_orchestrator.py", "--announce", "--port", "0", "--log-level", "error"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **settings},
    ) as running:
        assert running.stdout is not None
        try:
            yield json.loads(running.stdout.readline())["url"]
        finally:
            running.terminate()
            running.communicate(timeout=60)


def test_flags_name_the_ca_and_the_own_certificate(url: str, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("get", "engines", "--server", url, "--tls-ca", PEM, "--tls-cert", PEM, "--tls-key", PEM)
    assert (answer.code, answer.err) == (0, "no engines\n")


def test_so_does_the_environment(url: str, dagctl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CA", "CERT", "KEY"):
        monkeypatch.setenv(f"DAGCTL_TLS_{name}", PEM)
    monkeypatch.setenv("DAGCTL_SERVER", url)
    assert dagctl("get", "workflows").code == 0


def test_without_the_ca_the_orchestrator_is_not_trusted(url: str, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("get", "engines", "--server", url)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"dagctl: the certificate of the orchestrator at {url} is not trusted: self-signed")
    assert "--tls-ca" in answer.err


def test_without_a_certificate_the_orchestrator_does_not_answer(url: str, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("get", "engines", "--server", url, "--tls-ca", PEM)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"dagctl: the orchestrator at {url} broke the connection off")
    assert "does it ask for a certificate? (dagctl: --tls-cert and --tls-key" in answer.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tls-ca", "missing.pem"), "cannot read missing.pem (DAGCTL_TLS_CA): No such file or directory"),
        (("--tls-ca", __file__), "(DAGCTL_TLS_CA) holds no certificate in PEM form"),
        (("--tls-cert", PEM), "set both DAGCTL_TLS_CERT and DAGCTL_TLS_KEY, or neither"),
        (("--tls-cert", PEM, "--tls-key", __file__), "(DAGCTL_TLS_KEY) holds no private key in PEM form"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    url: str, options: tuple[str, ...], message: str, dagctl: Callable[..., Any]
) -> None:
    answer = dagctl("get", "engines", "--server", url, *options)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


@pytest.mark.parametrize(("server", "warned"), [("http://192.0.2.1:1", True), ("http://127.0.0.1:9", False)])
def test_a_token_that_would_leave_the_machine_unencrypted_is_warned_of(
    server: str, warned: bool, process: Callable[..., Any]
) -> None:
    # Refused before anything is sent: what counts is what is said first.
    answer = process("apply", "-f", "no-such-file.yaml", "--server", server, env={"DAGENGINE_TOKEN": "secret"})
    assert answer.code == 2
    assert answer.err.count(f"the token goes to {server} unencrypted") == int(warned)
    assert "secret" not in answer.err
