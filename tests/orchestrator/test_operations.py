"""Operations on executions, from the verbs to the machine and back, with an engine in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import Raw

from dagengine import DAGEngine, Workflow
from dagengine.errors import InputError
from dagengine.events import facts as codec
from dagengine.events.facts import Operation
from dagengine.machine import operations, why
from orchestrator import Orchestrator
from orchestrator.errors import Conflict, Forbidden, NotFound, RequestError
from orchestrator.store.base import TERMINAL
from orchestrator.verbs import NodeReason, Receipt

DOCUMENT: dict[str, Any] = {
    "metadata": {"id": "order", "version": "1.0.0"},
    "spec": {
        "inputs": {"limit": {"type": "integer", "default": 1, "maximum": 9}},
        "outputs": {"paid": "{{ nodes.pay }}", "limit": "{{ nodes.after }}"},
        "nodes": [
            {"id": "before", "executor": {"type": "lua", "code": "return inputs.limit"}},
            {
                "id": "pay",
                "dependencies": ["before"],
                "executor": {
                    "type": "wait",
                    "signal": {
                        "name": "paid",
                        "payload": {
                            "type": "object",
                            "properties": {"amount": {"type": "integer"}},
                            "required": ["amount"],
                        },
                    },
                },
            },
            {
                "id": "sign",
                "dependencies": ["pay"],
                "executor": {"type": "wait", "approval": {"who": ["ada", "bob"], "quorum": 2}},
            },
            {"id": "after", "dependencies": ["sign"], "executor": {"type": "lua", "code": "return inputs.limit"}},
        ],
    },
}


@pytest.fixture
async def order(orch: Orchestrator) -> str:
    """An execution that waits for the signal `paid`."""
    await orch.apply(DOCUMENT)
    view = await orch.start("order")
    await until(orch, view.id, "NodeWaiting")
    return view.id


async def until(orch: Orchestrator, execution: str, kind: str, *, node: str = "", count: int = 1) -> codec.Fact:
    """The fact of a kind (about a node), once there are so many of them."""
    async with asyncio.timeout(20):
        async for item in orch.events(execution):
            fact = codec.decode(bytes(item.fact))
            if type(fact).__name__ == kind and node in ("", getattr(fact, "node", "")):
                count -= 1
                if not count:
                    return fact
    raise AssertionError(f"{execution} ended without {kind}")


async def answer(orch: Orchestrator, receipt: Receipt) -> Operation:
    """The fact that cites an operation."""
    async with asyncio.timeout(20):
        async for item in orch.events(receipt.execution, after=receipt.after):
            fact = codec.decode(bytes(item.fact))
            if isinstance(fact, Operation) and fact.command == receipt.command:
                return fact
    raise AssertionError(f"nothing came of {receipt}")


async def ended(orch: Orchestrator, execution: str) -> Any:
    view = await orch.wait(execution, timeout=20)
    assert view.status in TERMINAL
    return view


def test_reasons_are_those_of_the_machine() -> None:
    assert {*why.Why.__struct_fields__} == {*NodeReason.__struct_fields__}


async def test_an_order_is_paid_and_signed(orch: Orchestrator, order: str) -> None:
    fact = await answer(orch, await orch.signal(order, "paid", {"amount": 12}, author="shop", reason="card"))
    assert isinstance(fact, codec.Signalled)
    assert (fact.author, fact.reason, fact.payload) == ("shop", "card", Raw(b'{"amount":12}'))
    await until(orch, order, "NodeWaiting", node="sign")
    assert isinstance(await answer(orch, await orch.approve(order, "sign", author="ada")), codec.Decided)
    again = await answer(orch, await orch.approve(order, "sign", author="ada"))
    assert isinstance(again, codec.CommandRefused)
    assert "has decided about 'sign' already" in again.why
    await orch.approve(order, "sign", author="bob", reason="fine")
    view = await ended(orch, order)
    assert (view.status, view.outputs) == ("succeeded", {"paid": {"amount": 12}, "limit": 1})


async def test_a_rejection_fails_the_node_and_a_retry_asks_again(orch: Orchestrator, order: str) -> None:
    await orch.signal(order, "paid", {"amount": 1})
    await until(orch, order, "NodeWaiting", node="sign")
    await orch.reject(order, "sign", author="ada", reason="too early")
    view = await ended(orch, order)
    assert view.status == "failed"
    receipt = await orch.retry(order, author="ada")
    assert (await orch.execution(order)).finished_at is None
    fact = await answer(orch, receipt)
    assert isinstance(fact, codec.RerunRequested)
    assert fact.nodes == ("sign", "after")
    await until(orch, order, "NodeWaiting", node="sign", count=2)
    for name in ("ada", "bob"):
        await orch.approve(order, "sign", author=name)
    view = await ended(orch, order)
    assert view.status == "succeeded"
    assert view.outputs == {"paid": {"amount": 1}, "limit": 1}
    nodes = {node.id: node for node in await orch.nodes(order)}
    assert [node.state for node in nodes.values()] == ["succeeded"] * 4
    tries = await orch.attempts(order, "sign")
    assert [(one.attempt, one.outcome) for one in tries] == [(1, "fail"), (2, "success")]
    assert tries[0].error is not None
    assert tries[0].error.type == "Rejected"
    assert tries[0].started_at is not None
    assert tries[0].finished_at is not None


async def test_what_has_succeeded_goes_on_from_a_node(orch: Orchestrator) -> None:
    wf = Workflow("count", "1.0.0")
    wf.lua("a", "return 1")
    wf.lua("b", "return nodes.a + 1", depends_on=["a"])
    wf.lua("c", "return nodes.b + 1", depends_on=["b"])
    await orch.register_workflow("count", "1.0.0", wf)
    view = await orch.start("count")
    assert (await ended(orch, view.id)).outputs == {"c": 3}
    with pytest.raises(Conflict, match="name the nodes"):
        await orch.retry(view.id)
    fact = await answer(orch, await orch.retry(view.id, nodes=["b"]))
    assert isinstance(fact, codec.RerunRequested)
    assert fact.nodes == ("b", "c")
    view = await ended(orch, view.id)
    assert (view.status, view.outputs, view.epoch) == ("succeeded", {"c": 3}, 2)
    assert [len(await orch.attempts(view.id, node)) for node in ("a", "b", "c")] == [1, 2, 2]
    snapshot = orch.monitor.snapshot()
    assert (snapshot.started, snapshot.reopened, snapshot.finished) == (1, 1, {"succeeded": 2})


async def test_a_pause_holds_what_has_not_begun(orch: Orchestrator, order: str) -> None:
    assert isinstance(await answer(orch, await orch.pause(order, author="ada")), codec.Paused)
    refused = await answer(orch, await orch.pause(order))
    assert isinstance(refused, codec.CommandRefused)
    assert "paused already" in refused.why
    explained = await orch.why(order)
    assert explained.status == "running"
    assert {reason.node: reason.code for reason in explained.nodes}["pay"] == "paused"
    assert isinstance(await answer(orch, await orch.resume(order)), codec.Resumed)
    (reason,) = (await orch.why(order, "pay")).nodes
    assert (reason.code, reason.name) == ("awaiting_signal", "paid")


async def test_a_node_is_paused(orch: Orchestrator, order: str) -> None:
    await answer(orch, await orch.pause(order, node="after"))
    nodes = {node.id: node for node in await orch.nodes(order)}
    assert (nodes["after"].paused, nodes["pay"].paused) == (True, False)
    assert nodes["pay"].state == "waiting"


async def test_nodes_are_skipped_or_given_results(orch: Orchestrator, order: str) -> None:
    fact = await answer(orch, await orch.skip(order, "pay", result={"amount": 0}, author="ada"))
    assert isinstance(fact, codec.NodeOverridden)
    await orch.skip(order, "sign", result=True)
    view = await ended(orch, order)
    assert (view.status, view.outputs) == ("succeeded", {"paid": {"amount": 0}, "limit": 1})
    (overridden,) = await orch.attempts(order, "pay")
    assert overridden.outcome == "overridden"


async def test_a_node_sees_edited_inputs(orch: Orchestrator, order: str) -> None:
    fact = await answer(orch, await orch.edit(order, "after", {"limit": 5}, author="ada"))
    assert isinstance(fact, codec.InputsEdited)
    await orch.skip(order, "pay", result={"amount": 0})
    await orch.skip(order, "sign", result=True)
    view = await ended(orch, order)
    assert (view.inputs, view.outputs) == ({"limit": 1}, {"paid": {"amount": 0}, "limit": 5})


async def test_a_cancelled_execution_says_why_in_its_view(orch: Orchestrator, order: str) -> None:
    fact = await answer(orch, await orch.cancel(order, grace=1, reason="wrong day", author="ada"))
    assert isinstance(fact, codec.CancelRequested)
    assert fact.grace == 1_000_000
    view = await ended(orch, order)
    assert (view.status, view.reason, view.error) == ("cancelled", "wrong day", None)
    page = await orch.executions(status="cancelled")
    assert [item.reason for item in page.items] == ["wrong day"]


async def test_an_execution_is_terminated(orch: Orchestrator, order: str) -> None:
    fact = await answer(orch, await orch.terminate(order))
    assert isinstance(fact, codec.CancelRequested)
    assert fact.terminate
    assert (await ended(orch, order)).status == "cancelled"
    receipt = await orch.retry(order)
    assert isinstance(await answer(orch, receipt), codec.RerunRequested)
    await orch.terminate(order)
    assert (await ended(orch, order)).status == "cancelled"


@pytest.mark.parametrize(
    ("operation", "error", "said"),
    [
        (operations.Pause(node="befor"), NotFound, r"has no node 'befor'.*did you mean 'before'"),
        (operations.Rerun(nodes=("pay", "x")), NotFound, "has no node 'x'"),
        (operations.Signal(name="payd"), RequestError, "waits for a signal 'payd'"),
        (operations.Signal(name="paid", payload=Raw(b'{"amount":"much"}')), InputError, "the payload does not fit"),
        (operations.Signal(name="paid", payload=Raw(b"{")), RequestError, "the payload is not JSON"),
        (operations.Decide(node="pay", approved=True, author="ada"), RequestError, "does not wait for an approval"),
        (operations.Decide(node="sign", approved=True), RequestError, "needs an author"),
        (operations.Decide(node="sign", approved=True, author="eve"), Forbidden, "these may: ada, bob"),
        (operations.Decide(node="sign", index=1, approved=True, author="ada"), RequestError, "has no item 1"),
        (operations.EditInputs(node="after", inputs=Raw(b'{"limit":10}')), InputError, "limit"),
        (operations.EditInputs(node="after", inputs=Raw(b'{"limits":1}')), InputError, "unknown input"),
        (operations.EditInputs(node="after", inputs=Raw(b"[1]")), RequestError, "are an object"),
        (operations.EditInputs(node="before", inputs=Raw(b'{"limit":2}')), Conflict, "has begun already"),
        (operations.Skip(node="pay", result=Raw(b"nothing")), RequestError, "the result is not JSON"),
        (operations.Pause(reason="x" * 5_000), RequestError, "at most 4,096 characters"),
    ],
)
async def test_what_cannot_be_meant_is_refused_at_the_door(
    orch: Orchestrator, order: str, operation: Any, error: type[Exception], said: str
) -> None:
    before = (await orch.execution(order)).last_seq
    with pytest.raises(error, match=said):
        await orch.operate(order, operation)
    assert (await orch.execution(order)).last_seq == before


async def test_what_has_ended_takes_a_retry_only(orch: Orchestrator, order: str) -> None:
    await orch.cancel(order)
    await ended(orch, order)
    for call in (orch.pause(order), orch.resume(order), orch.skip(order, "pay"), orch.cancel(order)):
        with pytest.raises(Conflict, match=r"has ended already \(cancelled\)"):
            await call
    with pytest.raises(NotFound, match="there is no execution 'nothing'"):
        await orch.retry("nothing")


async def test_what_waits_for_an_engine_keeps_what_is_asked(
    opened: Callable[..., Awaitable[Orchestrator]],
) -> None:
    orch = await opened(engines=0)
    await orch.apply(DOCUMENT)
    view = await orch.start("order")
    receipts = [await orch.pause(view.id, node="before"), await orch.signal(view.id, "paid", {"amount": 3})]
    explained = await orch.why(view.id)
    assert (explained.status, explained.nodes) == ("queued", [])
    assert explained.waiting_on in (None, "no_engine")
    orch.register_engine("late", DAGEngine())
    made = [type(await answer(orch, receipt)).__name__ for receipt in receipts]
    assert made == ["Paused", "Signalled"]
    await orch.cancel(view.id)
    assert (await ended(orch, view.id)).status == "cancelled"


async def test_a_retry_whose_engine_is_gone_runs_at_another(opened: Any) -> None:
    orch = await opened()
    await orch.apply(DOCUMENT)
    view = await orch.start("order")
    await until(orch, view.id, "NodeWaiting")
    await orch.cancel(view.id)
    await ended(orch, view.id)
    await orch.unregister_engine("engine-1", drain=1)
    receipt = await orch.retry(view.id)
    assert (await orch.execution(view.id)).status == "queued"
    assert (await orch.why(view.id)).status == "queued"
    orch.register_engine("other", DAGEngine())
    assert isinstance(await answer(orch, receipt), codec.RerunRequested)
    assert [engine.started for engine in await orch.engines() if engine.id == "other"] == [1]
    await orch.signal(view.id, "paid", {"amount": 3})
    for name in ("ada", "bob"):
        await until(orch, view.id, "NodeWaiting", node="sign")
        await orch.approve(view.id, "sign", author=name)
    assert (await ended(orch, view.id)).status == "succeeded"


async def test_a_retry_that_the_machine_refuses_changes_nothing(orch: Orchestrator) -> None:
    wf = Workflow("skipping", "1.0.0")
    wf.lua("a", "return 1")
    wf.lua("b", "return 2", depends_on=["a"], when="false")
    await orch.register_workflow("skipping", "1.0.0", wf)
    view = await ended(orch, (await orch.start("skipping")).id)
    # Asked of the dispatcher itself: the door sees that there is nothing to run again.
    operation = operations.Rerun(author="ada")
    from orchestrator.store.base import InboxItem

    item = InboxItem(
        id="r1", execution=view.id, kind="retry", payload=operations.encode(operation), created_at=view.created_at
    )
    await orch._dispatcher.inboxes.operate(item)
    receipt = Receipt(execution=view.id, command="r1", kind="retry", after=view.last_seq)
    fact = await answer(orch, receipt)
    assert isinstance(fact, codec.CommandRefused)
    after = await ended(orch, view.id)
    assert (after.status, after.outputs, after.finished_at) == (view.status, view.outputs, view.finished_at)
    assert after.last_seq == view.last_seq + 1
    assert orch.monitor.levels().running == 0


async def test_events_of_an_execution_that_goes_on_go_on(orch: Orchestrator, order: str) -> None:
    await orch.cancel(order)
    view = await ended(orch, order)
    first = [item.seq async for item in orch.events(order)]
    assert first == list(range(1, view.last_seq + 1))
    receipt = await orch.retry(order)
    following = orch.events(order, after=view.last_seq)
    fact = codec.decode(bytes((await anext(following)).fact))
    assert isinstance(fact, codec.RerunRequested)
    assert fact.command == receipt.command
    await orch.terminate(order)
    rest = [item.seq async for item in following]
    assert rest[-1] == (await orch.execution(order)).last_seq
