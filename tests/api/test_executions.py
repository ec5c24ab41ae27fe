"""Starting, waiting for, listing, reading and cancelling executions over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
import pytest

from dagengine.errors import InputError, Problem
from dagengine.events import facts
from dagengine.executors.base import LogLine
from dagengine.machine import operations
from orchestrator import verbs

START = "/api/v1/workflows/greeting/executions"
SLOW = "/api/v1/workflows/slow/executions"
PATH = "/api/v1/executions"


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("urn:dagengine:problem:")


async def test_a_start_is_accepted_and_located(http, registered) -> None:
    response = await http.post(SLOW, json={"inputs": {"name": "Ada"}})
    assert response.status_code == 202
    body = response.json()
    assert body["status"] == "running"
    assert body["inputs"] == {"name": "Ada"}
    assert response.headers["location"] == f"{PATH}/{body['id']}"
    assert (await http.get(response.headers["location"])).json() == body


async def test_a_start_that_waits_returns_the_outputs(http, registered) -> None:
    response = await http.post(f"{START}?wait=true", json={"inputs": {"name": "Ada"}})
    assert response.status_code == 200
    assert response.json()["status"] == "succeeded"
    assert response.json()["outputs"] == {"name": "Ada"}


async def test_a_start_that_waits_longer_than_its_timeout_is_accepted(http, registered) -> None:
    response = await http.post(f"{SLOW}?wait=true&timeout=0.01", json={})
    assert response.status_code == 202
    assert response.json()["status"] == "running"
    assert response.headers["location"] == f"{PATH}/x1"


async def test_a_start_that_waits_returns_a_failed_execution_too(http, registered) -> None:
    waiting = asyncio.create_task(http.post(f"{SLOW}?wait=true&timeout=20", json={}))
    await registered.until(lambda: "x1" in registered.views)
    await registered.finish("x1", "failed", error=facts.ErrorInfo(type="LuaError", message="no such file"))
    response = await waiting
    assert response.status_code == 200
    assert response.json()["status"] == "failed"
    assert response.json()["error"] == {"type": "LuaError", "message": "no such file"}


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/api/v1/workflows/greeting@1.0.0/executions", "1.0.0"),
        ("/api/v1/workflows/greeting@%5E1/executions", "1.1.0"),
        (f"{START}?version=1.0.0", "1.0.0"),
        (START, "1.1.0"),
    ],
)
async def test_a_version_can_be_named(http, registered, path: str, version: str) -> None:
    assert (await http.post(path)).json()["version"] == version


async def test_a_start_needs_no_body(http, registered) -> None:
    response = await http.post(f"{START}?wait=true")
    assert response.json()["inputs"] == {}


async def test_the_same_idempotency_key_starts_once(http, registered) -> None:
    headers = {"Idempotency-Key": "order-7"}
    first = await http.post(SLOW, json={}, headers=headers)
    second = await http.post(SLOW, json={}, headers=headers)
    assert first.json()["id"] == second.json()["id"]
    assert len(registered.views) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", b"caf\xe9"])
async def test_a_bad_idempotency_key_is_refused(http, registered, key: Any) -> None:
    response = await http.post(SLOW, json={}, headers={"Idempotency-Key": key})
    assert problem(response) == (400, "bad-request")
    assert not registered.views


async def test_the_longest_idempotency_key_is_taken(http, registered) -> None:
    assert (await http.post(SLOW, json={}, headers={"Idempotency-Key": "x" * 255})).status_code == 202


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"inputs": []}', "the request body is not as it should be: Expected `object`, got `array` at `inputs`"),
        (b'{"input": {}}', "the request body is not as it should be: Object contains unknown field `input`"),
        (b"[]", "the request body is not as it should be: Expected `object`, got `array`"),
        (b'{"inputs": {"a": 1,}}', "the request body is not JSON: line 1, column 19"),
        (b'{"inputs": {"a": "\xff"}}', "the request body is not JSON: line 1, column 1"),
        (b'{"inputs": {"a": NaN}}', "the request body is not JSON: line 1, column 18"),
        (b'{"inputs": {"a": ' + b"[" * 5_000, "the request body is not JSON: line 1, column"),
    ],
)
async def test_a_wrong_body_is_refused(http, registered, body: bytes, message: str) -> None:
    response = await http.post(SLOW, content=body, headers={"content-type": "application/json"})
    assert problem(response) == (400, "bad-request")
    assert response.json()["detail"].startswith(message)
    assert not registered.views


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}, {"content-type": "application/yaml"}])
async def test_inputs_come_as_json_only(http, registered, headers: dict[str, str]) -> None:
    response = await http.post(SLOW, content=b'{"inputs": {}}', headers=headers)
    assert problem(response) == (415, "unsupported-media-type")
    assert not registered.views


async def test_wrong_inputs_are_all_named(http, registered) -> None:
    registered.failure = InputError(
        "the inputs do not fit greeting@1.1.0",
        [Problem(path="inputs.name", message="must be a string"), Problem(path="inputs.age", message="is missing")],
    )
    response = await http.post(START, json={"inputs": {"name": 1}})
    assert problem(response) == (422, "invalid-inputs")
    assert response.json()["detail"] == "the inputs do not fit greeting@1.1.0"
    assert {item["path"]: item["message"] for item in response.json()["errors"]} == {
        "inputs.name": "must be a string",
        "inputs.age": "is missing",
    }


@pytest.mark.parametrize("path", ["", "/facts", "/logs", "/events", "?wait=true"])
async def test_an_unknown_execution_is_not_found(http, path: str) -> None:
    assert problem(await http.get(f"{PATH}/nothing{path}")) == (404, "not-found")


async def test_an_unknown_workflow_is_not_started(http, registered) -> None:
    assert problem(await http.post("/api/v1/workflows/nothing/executions")) == (404, "not-found")
    assert problem(await http.post(f"{START}?version=3.0.0")) == (404, "not-found")


async def test_reading_can_wait_for_the_end(http, registered) -> None:
    await http.post(SLOW)
    assert (await http.get(f"{PATH}/x1?wait=true&timeout=0")).json()["status"] == "running"
    waiting = asyncio.create_task(http.get(f"{PATH}/x1?wait=true"))
    await registered.finish("x1")
    assert (await waiting).json()["status"] == "succeeded"


async def test_executions_are_listed_page_by_page(http, registered) -> None:
    for path in (START, SLOW, START, SLOW, START):
        await http.post(path)
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await http.get(PATH, params=query)).json()
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == ["x5", "x4", "x3", "x2", "x1"]


async def test_executions_are_filtered(http, registered) -> None:
    for path in (START, SLOW):
        await http.post(path)
    by_workflow = (await http.get(f"{PATH}?workflow=slow")).json()["items"]
    by_status = (await http.get(f"{PATH}?status=succeeded")).json()["items"]
    assert [item["id"] for item in by_workflow] == ["x2"]
    by_several = (await http.get(f"{PATH}?status=running,succeeded")).json()["items"]
    assert [item["id"] for item in by_status] == ["x1"]
    assert [item["id"] for item in by_several] == ["x2", "x1"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{PATH}?limit=0", "limit"),
        (f"{PATH}?limit=1001", "limit"),
        (f"{PATH}?limit=ten", "limit"),
        (f"{PATH}?limit=-1", "limit"),
        (f"{PATH}?limit=1_0", "limit"),
        (f"{PATH}?status=done", "status"),
        (f"{PATH}?status=running,", "status"),
        (f"{PATH}?page=1", "page"),
        (f"{PATH}/x1?wait=1", "wait"),
        (f"{PATH}/x1?timeout=nan", "timeout"),
        (f"{PATH}/x1?timeout=-1", "timeout"),
        (f"{PATH}/x1?timeout=99999", "timeout"),
        (f"{PATH}/x1/facts?after=x", "after"),
        (f"{PATH}/x1/logs?limit=10001", "limit"),
        (f"{PATH}/x1/events?after=1", "after"),
    ],
)
async def test_wrong_query_parameters_are_named(http, registered, path: str, name: str) -> None:
    await registered.start("greeting")
    response = await http.get(path)
    assert problem(response) == (400, "bad-request")
    assert repr(name) in response.json()["detail"]


async def test_facts_are_read_after_a_position(http, registered) -> None:
    await registered.start("slow")
    await registered.record("x1", *(facts.NodeStarted(at=n, node=f"n{n}") for n in range(5)))
    items = (await http.get(f"{PATH}/x1/facts?after=1&limit=2")).json()["items"]
    assert items == [
        {"seq": 2, "epoch": 1, "fact": {"type": "NodeStarted", "at": 1, "node": "n1"}},
        {"seq": 3, "epoch": 1, "fact": {"type": "NodeStarted", "at": 2, "node": "n2"}},
    ]


async def test_logs_are_read_by_node_and_position(http, registered) -> None:
    await registered.start("slow")
    for n, node in enumerate(("a", "b", "a", "a"), start=1):
        line = LogLine(execution="x1", node=node, attempt=1, line=n, at=n, text=f"line {n}")
        registered.lines["x1"].append(verbs.LogView(id=n, line=msgspec.Raw(msgspec.json.encode(line))))
    (item,) = (await http.get(f"{PATH}/x1/logs?node=a&after=1&limit=1")).json()["items"]
    assert item["id"] == 3
    assert item["line"]["text"] == "line 3"


async def test_a_cancellation_is_recorded_with_its_reason(http, registered) -> None:
    await registered.start("slow")
    response = await http.post(f"{PATH}/x1/cancel", json={"reason": "wrong day", "author": "night shift"})
    assert response.status_code == 202
    assert response.headers["location"] == f"{PATH}/x1"
    assert registered.asked == [("x1", operations.Cancel(reason="wrong day", author="night shift"))]


async def test_a_cancellation_needs_no_reason(http, registered) -> None:
    await registered.start("slow")
    assert (await http.post(f"{PATH}/x1/cancel")).status_code == 202


async def test_an_ended_execution_cannot_be_cancelled(http, registered) -> None:
    await registered.start("greeting")
    assert problem(await http.post(f"{PATH}/x1/cancel", json={})) == (409, "conflict")
    assert problem(await http.post(f"{PATH}/nothing/cancel", json={})) == (404, "not-found")
