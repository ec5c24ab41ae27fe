"""What Lua in worker processes costs and gives: µs per trivial node beside inline, scaling over cores, killing.

`python -m benchmarks.lua_process [--quick]`
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from benchmarks import figure
from dagengine.app import DAGEngine, LuaIsolation
from dagengine.clock import SystemClock
from dagengine.executors import base
from dagengine.executors.lua.process.executor import LuaProcesses
from dagengine.spec.model import Document, LuaExecutor

HEAVY = "local sum = 0 for i = 1, 3000000 do sum = sum + i % 7 end return sum"
PATTERN = "return ('a'):rep(50):find(('a?'):rep(50) .. ('a'):rep(50))"
LIMIT = 50_000

GOALS: dict[LuaIsolation, str] = {"inline": "≤ 10", "process": "≤ 15"}


def figures(*, quick: bool = False) -> Iterator[figure.Figure]:
    """See the module."""
    sizes = (100, 1_000) if quick else (100, 1_000, 10_000, 100_000)
    isolations: tuple[LuaIsolation, ...] = ("inline", "process")
    for isolation in isolations:
        medians = []
        for nodes in sizes:
            times = asyncio.run(_graph(_wide(nodes), isolation, 2 if quick else _repetitions(nodes)))
            medians.append(statistics.median(times))
            yield _figure(f"wide, {nodes:,} nodes, {isolation}", "µs/node", times, goal=GOALS[isolation])
        measure = f"wide, {isolation}: dearest size / cheapest size"
        yield _figure(measure, "times", [max(medians) / min(medians)], goal="≤ 1.2")
    for isolation in isolations:
        times = asyncio.run(_graph(_chain(100), isolation, 2 if quick else _repetitions(100)))
        yield _figure(f"chain, 100 nodes, {isolation}", "µs/node", times)
    yield from asyncio.run(_scaling(2 if quick else 5, 8 if quick else 32))
    yield from asyncio.run(_killing(5 if quick else 30))


def _repetitions(nodes: int) -> int:
    """Few of what takes long, many of what takes so little that chance has a say."""
    return max(3, min(100, 50_000 // nodes))


def _wide(nodes: int) -> Document:
    return _document([{"id": f"n{i}"} for i in range(nodes)])


def _chain(nodes: int) -> Document:
    return _document([{"id": f"n{i}", "dependencies": [f"n{i - 1}"] if i else []} for i in range(nodes)])


def _document(nodes: list[dict[str, Any]]) -> Document:
    trivial = {"executor": {"type": "lua", "code": "return 1"}}
    return Document.model_validate(
        {"metadata": {"id": "w", "version": "1.0.0"}, "spec": {"nodes": [node | trivial for node in nodes]}}
    )


async def _graph(document: Document, isolation: LuaIsolation, repetitions: int) -> list[float]:
    """Microseconds per node, of runs after the first."""
    times = []
    async with DAGEngine(lua=isolation) as engine:
        await engine.run(document)
        for _ in range(repetitions):
            gc.collect()
            begun = time.perf_counter()
            await engine.run(document)
            times.append((time.perf_counter() - begun) / len(document.spec.nodes) * 1e6)
    return times


async def _scaling(repetitions: int, jobs: int) -> list[figure.Figure]:
    """The same work on one worker and on two."""
    one, two = [await _heavy(workers, repetitions, jobs) for workers in (1, 2)]
    gains = [alone / together for alone, together in zip(one, two, strict=True)]
    measure = "gain of the second worker"
    return [
        _figure("CPU-bound, 1 worker", "ms/node", one),
        _figure("CPU-bound, 2 workers", "ms/node", two),
        figure.of(gains, benchmark="lua_process", measure=measure, unit="times", more_is_better=True, goal="≥ 1.8"),
    ]


async def _heavy(workers: int, repetitions: int, jobs: int) -> list[float]:
    """Milliseconds per job, in order."""
    executor = LuaProcesses(log=lambda _line: None, clock=SystemClock(), workers=workers)
    await _perform(executor, [_job(HEAVY)] * 4)
    times = [await _timed(lambda: _perform(executor, [_job(HEAVY)] * jobs)) for _ in range(repetitions)]
    await executor.close()
    return sorted(taken / jobs * 1e3 for taken in times)


async def _killing(repetitions: int) -> list[figure.Figure]:
    """How late a hostile script is told to have been stopped, and how long the next one waits for a new worker."""
    executor = LuaProcesses(log=lambda _line: None, clock=SystemClock(), workers=1)
    begun = time.perf_counter()
    await _perform(executor, [_job("return 1")])
    first = [(time.perf_counter() - begun) * 1e3]
    trips = [await _timed(lambda: _perform(executor, [_job("return 1")])) * 1e6 for _ in range(repetitions * 20)]
    late, again = [], []
    for _ in range(repetitions):
        taken = await _timed(lambda: _perform(executor, [_job(PATTERN, timeout=LIMIT)]))
        late.append((taken - LIMIT / 1e6) * 1e3)
        again.append(await _timed(lambda: _perform(executor, [_job("return 1")])) * 1e3)
    await executor.close()
    return [
        _figure("very first node (interpreter starts)", "ms", first),
        _figure("warm round trip", "µs", trips),
        _figure("hostile pattern: stopped after its limit", "ms", late, goal="≤ 200"),
        _figure("next node, with a new worker", "ms", again),
    ]


def _job(code: str, *, timeout: int | None = None) -> base.Job:
    scope = base.Scope(execution="e", workflow="w", version="1.0.0", digest="", inputs=b"{}", nodes={}, env={})
    return base.Job(
        position=0, node="n", index=None, attempt=1, spec=LuaExecutor(code=code), scope=scope, timeout=timeout
    )


async def _perform(executor: LuaProcesses, jobs: Sequence[base.Job]) -> None:
    finished, left = asyncio.Event(), len(jobs)

    def done(_job: base.Job, _outcome: base.Outcome) -> None:
        nonlocal left
        left -= 1
        if not left:
            finished.set()

    executor.submit(jobs, done)
    await finished.wait()


async def _timed(perform: Callable[[], Awaitable[None]]) -> float:
    begun = time.perf_counter()
    await perform()
    return time.perf_counter() - begun


def _figure(measure: str, unit: str, times: list[float], *, goal: str = "") -> figure.Figure:
    return figure.of(times, benchmark="lua_process", measure=measure, unit=unit, goal=goal)


if __name__ == "__main__":
    if len(os.sched_getaffinity(0)) < 2:
        print("one processor: two workers share it")
    figure.main(figures, "What Lua in worker processes costs and gives.")
