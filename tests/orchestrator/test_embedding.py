"""The orchestrator as a library."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dagengine import DAGEngine, ExecutionFailed, InputError, SpecError, Workflow
from orchestrator import Options, Orchestrator
from orchestrator.errors import Conflict, InUse, NotFound, Overloaded, RequestError, Unavailable, VersionConflict


async def test_the_first_page_of_the_manual() -> None:
    builder = Workflow("data-pipeline", "1.0.0", inputs={"input": {"type": "string"}})
    builder.lua("shout", "return string.upper(inputs.input)")

    async with Orchestrator() as orch:
        orch.register_engine("engine-1", DAGEngine())
        await orch.register_workflow("data-pipeline", "1.0.0", builder, metadata={})
        result = await orch.execute_workflow("data-pipeline", {"input": "value"})

    assert result == {"shout": "VALUE"}


async def test_engines_may_come_before_and_after_the_opening_and_the_workflow() -> None:
    wf = Workflow("calls", "1.0.0")
    wf.python("answer", lambda: 42)
    orch = Orchestrator()
    orch.register_engine("early", DAGEngine())
    async with orch:
        await orch.register_workflow("calls", "1.0.0", wf)
        assert await orch.execute_workflow("calls") == {"answer": 42}
    async with Orchestrator() as orch:
        await orch.register_workflow("calls", "1.0.0", wf)
        running = asyncio.create_task(orch.execute_workflow("calls"))
        orch.register_engine("late", DAGEngine())
        assert await running == {"answer": 42}
        with pytest.raises(Conflict, match="an engine named 'late' is registered already"):
            orch.register_engine("late", DAGEngine())


async def test_engines_in_this_process_have_labels_too(soon: Any) -> None:
    wf = Workflow("picky", "1.0.0", engine={"pool": "gpu", "exclusive": True})
    wf.lua("a", "return 1")
    async with Orchestrator() as orch:
        orch.register_engine("plain", DAGEngine())
        await orch.register_workflow("picky", "1.0.0", wf)
        view = await orch.start("picky")

        async def says_so() -> bool:
            return (await orch.execution(view.id)).waiting_on == "no_label:pool=gpu"

        await soon(says_so)
        assert (await orch.why(view.id)).words == (
            "no engine that could run it has the label 'pool=gpu' (ENGINE_POOL=gpu of an engine)"
        )
        orch.register_engine("fast", DAGEngine(), labels={"pool": "gpu"})
        assert (await orch.wait(view.id)).engine == "fast"
        assert {engine.id: engine.labels for engine in await orch.engines()} == {"plain": {}, "fast": {"pool": "gpu"}}


async def test_an_exclusive_execution_in_this_process_runs_alone(latch: Any, soon: Any) -> None:
    other = Workflow("other", "1.0.0")
    other.lua("a", "return 1")
    async with Orchestrator() as orch:
        orch.register_engine("first", DAGEngine())
        await orch.register_workflow("latch", "1.0.0", latch.workflow(engine={"exclusive": True}))
        await orch.register_workflow("other", "1.0.0", other)
        alone = await orch.start("latch")
        await latch.reached.wait()
        assert [engine.reserved_for for engine in await orch.engines()] == [alone.id]
        waiting = await orch.start("other")

        async def says_so() -> bool:
            return (await orch.execution(waiting.id)).waiting_on == "engines_full"

        await soon(says_so)
        latch.opened.set()
        assert (await orch.wait(waiting.id)).status == "succeeded"
        ended, began = (await orch.execution(alone.id)).finished_at, (await orch.execution(waiting.id)).started_at
        assert ended is not None
        assert began is not None
        assert ended <= began
        assert [engine.reserved_for for engine in await orch.engines()] == [""]


async def test_an_engine_may_go_and_what_it_had_goes_on_elsewhere(latch: Any, soon: Any) -> None:
    async with Orchestrator() as orch:
        orch.register_engine("first", DAGEngine())
        await orch.register_workflow("latch", "1.0.0", latch.workflow)
        view = await orch.start("latch")
        await latch.reached.wait()
        orch.register_engine("second", DAGEngine())
        await orch.unregister_engine("first", drain=0)
        latch.opened.set()
        assert (await orch.wait(view.id)).engine == "second"

        async def only_the_second() -> bool:
            return [engine.id for engine in await orch.engines()] == ["second"]

        await soon(only_the_second)
        with pytest.raises(NotFound, match="no engine named 'first' is registered in this process"):
            await orch.unregister_engine("first")
        orch.register_engine("first", DAGEngine())


async def test_an_engine_that_goes_lets_what_runs_finish(latch: Any, soon: Any) -> None:
    async with Orchestrator() as orch:
        orch.register_engine("only", DAGEngine())
        await orch.register_workflow("latch", "1.0.0", latch.workflow)
        view = await orch.start("latch")
        await latch.reached.wait()
        going = asyncio.create_task(orch.unregister_engine("only"))

        async def draining() -> bool:
            return [engine.state for engine in await orch.engines()] == ["draining"]

        await soon(draining)
        latch.opened.set()
        await going
        ended = await orch.wait(view.id)
        assert (ended.status, ended.engine, latch.calls) == ("succeeded", "only", ["before", "hold", "after"])


async def test_an_engine_that_learns_a_function_runs_what_waited_for_it(opened: Any, tmp_path: Any, soon: Any) -> None:
    """The workflow and its execution are in the file; the code comes later."""
    wf = Workflow("calls", "1.0.0")
    wf.python("answer", lambda: 42)
    url = f"sqlite:///{tmp_path}/o.db"
    async with Orchestrator(url) as first:
        await first.register_workflow("calls", "1.0.0", wf)
        view = await first.start("calls")
    orch = await opened(url)

    async def unable() -> bool:
        return (await orch.execution(view.id)).waiting_on == "engines_unable"

    await soon(unable)
    await orch.register_workflow("calls", "1.0.0", wf)
    assert (await orch.wait(view.id)).outputs == {"answer": 42}


async def test_a_workflow_can_be_given_as_builder_document_or_function(orch: Orchestrator, hello: Workflow) -> None:
    for version, builder in (("1.0.0", hello), ("1.1.0", hello.build()), ("1.2.0", lambda: hello)):
        made = await orch.register_workflow("greeting", version, builder)
        assert (made.id, made.version, made.created) == ("greeting", version, True)
        assert await orch.execute_workflow(f"greeting@{version}", {"name": "Ada"}) == {"text": "hello Ada"}


async def test_metadata_replaces_that_of_the_builder(orch: Orchestrator, hello: Workflow) -> None:
    await orch.register_workflow(
        "hello", "1.0.0", hello, metadata={"name": "Hello", "description": "greets", "labels": {"team": "data"}}
    )
    view = await orch.workflow("hello")
    assert (view.name, view.description, view.labels) == ("Hello", "greets", {"team": "data"})
    assert [found.id for found in await orch.workflows(labels="team=data")] == ["hello"]
    with pytest.raises(SpecError, match="colour"):
        await orch.register_workflow("hello", "1.0.1", hello, metadata={"colour": "red"})
    assert (await orch.workflow("hello")).versions == ["1.0.0"]


async def test_a_version_is_immutable_and_registering_it_again_changes_nothing(
    orch: Orchestrator, hello: Workflow
) -> None:
    first = await orch.register_workflow("hello", "1.0.0", hello)
    again = await orch.register_workflow("hello", "1.0.0", hello)
    assert (again.created, again.digest) == (False, first.digest)
    other = Workflow("hello", "1.0.0")
    other.lua("greet", "return 'bye'")
    with pytest.raises(VersionConflict, match=r"hello@1\.0\.0 is registered already with another content"):
        await orch.register_workflow("hello", "1.0.0", other)
    assert (await orch.workflow("hello")).digest == first.digest


async def test_references_choose_a_version(orch: Orchestrator) -> None:
    for version in ("1.0.0", "1.4.0", "2.0.0-rc.1", "2.0.0"):
        wf = Workflow("which", version)
        wf.lua("it", f"return '{version}'")
        await orch.register_workflow("which", version, wf)
    for reference, expected in {
        "which": "2.0.0",
        "which@latest": "2.0.0",
        "which@^1": "1.4.0",
        "which@~1.0": "1.0.0",
        "which@2.0.0-rc.1": "2.0.0-rc.1",
    }.items():
        assert await orch.execute_workflow(reference) == {"it": expected}
    for reference in ("which@^3", "what", "which@1.0.9"):
        with pytest.raises(NotFound):
            await orch.start(reference)
    with pytest.raises(RequestError, match="'>>1' does not name versions"):
        await orch.start("which@>>1")


async def test_inputs_are_checked_before_anything_is_recorded(orch: Orchestrator, hello: Workflow) -> None:
    await orch.register_workflow("hello", "1.0.0", hello)
    for inputs in ({}, {"name": 1}, {"name": "Ada", "other": 2}):
        with pytest.raises(InputError, match="inputs"):
            await orch.start("hello", inputs)
    assert (await orch.executions()).items == []


async def test_an_idempotency_key_starts_one_execution(orch: Orchestrator, hello: Workflow) -> None:
    await orch.register_workflow("hello", "1.0.0", hello)
    views = await asyncio.gather(
        *(orch.start("hello", {"name": "Ada"}, idempotency_key="k") for _ in range(10)),
    )
    assert len({view.id for view in views}) == 1
    other = await orch.start("hello", {"name": "Ada"}, idempotency_key="l")
    assert other.id != views[0].id
    assert await orch.execute_workflow("hello", {"name": "Ada"}, idempotency_key="k") == {"text": "hello Ada"}
    with pytest.raises(Conflict, match="was started with other inputs"):
        await orch.start("hello", {"name": "Bob"}, idempotency_key="k")
    assert len((await orch.executions()).items) == 2


async def test_a_caller_that_gives_up_leaves_an_execution_that_runs(orch: Orchestrator, hello: Workflow) -> None:
    """It does not know whether it has started anything; with the same key it finds out, and gets the result."""
    await orch.register_workflow("hello", "1.0.0", hello)
    for steps in range(12):
        starting = asyncio.create_task(orch.start("hello", {"name": "Ada"}, idempotency_key=f"k{steps}"))
        for _ in range(steps):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    for steps in range(12):
        outputs = await orch.execute_workflow("hello", {"name": "Ada"}, idempotency_key=f"k{steps}", timeout=10)
        assert outputs == {"text": "hello Ada"}


async def test_a_full_queue_turns_starters_away_however_they_crowd(opened: Any, hello: Workflow) -> None:
    orch = await opened(engines=0, options=Options(queue_limit=5))
    await orch.register_workflow("hello", "1.0.0", hello)
    results = await asyncio.gather(
        *(orch.start("hello", {"name": "Ada"}) for _ in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Overloaded) for result in results) == 15
    assert len((await orch.executions()).items) == 5
    assert {view.waiting_on for view in (await orch.executions()).items} == {"no_engine"}


async def test_waiting_has_a_limit_and_the_execution_goes_on(orch: Orchestrator, latch: Any) -> None:
    await orch.register_workflow("latch", "1.0.0", latch.workflow)
    with pytest.raises(TimeoutError, match=r"has not ended after 0\.01 s; it goes on"):
        await orch.execute_workflow("latch", timeout=0.01)
    [view] = (await orch.executions()).items
    await latch.reached.wait()
    view = await orch.wait(view.id, timeout=0.01)
    assert (view.status, view.engine, view.outputs) == ("running", "engine-1", None)
    latch.opened.set()
    view = await orch.wait(view.id)
    assert (view.status, view.outputs) == ("succeeded", {"after": "after"})
    assert await orch.wait(view.id, timeout=0) == view
    with pytest.raises(NotFound):
        await orch.wait("nothing")


async def test_many_may_wait_for_one_execution(orch: Orchestrator, latch: Any) -> None:
    await orch.register_workflow("latch", "1.0.0", latch.workflow)
    view = await orch.start("latch")
    waiting = [asyncio.create_task(orch.wait(view.id)) for _ in range(20)]
    await latch.reached.wait()
    waiting[0].cancel()
    latch.opened.set()
    assert {view.status for view in await asyncio.gather(*waiting[1:])} == {"succeeded"}


async def test_who_waits_while_the_orchestrator_is_closed_is_told(latch: Any) -> None:
    async with Orchestrator() as orch:
        orch.register_engine("engine-1", DAGEngine())
        await orch.register_workflow("latch", "1.0.0", latch.workflow)
        view = await orch.start("latch")
        await latch.reached.wait()
        waiting = asyncio.create_task(orch.wait(view.id))
        events = orch.events(view.id)
        assert [(await anext(events)).seq for _ in range(4)] == [1, 2, 3, 4]
        reading = asyncio.create_task(anext(events))
        for _ in range(3):
            await orch.executions()  # the reader has asked before, and now waits for what is not there yet
    for task in (waiting, reading):
        with pytest.raises(Unavailable, match="the orchestrator was closed"):
            await task


async def test_a_failure_names_its_nodes(orch: Orchestrator) -> None:
    wf = Workflow("fails", "1.0.0")
    wf.lua("fine", "return 1")
    wf.lua("bad", "error('no flour')", depends_on="fine")
    await orch.register_workflow("fails", "1.0.0", wf)
    with pytest.raises(ExecutionFailed, match=r"of fails@1\.0\.0 has failed: node 'bad' failed: .*no flour") as caught:
        await orch.execute_workflow("fails")
    assert list(caught.value.nodes) == ["bad"]
    assert "no flour" in caught.value.nodes["bad"]
    assert caught.value.status == "failed"


async def test_a_cancelled_execution_says_why(orch: Orchestrator, latch: Any, kinds: Any) -> None:
    await orch.register_workflow("latch", "1.0.0", latch.workflow)
    running = asyncio.create_task(orch.execute_workflow("latch", idempotency_key="k"))
    await latch.reached.wait()
    [view] = (await orch.executions()).items
    await orch.cancel(view.id, reason="wrong month", author="ada")
    with pytest.raises(ExecutionFailed, match=r"of latch@1\.0\.0 was cancelled: wrong month") as caught:
        await running
    assert caught.value.status == "cancelled"
    assert kinds(await orch.facts(view.id))[-4:] == [
        "CancelRequested",
        "NodeCancelled hold",
        "NodeSkipped after",
        "ExecutionCancelled",
    ]
    with pytest.raises(Conflict, match="has ended already"):
        await orch.cancel(view.id)
    with pytest.raises(NotFound):
        await orch.cancel("nothing")


async def test_what_nobody_can_run_waits_with_a_reason_and_can_be_cancelled(opened: Any, hello: Workflow) -> None:
    orch = await opened(engines=0)
    await orch.register_workflow("hello", "1.0.0", hello)
    view = await orch.start("hello", {"name": "Ada"})
    assert orch.readiness() == ["no engine is connected and ready"]
    assert (await orch.wait(view.id, timeout=0.01)).waiting_on == "no_engine"
    await orch.cancel(view.id)
    view = await orch.execution(view.id)
    assert (view.status, view.waiting_on, view.engine) == ("cancelled", None, None)


class BrokenEngine(DAGEngine):
    """Cannot begin anything."""

    def open(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("a bolt is loose")


async def test_an_execution_that_breaks_its_engine_ends_and_says_so(hello: Workflow) -> None:
    """It used to be started again and again."""
    async with Orchestrator() as orch:
        orch.register_engine("engine-1", BrokenEngine())
        await orch.register_workflow("hello", "1.0.0", hello)
        with pytest.raises(
            ExecutionFailed, match=r"has failed: .*engine-1 cannot run it: RuntimeError: a bolt is loose"
        ):
            await orch.execute_workflow("hello", {"name": "Ada"}, timeout=30)
        assert len((await orch.executions(status="failed")).items) == 1


async def test_inputs_too_large_for_a_session_are_refused(orch: Orchestrator, hello: Workflow) -> None:
    await orch.register_workflow("hello", "1.0.0", hello)
    with pytest.raises(RequestError, match=r"the inputs take 26,214,\d+ bytes") as caught:
        await orch.start("hello", {"name": "x" * (25 * 1024 * 1024)})
    assert caught.value.too_large
    assert (await orch.executions()).items == []


async def test_removing_a_workflow_spares_what_runs_unless_forced(orch: Orchestrator, latch: Any) -> None:
    await orch.register_workflow("latch", "1.0.0", latch.workflow)
    view = await orch.start("latch")
    await latch.reached.wait()
    with pytest.raises(InUse, match="latch has 1 execution that has not ended"):
        await orch.delete_workflow("latch")
    assert await orch.delete_workflow("latch", force=True) == 1
    with pytest.raises(NotFound):
        await orch.workflow("latch")
    latch.opened.set()
    assert (await orch.wait(view.id)).status == "succeeded"
    with pytest.raises(NotFound):
        await orch.delete_workflow("latch")
    assert len(await orch.facts(view.id)) == 8


async def test_one_version_can_be_removed(orch: Orchestrator, hello: Workflow) -> None:
    for version in ("1.0.0", "1.1.0"):
        await orch.register_workflow("hello", version, hello)
    assert await orch.delete_workflow("hello", version="1.1.0") == 1
    assert (await orch.workflow("hello")).version == "1.0.0"
    with pytest.raises(NotFound):
        await orch.start("hello@1.1.0", {"name": "Ada"})


async def test_executions_come_in_pages(orch: Orchestrator, hello: Workflow, latch: Any) -> None:
    await orch.register_workflow("hello", "1.0.0", hello)
    await orch.register_workflow("latch", "1.0.0", latch.workflow)
    started = [(await orch.start("hello", {"name": str(number)})).id for number in range(25)]
    held = (await orch.start("latch")).id
    for execution in started:
        await orch.wait(execution)

    async def every(**options: Any) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            page = await orch.executions(limit=7, cursor=cursor, **options)
            assert len(page.items) <= 7
            found += [view.id for view in page.items]
            cursor = page.next
            if cursor is None:
                return found

    newest_first = started[::-1]
    assert await every() == [held, *newest_first]
    assert await every(workflow="hello") == newest_first
    assert await every(status="succeeded") == newest_first
    assert await every(status="running,queued") == [held]
    assert (await orch.executions(limit=25, workflow="hello")).next is None
    assert [view.inputs for view in (await orch.executions(limit=1)).items] == [None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cursor": "nonsense"},
        {"cursor": "12."},
        {"cursor": "²3.x"},
        {"cursor": f"{10**30}.x"},
        {"cursor": "-1.x"},
        {"status": "sleeping"},
        {"limit": 0},
        {"limit": -5},
    ],
    ids=str,
)
async def test_a_wrong_page_is_refused(orch: Orchestrator, hello: Workflow, wrong: dict[str, Any]) -> None:
    await orch.register_workflow("hello", "1.0.0", hello)
    await orch.start("hello", {"name": "Ada"})
    with pytest.raises(RequestError):
        await orch.executions(**wrong)


async def test_logs_are_those_of_the_nodes(orch: Orchestrator) -> None:
    wf = Workflow("talks", "1.0.0")
    wf.lua("a", "print('from a') return 1")
    wf.lua("b", "log.warning('from b') return 1", depends_on="a")
    await orch.register_workflow("talks", "1.0.0", wf)
    view = await orch.start("talks")
    await orch.wait(view.id)
    lines = [bytes(line.line).decode() for line in await orch.logs(view.id)]
    assert len(lines) == 2
    assert "from a" in lines[0]
    assert len(await orch.logs(view.id, node="b")) == 1
    with pytest.raises(NotFound):
        await orch.logs("nothing")


async def test_a_monitor_sees_every_fact_once(opened: Any, hello: Workflow) -> None:
    orch = await opened()
    seen: list[tuple[str, int]] = []
    orch.monitor.subscribe(lambda fact: seen.append((fact.execution, fact.seq)))
    await orch.register_workflow("hello", "1.0.0", hello)
    views = [await orch.start("hello", {"name": "Ada"}) for _ in range(3)]
    for view in views:
        await orch.wait(view.id)
    assert sorted(seen) == sorted((view.id, seq) for view in views for seq in range(1, 5))
    snapshot = orch.monitor.snapshot()
    assert (snapshot.started, snapshot.finished, snapshot.running, snapshot.queued) == (3, {"succeeded": 3}, 0, 0)


async def test_two_engines_share_the_work(opened: Any) -> None:
    orch = await opened(engines=2)
    wf = Workflow("burn", "1.0.0")
    wf.python("sleepless", _rest)
    await orch.register_workflow("burn", "1.0.0", wf)
    await asyncio.gather(*(orch.execute_workflow("burn") for _ in range(10)))
    assert {view.engine for view in (await orch.executions()).items} == {"engine-1", "engine-2"}


async def _rest() -> None:
    await asyncio.sleep(0.01)
