"""A listening socket that can be closed, and opened again: what `faults.down()` and `faults.up()` do.

Connections are accepted here, not by an `asyncio.Server`: that one forgets, when it is closed, those that it has just
accepted or whose TLS handshake is under way, and a server that is gone has to take all with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web


class Door:
    """A listening socket that can be closed and opened again at the same port."""

    def __init__(self, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], tls: ssl.SSLContext | None):
        self._handle = handle
        self._tls = tls
        self._server: web.Server | None = None
        self._listening: socket.socket | None = None
        self._greeting: dict[asyncio.Task[None], socket.socket] = {}
        self.port = 0

    def open(self) -> None:
        """Listen. Idempotent."""
        if self._listening is not None:
            return
        if self._server is None:
            self._server = web.Server(self._answer, handler_cancellation=True, access_log=None)
        self._listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind(("127.0.0.1", self.port))
        self._listening.listen(128)
        self._listening.setblocking(False)
        self.port = self._listening.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            while True:
                connection, _ = listening.accept()
                connection.setblocking(False)
                task = asyncio.ensure_future(self._greet(connection))
                self._greeting[task] = connection
                task.add_done_callback(self._greeted)

    async def _greet(self, connection: socket.socket) -> None:
        """Shake hands, and leave the rest to aiohttp."""
        assert self._server is not None
        await asyncio.get_running_loop().connect_accepted_socket(self._server, connection, ssl=self._tls)

    def _greeted(self, task: asyncio.Task[None]) -> None:
        del self._greeting[task]
        error = task.exception()
        if error is not None and not isinstance(error, OSError):  # who goes away meanwhile, goes
            raise error

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._listening is None:  # it was on its way when the door was closed
            raise asyncio.CancelledError
        return await self._handle(request)

    def close(self) -> None:
        """Refuse connections, and cut those there are. Idempotent."""
        if self._listening is None:
            return
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        self._listening = None
        for connection in self._greeting.values():
            # Its transport, which may be about to begin, has to find the descriptor open: it closes it then.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for handler in self._server.connections if self._server is not None else ():
            transport = handler.transport
            if transport is not None:
                transport.abort()

    async def closed(self) -> None:
        """Close, and wait until nothing is left."""
        self.close()
        if self._greeting:
            await asyncio.wait(self._greeting)
        if self._server is not None:
            await self._server.shutdown(1.0)
