"""`DAGEngine.operate`: what can be asked of an execution that runs in this process."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import Raw

from dagengine import DAGEngine
from dagengine.errors import ExecutorError, InputError
from dagengine.events import facts
from dagengine.machine.operations import Decide, Signal

WORKFLOW = """
apiVersion: workflows/v1
kind: Workflow
metadata: {id: sign, version: 1.0.0}
spec:
  outputs: {paid: "{{ nodes.paid.amount }}", by: "{{ nodes.ok.by[1].author }}"}
  nodes:
    - id: paid
      executor: {type: wait, signal: {name: paid, payload: {type: object, properties: {amount: {type: integer}}}}}
    - id: ok
      dependencies: [paid]
      executor: {type: wait, approval: {who: [ada]}}
"""


async def test_signals_and_decisions_reach_what_runs() -> None:
    waits: asyncio.Queue[str] = asyncio.Queue()
    refused: list[str] = []

    def watch(position: int, fact: facts.Fact) -> None:
        if isinstance(fact, facts.NodeWaiting):
            waits.put_nowait(fact.node)
        if isinstance(fact, facts.CommandRefused):
            refused.append(fact.why)

    async with DAGEngine() as engine:
        running = asyncio.ensure_future(engine.run(WORKFLOW, execution="e-1", on_fact=watch))
        assert await asyncio.wait_for(waits.get(), 10) == "paid"
        with pytest.raises(InputError, match=r"payload\.amount"):
            engine.operate("e-1", Signal(name="paid", payload=Raw(b'{"amount":"much"}')))
        engine.operate("e-1", Signal(name="paid", payload=Raw(b'{"amount":7}')), command="c-1")
        engine.operate("e-1", Signal(name="paid", payload=Raw(b'{"amount":9}')), command="c-1")
        assert await asyncio.wait_for(waits.get(), 10) == "ok"
        engine.operate("e-1", Decide(author="bob", node="ok", approved=True))
        engine.operate("e-1", Decide(author="ada", node="ok", approved=True))
        assert await asyncio.wait_for(running, 10) == {"paid": 7, "by": "ada"}
    assert refused == ["'bob' may not decide about 'ok'; these may: ada"]


async def test_a_signal_needs_to_fit_one_of_the_nodes_that_could_take_it() -> None:
    number = {"type": "wait", "signal": {"name": "go", "payload": {"type": "integer"}}}
    text = {"type": "wait", "signal": {"name": "go", "payload": {"type": "string"}}}
    nodes = [{"id": "number", "executor": number}, {"id": "text", "executor": text}]
    document = {"metadata": {"id": "w", "version": "1.0.0"}, "spec": {"nodes": nodes}}
    async with DAGEngine() as engine:
        running = asyncio.ensure_future(engine.run(document, execution="e-1"))
        await asyncio.sleep(0)
        with pytest.raises(InputError, match="payload"):
            engine.operate("e-1", Signal(name="go", payload=Raw(b"[]")))
        engine.operate("e-1", Signal(name="go", payload=Raw(b"7")))
        engine.operate("e-1", Signal(name="go", payload=Raw(b'"seven"')))
        assert await asyncio.wait_for(running, 10) == {"number": 7, "text": "seven"}


async def test_an_execution_that_there_is_not() -> None:
    async with DAGEngine() as engine:
        with pytest.raises(ExecutorError, match="no execution named e-9 is running here"):
            engine.operate("e-9", Signal(name="go"))
