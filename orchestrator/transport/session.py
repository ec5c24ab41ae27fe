"""The life of a link, whatever carries it: dial, open, pump, and dial again. Adapters say how to dial.

Reconnects come fast at first (an engine that restarts is wanted back at once) and slow down to one in a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import structlog

from dagengine.errors import WireError
from dagengine.wire import limits
from dagengine.wire.handshake import OrchestratorSide
from dagengine.wire.v1 import session_pb2
from orchestrator.errors import TransportError
from orchestrator.transport.base import Listener
from orchestrator.transport.outbox import Outbox

__all__ = ["Identity", "SessionLink", "Stream"]

log = structlog.get_logger(__name__)

FIRST_RETRY_SECONDS: Final = 0.05
LAST_RETRY_SECONDS: Final = 5.0


class Identity:
    """Who this orchestrator is to engines. `incarnation` is that of its store; with `token`, engines must know it."""

    __slots__ = ("incarnation", "orchestrator", "token")

    def __init__(self, *, orchestrator: str, incarnation: str, token: str | None = None) -> None:
        self.orchestrator = orchestrator
        self.incarnation = incarnation
        self.token = token.encode() if token is not None else None


class Stream(Protocol):
    """Two directions of messages to one engine."""

    async def read(self) -> session_pb2.EngineMessage:
        """The next message. TransportError, saying why, when the stream has ended or failed."""

    async def write(self, message: session_pb2.OrchestratorMessage) -> None:
        """Send a message; returns when the next one may be sent. TransportError when the stream has ended."""


class SessionLink(ABC):
    """A `Link`. Adapters implement `dial`."""

    def __init__(
        self,
        address: str,
        listener: Listener,
        identity: Identity,
        *,
        silence: float = limits.SILENCE_SECONDS,
    ) -> None:
        self._address = address
        self._listener = listener
        self._identity = identity
        self._silence = silence
        self._engine_id = ""
        self._reason = ""
        self._outbox: Outbox | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @abstractmethod
    def dial(self) -> AbstractAsyncContextManager[Stream]:
        """Begin a stream; leaving the context ends it, whatever state it is in. TransportError when nobody answers."""

    @property
    def address(self) -> str:
        """Where the engine is dialled."""
        return self._address

    @property
    def engine_id(self) -> str:
        """The id that the engine gave in its last hello; empty before the first."""
        return self._engine_id

    @property
    def connected(self) -> bool:
        """Whether a session is up."""
        return self._outbox is not None

    @property
    def reason(self) -> str:
        """Why no session is up; empty while one is, and before the first attempt has ended."""
        return self._reason

    def send(self, message: session_pb2.OrchestratorMessage) -> None:
        """Queue a message; dropped when no session is up. TransportError when it is too large."""
        if self._outbox is not None:
            self._outbox.put(message)

    async def room(self) -> None:
        """Return when little enough waits to be sent, or no session is up."""
        if self._outbox is not None:
            await self._outbox.room()

    async def check(self) -> str:
        """Adapters say how an engine is asked; one in this process is as well as this process is."""
        return ""

    async def run(self) -> None:
        """Keep a session up until `close`."""
        if self._closed:
            return
        self._task = asyncio.create_task(self._keep_up(), name=f"session-{self._address}")
        try:
            await asyncio.wait([self._task])
        finally:
            await self._stop()
        if not self._task.cancelled():
            self._task.result()

    async def close(self) -> None:
        """End the session and stop trying. Idempotent."""
        self._closed = True
        await self._stop()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.connected:
            self._end("the link was closed")

    async def _keep_up(self) -> None:
        failures = 0
        while True:
            reason = ""
            try:
                await self._session()
            except Exception as exc:
                failures = 0 if self.connected else failures + 1
                if isinstance(exc, TransportError | WireError):
                    reason = str(exc)
                else:
                    reason = f"the session was given up: {type(exc).__name__}: {exc}"
                    log.exception("session_failed", address=self._address, engine=self._engine_id)
                if failures == 1:
                    log.warning("engine_not_reached", address=self._address, reason=reason)
            self._end(reason)
            longest = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(failures, 16))
            await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, no secret

    def _end(self, reason: str) -> None:
        if self._outbox is not None:
            self._outbox.close()
        self._outbox, self._reason = None, reason
        self._listener.disconnected(self, reason)

    async def _session(self) -> None:
        """One session. Always ends by an exception that says why."""
        writer: asyncio.Task[None] | None = None
        try:
            async with self.dial() as stream:
                hello = await self._open(stream)
                self._engine_id, self._reason = hello.engine, ""
                self._outbox = Outbox()
                writer = asyncio.create_task(self._write(stream, self._outbox))
                await self._listener.connected(self, hello)
                while True:
                    message = await self._read(stream)
                    await self._listener.received(self, message)
        finally:
            if writer is not None:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)

    async def _open(self, stream: Stream) -> session_pb2.EngineHello:
        """Open the session: hello, challenge, proof, hello."""
        opening = OrchestratorSide(
            self._identity.token,
            orchestrator=self._identity.orchestrator,
            incarnation=self._identity.incarnation,
        )
        try:
            async with asyncio.timeout(limits.OPENING_SECONDS):
                await stream.write(session_pb2.OrchestratorMessage(hello=opening.hello()))
                challenge = await stream.read()
                if not challenge.HasField("challenge"):
                    raise WireError(f"{self._address} should have sent its challenge: is it an engine?")
                proof = opening.answer(challenge.challenge)
                await stream.write(session_pb2.OrchestratorMessage(proof=proof))
                answer = await stream.read()
        except TimeoutError as exc:
            raise TransportError(f"{self._address} did not open a session within {limits.OPENING_SECONDS:g} s") from exc
        if not answer.HasField("hello"):
            raise WireError(f"{self._address} should have sent its hello")
        return answer.hello

    async def _read(self, stream: Stream) -> session_pb2.EngineMessage:
        try:
            async with asyncio.timeout(self._silence):
                return await stream.read()
        except TimeoutError as exc:
            raise TransportError(f"nothing was heard from {self._address} for {self._silence:g} s") from exc

    async def _write(self, stream: Stream, outbox: Outbox) -> None:
        """Send what the outbox holds. A stream that cannot be written to shows when it is read."""
        with contextlib.suppress(TransportError):
            while True:
                await stream.write(await outbox.next())
