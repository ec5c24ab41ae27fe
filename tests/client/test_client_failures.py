"""The client and servers that are away, cut off, lie or are something else."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys

import pytest

from dagengine.errors import SettingsError
from orchestrator import errors
from orchestrator.client import Client, connection, stream

ENGINES = b'{"items":[]}'
EXECUTION = json.dumps(
    {"id": "x1", "workflow": "w", "version": "1.0.0", "status": "succeeded", "created_at": 1}
).encode()
ATTEMPTS = len(connection.PAUSES) + 1


def fact(seq: int) -> bytes:
    return b'id: %d\nevent: NodeStarted\nepoch: 1\ndata: {"type":"NodeStarted","at":1,"node":"a"}\n\n' % seq


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def test_an_orchestrator_that_is_away_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with Client(url) as client:
        for call in (
            client.engines,
            lambda: client.start("w"),
            lambda: client.apply("a: 1"),
            lambda: client.cancel("x"),
        ):
            with pytest.raises(
                errors.TransportError, match=rf"cannot reach the orchestrator at {url}: .*is it running"
            ):
                await call()


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080",
        "ftp://127.0.0.1",
        "http://",
        "http://[::1",
        "",
        "http://127.0.0.1:x",
        "http://a/?b",
        "http://a:b@c",
    ],
)
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{re.escape(repr(url))} is not the URL of an orchestrator"):
        Client(url)


@pytest.mark.parametrize("token", ["", "two\nlines", "caf\u00e9"])
def test_what_is_no_token_is_told(token: str) -> None:
    with pytest.raises(SettingsError, match="the token must be printable ASCII") as caught:
        Client(token=token)
    assert not token or token not in str(caught.value)


async def test_reads_are_repeated_after_a_cut(scripted, answer, hang_up) -> None:
    async with scripted(hang_up, answer(200, ENGINES[:3], cut=5), answer(200, ENGINES)) as server:
        async with Client(server.url) as client:
            assert await client.engines() == []
        assert len(server.heads) == 3


async def test_starts_are_repeated_with_the_same_key(scripted, answer, hang_up) -> None:
    async with scripted(hang_up, hang_up, answer(202, EXECUTION)) as server:
        async with Client(server.url) as client:
            await client.start("w")
            await client.start("w")
        keys = [server.header(n, "idempotency-key") for n in range(4)]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert all(keys)


async def test_repeating_has_an_end(scripted, hang_up) -> None:
    async with scripted(hang_up) as server, Client(server.url) as client:
        with pytest.raises(errors.TransportError, match="cannot reach"):
            await client.engines()
        assert len(server.heads) == ATTEMPTS


async def test_what_may_not_be_sent_twice_is_not(scripted, hang_up) -> None:
    async with scripted(hang_up) as server, Client(server.url) as client:
        for call in (client.apply("a: 1"), client.cancel("x"), client.delete_workflow("w")):
            with pytest.raises(errors.TransportError):
                await call
        assert len(server.heads) == 3


async def test_silence_ends_with_the_timeout_and_is_not_repeated(scripted, silence) -> None:
    async with scripted(silence) as server, Client(server.url, timeout=0.05) as client:
        with pytest.raises(errors.TransportError, match="did not answer in time"):
            await client.engines()
        assert len(server.heads) == 1


@pytest.mark.parametrize(
    ("status", "body", "media_type", "message"),
    [
        (502, b"<html>bad gateway</html>", "text/html", "answered with status 502, and not by an orchestrator"),
        (404, b'{"detail":"Not Found"}', "application/json", "answered with status 404, and not by an orchestrator"),
        (301, b"", "text/html", "answered with status 301"),
        (200, b"<html>hello</html>", "text/html", "did not answer as this version of the client expects"),
        (200, b'{"items":[{"id":1}]}', "application/json", "did not answer as this version"),
        (500, b"not json", "application/problem+json", "did not answer as this version"),
    ],
)
async def test_somebody_else_is_not_taken_for_an_orchestrator(
    scripted, answer, status: int, body: bytes, media_type: str, message: str
) -> None:
    async with scripted(answer(status, body, media_type)) as server, Client(server.url) as client:
        with pytest.raises(errors.TransportError, match=message):
            await client.engines()


@pytest.mark.parametrize(
    ("status", "expected"), [(400, errors.RequestError), (418, errors.RequestError), (507, errors.OrchestratorError)]
)
async def test_problems_of_a_newer_orchestrator_keep_their_class(
    scripted, answer, status: int, expected: type[Exception]
) -> None:
    body = {"type": "urn:dagengine:problem:new", "title": "New", "status": status, "detail": "why", "more": 1}
    handler = answer(status, json.dumps(body).encode(), "application/problem+json")
    async with scripted(handler) as server, Client(server.url) as client:
        with pytest.raises(expected, match="why") as caught:
            await client.engines()
    assert type(caught.value) is expected


async def test_events_go_on_after_every_cut(scripted, answer, hang_up) -> None:
    def chunk(body: bytes) -> object:
        return answer(200, body, "text/event-stream", cut=100)

    script = [
        chunk(b"retry: 1000\n\n: still here\n\n" + fact(1) + fact(2)[:20]),
        hang_up,
        chunk(fact(2) + fact(3)),
        answer(200, fact(4), "text/event-stream"),  # ended by a server that stops
        answer(200, fact(5) + b"event: end\ndata: {}\n\n", "text/event-stream"),
    ]
    async with scripted(*script) as server, Client(server.url) as client:
        assert [view.seq async for view in client.events("x1")] == [1, 2, 3, 4, 5]
        asked = [server.header(n, "last-event-id") for n in range(5)]
    assert asked == ["0", "1", "1", "3", "4"]


async def test_events_are_given_up_when_nothing_more_comes(scripted, answer) -> None:
    async with scripted(answer(200, fact(1), "text/event-stream"), answer(200, b"", "text/event-stream")) as server:
        async with Client(server.url) as client:
            events = client.events("x1")
            assert (await anext(events)).seq == 1
            with pytest.raises(errors.TransportError, match="ended too early"):
                await anext(events)
        assert len(server.heads) == len(stream.PAUSES) + 1


async def test_events_of_an_orchestrator_that_is_away_are_given_up() -> None:
    async with Client(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(errors.TransportError, match="cannot reach"):
            await anext(client.events("x1"))


async def test_events_of_an_unknown_execution_are_refused_at_once(scripted, answer) -> None:
    body = {"type": "urn:dagengine:problem:not-found", "title": "", "status": 404, "detail": "no execution x1"}
    handler = answer(404, json.dumps(body).encode(), "application/problem+json")
    async with scripted(handler) as server, Client(server.url) as client:
        with pytest.raises(errors.NotFound, match="no execution x1"):
            await anext(client.events("x1"))
        assert len(server.heads) == 1


async def test_a_long_wait_is_several_requests(scripted, answer, monkeypatch: pytest.MonkeyPatch) -> None:
    running = EXECUTION.replace(b"succeeded", b"running")
    async with scripted(answer(200, running), answer(200, running), answer(200, EXECUTION)) as server:
        async with Client(server.url) as client:
            assert (await client.wait("x1")).status == "succeeded"
        assert len(server.heads) == 3
        assert b"GET /api/v1/executions/x1?wait=true&timeout=30.000 " in server.heads[0]


async def test_paths_cannot_be_smuggled_in(scripted, answer) -> None:
    async with scripted(answer(200, EXECUTION)) as server, Client(server.url) as client:
        await client.execution("../workflows?x=1#y")
        await client.start("w@>=1 <2/../x")
    assert server.heads[0].startswith(b"GET /api/v1/executions/..%2Fworkflows%3Fx%3D1%23y HTTP")
    assert server.heads[1].startswith(b"POST /api/v1/workflows/w@%3E%3D1%20%3C2%2F..%2Fx/executions HTTP")


async def test_the_token_goes_nowhere_else(scripted, answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    redirect = answer(200, ENGINES)
    async with scripted(redirect) as server, Client(server.url, token="secret") as client:
        await client.engines()
        assert server.header(0, "authorization") == "bearer secret"
    assert "secret" not in repr(client)


async def test_many_requests_share_the_connections(scripted, answer) -> None:
    async def keep(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n" + ENGINES)
            head = await reader.readuntil(b"\r\n\r\n")

    async with scripted(keep) as server, Client(server.url) as client:
        for _ in range(20):
            await client.engines()
        assert len(server.heads) == 1


def test_importing_the_client_imports_no_http() -> None:
    slow = {"httpx", "pydantic", "yaml", "fastapi", "sqlalchemy", "grpc"}
    code = f"import sys, orchestrator.client; print(sorted({slow} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
