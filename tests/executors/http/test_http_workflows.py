"""`http` nodes in workflows: templates, results of other nodes, retries, and what an engine without them says."""

from __future__ import annotations

import pytest

from dagengine.app import DAGEngine
from dagengine.errors import ExecutionFailed, ExecutorError
from dagengine.executors.http import Policy

LOCAL = Policy(allow=("127.0.0.1",))


async def test_values_go_out_and_come_back(server, replies, document) -> None:
    server.answers["/orders"] = replies(body={"id": 7}, status=201)
    workflow = document(
        [
            {"id": "items", "executor": {"type": "lua", "code": "return {1, 2.5, 'ü'}"}},
            {
                "id": "order",
                "dependencies": ["items"],
                "executor": {
                    "type": "http",
                    "method": "POST",
                    "url": server.url("/orders"),
                    "query": {"dry": "{{ inputs.dry }}"},
                    "headers": {"X-Count": "{{ #nodes.items }}"},
                    "json": {"items": "{{ nodes.items }}", "note": "for {{ inputs.who }}"},
                    "expect": [201],
                    "select": "response.body.id + #nodes.items",
                },
            },
        ],
        inputs={"who": {"type": "string"}, "dry": {"type": "boolean", "default": True}},
        outputs={"order": "{{ nodes.order }}"},
    )
    async with DAGEngine(http=LOCAL) as engine:
        assert await engine.run(workflow, {"who": "Ada"}, execution="e-1") == {"order": 10}
    (request,) = server.received
    assert (request.target, request.headers["x-count"]) == ("/orders?dry=true", "3")
    assert request.json == {"items": [1, 2.5, "ü"], "note": "for Ada"}
    assert request.headers["idempotency-key"].startswith("e-1/order/")


async def test_a_server_that_is_busy_is_asked_again(server, replies, document) -> None:
    answers = [replies(status=503), replies(status=503), replies(body="done", kind="text/plain")]

    async def answer(request, writer) -> None:
        writer.write(answers.pop(0))
        await writer.drain()

    server.answers["/"] = answer
    retry = {"fail": {"max_attempts": 5, "retry_on": ["HTTP5*"], "backoff": {"initial": "1ms"}}}
    workflow = document(
        [{"id": "a", "executor": {"type": "http", "url": server.url()}, "retry": retry}],
        outputs={"a": "{{ nodes.a }}"},
    )
    async with DAGEngine(http=LOCAL) as engine:
        assert await engine.run(workflow) == {"a": "done"}
    assert len(server.received) == 3


async def test_a_refusal_says_which_setting_it_comes_from(server, document) -> None:
    workflow = document([{"id": "a", "executor": {"type": "http", "url": server.url()}}])
    async with DAGEngine() as engine:
        with pytest.raises(ExecutionFailed) as caught:
            await engine.run(workflow)
    assert "127.0.0.1 is loopback (127.0.0.0/8), and no rule of ENGINE_HTTP_ALLOW opens it" in caught.value.nodes["a"]
    assert server.connections == 0


async def test_an_engine_may_send_none_at_all(document) -> None:
    workflow = document([{"id": "a", "executor": {"type": "http", "url": "http://example.com/"}}])
    async with DAGEngine(http=False) as engine:
        with pytest.raises(ExecutorError, match="ENGINE_HTTP=true"):
            await engine.run(workflow)
