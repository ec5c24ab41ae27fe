"""What an image's health check asks: the process that runs here with the same settings."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from real_processes import ENGINE, ORCHESTRATOR

pytestmark = pytest.mark.e2e


async def ask(command: tuple[str, ...], token: str, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        "--healthcheck",
        env={**os.environ, "DAGENGINE_TOKEN": token, "HOST": "0.0.0.0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert out == b""
    return process.returncode, err.decode()


@pytest.fixture
def certified(tmp_path: Path) -> dict[str, str]:
    """A key and a certificate that signed itself, by what their settings are called."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(["openssl", *request.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return {"CERT": str(certificate), "KEY": str(key)}


async def test_an_engine_that_runs_is_healthy_and_one_that_has_ended_is_not(site: Any) -> None:
    engine = await site.engine("engine")
    port = engine.address.rpartition(":")[2]
    assert await ask(ENGINE, site.token, PORT=port) == (0, "")
    await engine.end()
    assert await ask(ENGINE, site.token, PORT=port) == (
        1,
        f"dag-engine: the engine at 127.0.0.1:{port} does not answer: UNAVAILABLE\n",
    )


async def test_an_orchestrator_that_runs_is_healthy_without_any_engine(site: Any) -> None:
    orchestrator = await site.orchestrator([])
    port = orchestrator.url.rpartition(":")[2]
    assert await ask(ORCHESTRATOR, site.token, HTTP_PORT=port) == (0, "")
    await orchestrator.end()
    code, told = await ask(ORCHESTRATOR, site.token, HTTP_PORT=port)
    assert (code, told.partition(": ")[2].startswith(f"the orchestrator at 127.0.0.1:{port} does not answer")) == (
        1,
        True,
    )


@pytest.mark.parametrize("mutual", [False, True])
async def test_both_are_asked_over_tls_where_they_speak_it(site: Any, certified: dict[str, str], mutual: bool) -> None:
    engines = {f"DAGENGINE_TLS_{name}": path for name, path in certified.items()}
    clients = {f"HTTP_TLS_{name}": path for name, path in certified.items()}
    if mutual:
        engines["DAGENGINE_TLS_CA"] = clients["HTTP_TLS_CLIENT_CA"] = certified["CERT"]
    engine = await site.engine("engine", **engines)
    orchestrator = await site.orchestrator([], **clients)
    port = engine.address.rpartition(":")[2]
    assert await ask(ENGINE, site.token, PORT=port, **engines) == (0, "")
    port = orchestrator.url.rpartition(":")[2]
    assert await ask(ORCHESTRATOR, site.token, HTTP_PORT=port, **clients) == (0, "")


async def test_wrong_settings_are_a_wrong_use(site: Any) -> None:
    code, told = await ask(ENGINE, site.token, PORT="many")
    assert code == 2
    assert "PORT" in told
