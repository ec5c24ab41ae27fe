"""HTTP triggers: the paths that documents claim."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from dagengine.events import facts


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("urn:dagengine:problem:")


async def test_a_trigger_answers_with_the_outputs(http, registered) -> None:
    response = await http.post("/trigger/greeting", json={"inputs": {"name": "Ada"}})
    assert response.status_code == 200
    assert response.json() == {
        "execution": "x1",
        "url": "/api/v1/executions/x1",
        "status": "succeeded",
        "outputs": {"name": "Ada"},
    }
    assert registered.views["x1"].trigger == "http"


async def test_a_trigger_needs_no_body(http, registered) -> None:
    assert (await http.post("/trigger/greeting")).json()["outputs"] == {}


async def test_a_trigger_that_takes_longer_answers_with_a_url(http, registered) -> None:
    response = await http.put("/hooks/slow", json={})
    assert response.status_code == 202
    assert response.json() == {"execution": "x1", "url": "/api/v1/executions/x1", "status": "running"}
    assert response.headers["location"] == "/api/v1/executions/x1"


@pytest.mark.parametrize(("status", "ending"), [("failed", "has failed"), ("cancelled", "was cancelled")])
async def test_an_execution_that_did_not_succeed_is_a_problem(make_app, registered, status: str, ending: str) -> None:
    transport = httpx.ASGITransport(make_app(trigger_wait=20))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        waiting = asyncio.create_task(http.put("/hooks/slow", json={}))
        await registered.until(lambda: "x1" in registered.views)
        await registered.finish("x1", status, error=facts.ErrorInfo(type="LuaError", message="no such file"))
        response = await waiting
    assert problem(response) == (422, "execution-failed")
    assert response.json()["execution"] == "/api/v1/executions/x1"
    assert response.json()["detail"] == f"execution x1 {ending}: no such file"


async def test_the_idempotency_key_counts_for_triggers(http, registered) -> None:
    for _ in range(2):
        await http.put("/hooks/slow", json={}, headers={"Idempotency-Key": "delivery-1"})
    assert len(registered.views) == 1


async def test_other_methods_are_told_which_one_is_offered(http) -> None:
    response = await http.get("/hooks/slow")
    assert problem(response) == (405, "method-not-allowed")
    assert response.headers["allow"] == "PUT"


@pytest.mark.parametrize("path", ["/", "/trigger/other", "/trigger/greeting/", "/api/v1/workflows/", "/docs", "/redoc"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_paths_are_not_found(http, method: str, path: str) -> None:
    response = await http.request(method, path)
    assert problem(response) == (404, "not-found")
    assert response.json()["instance"] == path


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", "/api/v1/workflows/greeting", {"GET", "HEAD", "PUT", "DELETE"}),
        ("DELETE", "/api/v1/workflows", {"GET", "HEAD", "POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("OPTIONS", "/api/v1/executions", {"GET", "HEAD"}),
    ],
)
async def test_methods_that_are_not_offered_are_told(http, method: str, path: str, allow: set[str]) -> None:
    response = await http.request(method, path)
    assert problem(response) == (405, "method-not-allowed")
    assert set(response.headers["allow"].split(", ")) == allow


async def test_triggers_take_json_bodies_and_no_query(http, registered) -> None:
    text = await http.post("/trigger/greeting", content=b"{}", headers={"content-type": "text/plain"})
    assert problem(text) == (415, "unsupported-media-type")
    query = await http.post("/trigger/greeting?name=Ada")
    assert problem(query) == (400, "bad-request")
    assert not registered.views
