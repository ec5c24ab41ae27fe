"""Counting of HTTP requests."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from orchestrator.monitor.monitor import Monitor
from orchestrator.monitor.requests import CountRequests


async def _answer(request: Request) -> PlainTextResponse:
    if request.query_params.get("fail"):
        raise RuntimeError("broken")
    return PlainTextResponse("ok", status_code=202)


async def _ask(monitor: Monitor, method: str, path: str) -> None:
    inner = Starlette(routes=[Route("/", _answer, methods=["GET", "POST", "BREW"])])
    transport = httpx.ASGITransport(app=CountRequests(inner, monitor=monitor))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        await client.request(method, path)


async def test_requests_are_counted_by_method_and_status() -> None:
    monitor = Monitor()
    for method, path in [("GET", "/"), ("GET", "/"), ("POST", "/"), ("GET", "/nowhere"), ("BREW", "/")]:
        await _ask(monitor, method, path)
    assert monitor.requests == {("GET", 202): 2, ("POST", 202): 1, ("GET", 404): 1, ("other", 202): 1}


async def test_a_request_that_raises_counts_as_a_500() -> None:
    monitor = Monitor()
    with pytest.raises(RuntimeError, match="broken"):
        await _ask(monitor, "GET", "/?fail=1")
    assert monitor.requests == {("GET", 500): 1}
