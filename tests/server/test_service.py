"""The gRPC server of an engine: who may talk to it, what probes see, and what shows."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from dagengine.errors import SettingsError
from dagengine.server import security
from dagengine.server.host import Host
from dagengine.server.security import Identity
from dagengine.server.service import EngineServer
from dagengine.wire import limits
from dagengine.wire.handshake import PROTOCOL, OrchestratorSide
from dagengine.wire.v1 import session_pb2, session_pb2_grpc

TOKEN = "a token that nobody guesses, truly"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

Serve = Callable[..., Any]


@pytest.fixture
async def serve(engine: Any) -> AsyncIterator[Serve]:
    """`await serve(**options)` starts a server on a free port; all are stopped in the end."""
    servers: list[EngineServer] = []

    async def start(**options: Any) -> EngineServer:
        host = Host(engine, engine_id="engine-1", version="0", token=options.get("token"))
        server = EngineServer(host, **options)
        servers.append(server)
        await server.start()
        return server

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture
async def channel() -> AsyncIterator[Callable[[EngineServer], grpc.aio.Channel]]:
    channels: list[grpc.aio.Channel] = []

    def make(server: EngineServer) -> grpc.aio.Channel:
        channels.append(grpc.aio.insecure_channel(server.address))
        return channels[-1]

    yield make
    for made in channels:
        await made.close()


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, Path]:
    """A key and a certificate for localhost that signed itself."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", *request.split(), *names, "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


async def session_status(channel: grpc.aio.Channel, *messages: session_pb2.OrchestratorMessage) -> tuple[Any, str]:
    """How a session ends that begins with these messages."""
    call = session_pb2_grpc.EngineStub(channel).Session()
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it may be over before all is written
        for message in messages:
            await call.write(message)
        await call.done_writing()
    with contextlib.suppress(grpc.aio.AioRpcError):  # the status comes after all messages only
        while await call.read() is not grpc.aio.EOF:
            pass
    return await call.code(), await call.details()


async def test_health_follows_the_life_of_the_engine(serve: Serve, channel: Any) -> None:
    server = await serve()
    stub = health_pb2_grpc.HealthStub(channel(server))
    services = ("", limits.SERVICE, limits.LIVENESS)
    for service in services:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=limits.SERVICE))
    assert (await watch.read()).status == SERVING
    await server.unready()
    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()
    told = [(await stub.Check(health_pb2.HealthCheckRequest(service=service))).status for service in services]
    assert told == [NOT_SERVING, NOT_SERVING, SERVING]  # who drains should not be killed for it


async def test_reflection_is_offered_only_when_asked_for(serve: Serve, channel: Any) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    closed = reflection_pb2_grpc.ServerReflectionStub(channel(await serve()))
    call = closed.ServerReflectionInfo(iter([request]))
    assert await call.code() == grpc.StatusCode.UNIMPLEMENTED
    opened = reflection_pb2_grpc.ServerReflectionStub(channel(await serve(reflection=True)))
    answer = await opened.ServerReflectionInfo(iter([request])).read()
    assert limits.SERVICE in {service.name for service in answer.list_services_response.service}


async def test_an_orchestrator_without_the_token_is_told_so(serve: Serve, channel: Any) -> None:
    server = await serve(token=TOKEN)
    hello = OrchestratorSide(None, orchestrator="o", incarnation="i").hello()
    code, details = await session_status(
        channel(server),
        session_pb2.OrchestratorMessage(hello=hello),
        session_pb2.OrchestratorMessage(proof=session_pb2.OrchestratorProof()),
    )
    assert code == grpc.StatusCode.UNAUTHENTICATED
    assert "the orchestrator sent no proof" in details


async def test_an_orchestrator_of_another_version_is_told_so(serve: Serve, channel: Any) -> None:
    hello = OrchestratorSide(None, orchestrator="o", incarnation="i").hello()
    hello.protocol = PROTOCOL + 1
    code, details = await session_status(channel(await serve()), session_pb2.OrchestratorMessage(hello=hello))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert f"speaks version {PROTOCOL + 1}" in details


