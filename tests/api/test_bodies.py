"""Large bodies over real sockets: refused early, with little memory, and so that the sender reads the refusal."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pytest

LIMIT = 64 * 1024
HUGE = 50 * 1024 * 1024
CHUNK = b"x" * 65_536
DOCUMENTS = "/api/v1/workflows"
START = "/api/v1/workflows/greeting/executions"


async def huge() -> AsyncIterator[bytes]:
    for _ in range(HUGE // len(CHUNK)):
        yield CHUNK


async def exchange(serving: Any, request: bytes) -> bytes:
    """What comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection(serving.host, serving.port)
    writer.write(request)
    await writer.drain()
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def parse(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return int(head.split()[1]), msgspec.json.decode(body)


async def test_a_declared_length_over_the_limit_is_refused_unread(serving) -> None:
    head = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    reader, writer = await asyncio.open_connection(serving.host, serving.port)
    writer.write(head % (DOCUMENTS.encode(), HUGE))
    answer = await reader.readuntil(b"}")  # not one byte of the body was sent
    writer.close()
    await writer.wait_closed()
    status, body = parse(answer)
    assert status == 413
    assert body["type"] == "urn:dagengine:problem:body-too-large"
    assert body["detail"] == "the request body is larger than 65,536 bytes"


@pytest.mark.parametrize("path", [DOCUMENTS, START])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_of_50_mb_is_refused_with_little_memory(serving, registered, path: str, declared: bool) -> None:
    headers = {"content-type": "application/json"}
    if declared:
        headers["content-length"] = str(HUGE)
    tracemalloc.start()
    try:
        async with httpx.AsyncClient(base_url=serving.url) as http:
            response = await http.post(path, content=huge(), headers=headers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert response.status_code == 413
    assert response.headers["connection"] == "close"
    assert peak < 4 * 1024 * 1024
    assert not registered.views


async def test_the_limit_itself_is_allowed(serving, registered) -> None:
    frame = len(b'{"inputs":{"a":""}}')
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
        body = b'{"inputs":{"a":"%s"}}' % (b"x" * (size - frame))
        async with httpx.AsyncClient(base_url=serving.url) as http:
            response = await http.post(f"{START}?wait=true", content=body, headers={"content-type": "application/json"})
        assert response.status_code == status


async def test_a_chunked_body_is_read(serving, memory, new_document: Callable[..., dict[str, Any]]) -> None:
    text = msgspec.json.encode(new_document())

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(text), 10):
            yield text[start : start + 10]

    async with httpx.AsyncClient(base_url=serving.url) as http:
        response = await http.post(DOCUMENTS, content=chunks(), headers={"content-type": "application/json"})
    assert response.status_code == 201


async def test_a_refused_request_does_not_spoil_the_connection(serving, registered) -> None:
    async with httpx.AsyncClient(base_url=serving.url) as http:
        for _ in range(3):
            refused = await http.post(START, content=b"x" * 1_000, headers={"content-type": "text/plain"})
            assert refused.status_code == 415
            assert (await http.get(DOCUMENTS)).status_code == 200


@pytest.mark.parametrize(
    "request_line",
    [b"GET /api/v1/workflows HTTP/1.0\r\n\r\n", b"GET /api/v1/workflows HTTP/1.0\r\nhost: evil.example\r\n\r\n"],
)
async def test_a_request_without_own_host_is_refused(serving, request_line: bytes) -> None:
    status, body = parse(await exchange(serving, request_line))
    assert status == 421
    assert body["type"] == "urn:dagengine:problem:unknown-host"


async def test_what_is_no_http_is_refused(serving) -> None:
    answer = await exchange(serving, b"\x00\x01\x02 what?\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")


async def test_a_body_that_breaks_off_starts_nothing(serving, registered) -> None:
    head = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    _, writer = await asyncio.open_connection(serving.host, serving.port)
    writer.write(head % START.encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await serving.stop()  # returns once every request is dealt with
    assert not registered.views
