"""Links to engines in this very process: the same messages, handed over instead of sent.

This adapter knows an engine only as a function from a stream of messages to a stream of messages
(`dagengine.server.host.Host.session`); `orchestrator.app` brings the two together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

from dagengine.errors import WireError
from dagengine.wire import limits
from dagengine.wire.v1 import session_pb2
from orchestrator.errors import TransportError
from orchestrator.transport.base import Listener
from orchestrator.transport.session import Identity, SessionLink, Stream

__all__ = ["InProcessTransport", "OpenSession"]

OpenSession = Callable[
    [AsyncIterator[session_pb2.OrchestratorMessage]], AsyncGenerator[session_pb2.EngineMessage, None]
]
"""The engine's side of a session: its answers to a stream of messages."""


class InProcessTransport:
    """Makes links to the engines that are registered here, by name."""

    def __init__(self, identity: Identity, *, silence: float = limits.SILENCE_SECONDS) -> None:
        self._identity = identity
        self._silence = silence
        self._engines: dict[str, OpenSession] = {}

    def register(self, name: str, open_session: OpenSession) -> None:
        """Make an engine reachable as `name`."""
        self._engines[name] = open_session

    def unregister(self, name: str) -> None:
        """Make an engine unreachable; a session that is up goes on. Unknown names are ignored."""
        self._engines.pop(name, None)

    def link(self, address: str, listener: Listener) -> SessionLink:
        """A link to the engine named `address`."""
        return _InProcessLink(address, listener, self._identity, engines=self._engines, silence=self._silence)


class _InProcessLink(SessionLink):
    def __init__(
        self,
        address: str,
        listener: Listener,
        identity: Identity,
        *,
        engines: dict[str, OpenSession],
        silence: float,
    ) -> None:
        super().__init__(address, listener, identity, silence=silence)
        self._engines = engines

    def dial(self) -> AbstractAsyncContextManager[Stream]:
        return self._dial()

    @asynccontextmanager
    async def _dial(self) -> AsyncIterator[Stream]:
        open_session = self._engines.get(self.address)
        if open_session is None:
            raise TransportError(f"no engine named '{self.address}' is registered in this process")
        # One message on its way at a time: what comes meanwhile is merged.
        outgoing: asyncio.Queue[session_pb2.OrchestratorMessage] = asyncio.Queue(maxsize=1)
        async with aclosing(open_session(_drain(outgoing))) as incoming:
            yield _InProcessStream(self.address, outgoing, incoming)


class _InProcessStream:
    def __init__(
        self,
        address: str,
        outgoing: asyncio.Queue[session_pb2.OrchestratorMessage],
        incoming: AsyncGenerator[session_pb2.EngineMessage, None],
    ) -> None:
        self._address = address
        self._outgoing = outgoing
        self._incoming = incoming

    async def read(self) -> session_pb2.EngineMessage:
        try:
            return await anext(self._incoming)
        except StopAsyncIteration:
            raise TransportError(f"the engine '{self._address}' ended the session") from None
        except WireError as exc:
            raise TransportError(f"the engine '{self._address}' refused the session: {exc}") from exc

    async def write(self, message: session_pb2.OrchestratorMessage) -> None:
        await self._outgoing.put(message)


async def _drain(
    queue: asyncio.Queue[session_pb2.OrchestratorMessage],
) -> AsyncIterator[session_pb2.OrchestratorMessage]:
    while True:
        yield await queue.get()