async def test_a_stranger_who_says_nothing_useful_is_refused(serve: Serve, channel: Any) -> None:
    code, details = await session_status(channel(await serve()), session_pb2.OrchestratorMessage())
    assert (code, details) == (grpc.StatusCode.INVALID_ARGUMENT, "the orchestrator should have sent its hello")


@pytest.mark.parametrize("field", ["hello", "proof"])
async def test_a_stranger_is_not_read_beyond_what_an_opening_takes(serve: Serve, channel: Any, field: str) -> None:
    side = OrchestratorSide(TOKEN.encode(), orchestrator="o", incarnation="i")
    hello, proof = side.hello(), session_pb2.OrchestratorProof(proof=b"x" * limits.OPENING_BYTES)
    if field == "hello":
        hello.orchestrator = "x" * limits.OPENING_BYTES
    code, details = await session_status(
        channel(await serve(token=TOKEN)),
        session_pb2.OrchestratorMessage(hello=hello),
        session_pb2.OrchestratorMessage(proof=proof),
    )
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"the orchestrator's {field} takes 65,")


async def test_strangers_who_say_nothing_do_not_add_up(serve: Serve, channel: Any) -> None:
    server = await serve(token=TOKEN)
    stub = session_pb2_grpc.EngineStub(channel(server))
    silent = []
    for _ in range(limits.MAX_OPENINGS):
        call = stub.Session()
        hello = OrchestratorSide(TOKEN.encode(), orchestrator="o", incarnation="i").hello()
        await call.write(session_pb2.OrchestratorMessage(hello=hello))
        assert (await call.read()).HasField("challenge")
        silent.append(call)
    code, details = await session_status(channel(server))
    assert (code, details) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"{limits.MAX_OPENINGS} sessions are being opened already; try again later",
    )
    for call in silent:
        call.cancel()
    while (await session_status(channel(server)))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED:
        pass  # until the engine has noticed that they are gone


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1"])
def test_it_does_not_open_to_other_machines_without_a_token_or_mutual_tls(host: Host, bind: str) -> None:
    one_sided = Identity(certificate=b"", key=b"")
    for identity in (None, one_sided):
        with pytest.raises(SettingsError, match=f"refusing to listen on {bind} .* DAGENGINE_TOKEN"):
            EngineServer(host, bind=bind, identity=identity)
    EngineServer(host, bind=bind, token=TOKEN)
    EngineServer(host, bind=bind, identity=Identity(certificate=b"", key=b"", ca=b""))


@pytest.mark.parametrize(
    ("bind", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback_is_known_by_address_and_by_name(bind: str, loopback: bool) -> None:
    assert security.is_loopback(bind) is loopback


def test_a_host_name_that_leads_nowhere_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on host 'no\.such\.host\.invalid'"):
        security.is_loopback("no.such.host.invalid")


async def test_a_port_that_is_taken_is_an_error(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            await serve(port=port)


def test_half_of_an_identity_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="set both DAGENGINE_TLS_CERT and DAGENGINE_TLS_KEY"):
        Identity.read(certificate=tmp_path / "c", key=None, ca=None)
    with pytest.raises(SettingsError, match=r"cannot read .*/c \(DAGENGINE_TLS_CERT\): No such file"):
        Identity.read(certificate=tmp_path / "c", key=tmp_path / "k", ca=None)
    assert Identity.read(certificate=None, key=None, ca=None) is None


async def test_mutual_tls_lets_in_only_those_with_a_certificate(serve: Serve, certified: tuple[Path, Path]) -> None:
    key, certificate = certified
    identity = Identity.read(certificate=certificate, key=key, ca=certificate)
    server = await serve(identity=identity)
    target = f"localhost:{server.address.rpartition(':')[2]}"
    pem, secret = certificate.read_bytes(), key.read_bytes()
    check = health_pb2.HealthCheckRequest()

    async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(pem, secret, pem)) as known:
        assert (await health_pb2_grpc.HealthStub(known).Check(check)).status == SERVING
    async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(pem)) as unknown:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(unknown).Check(check)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
