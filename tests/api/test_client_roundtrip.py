"""The client against the real interface behind a real server: the same verbs, the same errors."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from dagengine import errors as engine_errors
from dagengine.events import facts
from dagengine.executors.base import LogLine
from dagengine.machine import operations
from dagengine.spec import document as documents
from orchestrator import errors, verbs
from orchestrator.api import server
from orchestrator.client import Client
from orchestrator.verbs import Receipt


@pytest.fixture
async def client(serving: server.Serving) -> AsyncIterator[Client]:
    async with Client(serving.url) as client:
        yield client


def node_failed(node: str, message: str, **more: Any) -> facts.NodeFailed:
    error = facts.ErrorInfo(type="LuaError", message=message)
    return facts.NodeFailed(at=1, node=node, attempt=1, conclusion="fail", error=error, **more)


async def test_a_document_is_registered_in_every_form(client: Client, memory, new_document) -> None:
    plain = new_document()
    forms = [
        plain,
        json.dumps(plain),
        json.dumps(plain, indent="\t").encode(),
        yaml.safe_dump(plain),
        yaml.safe_dump(plain).encode(),
        documents.from_dict(plain),
    ]
    answers = [await client.apply(form) for form in forms]
    assert [answer.created for answer in answers] == [True] + [False] * 5
    assert {answer.digest for answer in answers} == {memory.documents["greeting", "1.0.0"].digest}


async def test_a_wrong_document_raises_all_its_problems(client: Client) -> None:
    text = "apiVersion: workflows/v1\nkind: Workflow\nmetadata: {id: a b, version: one}\nspec: {nodes: []}\n"
    with pytest.raises(engine_errors.SpecError) as local:
        documents.read(text)
    with pytest.raises(engine_errors.SpecError) as remote:
        await client.apply(text)
    assert remote.value.problems == local.value.problems
    assert str(remote.value) == str(local.value)


async def test_workflows_are_listed_read_and_removed(client: Client, registered) -> None:
    assert {view.id for view in await client.workflows()} == {"greeting", "slow"}
    assert [view.id for view in await client.workflows(labels="team=slow")] == ["slow"]
    view = await client.workflow("greeting@^1")
    assert view == await registered.workflow("greeting@^1")
    assert await client.delete_workflow("greeting", version="1.0.0") == 1
    assert await client.delete_workflow("greeting") == 1
    with pytest.raises(errors.NotFound, match="greeting"):
        await client.workflow("greeting")


async def test_a_workflow_in_use_is_removed_only_by_force(client: Client, registered) -> None:
    await client.start("slow")
    with pytest.raises(errors.InUse):
        await client.delete_workflow("slow")
    assert await client.delete_workflow("slow", force=True) == 1


async def test_an_execution_is_started_waited_for_and_read(client: Client, registered) -> None:
    view = await client.start("slow@1.0.0", {"name": "Ada"})
    assert view.status == "running"
    assert (await client.wait(view.id, timeout=0.01)).status == "running"
    waiting = asyncio.create_task(client.wait(view.id))
    await registered.finish(view.id)
    assert (await waiting).status == "succeeded"
    assert (await client.execution(view.id)).outputs == {"name": "Ada"}


async def test_outputs_come_back_from_one_call(client: Client, registered) -> None:
    inputs = {"text": "ä\u2028\n", "number": 1.5, "big": 2**60, "list": [None, True, {}]}
    assert await client.execute_workflow("greeting", inputs) == inputs
    assert len(registered.views) == 1


async def test_a_failed_execution_raises_with_its_nodes(client: Client, registered) -> None:
    running = asyncio.create_task(client.execute_workflow("slow", {}))
    await registered.until(lambda: "x1" in registered.views)
    retried, final = node_failed("load", "once", retry_at=5), node_failed("load", "no such file")
    await registered.record("x1", retried, final, node_failed("report", "no data"))
    await registered.finish("x1", "failed", error=facts.ErrorInfo(type="NodeFailed", message="2 nodes failed"))
    with pytest.raises(engine_errors.ExecutionFailed, match=r"x1 of slow@1\.0\.0 has failed: 2 nodes failed") as caught:
        await running
    assert caught.value.execution == "x1"
    assert caught.value.status == "failed"
    assert caught.value.nodes == {"load": "no such file", "report": "no data"}


async def test_waiting_for_outputs_ends_with_its_timeout(client: Client, registered) -> None:
    with pytest.raises(TimeoutError, match=r"x1 has not ended after 0\.05 s"):
        await client.execute_workflow("slow", {}, timeout=0.05)


async def test_wrong_inputs_raise_every_problem(client: Client, registered) -> None:
    found = [engine_errors.Problem(path="inputs.name", message="must be a string")]
    registered.failure = engine_errors.InputError("the inputs do not fit", found)
    with pytest.raises(engine_errors.InputError) as caught:
        await client.start("greeting", {"name": 1})
    assert caught.value.problems == tuple(found)


@pytest.mark.parametrize("inputs", [{"a": float("nan")}, {"a": {1}}, {"a": b"x"}, {"a": "\ud800"}, {"a": float("inf")}])
async def test_inputs_that_are_not_json_are_not_sent(client: Client, registered, inputs: dict[str, Any]) -> None:
    with pytest.raises(errors.RequestError, match="the inputs cannot be written as JSON"):
        await client.start("greeting", inputs)
    assert not registered.views


async def test_an_idempotency_key_starts_once(client: Client, registered) -> None:
    one = await client.start("slow", idempotency_key="order-7")
    two = await client.start("slow", idempotency_key="order-7")
    other = await client.start("slow")
    assert one.id == two.id != other.id


async def test_the_trigger_cannot_be_claimed(client: Client, registered) -> None:
    with pytest.raises(errors.RequestError, match="'cron'"):
        await client.start("greeting", trigger="cron")
    assert not registered.views


async def test_executions_are_listed_page_by_page(client: Client, registered) -> None:
    for reference in ("greeting", "slow", "greeting"):
        await client.start(reference)
    page = await client.executions(limit=2)
    assert [view.id for view in page.items] == ["x3", "x2"]
    assert [view.id for view in (await client.executions(limit=2, cursor=page.next)).items] == ["x1"]
    assert [view.id for view in (await client.executions(status="running")).items] == ["x2"]
    assert [view.id for view in (await client.executions(workflow="slow")).items] == ["x2"]
    with pytest.raises(errors.RequestError, match="'status' must be one or several"):
        await client.executions(status="done")


async def test_facts_and_logs_are_read(client: Client, registered) -> None:
    await client.start("slow")
    await registered.record("x1", facts.NodeStarted(at=1, node="a"), facts.NodeStarted(at=2, node="b"))
    line = LogLine(execution="x1", node="a", attempt=1, line=1, at=1, text="hello")
    registered.lines["x1"].append(verbs.LogView(id=1, line=msgspec.Raw(msgspec.json.encode(line))))
    assert await client.facts("x1") == registered.journals["x1"]
    assert await client.facts("x1", after=1, limit=1) == registered.journals["x1"][1:]
    assert await client.logs("x1", node="a") == registered.lines["x1"]
    assert await client.logs("x1", after=1) == []


async def test_events_are_those_of_the_embedded_verbs(client: Client, registered) -> None:
    await client.start("slow")
    await registered.record("x1", *(facts.NodeStarted(at=n, node=f"n{n}") for n in range(600)))
    following = asyncio.create_task(_collect(client.events("x1", after=10)))
    await registered.record("x1", facts.ExecutionSucceeded(at=9, outputs=msgspec.Raw(b'{"a":"\\n\\n"}')))
    await registered.finish("x1")
    assert await following == registered.journals["x1"][10:]


async def _collect(events: AsyncIterator[verbs.FactView]) -> list[verbs.FactView]:
    return [view async for view in events]


async def test_events_survive_a_restart_of_the_server(serve, make_app, registered) -> None:
    first = await server.start(make_app())
    async with Client(first.url) as client:
        await client.start("slow")
        await registered.record("x1", facts.NodeStarted(at=1, node="a"))
        events = client.events("x1")
        assert (await anext(events)).seq == 1
        await first.stop()
        await registered.record("x1", facts.NodeStarted(at=2, node="b"))
        async with serve(make_app(), port=first.port):
            assert (await anext(events)).seq == 2
            await registered.finish("x1")
            assert [view async for view in events] == []


async def test_a_grace_is_seconds_or_a_duration(client: Client, registered) -> None:
    await client.start("slow")
    await client.cancel("x1", grace="2m")
    assert registered.asked == [("x1", operations.Cancel(grace=120_000_000))]
    for wrong in ("abc", "", -1, float("nan"), float("inf"), True, None, [1]):
        with pytest.raises(errors.RequestError, match="`grace`: expected a duration such as"):
            await client.cancel("x1", grace=wrong)
    assert len(registered.asked) == 1


async def test_a_cancellation_is_asked_for(client: Client, registered) -> None:
    await client.start("slow")
    receipt = await client.cancel("x1", grace=1.5, reason="wrong day", author="night shift")
    assert receipt == Receipt(execution="x1", command="c1", kind="cancel", after=0)
    asked = operations.Cancel(grace=1_500_000, reason="wrong day", author="night shift")
    assert registered.asked == [("x1", asked)]
    await registered.finish("x1", "cancelled")
    with pytest.raises(errors.Conflict):
        await client.cancel("x1")


async def test_engines_are_listed(client: Client, memory) -> None:
    assert await client.engines() == []


@pytest.mark.parametrize(
    "raised",
    [
        errors.NotFound("no such thing"),
        errors.VersionConflict("another content"),
        errors.InUse("still running"),
        errors.Conflict("it has ended"),
        errors.Unavailable("later"),
        errors.RequestError("wrong"),
        errors.RequestError("too much", too_large=True),
        errors.Overloaded("full", retry_after=2.5),
    ],
)
async def test_errors_come_back_as_they_were_raised(client: Client, memory, raised: Exception) -> None:
    memory.failure = raised
    with pytest.raises(type(raised)) as caught:
        await client.workflows()
    assert type(caught.value) is type(raised)
    assert str(caught.value) == str(raised)
    assert vars(caught.value) == vars(raised)


async def test_faults_of_the_orchestrator_are_told_by_incident(client: Client, memory, captured_logs) -> None:
    memory.failure = ZeroDivisionError("secret")
    with pytest.raises(errors.OrchestratorError, match="incident") as caught:
        await client.workflows()
    (logged,) = captured_logs()
    assert logged["incident"] in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_document_over_the_limit_is_too_large(client: Client, memory, new_document) -> None:
    with pytest.raises(errors.RequestError, match="larger than") as caught:
        await client.apply(new_document(description="x" * 10_000_000))
    assert caught.value.too_large
    assert not memory.documents


async def test_the_token_is_shown(serve, make_app) -> None:
    async with serve(make_app(token="secret")) as serving:
        async with Client(serving.url, token="secret") as client:
            assert await client.engines() == []
        for token in (None, "wrong"):
            async with Client(serving.url, token=token) as client:
                with pytest.raises(errors.Unauthorized):
                    await client.engines()


async def test_tls_is_spoken(serve, make_app) -> None:
    pem = Path(__file__).parent / "localhost.pem"
    async with serve(make_app(), tls=server.TLS(certificate=pem, key=pem)) as serving:
        async with Client(serving.url, tls=ssl.create_default_context(cafile=str(pem))) as client:
            assert await client.engines() == []
        async with Client(serving.url) as client:
            with pytest.raises(errors.TransportError, match="certificate"):
                await client.engines()


async def test_scripts_run_calls_without_a_loop(serving, registered) -> None:
    client = Client(serving.url)

    def script() -> list[dict[str, Any]]:
        return [client.run_sync(client.execute_workflow("greeting", {"n": n})) for n in range(2)]

    assert await asyncio.to_thread(script) == [{"n": 0}, {"n": 1}]


async def test_run_sync_inside_a_loop_is_refused(client: Client) -> None:
    with pytest.raises(RuntimeError, match="await the call instead"):
        client.run_sync(client.engines())


@pytest.mark.parametrize(
    ("call", "asked"),
    [
        (lambda c: c.pause("x1", node="a", author="ada"), operations.Pause(node="a", author="ada")),
        (lambda c: c.resume("x1", reason="go"), operations.Unpause(reason="go")),
        (lambda c: c.retry("x1", nodes=["a", "b"]), operations.Rerun(nodes=("a", "b"))),
        (lambda c: c.skip("x1", "a"), operations.Skip(node="a")),
        (
            lambda c: c.skip("x1", "a", result={"n": [1, None]}),
            operations.Skip(node="a", result=msgspec.Raw(b'{"n":[1,null]}')),
        ),
        (lambda c: c.skip("x1", "a", result=None), operations.Skip(node="a", result=msgspec.Raw(b"null"))),
        (lambda c: c.signal("x1", "paid"), operations.Signal(name="paid")),
        (lambda c: c.signal("x1", "paid", "€"), operations.Signal(name="paid", payload=msgspec.Raw('"€"'.encode()))),
        (
            lambda c: c.approve("x1", "a", author="ada", index=0),
            operations.Decide(node="a", index=0, approved=True, author="ada"),
        ),
        (lambda c: c.reject("x1", "a", author="ada"), operations.Decide(node="a", approved=False, author="ada")),
        (
            lambda c: c.edit("x1", "a", {"limit": 1}),
            operations.EditInputs(node="a", inputs=msgspec.Raw(b'{"limit":1}')),
        ),
        (lambda c: c.terminate("x1", author="ada"), operations.Cancel(terminate=True, author="ada")),
        (
            lambda c: c.operate("x1", operations.Cancel(grace=250_000, reason="r")),
            operations.Cancel(grace=250_000, reason="r"),
        ),
        (
            lambda c: c.operate("x1", operations.Signal(name="s", payload=msgspec.Raw(b"[1]"))),
            operations.Signal(name="s", payload=msgspec.Raw(b"[1]")),
        ),
    ],
    ids=lambda value: type(value).__name__ if not callable(value) else "",
)
async def test_every_operation_arrives_as_it_was_meant(client: Client, registered, call: Any, asked: Any) -> None:
    await client.start("slow")
    receipt = await call(client)
    assert (receipt.execution, receipt.command, receipt.kind) == ("x1", "c1", operations.kind_of(asked))
    assert registered.asked == [("x1", asked)]


async def test_what_is_known_of_nodes_arrives(client: Client, registered) -> None:
    await client.start("slow")
    assert await client.why("x1") == await registered.why("x1")
    assert (await client.why("x1", "other")).nodes == []
    assert await client.nodes("x1") == await registered.nodes("x1")
    error = facts.ErrorInfo(type="T", message="m", details=msgspec.Raw(b'{"a":1}'))
    registered.attempt_views += [
        verbs.AttemptView(node="greet", index=index, attempt=1, outcome="error", error=error, result=msgspec.Raw(b"1"))
        for index in range(3)
    ]
    assert await client.attempts("x1", "greet") == registered.attempt_views
    assert await client.attempts("x1", "greet", index=0) == registered.attempt_views[:1]
    assert await client.attempts("x1", "greet", after=1, limit=1) == registered.attempt_views[1:2]
    with pytest.raises(errors.NotFound):
        await client.why("nothing")


async def test_what_is_no_json_is_not_sent(client: Client) -> None:
    with pytest.raises(errors.RequestError, match="cannot be written as JSON"):
        await client.signal("x1", "paid", float("nan"))


async def test_who_may_not_do_it_is_told(client: Client, registered) -> None:
    await client.start("slow")
    registered.failure = errors.Forbidden("'eve' may not decide")
    with pytest.raises(errors.Forbidden, match="'eve' may not decide"):
        await client.approve("x1", "a", author="eve")
