"""The gRPC server of an engine: sessions for orchestrators, health for probes, reflection for developers."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from dagengine.errors import SettingsError, WireError
from dagengine.server.host import Host
from dagengine.server.security import Identity, check_exposure
from dagengine.wire import limits
from dagengine.wire.handshake import Crowded, ProofError, ProtocolMismatch
from dagengine.wire.v1 import session_pb2, session_pb2_grpc

__all__ = ["EngineServer"]

log = structlog.get_logger(__name__)

STOP_SECONDS: Final = 2.0
"""How long sessions may take to send their last messages."""

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", limits.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", limits.MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", int(limits.KEEPALIVE_SECONDS * 1_000)),
    ("grpc.keepalive_timeout_ms", int(limits.KEEPALIVE_TIMEOUT_SECONDS * 1_000)),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", int(limits.KEEPALIVE_SECONDS * 500)),
    # Two engines on one port would share its connections at random; the second must fail instead.
    ("grpc.so_reuseport", 0),
)


class EngineServer:
    """Serves one host on one port.

    Raises SettingsError when made for an address that is open to strangers, or when it cannot listen.
    """

    def __init__(
        self,
        host: Host,
        *,
        bind: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        identity: Identity | None = None,
        reflection: bool = False,
    ) -> None:
        check_exposure(bind, token=token, identity=identity)
        self._host = host
        self._bind = f"[{bind}]" if ":" in bind else bind
        self._port = port
        self._identity = identity
        self._reflection = reflection
        self._health = health.aio.HealthServicer()
        self._server: Any = None

    @property
    def address(self) -> str:
        """`host:port`, with the port that was really taken."""
        return f"{self._bind}:{self._port}"

    async def start(self) -> None:
        """Listen. Returns once connections are accepted."""
        taken = _obstacle(self._bind, self._port)
        if taken is not None and taken.errno == errno.EADDRINUSE:  # gRPC would write a line of its own about it
            raise SettingsError(f"cannot listen on {self.address}: {taken.strerror}") from taken
        self._server = server = grpc.aio.server(options=OPTIONS)
        session_pb2_grpc.add_EngineServicer_to_server(  # type: ignore[no-untyped-call]  # generated code
            _Servicer(self._host), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._reflection:
            _add_reflection(server)
        try:
            if self._identity is None:
                self._port = server.add_insecure_port(self.address)
            else:
                self._port = server.add_secure_port(self.address, self._identity.credentials())
        except RuntimeError as exc:
            obstacle = _obstacle(self._bind, self._port)
            cause = exc if obstacle is None else obstacle.strerror or obstacle
            raise SettingsError(f"cannot listen on {self.address}: {cause}") from exc
        await server.start()
        for service in (limits.SERVICE, limits.LIVENESS):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        log.info("engine_listening", address=self.address, tls=self._identity is not None)

    async def drain(self, timeout: float) -> None:
        """Say that no more work is taken, finish or hand back what there is, and stop."""
        await self.unready()
        await self._host.drain(timeout)
        await self.stop()

    async def unready(self) -> None:
        """Tell probes that no more work is taken; it lives on."""
        for service in ("", limits.SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self) -> None:
        """Stop at once; sessions get a moment to send what is ready."""
        self._host.close()
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)


class _Servicer:
    """The gRPC side of `Host.session`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def Session(  # noqa: N802 - named in the proto
        self, requests: AsyncIterator[session_pb2.OrchestratorMessage], context: Any
    ) -> None:
        try:
            async with contextlib.aclosing(self._host.session(requests)) as messages:
                async for message in messages:
                    await context.write(message)
        except WireError as exc:
            log.warning("session_refused", peer=context.peer(), reason=str(exc))
            await context.abort(_status(exc), str(exc))


def _status(error: WireError) -> grpc.StatusCode:
    match error:
        case ProofError():
            return grpc.StatusCode.UNAUTHENTICATED
        case ProtocolMismatch():
            return grpc.StatusCode.FAILED_PRECONDITION
        case Crowded():
            return grpc.StatusCode.RESOURCE_EXHAUSTED
        case _:
            return grpc.StatusCode.INVALID_ARGUMENT


def _add_reflection(server: Any) -> None:
    try:
        from grpc_reflection.v1alpha import reflection
    except ImportError as exc:
        raise SettingsError(
            "reflection needs the package grpcio-reflection: pip install 'dagengine[reflection]'"
        ) from exc
    names = (limits.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)


def _obstacle(bind: str, port: int) -> OSError | None:
    """Why the port cannot be had, if it cannot: gRPC does not say, the system does."""
    try:
        with socket.create_server((bind.strip("[]"), port), family=socket.AF_INET6 if ":" in bind else socket.AF_INET):
            return None
    except OSError as exc:
        return exc
