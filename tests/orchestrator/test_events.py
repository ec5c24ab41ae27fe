"""Following an execution: every fact once, in order, from wherever one starts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dagengine import Workflow
from orchestrator import Orchestrator
from orchestrator.errors import NotFound


async def every(orch: Orchestrator, execution: str, after: int = 0) -> list[tuple[int, bytes]]:
    return [(view.seq, bytes(view.fact)) async for view in orch.events(execution, after=after)]


@pytest.fixture
def chain() -> Workflow:
    """400 nodes in a row: 802 facts."""
    wf = Workflow("chain", "1.0.0")
    for number in range(400):
        wf.lua(f"n{number}", "return 1", depends_on=[f"n{number - 1}"] if number else [])
    return wf


async def test_events_can_be_resumed_from_any_position(orch: Orchestrator, hello: Workflow) -> None:
    await orch.register_workflow("hello", "1.0.0", hello)
    view = await orch.start("hello", {"name": "Ada"})
    whole = await every(orch, view.id)
    assert [seq for seq, _ in whole] == [1, 2, 3, 4]
    assert whole == [(fact.seq, bytes(fact.fact)) for fact in await orch.facts(view.id)]
    for after in range(6):
        assert await every(orch, view.id, after) == whole[after:]
    with pytest.raises(NotFound):
        await every(orch, "nothing")


async def test_events_of_a_running_execution_come_as_they_are_committed(orch: Orchestrator, latch: Any) -> None:
    await orch.register_workflow("latch", "1.0.0", latch.workflow)
    view = await orch.start("latch")
    events = orch.events(view.id)
    first = [(await anext(events)).seq for _ in range(4)]
    assert first == [1, 2, 3, 4]
    following = asyncio.create_task(every(orch, view.id, 2))
    await latch.reached.wait()
    latch.opened.set()
    assert [fact.seq async for fact in events] == [5, 6, 7, 8]
    assert [seq for seq, _ in await following] == [3, 4, 5, 6, 7, 8]


async def test_readers_of_every_speed_get_every_fact_once(orch: Orchestrator, chain: Workflow) -> None:
    await orch.register_workflow("chain", "1.0.0", chain)
    view = await orch.start("chain")

    async def slow() -> list[tuple[int, bytes]]:
        found = []
        async for fact in orch.events(view.id):
            found.append((fact.seq, bytes(fact.fact)))
            if len(found) == 3:
                await orch.wait(view.id)  # the execution has long ended when this reader goes on
        return found

    async def hasty() -> list[tuple[int, bytes]]:
        """Breaks off after every few facts and resumes."""
        found: list[tuple[int, bytes]] = []
        while len(found) < 802:
            events = orch.events(view.id, after=len(found))
            async for fact in events:
                found.append((fact.seq, bytes(fact.fact)))
                if len(found) % 37 == 0:
                    break
            await events.aclose()  # type: ignore[attr-defined]  # it is a generator
        return found

    results = await asyncio.gather(slow(), hasty(), every(orch, view.id))
    stored = [(fact.seq, bytes(fact.fact)) for fact in await orch.facts(view.id)]
    assert [seq for seq, _ in stored] == list(range(1, 803))
    assert all(result == stored for result in results)


async def test_facts_come_in_pages(orch: Orchestrator, chain: Workflow) -> None:
    await orch.register_workflow("chain", "1.0.0", chain)
    view = await orch.start("chain")
    await orch.wait(view.id)
    assert [fact.seq for fact in await orch.facts(view.id, after=100, limit=3)] == [101, 102, 103]
    assert await orch.facts(view.id, after=802) == []
    with pytest.raises(NotFound):
        await orch.facts("nothing")


async def test_events_of_what_was_cancelled_in_the_queue_end(opened: Any, hello: Workflow, kinds: Any) -> None:
    orch = await opened(engines=0)
    await orch.register_workflow("hello", "1.0.0", hello)
    view = await orch.start("hello", {"name": "Ada"})
    following = asyncio.create_task(every(orch, view.id))
    await asyncio.sleep(0)
    await orch.cancel(view.id)
    assert [seq for seq, _ in await following] == [1, 2, 3, 4]
    assert kinds(await orch.facts(view.id)) == [
        "ExecutionStarted",
        "CancelRequested",
        "NodeSkipped greet",
        "ExecutionCancelled",
    ]
