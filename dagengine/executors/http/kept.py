"""Connections that are kept for the next request to the same place.

httpcore's own pool looks at every connection, with a system call each, for every request that begins and ends. This one
looks at the one that it gives out. How many are open at a time is for the executor, which begins no more requests.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, NamedTuple, Protocol

import httpcore

__all__ = ["Connections", "Sender", "sent"]

KEPT_FOR: Final = 30.0
"""Seconds after which a connection that nobody wants is not used any more."""


class Sender(Protocol):
    """What requests are sent through: `Connections`, or a pool of httpcore's (for proxies)."""

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """The response, whose body is not read yet; it must be closed."""

    async def aclose(self) -> None:
        """Close what is not in use."""


class _Kept(NamedTuple):
    until: float
    origin: httpcore.Origin
    connection: httpcore.AsyncHTTPConnection


class Connections:
    """Connections to anywhere, `limit` of them kept at most. `backend` opens them, `context` is for TLS."""

    def __init__(self, *, limit: int, context: ssl.SSLContext, backend: httpcore.AsyncNetworkBackend) -> None:
        self._limit = limit
        self._context = context
        self._backend = backend
        self._kept: deque[_Kept] = deque()

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send `request` through a kept connection, or a new one."""
        connection = await self._take(request.url.origin)
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            await connection.aclose()
            raise
        body = _Body(self, request.url.origin, connection, response)
        return httpcore.Response(
            response.status, headers=response.headers, content=body, extensions=response.extensions
        )

    async def aclose(self) -> None:
        """Close what is kept."""
        while self._kept:
            await self._kept.popleft().connection.aclose()

    async def give_back(self, origin: httpcore.Origin, connection: httpcore.AsyncHTTPConnection) -> None:
        """Keep a connection when it can be used again; else close it."""
        if connection.is_idle() and not _has_surplus(connection):
            self._kept.append(_Kept(time.monotonic() + KEPT_FOR, origin, connection))
            surplus = [self._kept.popleft().connection] if len(self._kept) > self._limit else []
        else:
            surplus = [connection]
        for one in surplus:
            await one.aclose()

    async def _take(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        now = time.monotonic()
        while self._kept and self._kept[0].until <= now:
            await self._kept.popleft().connection.aclose()
        while (kept := next((one for one in reversed(self._kept) if one.origin == origin), None)) is not None:
            self._kept.remove(kept)
            if not kept.connection.has_expired():  # nor closed by the other side, nor sent anything unasked
                return kept.connection
            await kept.connection.aclose()
        return httpcore.AsyncHTTPConnection(origin, ssl_context=self._context, network_backend=self._backend)


class _Body:
    """The body of a response; closing it gives the connection back."""

    def __init__(
        self,
        home: Connections,
        origin: httpcore.Origin,
        connection: httpcore.AsyncHTTPConnection,
        response: httpcore.Response,
    ) -> None:
        self._home = home
        self._origin = origin
        self._connection = connection
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._response.aiter_stream():
            yield part

    async def aclose(self) -> None:
        try:
            await self._response.aclose()
        except BaseException:
            await self._connection.aclose()
            raise
        await self._home.give_back(self._origin, self._connection)


@contextlib.asynccontextmanager
async def sent(sender: Sender, request: httpcore.Request) -> AsyncGenerator[httpcore.Response]:
    """The response to `request`; it is closed at the end."""
    response = await sender.handle_async_request(request)
    try:
        yield response
    finally:
        await response.aclose()


def _has_surplus(connection: httpcore.AsyncHTTPConnection) -> bool:
    """Whether the server has sent more than its response.

    httpcore would take that for the beginning of the response to the next request, which may be somebody else's. It
    has no public way to ask, so this looks behind its back; where there is nothing, no connection is kept.
    """
    state = getattr(getattr(connection, "_connection", None), "_h11_state", None)
    return state is None or bool(state.trailing_data[0])
