"""What only a link over the network meets: closed ports, strangers who answer, and what is said about them."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from structlog.testing import capture_logs

from dagengine.errors import SettingsError
from orchestrator.transport.grpc_link import TLS, GrpcTransport
from orchestrator.transport.session import Identity


async def reason_of(address: str, ledger: Any, *, tls: TLS | None = None) -> str:
    """Why no session opens with whoever is at `address`."""
    link = GrpcTransport(Identity(orchestrator="o", incarnation="i"), tls=tls).link(address, ledger)
    running = asyncio.create_task(link.run())
    await ledger.until(lambda: ledger.reasons)
    await link.close()
    await running
    return str(ledger.reasons[0])


async def test_a_closed_port_cannot_be_reached(ledger: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    assert await reason_of(address, ledger) == f"cannot reach {address}: Connection refused"


async def test_it_is_told_once_however_often_it_is_tried(ledger: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    link = GrpcTransport(Identity(orchestrator="o", incarnation="i")).link(address, ledger)
    with capture_logs() as told:
        running = asyncio.create_task(link.run())
        await ledger.until(lambda: len(ledger.reasons) >= 3)
        await link.close()
        await running
    reason = f"cannot reach {address}: Connection refused"
    assert [(line["event"], line["address"], line["reason"]) for line in told] == [
        ("engine_not_reached", address, reason)
    ]


async def test_a_name_that_leads_nowhere_cannot_be_reached(ledger: Any) -> None:
    assert (await reason_of("no.such.host.invalid:1", ledger)).startswith("cannot reach no.such.host.invalid:1: ")


async def test_a_server_of_something_else_is_no_engine(ledger: Any) -> None:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    assert (await reason_of(address, ledger)).startswith(f"what listens at {address} is no engine: ")
    await server.stop(None)


async def test_tls_towards_an_engine_without_it_says_that_it_cannot_be_reached(ledger: Any) -> None:
    server = grpc.aio.server()
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    assert (await reason_of(address, ledger, tls=TLS())).startswith(f"cannot reach {address}: ")
    await server.stop(None)


def test_half_of_an_identity_is_an_error(tmp_path: Any) -> None:
    with pytest.raises(SettingsError, match="set both DAGENGINE_TLS_CERT and DAGENGINE_TLS_KEY, or neither"):
        TLS.read(certificate=tmp_path / "cert.pem")
    with pytest.raises(SettingsError, match=r"cannot read .*ca\.pem \(DAGENGINE_TLS_CA\): No such file"):
        TLS.read(ca=tmp_path / "ca.pem")
