"""What a real orchestrator does with requests that it cannot fulfil: a clear problem each, and nothing half done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from orchestrator.errors import Overloaded

pytestmark = pytest.mark.e2e

MEGABYTE = 1024 * 1024
JSON = {"Content-Type": "application/json"}


def problem(answer: httpx.Response, status: int, kind: str, *told: str) -> dict[str, Any]:
    """The problem details of an answer, which must be of a kind and tell certain things."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    details: dict[str, Any] = answer.json()
    assert details["type"] == f"urn:dagengine:problem:{kind}"
    assert (details["status"], details["instance"]) == (status, answer.request.url.path)
    for part in told:
        assert part in answer.text
    return details


async def everything(http: httpx.AsyncClient) -> tuple[Any, Any]:
    """What the orchestrator has recorded."""
    workflows = (await http.get("/api/v1/workflows")).json()["items"]
    executions = (await http.get("/api/v1/executions")).json()["items"]
    return workflows, executions


@pytest.fixture
def http(site: Any) -> Any:
    """`http(orchestrator)`: raw requests with the token."""

    def make(orchestrator: Any, **options: Any) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {site.token}"}
        return httpx.AsyncClient(base_url=orchestrator.url, headers=headers, timeout=30, **options)

    return make


async def test_wrong_requests(site: Any, workflow: Any, http: Any) -> None:
    orchestrator = await site.orchestrator([])
    client = site.client(orchestrator)
    document = workflow("job", {"a": "return 1"})
    document["spec"]["inputs"] = {"day": {"type": "string", "format": "date"}}
    await client.apply(document)
    async with http(orchestrator) as raw:
        before = await everything(raw)
        run = "/api/v1/workflows/job/executions"

        wrong = problem(await raw.post(run, json={"inputs": {"day": "soon", "dya": 1}}), 422, "invalid-inputs")
        assert [item["path"] for item in wrong["errors"]] == ["inputs.day", "inputs.dya"]
        problem(await raw.post(run, json={"inputs": [1]}), 400, "bad-request", "`inputs`")
        problem(await raw.post(run, content=b"{nonsense", headers=JSON), 400, "bad-request", "not JSON", "line 1")
        problem(await raw.post(run, content=b"\xff\xfe", headers=JSON), 400, "bad-request", "not JSON")
        problem(await raw.post(run, content=b"day=now"), 415, "unsupported-media-type", "application/json")
        problem(await raw.post(f"{run}?version=9.9.9", json={}), 404, "not-found", "1.0.0")

        problem(await raw.post("/api/v1/workflows/jbo/executions", json={}), 404, "not-found", "there is job")
        problem(await raw.get("/api/v1/workflows/jbo"), 404, "not-found")
        problem(await raw.delete("/api/v1/workflows/jbo"), 404, "not-found")
        for path in ("", "/facts", "/logs", "/events"):
            problem(await raw.get(f"/api/v1/executions/nothing{path}"), 404, "not-found", "nothing")
        problem(await raw.post("/api/v1/executions/nothing/cancel"), 404, "not-found", "nothing")
        problem(await raw.get("/api/v1/executions?cursor=nonsense"), 400, "bad-request", "cursor")

        broken = {"metadata": {"id": "broken", "version": "1"}, "spec": {"nodes": [{"id": "a", "dependencies": ["b"]}]}}
        details = problem(await raw.post("/api/v1/workflows", json=broken), 422, "invalid-document")
        assert len(details["errors"]) >= 3
        text = b"metadata: {id: broken, version: 1.0.0}\nspec:\n  nodes:\n   - id: a\n  nodes: []\n"
        problem(
            await raw.post("/api/v1/workflows", content=text, headers={"Content-Type": "application/yaml"}),
            422,
            "invalid-document",
            '"line":5',
        )
        changed = workflow("job", {"a": "return 2"})
        problem(await raw.post("/api/v1/workflows", json=changed), 409, "version-conflict", "job@1.0.0")
        problem(await raw.put("/api/v1/workflows/other", json=changed), 400, "bad-request", "other")
        assert await everything(raw) == before

    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {site.token}"}):
        async with httpx.AsyncClient(base_url=orchestrator.url, headers=headers) as stranger:
            problem(await stranger.get("/api/v1/workflows"), 401, "unauthorized", "token")
            problem(await stranger.post(run, json={"inputs": {"day": "2026-01-01"}}), 401, "unauthorized")
            problem(await stranger.get("/metrics"), 401, "unauthorized")
            assert (await stranger.get("/healthz")).status_code == 200
    async with http(orchestrator) as raw:
        assert await everything(raw) == before


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_no_engine_that_answers(site: Any, workflow: Any, http: Any, soon: Any) -> None:
    """One address where nobody listens, one where somebody else does, one whose engine has another token."""
    stranger = await site.engine("engine-1", token="another-secret-than-the-one-of-the-orchestrator")
    gone = await site.engine("engine-2")
    await gone.end()
    other = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    elsewhere = f"127.0.0.1:{other.sockets[0].getsockname()[1]}"
    orchestrator = await site.orchestrator([stranger.address, gone.address, elsewhere], MAX_QUEUED="3")
    client = site.client(orchestrator)
    await client.apply(workflow("job", {"a": "return 1"}))
    async with http(orchestrator) as raw:
        started = [(await client.start("job", idempotency_key=f"k{number}")).id for number in range(3)]
        answer = await raw.post("/api/v1/workflows/job/executions", json={})
        details = problem(answer, 429, "overloaded", "3 executions wait for an engine")
        assert float(answer.headers["retry-after"]) >= details["retry_after"] > 0
        with pytest.raises(Overloaded):
            await client.start("job")
        assert (await raw.get("/readyz")).status_code == 503
        assert "no engine" in (await raw.get("/readyz")).text

        async def explained() -> dict[str, str]:
            reasons = {view.address: view.reason for view in await client.engines()}
            return reasons if "it has not answered yet" not in reasons.values() else {}

        reasons = await soon(explained)
        assert "token" in reasons[stranger.address]
        assert f"cannot reach {gone.address}" in reasons[gone.address]
        assert reasons[elsewhere]
        assert {view.state for view in await client.engines()} == {"connecting"}
        for view in (await client.executions()).items:
            assert (view.status, view.waiting_on, view.epoch) == ("queued", "no_engine", 0)

        await client.cancel(started[0])
        assert (await client.execution(started[0])).status == "cancelled"
        late = await client.start("job")
        assert len((await client.executions()).items) == 4
        # Somebody begins to listen where nobody did: what waited is done.
        await site.engine("engine-2", port=gone.address.rpartition(":")[2])
        for execution in (*started[1:], late.id):
            assert (await client.wait(execution, timeout=20)).status == "succeeded"
        assert (await raw.get("/readyz")).status_code == 200
    other.close()
    await other.wait_closed()


async def test_bodies_of_fifty_megabytes(site: Any, workflow: Any, http: Any) -> None:
    orchestrator = await site.orchestrator([])
    client = site.client(orchestrator)
    document = workflow("job", {"a": "return 1"})
    document["spec"]["triggers"] = {"http": {"path": "/hooks/job", "method": "POST"}}
    await client.apply(document)
    highest = peak(orchestrator.pid)
    chunk = b'{"inputs": {"x": "' + b"x" * MEGABYTE

    async def in_chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield chunk

    async with http(orchestrator) as raw:
        before = await everything(raw)
        for path in ("/api/v1/workflows", "/api/v1/workflows/job/executions", "/hooks/job"):
            for content in (chunk * 50, in_chunks()):
                problem(await raw.post(path, content=content, headers=JSON), 413, "body-too-large", "8,388,608 bytes")
        assert await everything(raw) == before
        # A body may have come to just below the limit, and is held once more when it is put together.
        assert peak(orchestrator.pid) - highest < 30 * MEGABYTE
        assert (await raw.get("/healthz")).status_code == 200


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return int(psutil.Process(pid).memory_info().rss)  # where there is no /proc, the present is all one can see
