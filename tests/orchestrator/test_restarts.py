"""An orchestrator that is closed, or crashes, and opened again on the same file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dagengine import DAGEngine, Workflow
from dagengine.events import facts as codec
from dagengine.graph import compile_document
from dagengine.machine import fold
from dagengine.machine.check import check
from dagengine.spec.model import Document
from orchestrator import Options, Orchestrator
from orchestrator.errors import StoreError


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/orchestrator.db"


async def test_what_was_unfinished_goes_on(url: str, latch: Any, kinds: Any) -> None:
    workflow = latch.workflow()
    async with Orchestrator(url) as orch:
        orch.register_engine("engine-1", DAGEngine())
        await orch.register_workflow("latch", "1.0.0", workflow)
        view = await orch.start("latch")
        await latch.reached.wait()
    assert latch.calls == ["before", "hold"]
    latch.opened.set()
    async with Orchestrator(url) as orch:
        orch.register_engine("engine-1", DAGEngine(functions=workflow.functions))
        ended = await orch.wait(view.id)
        assert (ended.status, ended.outputs, ended.epoch) == ("succeeded", {"after": "after"}, 3)
        found = await orch.facts(view.id)
        document = Document.model_validate_json(bytes((await orch.workflow("latch")).document))
    assert latch.calls == ["before", "hold", "hold", "after"]
    assert kinds(found) == [
        "ExecutionStarted",
        "NodeStarted before",
        "NodeSucceeded before",
        "NodeStarted hold",
        "NodeFailed hold (Orphaned)",
        "NodeStarted hold",
        "NodeSucceeded hold",
        "NodeStarted after",
        "NodeSucceeded after",
        "ExecutionSucceeded",
    ]
    made = [codec.decode(bytes(fact.fact)) for fact in found]
    check(fold(compile_document(document), made, execution=view.id))


async def test_another_engine_may_go_on(url: str, latch: Any) -> None:
    workflow = latch.workflow()
    async with Orchestrator(url) as orch:
        orch.register_engine("engine-1", DAGEngine())
        await orch.register_workflow("latch", "1.0.0", workflow)
        view = await orch.start("latch")
        await latch.reached.wait()
    latch.opened.set()
    async with Orchestrator(url, options=Options(engine_lost_after=0.01)) as orch:
        orch.register_engine("engine-2", DAGEngine(functions=workflow.functions))
        assert (await orch.wait(view.id)).engine == "engine-2"


async def test_what_was_queued_is_placed(url: str, hello: Workflow) -> None:
    async with Orchestrator(url) as orch:
        await orch.register_workflow("hello", "1.0.0", hello)
        views = [await orch.start("hello", {"name": str(number)}, idempotency_key=str(number)) for number in range(5)]
    async with Orchestrator(url) as orch:
        orch.register_engine("engine-1", DAGEngine())
        assert [(await orch.wait(view.id)).outputs for view in views] == [
            {"text": f"hello {number}"} for number in range(5)
        ]
        again = await orch.start("hello", {"name": "0"}, idempotency_key="0")
        assert again.id == views[0].id


async def test_everything_readable_stays_so(url: str, hello: Workflow) -> None:
    async with Orchestrator(url) as orch:
        orch.register_engine("engine-1", DAGEngine())
        await orch.register_workflow("hello", "1.0.0", hello)
        view = await orch.start("hello", {"name": "Ada"})
        before = await orch.wait(view.id)
        found = await orch.facts(view.id)
    async with Orchestrator(url) as orch:
        assert await orch.wait(view.id) == before
        assert await orch.facts(view.id) == found
        assert [entry.seq async for entry in orch.events(view.id, after=1)] == [2, 3, 4]
        assert (await orch.workflow("hello")).versions == ["1.0.0"]


async def test_a_request_to_cancel_outlives_its_orchestrator(url: str, latch: Any) -> None:
    workflow = latch.workflow()
    async with Orchestrator(url) as orch:
        orch.register_engine("engine-1", DAGEngine())
        await orch.register_workflow("latch", "1.0.0", workflow)
        view = await orch.start("latch")
        await latch.reached.wait()
    async with Orchestrator(url) as orch:
        await orch.cancel(view.id, reason="changed my mind")
    async with Orchestrator(url) as orch:
        orch.register_engine("engine-1", DAGEngine(functions=workflow.functions))
        assert (await orch.wait(view.id)).status == "cancelled"


async def test_a_file_has_one_orchestrator_at_a_time(url: str) -> None:
    async with Orchestrator(url):
        with pytest.raises(StoreError):
            await Orchestrator(url).open()
    async with Orchestrator(url) as orch:
        assert (await orch.executions()).items == []


async def test_an_orchestrator_that_cannot_open_leaves_nothing_running(url: str, monkeypatch: Any) -> None:
    orch = Orchestrator(url)

    async def fail() -> None:
        raise StoreError("the table of triggers cannot be read")

    monkeypatch.setattr(orch._registry, "refresh", fail)
    tasks = asyncio.all_tasks()
    with pytest.raises(StoreError, match="the table of triggers"):
        await orch.open()
    assert asyncio.all_tasks() == tasks
    async with Orchestrator(url) as second:
        assert second.readiness() == ["no engine is connected and ready"]
