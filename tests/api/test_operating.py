"""Operations on executions over HTTP: what each body means, and what is refused."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from dagengine.machine import operations
from orchestrator import verbs

PATH = "/api/v1/executions/x1"


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("urn:dagengine:problem:")


@pytest.fixture
async def slow(registered: Any) -> Any:
    """The verbs, with an execution `x1` under way."""
    await registered.start("slow")
    return registered


@pytest.mark.parametrize(
    ("path", "body", "meant"),
    [
        ("cancel", {"grace": "10s"}, operations.Cancel(grace=10_000_000)),
        ("cancel", {"grace": 0.5, "reason": "r"}, operations.Cancel(grace=500_000, reason="r")),
        ("terminate", {"author": "ada"}, operations.Cancel(terminate=True, author="ada")),
        ("pause", {"node": "greet"}, operations.Pause(node="greet")),
        ("pause", {}, operations.Pause()),
        ("resume", {}, operations.Unpause()),
        ("retry", {"nodes": ["a"]}, operations.Rerun(nodes=("a",))),
        ("skip", {"node": "a"}, operations.Skip(node="a")),
        ("skip", {"node": "a", "result": None}, operations.Skip(node="a", result=msgspec.Raw(b"null"))),
        (
            "signal",
            {"name": "s", "payload": {"a": 1}},
            operations.Signal(name="s", payload=msgspec.Raw(b'{"a":1}')),
        ),
        (
            "decide",
            {"node": "a", "approved": False, "index": 2, "author": "ada"},
            operations.Decide(node="a", approved=False, index=2, author="ada"),
        ),
        ("edit", {"node": "a", "inputs": {"n": 1}}, operations.EditInputs(node="a", inputs=msgspec.Raw(b'{"n":1}'))),
    ],
)
async def test_a_body_is_what_is_asked(http: httpx.AsyncClient, slow: Any, path: str, body: Any, meant: Any) -> None:
    response = await http.post(f"{PATH}/{path}", content=msgspec.json.encode(body), headers=JSON)
    assert response.status_code == 202
    assert response.headers["location"] == PATH
    assert response.json() == {"execution": "x1", "command": "c1", "kind": operations.kind_of(meant), "after": 0}
    assert slow.asked == [("x1", meant)]


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("path", ["cancel", "terminate", "pause", "resume", "retry"])
async def test_some_need_no_body(http: httpx.AsyncClient, slow: Any, path: str) -> None:
    assert (await http.post(f"{PATH}/{path}")).status_code == 202


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("skip", None, "skip needs a body, such as"),
        ("signal", {}, "missing required field `name`"),
        ("decide", {"node": "a"}, "missing required field `approved`"),
        ("pause", {"nodes": ["a"]}, "unknown field `nodes`"),
        ("cancel", {"grace": "soon"}, "`grace`: expected a duration"),
        ("cancel", {"grace": -1}, "`grace`: expected a duration"),
        ("retry", {"nodes": "a"}, "`nodes`"),
    ],
)
async def test_a_wrong_body_is_refused(http: httpx.AsyncClient, slow: Any, path: str, body: Any, said: str) -> None:
    response = await http.post(f"{PATH}/{path}", **({} if body is None else {"json": body}))
    assert problem(response) == (400, "bad-request")
    assert said in response.json()["detail"]
    assert slow.asked == []


async def test_what_has_ended_goes_on_only_by_a_retry(http: httpx.AsyncClient, slow: Any) -> None:
    await slow.finish("x1")
    assert problem(await http.post(f"{PATH}/pause")) == (409, "conflict")
    assert (await http.post(f"{PATH}/retry")).status_code == 202


async def test_the_reasons_of_one_node_can_be_asked_for(http: httpx.AsyncClient, slow: Any) -> None:
    assert len((await http.get(f"{PATH}/why")).json()["nodes"]) == 1
    assert (await http.get(f"{PATH}/why?node=other")).json()["nodes"] == []


async def test_attempts_come_in_pages(http: httpx.AsyncClient, slow: Any) -> None:
    slow.attempt_views += [
        verbs.AttemptView(node="greet", attempt=number, outcome="fail", args=msgspec.Raw(b'{"a":1}'))
        for number in (1, 2, 3)
    ]
    (item,) = (await http.get(f"{PATH}/nodes/greet/attempts?after=1&limit=1")).json()["items"]
    assert item == {"node": "greet", "attempt": 2, "outcome": "fail", "args": {"a": 1}}
    assert problem(await http.get(f"{PATH}/nodes/greet/attempts?index=-1")) == (400, "bad-request")
