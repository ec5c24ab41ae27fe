"""Executions that only wait: no engine has them, any number of them may wait, and each wakes when it should."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dagengine import DAGEngine, Workflow
from dagengine.testing import START, VirtualClock
from orchestrator import Options, Orchestrator
from orchestrator.errors import Overloaded

Soon = Callable[..., Awaitable[Any]]

HOUR = 3_600_000_000
SECOND = 1_000_000

WAITS: dict[str, dict[str, Any]] = {
    "signal": {"signal": {"name": "paid"}},
    "approval": {"approval": {}},
    "timer": {"duration": "1h"},
}


def workflow(kind: str) -> dict[str, Any]:
    """A node, one that waits, and one after that."""
    nodes: list[dict[str, Any]] = [
        {"id": "before", "executor": {"type": "lua", "code": "return 1"}},
        {"id": "wait", "dependencies": ["before"], "executor": {"type": "wait", **WAITS[kind]}},
        {"id": "after", "dependencies": ["wait"], "executor": {"type": "lua", "code": "return nodes.before + 1"}},
    ]
    outputs = {"after": "{{ nodes.after }}"}
    return {"metadata": {"id": kind, "version": "1.0.0"}, "spec": {"nodes": nodes, "outputs": outputs}}


async def parked(orch: Orchestrator, kind: str, soon: Soon) -> str:
    """An execution that waits, and that no engine has."""
    await orch.apply(workflow(kind))
    view = await orch.start(kind)
    await rests(orch, view.id, soon)
    return view.id


async def rests(orch: Orchestrator, execution: str, soon: Soon, *, after: int = 0) -> None:
    """Wait until no engine has it any more, all that it made from a position on being committed."""

    async def has_none() -> bool:
        view = await orch.execution(execution)
        return view.status == "running" and view.engine is None and view.waiting_on is None and view.last_seq > after

    await soon(has_none)


async def asleep(clock: VirtualClock, until: int) -> None:
    async with asyncio.timeout(20):
        await clock.asleep(until=until)


async def test_hundreds_wait_and_the_next_one_runs_at_once(soon: Soon, hello: Workflow) -> None:
    orch = Orchestrator()
    orch.register_engine("engine-1", DAGEngine(), capacity=2)
    async with orch:
        for kind in WAITS:
            await orch.apply(workflow(kind))
        await orch.register_workflow("hello", "1.0.0", hello)
        kinds = list(WAITS)
        started = [await orch.start(kinds[number % len(kinds)]) for number in range(200)]
        await soon(lambda: orch.monitor.snapshot().parked == len(started))
        (engine,) = await orch.engines()
        counts = orch.monitor.snapshot()
        assert (engine.running, counts.running, counts.queued) == (0, 0, 0)
        assert await orch.execute_workflow("hello", {"name": "you"}, timeout=20) == {"text": "hello you"}
        signals = [view.id for view in started if view.workflow == "signal"]
        await asyncio.gather(*(orch.signal(execution, "paid") for execution in signals))
        ended = await asyncio.gather(*(orch.wait(execution, timeout=20) for execution in signals))
        assert {view.status for view in ended} == {"succeeded"}
        (engine,) = await orch.engines()
        assert (engine.running, orch.monitor.snapshot().parked) == (0, len(started))


async def test_waiting_executions_take_no_place_in_the_queue(soon: Soon) -> None:
    orch = Orchestrator(options=Options(queue_limit=3))
    orch.register_engine("engine-1", DAGEngine(), capacity=1)
    async with orch:
        waiting = [await parked(orch, "approval", soon) for _ in range(10)]
        await orch.unregister_engine("engine-1")
        for _ in range(3):
            await orch.start("approval")
        with pytest.raises(Overloaded):
            await orch.start("approval")
        # What wakes has been accepted long ago: the full queue does not turn it away.
        for execution in waiting:
            await orch.approve(execution, "wait", author="ada")
        orch.register_engine("engine-2", DAGEngine(), capacity=1)
        ended = await asyncio.gather(*(orch.wait(execution, timeout=20) for execution in waiting))
        assert [(view.status, view.engine) for view in ended] == [("succeeded", "engine-2")] * 10


async def test_a_timer_wakes_at_its_time(opened: Any, soon: Soon) -> None:
    clock = VirtualClock()
    orch = await opened(clock=clock)
    execution = await parked(orch, "timer", soon)
    ended = asyncio.create_task(orch.wait(execution))
    while clock.now() < START + HOUR - SECOND:
        await asleep(clock, clock.now() + SECOND)
        clock.advance(min(SECOND * 600, START + HOUR - SECOND - clock.now()))
    await asleep(clock, START + HOUR)
    assert (await orch.execution(execution)).epoch == 1
    clock.advance(SECOND)
    async with asyncio.timeout(20):
        view = await ended
    assert (view.status, view.outputs, view.epoch) == ("succeeded", {"after": 2}, 2)
    assert view.finished_at == START + HOUR


@pytest.mark.parametrize("late", [-1, 5_000], ids=["before its time", "after its time"])
async def test_a_timer_wakes_when_everything_was_away_meanwhile(tmp_path: Path, soon: Soon, late: int) -> None:
    url, clock = f"sqlite:///{tmp_path}/o.db", VirtualClock()
    async with Orchestrator(url, clock=clock) as orch:
        orch.register_engine("engine-1", DAGEngine(clock=clock))
        execution = await parked(orch, "timer", soon)
    clock.advance(HOUR + late * SECOND)
    async with Orchestrator(url, clock=clock) as orch:
        orch.register_engine("another", DAGEngine(clock=clock))
        if late < 0:
            await asleep(clock, START + HOUR)
            assert (await orch.execution(execution)).engine is None
            clock.advance(SECOND)
        view = await orch.wait(execution, timeout=20)
        assert (view.status, view.engine) == ("succeeded", "another")
        assert view.finished_at == START + HOUR + max(late, 0) * SECOND


OPERATIONS: dict[str, tuple[Callable[[Orchestrator, str], Awaitable[Any]], str]] = {
    "cancel": (lambda orch, execution: orch.cancel(execution), "cancelled"),
    "terminate": (lambda orch, execution: orch.terminate(execution), "cancelled"),
    "skip": (lambda orch, execution: orch.skip(execution, "wait", result=5), "succeeded"),
    "signal": (lambda orch, execution: orch.signal(execution, "paid"), "succeeded"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_what_is_asked_of_it_ends_it(orch: Orchestrator, soon: Soon, operation: str) -> None:
    execution = await parked(orch, "signal", soon)
    ask, status = OPERATIONS[operation]
    await ask(orch, execution)
    assert (await orch.wait(execution, timeout=20)).status == status


async def test_it_is_paused_rests_again_and_goes_on(orch: Orchestrator, soon: Soon) -> None:
    execution = await parked(orch, "signal", soon)
    receipt = await orch.pause(execution, author="ada", reason="lunch")
    await rests(orch, execution, soon, after=receipt.after)
    await orch.signal(execution, "paid")
    (reason,) = (await orch.why(execution, "after")).nodes
    assert reason.code in ("paused", "waiting_on")
    await orch.resume(execution)
    view = await orch.wait(execution, timeout=20)
    assert (view.status, view.outputs) == ("succeeded", {"after": 2})


async def test_a_part_of_it_runs_again_and_it_rests_again(orch: Orchestrator, soon: Soon) -> None:
    execution = await parked(orch, "approval", soon)
    receipt = await orch.retry(execution, nodes=["before"])
    await rests(orch, execution, soon, after=receipt.after)
    assert [one.outcome for one in await orch.attempts(execution, "before")] == ["success", "success"]
    await orch.approve(execution, "wait", author="ada")
    assert (await orch.wait(execution, timeout=20)).status == "succeeded"


@pytest.mark.parametrize(
    ("kind", "code", "members"),
    [
        ("signal", "awaiting_signal", {"name": "paid"}),
        ("approval", "awaiting_approval", {}),
        ("timer", "awaiting_time", {}),
    ],
    ids=["signal", "approval", "timer"],
)
async def test_it_tells_what_it_waits_for(
    orch: Orchestrator, soon: Soon, kind: str, code: str, members: dict[str, str]
) -> None:
    execution = await parked(orch, kind, soon)
    explained = await orch.why(execution)
    assert (explained.status, explained.waiting_on) == ("running", None)
    reasons = {reason.node: reason for reason in explained.nodes}
    assert (reasons["wait"].code, reasons["after"].code) == (code, "waiting_on")
    for name, value in members.items():
        assert getattr(reasons["wait"], name) == value
    if kind == "timer":
        (view,) = [node for node in await orch.nodes(execution) if node.id == "wait"]
        assert view.started_at is not None
        assert reasons["wait"].until == view.started_at + HOUR
    assert [node.state for node in await orch.nodes(execution)] == ["succeeded", "waiting", "pending"]


async def test_whoever_follows_it_hears_of_it(orch: Orchestrator, soon: Soon, kinds: Any) -> None:
    execution = await parked(orch, "signal", soon)

    async def follow() -> list[Any]:
        return [item async for item in orch.events(execution)]

    followers = [asyncio.create_task(follow()) for _ in range(3)]
    ended = [asyncio.create_task(orch.wait(execution)) for _ in range(3)]
    assert (await orch.wait(execution, timeout=0.01)).status == "running"
    await orch.signal(execution, "paid", 7)
    async with asyncio.timeout(20):
        assert {view.status for view in await asyncio.gather(*ended)} == {"succeeded"}
        for heard in await asyncio.gather(*followers):
            assert kinds(heard)[-5:] == [
                "Signalled",
                "NodeSucceeded wait",
                "NodeStarted after",
                "NodeSucceeded after",
                "ExecutionSucceeded",
            ]
