"""Retention and journals of an orchestrator as a whole: what its options and its documents lead to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dagengine import Workflow
from orchestrator import Orchestrator
from orchestrator.app import Options
from orchestrator.cli import exporting
from orchestrator.errors import NotFound
from orchestrator.history import lines
from orchestrator.history.replay import replay

Opened = Callable[..., Awaitable[Orchestrator]]
LARGE = 200_000


async def _ended(orch: Orchestrator, workflow: str, **inputs: Any) -> str:
    view = await orch.start(workflow, inputs)
    return (await orch.wait(view.id, timeout=30)).id


async def _kept(orch: Orchestrator) -> set[str]:
    return {view.id for view in (await orch.executions(limit=100)).items}


async def test_without_a_word_everything_is_kept(orch: Orchestrator, hello: Workflow) -> None:
    await orch.register_workflow("hello", "1.0.0", hello)
    one = await _ended(orch, "hello", name="Ada")
    assert (await orch.purge()).executions == 0
    assert await _kept(orch) == {one}


async def test_options_hold_where_documents_say_nothing(opened: Opened) -> None:
    orch = await opened(options=Options(retention_keep=1))
    for workflow, retention in (("usual", None), ("all", {"executions": {}}), ("two", {"executions": {"keep": 2}})):
        wf = Workflow(workflow, "1.0.0", retention=retention)
        wf.lua("a", "return 1")
        await orch.register_workflow(workflow, "1.0.0", wf)
    ids = {workflow: [await _ended(orch, workflow) for _ in range(3)] for workflow in ("usual", "all", "two")}
    await orch.purge()
    assert await _kept(orch) == {ids["usual"][2], *ids["all"], *ids["two"][1:]}


async def test_what_nobody_has_to_keep_goes_by_itself(opened: Opened, soon: Callable[..., Awaitable[Any]]) -> None:
    orch = await opened("sqlite://", options=Options(retention_keep=1))
    wf = Workflow("w", "1.0.0")
    wf.lua("a", "return 1")
    await orch.register_workflow("w", "1.0.0", wf)
    assert b"dagengine_purged_executions_total 0.0" in orch.monitor.metrics()
    for _ in range(3):
        last = await _ended(orch, "w")
    await orch.purge()
    assert await _kept(orch) == {last}
    assert b"dagengine_purged_executions_total 2.0" in orch.monitor.metrics()


async def test_a_key_is_free_again_once_its_execution_is_gone(orch: Orchestrator, hello: Workflow) -> None:
    await orch.register_workflow("hello", "1.0.0", hello)
    first = await orch.start("hello", {"name": "Ada"}, idempotency_key="k")
    await orch.wait(first.id, timeout=30)
    await orch.purge(keep=0)
    second = await orch.start("hello", {"name": "Bob"}, idempotency_key="k")
    assert second.id != first.id
    for gone in (orch.execution, orch.nodes, orch.why, orch.journal, orch.retry):
        try:
            await gone(first.id)
        except NotFound:
            continue
        raise AssertionError(f"{gone} still knows it")


async def test_an_exported_journal_holds_large_values_in_their_place(orch: Orchestrator) -> None:
    wf = Workflow("large", "1.0.0", inputs={"text": {"type": "string"}})
    make = wf.lua("make", "return inputs.text .. inputs.text")
    make >> wf.lua("use", "return #nodes.make")
    await orch.register_workflow("large", "1.0.0", wf)
    execution = await _ended(orch, "large", text="x" * LARGE)
    content = [line async for line in exporting.exported(orch, execution)]
    assert sum(map(len, content)) > 3 * LARGE
    history = lines.read(content, name="exported")
    result = replay(history)
    assert (result.problem, result.status) == (None, "succeeded")
    assert bytes(history.header.inputs) == b'{"text":"%s"}' % (b"x" * LARGE)


async def test_the_journal_of_one_that_runs_is_what_is_committed_by_now(orch: Orchestrator, latch: Any) -> None:
    await orch.register_workflow("latch", "1.0.0", latch.workflow())
    view = await orch.start("latch")
    await latch.reached.wait()
    history = lines.read([line async for line in exporting.exported(orch, view.id)], name="exported")
    latch.opened.set()
    assert history.header.status == "running"
    assert replay(history).problem is None
    await orch.wait(view.id, timeout=30)
