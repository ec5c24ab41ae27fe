"""Links over gRPC: one channel and one bidirectional stream per session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from dagengine import pem
from dagengine.wire import limits
from dagengine.wire.v1 import session_pb2, session_pb2_grpc
from orchestrator.errors import TransportError
from orchestrator.transport import health
from orchestrator.transport.base import Listener
from orchestrator.transport.session import Identity, SessionLink, Stream

__all__ = ["GrpcTransport", "TLS"]

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", limits.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", limits.MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", int(limits.KEEPALIVE_SECONDS * 1_000)),
    ("grpc.keepalive_timeout_ms", int(limits.KEEPALIVE_TIMEOUT_SECONDS * 1_000)),
    ("grpc.http2.max_pings_without_data", 0),
    # Engines are dialled directly, whatever proxy the environment names.
    ("grpc.enable_http_proxy", 0),
    # Each attempt is a connection of its own: the link does the waiting, gRPC's shared back-off must not.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TLS:
    """PEM contents: the CA that signs engines (None: those that the system trusts), and who this side is (for mTLS)."""

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None

    @classmethod
    def read(cls, *, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> TLS:
        """The contents of the files. SettingsError when one cannot be used or half of a pair is missing."""
        own, secret, signer = pem.Files(certificate=certificate, key=key, ca=ca, prefix="DAGENGINE_TLS").contents()
        return cls(ca=signer, certificate=own, key=secret)

    def credentials(self) -> grpc.ChannelCredentials:
        """What a gRPC channel needs."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)


class GrpcTransport:
    """Makes links that dial `host:port`."""

    def __init__(self, identity: Identity, *, tls: TLS | None = None, silence: float = limits.SILENCE_SECONDS) -> None:
        self._identity = identity
        self._tls = tls
        self._silence = silence

    def link(self, address: str, listener: Listener) -> SessionLink:
        """A link to the engine that listens at `address`."""
        return _GrpcLink(address, listener, self._identity, tls=self._tls, silence=self._silence)


class _GrpcLink(SessionLink):
    def __init__(
        self, address: str, listener: Listener, identity: Identity, *, tls: TLS | None, silence: float
    ) -> None:
        super().__init__(address, listener, identity, silence=silence)
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None

    def dial(self) -> AbstractAsyncContextManager[Stream]:
        return self._dial()

    async def check(self) -> str:
        """Ask the engine's health service, over the connection of the session."""
        if self._channel is None:
            raise TransportError(f"there is no session with {self.address}")
        return await health.check(self._channel, self.address)

    @asynccontextmanager
    async def _dial(self) -> AsyncIterator[Stream]:
        channel = (
            grpc.aio.insecure_channel(self.address, options=OPTIONS)
            if self._tls is None
            else grpc.aio.secure_channel(self.address, self._tls.credentials(), options=OPTIONS)
        )
        self._channel = channel
        try:
            stub = session_pb2_grpc.EngineStub(channel)  # type: ignore[no-untyped-call]  # generated code
            call = stub.Session(timeout=None)
            try:
                yield _GrpcStream(self.address, call)
            finally:
                call.cancel()
        finally:
            self._channel = None
            await channel.close()


class _GrpcStream:
    def __init__(self, address: str, call: Any) -> None:
        self._address = address
        self._call = call

    async def read(self) -> session_pb2.EngineMessage:
        try:
            message = await self._call.read()
        except grpc.RpcError as exc:
            raise self._failure(exc) from exc
        if message is grpc.aio.EOF:
            raise TransportError(f"the engine at {self._address} ended the session")
        received: session_pb2.EngineMessage = message
        return received

    async def write(self, message: session_pb2.OrchestratorMessage) -> None:
        try:
            await self._call.write(message)
        except (grpc.RpcError, grpc.aio.UsageError) as exc:
            raise self._failure(exc) from exc
        except Exception as exc:  # InvalidStateError: the call ended between two writes
            raise TransportError(f"the session with {self._address} has ended: {exc}") from exc

    def _failure(self, error: Exception) -> TransportError:
        code = error.code() if isinstance(error, grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
        details = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        match code:
            case grpc.StatusCode.UNAVAILABLE:
                # gRPC tells the whole story of all addresses; the system's word is at its end.
                cause = str(details).rpartition("Failed to connect to remote host: ")[2]
                return TransportError(f"cannot reach {self._address}: {cause}")
            case grpc.StatusCode.UNIMPLEMENTED:
                return TransportError(f"what listens at {self._address} is no engine: {details}")
            case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.FAILED_PRECONDITION:
                return TransportError(f"the engine at {self._address} refused the session: {details}")
            case _:
                return TransportError(f"the session with {self._address} failed: {code.name}: {details}")
