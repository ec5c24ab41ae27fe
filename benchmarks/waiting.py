"""What it costs to wait: executions that have run one pure node, and then wait for an approval, or for an hour.

The orchestrator is an object in this process, over a SQLite file; two engines are processes of their own, with room for
ten executions each, which is what they have when nobody says otherwise.

- parked: from the first start until no engine has any of them left
- memory: how much larger the orchestrator's process and those of the engines are then, for each execution that waits.
  Before, as many have gone through as it takes to compile and warm everything
- processor time that all of them take while everything waits
- ended: all approvals are given, then all those executions end; from the first approval until the last end

Called by `benchmarks.__main__`, or alone.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop
from pydantic import SecretStr

from benchmarks import figure, rest
from benchmarks.figure import Figure
from orchestrator.app import Options, Orchestrator
from orchestrator.cli.cluster import Cluster

CAPACITY: Final = 10
CALLERS: Final = 64
"""Starts and approvals that are under way at once."""
WARM: Final = 500
APPROVAL: Final = "bench-approval"
TIMER: Final = "bench-timer"
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds until all waited, until approvals were kept and until those executions had ended; what waiting took."""

    executions: int
    parked: float
    in_use: int
    orchestrator: int
    """Bytes by which its process has grown."""
    engines: int
    """Bytes by which the engines have grown, all together."""
    idle: float
    """Seconds of processor time, of all processes, in a second in which everything waits."""
    asked: float
    ended: float


def figures(*, quick: bool) -> Iterator[Figure]:
    """Executions per second, KiB and milliseconds."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    measured = uvloop.run(_measure(300 if quick else 10_000, seconds=1.0 if quick else 10.0))
    yield from _told(measured)


def _told(measured: Measured) -> Iterator[Figure]:
    executions, approvals = measured.executions, measured.executions // 2
    benchmark = f"waiting, {executions:,} executions"

    def one(measure: str, value: float, unit: str, *, goal: str = "", more: bool = False) -> Figure:
        return figure.of([value], benchmark=benchmark, measure=measure, unit=unit, goal=goal, more_is_better=more)

    yield one("started, run and parked", executions / measured.parked, "executions/s", more=True)
    yield one("capacity in use while all wait", measured.in_use, "executions", goal="0")
    yield one("orchestrator grew, for each", measured.orchestrator / executions / 1024, "KiB")
    yield one("2 engines grew, for each", measured.engines / executions / 1024, "KiB")
    yield one("processor time while all wait", measured.idle * 1e3, "ms/s")
    yield one(f"{approvals:,} approvals kept", approvals / measured.asked, "approvals/s", more=True)
    yield one("approved, run and ended", approvals / measured.ended, "executions/s", more=True)
    yield one(f"until {approvals:,} have ended", measured.ended, "s")


def workflow(name: str, waits_for: dict[str, Any]) -> dict[str, Any]:
    """A workflow of a pure node and one that waits."""
    nodes = [
        {"id": "ask", "executor": {"type": "lua", "code": "return {amount = inputs.amount}"}},
        {"id": "wait", "dependencies": ["ask"], "executor": {"type": "wait", **waits_for}},
    ]
    return {"metadata": {"id": name, "version": "1.0.0"}, "spec": {"nodes": nodes, "outputs": {"ok": True}}}


async def _measure(executions: int, *, seconds: float) -> Measured:
    with tempfile.TemporaryDirectory() as directory:
        async with Cluster(
            engines=rest.ENGINES, orchestrator=False, environment={"CAPACITY": str(CAPACITY)}
        ) as engines:
            orchestrator = Orchestrator(
                f"sqlite:///{Path(directory) / 'bench.db'}",
                engines=[engine.address for engine in engines.engines],
                options=Options(token=SecretStr(engines.token), queue_limit=executions + WARM),
            )
            async with orchestrator:
                await orchestrator.apply(workflow(APPROVAL, {"approval": {}}))
                await orchestrator.apply(workflow(TIMER, {"duration": "1h"}))
                return await _wait(orchestrator, [engine.pid for engine in engines.engines], executions, seconds)


async def _wait(orchestrator: Orchestrator, engines: Sequence[int], executions: int, seconds: float) -> Measured:
    warm = await _start(orchestrator, [APPROVAL] * WARM)
    await _all_parked(orchestrator)
    await _approve(orchestrator, warm)
    await asyncio.gather(*(orchestrator.wait(execution) for execution in warm))

    gc.collect()
    before = _resident([os.getpid()]), _resident(engines)
    began = time.perf_counter()
    started = await _start(orchestrator, [APPROVAL, TIMER] * (executions // 2))
    await _all_parked(orchestrator)
    parked = time.perf_counter() - began

    gc.collect()
    grown = _resident([os.getpid()]) - before[0], _resident(engines) - before[1]
    in_use = sum(engine.running for engine in await orchestrator.engines())
    busy = _processor_time([os.getpid(), *engines])
    await asyncio.sleep(seconds)
    idle = (_processor_time([os.getpid(), *engines]) - busy) / seconds

    began = time.perf_counter()
    ends = [asyncio.ensure_future(orchestrator.wait(execution)) for execution in started[::2]]
    await _approve(orchestrator, started[::2])
    asked = time.perf_counter() - began
    ended = await asyncio.gather(*ends)
    if {view.status for view in ended} != {"succeeded"}:
        raise RuntimeError("not all executions that were approved have succeeded")
    return Measured(
        executions=executions,
        parked=parked,
        in_use=in_use,
        orchestrator=grown[0],
        engines=grown[1],
        idle=idle,
        asked=asked,
        ended=time.perf_counter() - began,
    )


async def _start(orchestrator: Orchestrator, workflows: Sequence[str]) -> list[str]:
    """Start an execution of each; their ids, in that order."""
    ids = [""] * len(workflows)

    async def start(number: int) -> None:
        ids[number] = (await orchestrator.start(workflows[number], {"amount": number})).id

    await _by_callers(len(workflows), start)
    return ids


async def _approve(orchestrator: Orchestrator, executions: Sequence[str]) -> None:
    async def approve(number: int) -> None:
        await orchestrator.approve(executions[number], "wait", author="bench")

    await _by_callers(len(executions), approve)


async def _by_callers(count: int, call: Callable[[int], Any]) -> None:
    numbers = iter(range(count))

    async def one_after_the_other() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(one_after_the_other() for _ in range(CALLERS)))


async def _all_parked(orchestrator: Orchestrator) -> None:
    """Wait until nothing is queued, and no engine has anything."""
    monitor = orchestrator.monitor
    while (counts := monitor.snapshot()).queued or counts.running:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.02)


def _resident(pids: Sequence[int]) -> int:
    """Bytes that processes take of the machine's memory."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) for pid in pids) * PAGE


def _processor_time(pids: Sequence[int]) -> float:
    """Seconds that processes have run, in the system's ticks."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime, counted from the state
    return ticks / TICKS


if __name__ == "__main__":
    figure.main(figures, "What it costs to wait.")
