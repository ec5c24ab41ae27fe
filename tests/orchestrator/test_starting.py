"""Starting: the same request twice, queues that are full, engines that are late."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from dagengine import DAGEngine, Workflow
from dagengine.errors import ExecutorError
from dagengine.server.host import Host
from dagengine.server.service import EngineServer
from orchestrator import Options, Orchestrator
from orchestrator.errors import Conflict, Overloaded


def version(number: str, **inputs: Any) -> Workflow:
    wf = Workflow("w", number, inputs=inputs)
    wf.lua("a", "return 1")
    return wf


async def apply(orch: Orchestrator, number: str, **inputs: Any) -> None:
    await orch.register_workflow("w", number, version(number, **inputs))


class TestTheSameKey:
    async def test_is_answered_with_the_first_execution_whatever_the_latest_version_is(
        self, orch: Orchestrator
    ) -> None:
        await apply(orch, "1.0.0", n={"type": "integer", "default": 1})
        first = await orch.start("w", {}, idempotency_key="k")
        await apply(orch, "2.0.0", n={"type": "integer", "default": 2})
        assert (await orch.start("w", {}, idempotency_key="k")).id == first.id
        assert (await orch.start("w@^1", {"n": 1}, idempotency_key="k")).id == first.id
        await apply(orch, "3.0.0", m={"type": "string"})
        assert (await orch.start("w", {}, idempotency_key="k")).id == first.id

    async def test_in_another_order_is_the_same(self, orch: Orchestrator) -> None:
        await apply(orch, "1.0.0", n={"type": "integer"}, m={"type": "object"})
        first = await orch.start("w", {"n": 1, "m": {"x": 1, "y": [2]}}, idempotency_key="k")
        again = await orch.start("w", {"m": {"y": [2], "x": 1}, "n": 1}, idempotency_key="k")
        assert again.id == first.id

    @pytest.mark.parametrize("inputs", [{"n": 2}, {"n": "one"}, {"n": 1, "other": 1}, {"n": True}])
    async def test_with_other_inputs_is_a_conflict(self, orch: Orchestrator, inputs: dict[str, Any]) -> None:
        await apply(orch, "1.0.0", n={"type": "integer"})
        first = await orch.start("w", {"n": 1}, idempotency_key="k")
        with pytest.raises(Conflict, match=rf"the idempotency key 'k' belongs to execution {first.id}"):
            await orch.start("w", inputs, idempotency_key="k")
        assert len((await orch.executions()).items) == 1

    async def test_at_the_same_time_is_compared_as_well(self, orch: Orchestrator) -> None:
        await apply(orch, "1.0.0", n={"type": "integer"})
        outcomes = await asyncio.gather(
            *(orch.start("w", {"n": number}, idempotency_key="k") for number in range(5)), return_exceptions=True
        )
        assert [type(outcome).__name__ for outcome in outcomes].count("Conflict") == 4

    async def test_of_a_workflow_that_is_gone_still_finds_its_execution(self, orch: Orchestrator) -> None:
        await apply(orch, "1.0.0")
        first = await orch.start("w", {}, idempotency_key="k")
        await orch.delete_workflow("w", force=True)
        assert (await orch.start("w", {}, idempotency_key="k")).id == first.id


async def test_a_full_queue_refuses_nothing_that_it_has_taken(opened: Any) -> None:
    orch = await opened(engines=0, options=Options(queue_limit=2))
    await apply(orch, "1.0.0")
    keyed = await orch.start("w", {}, idempotency_key="k")
    cron = await orch.start("w@1.0.0", {}, trigger="cron", occurrence="cron:w:1")
    with pytest.raises(Overloaded):
        await orch.start("w", {})
    with pytest.raises(Overloaded):
        await orch.start("w", {}, idempotency_key="another")
    assert (await orch.start("w", {}, idempotency_key="k")).id == keyed.id
    assert (await orch.start("w@1.0.0", {}, trigger="cron", occurrence="cron:w:1")).id == cron.id


async def test_an_engine_that_cannot_be_taken_is_not_registered(orch: Orchestrator) -> None:
    """Its own function has the name of one that workflows bring."""
    wf = Workflow("w", "1.0.0")
    wf.python("double", lambda: 2)
    await orch.register_workflow("w", "1.0.0", wf)
    other = DAGEngine(functions={name: lambda: 3 for name in wf.functions})
    with pytest.raises(ExecutorError, match="is registered as"):
        orch.register_engine("engine-2", other)
    assert [view.id for view in await orch.engines()] == ["engine-1"]
    await other.close()
    orch.register_engine("engine-2", DAGEngine())
    with pytest.raises(Conflict, match="named 'engine-2' is registered already"):
        orch.register_engine("engine-2", DAGEngine())


async def test_an_engine_that_begins_after_it_was_first_dialled_is_found(soon: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    async with Orchestrator(engines=[f"127.0.0.1:{port}"]) as orch:
        await apply(orch, "1.0.0")
        view = await orch.start("w")

        async def refused() -> bool:
            return "cannot reach" in (await orch.engines())[0].reason

        await soon(refused)
        engine = DAGEngine()
        server = EngineServer(Host(engine, engine_id="late", version="0"), port=port)
        await server.start()
        try:
            view = await orch.wait(view.id, timeout=30)
            assert (view.status, view.engine) == ("succeeded", "late")
        finally:
            await server.stop()
            await engine.close()
