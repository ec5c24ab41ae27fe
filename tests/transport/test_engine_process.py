"""A real `dag-engine` process with sessions: how it begins, how it drains, and what it says when it cannot begin."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dagengine.events import facts as codec
from dagengine.spec.model import Document
from dagengine.wire.v1.session_pb2 import Refusal
from orchestrator.transport.base import Link
from orchestrator.transport.grpc_link import GrpcTransport
from orchestrator.transport.session import Identity

pytestmark = pytest.mark.e2e

TOKEN = "a token that nobody guesses, truly"

GATED = Document.model_validate(
    {
        "metadata": {"id": "gated", "version": "1.0.0"},
        "spec": {
            "nodes": [
                {"id": "wait", "executor": {"type": "python", "function": "gate"}},
                {"id": "then", "dependencies": ["wait"], "executor": {"type": "lua", "code": "return nodes.wait"}},
            ]
        },
    }
)


class Process:
    """One `dag-engine` process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.address = ""

    async def announced(self) -> dict[str, str]:
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            announced: dict[str, str] = json.loads(await self.process.stdout.readline())
        self.address = announced["address"]
        return announced

    async def ended(self) -> tuple[int, str, str]:
        """Exit code, the rest of standard output, standard error."""
        async with asyncio.timeout(20):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


Run = Callable[..., Any]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A pipe that the function `gate` reads from: it returns once the test has written to it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "gates.py").write_text(f"def gate():\n    return open({str(pipe)!r}).read()\n")
    return pipe


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """`await run(*flags, **environment)` runs `dag-engine`; whatever still runs in the end is killed."""
    processes: list[Process] = []

    async def start(*flags: str, **environment: str) -> Process:
        inherited = {"PATH": os.environ["PATH"]} | {
            name: value for name, value in os.environ.items() if name == "PYTHONPATH"
        }
        paths = os.pathsep.join(filter(None, [str(tmp_path), inherited.get("PYTHONPATH")]))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from dagengine.cli import main; main()",
            *flags,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=inherited | {"PYTHONPATH": paths} | environment,
        )
        processes.append(Process(process))
        return processes[-1]

    yield start
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.process.kill()
        await process.process.communicate()


@pytest.fixture
async def engine_process(run: Run, gate: Path, request: pytest.FixtureRequest) -> Process:
    """An engine that has `gate`, and listens."""
    flags = getattr(request, "param", ())
    process: Process = await run(
        "--port", "0", "--id", "e-1", "--announce", "--python", "gates:gate", *flags, DAGENGINE_TOKEN=TOKEN
    )
    await process.announced()
    return process


@pytest.fixture
async def session(engine_process: Process, ledger: Any) -> AsyncIterator[Link]:
    """A session with that engine, which runs `e1` up to its gate."""
    identity = Identity(orchestrator="orch", incarnation="store", token=TOKEN)
    link = GrpcTransport(identity).link(engine_process.address, ledger)
    running = asyncio.create_task(link.run())
    await ledger.until(lambda: ledger.hellos)
    ledger.want(link, "e1", GATED)
    await ledger.until(lambda: len(ledger.facts["e1"]) == 2)
    yield link
    await link.close()
    await running


async def test_it_announces_itself_and_ends_quietly(run: Run) -> None:
    process = await run("--port", "0", "--id", "e-1", "--announce", "--log-format", "json")
    announced = await process.announced()
    assert announced["engine"] == "e-1"
    assert announced["address"].startswith("127.0.0.1:")
    process.process.send_signal(signal.SIGINT)
    code, out, err = await process.ended()
    assert (code, out) == (0, "")
    events = [json.loads(line)["event"] for line in err.splitlines()]
    assert events == ["engine_listening", "stop_requested", "drain_began", "drain_ended"]


async def test_on_sigterm_it_takes_no_more_work_and_finishes_what_it_has(
    session: Link, engine_process: Process, ledger: Any, gate: Path
) -> None:
    engine_process.process.send_signal(signal.SIGTERM)
    await ledger.until(lambda: ledger.messages[-1].load.draining)
    async with grpc.aio.insecure_channel(engine_process.address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    ledger.want(session, "e2", GATED)
    await ledger.until(lambda: ledger.refusals)
    assert (ledger.refusals[0].execution, ledger.refusals[0].reason) == ("e2", Refusal.DRAINING)
    await asyncio.to_thread(gate.write_text, "open")
    await ledger.until(lambda: ledger.ended("e1"))
    kinds = [type(codec.decode(data)).__name__ for data in ledger.facts["e1"]]
    assert kinds[-1] == "ExecutionSucceeded"
    code, _, err = await engine_process.ended()
    assert (code, "Traceback" in err, TOKEN in err) == (0, False, False)


@pytest.mark.parametrize("engine_process", [("--drain-timeout", "0.1")], indirect=True)
async def test_what_does_not_finish_in_time_is_handed_back(session: Link, engine_process: Process, ledger: Any) -> None:
    engine_process.process.send_signal(signal.SIGTERM)
    await ledger.until(lambda: ledger.refusals)
    [refusal] = ledger.refusals
    assert (refusal.execution, refusal.epoch, refusal.reason) == ("e1", 1, Refusal.DRAINING)
    assert (await engine_process.ended())[0] == 0


async def test_a_second_signal_ends_it_at_once(session: Link, engine_process: Process, ledger: Any) -> None:
    engine_process.process.send_signal(signal.SIGTERM)
    await ledger.until(lambda: ledger.messages[-1].load.draining)
    engine_process.process.send_signal(signal.SIGTERM)
    assert (await engine_process.ended())[0] == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--host", "0.0.0.0"], "refusing to listen on 0.0.0.0 without a way to tell orchestrators"),
        (["--port", "99999"], "flag for port: Input should be less than or equal to 65535"),
        (["--python", "os.path:nothing"], "the module 'os.path' has no function 'nothing'"),
        (["--token-file", "/no/such/file"], "cannot read the token file /no/such/file: No such file"),
        (["--tls-cert", "/no/such/file"], "a certificate goes with its key"),
        (["--config", "/no/such/file"], "cannot read the configuration file /no/such/file"),
        (["--no-such-flag"], "No such option"),
    ],
)
async def test_wrong_use_is_told_without_a_traceback(run: Run, flags: list[str], message: str) -> None:
    code, out, err = await (await run(*flags)).ended()
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""


async def test_a_port_that_is_taken_is_told(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = await (await run("--port", str(port))).ended()
    assert code == 2
    assert err.startswith(f"dag-engine: cannot listen on 127.0.0.1:{port}: Address already in use")
    assert err.count("\n") == 1  # gRPC has nothing to add


async def test_it_listens_to_other_machines_with_a_token_from_a_file(run: Run, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    process = await run("--host", "0.0.0.0", "--port", "0", "--token-file", str(token), "--announce")
    assert (await process.announced())["address"].startswith("0.0.0.0:")
