"""Servers that misbehave, and a counter of what they were asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

Handler = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Scripted:
    """A server that handles its connections, one after another, by a script of handlers; the last one stays."""

    def __init__(self, *script: Handler) -> None:
        self.script = list(script)
        self.heads: list[bytes] = []
        self.url = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            handler = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            await handler(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def header(self, index: int, name: str) -> str | None:
        lines = self.heads[index].decode().split("\r\n")[1:]
        pairs = dict(line.lower().split(": ", 1) for line in lines if line)
        return pairs.get(name.lower())


@pytest.fixture
def scripted() -> Callable[..., Any]:
    """`async with scripted(handler, …) as server`: a server on a free loopback port."""

    @asynccontextmanager
    async def start(*script: Handler) -> AsyncIterator[Scripted]:
        server = Scripted(*script)
        listening = await asyncio.start_server(server, "127.0.0.1", 0)
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with listening:
            yield server

    return start


@pytest.fixture
def answer() -> Callable[..., Handler]:
    """Makes a handler that answers with a status, a body and a media type, and closes the connection."""

    def make(status: int, body: bytes, media_type: str = "application/json", *, cut: int = 0) -> Handler:
        async def handler(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(
                b"HTTP/1.1 %d Status\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (status, media_type.encode(), len(body) + cut, body)
            )
            await writer.drain()

        return handler

    return make


@pytest.fixture
def hang_up() -> Handler:
    """Closes the connection instead of answering."""

    async def handler(_head: bytes, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        return

    return handler


@pytest.fixture
def silence() -> Handler:
    """Never answers."""

    async def handler(_head: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    return handler


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once; how many there are stays."""
    from orchestrator.client import connection, stream

    for module in (connection, stream):
        monkeypatch.setattr(module, "PAUSES", tuple(0.0 for _ in module.PAUSES))
