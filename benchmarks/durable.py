"""Durable executions of a three-node workflow over two engine processes, started through the Python API.

The orchestrator is an object in this process; its store is a SQLite file, then a PostgreSQL server of its own. Both
sync every commit to the disk. The engines are processes of their own.

- closed loop: 64 callers, each starts its next execution when it has the outputs of the one before
- open loop: starts at half of that rate, whether or not the ones before have ended; latencies count from when a start
  was due
- chain: pure nodes one after the other; what one costs, with all its facts committed at the end

Called by `benchmarks.__main__`, or alone.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop
from pydantic import SecretStr

from benchmarks import figure, postgres, rest
from benchmarks.figure import Figure
from orchestrator.app import Options, Orchestrator
from orchestrator.cli.cluster import Cluster

CALLERS: Final = 64
CHAIN: Final = 1_000


@dataclass(slots=True)
class Measured:
    """What was measured over one store."""

    closed: list[rest.Load] = field(default_factory=list)
    opened: list[rest.Load] = field(default_factory=list)
    chain: list[float] = field(default_factory=list)
    """Microseconds a node."""


def figures(*, quick: bool) -> Iterator[Figure]:
    """Executions per second, milliseconds, and microseconds per node of a chain, for each store there is."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    rounds, seconds = (1, 1.0) if quick else (3, 6.0)
    yield from _told("Python API, SQLite", uvloop.run(_measure("", rounds=rounds, seconds=seconds)), "≥ 1,000")
    with postgres.database() as url:
        measured = uvloop.run(_measure(url, rounds=rounds, seconds=seconds))
    yield from _told("Python API, PostgreSQL", measured, "≥ 700")


def _told(benchmark: str, measured: Measured, goal: str) -> Iterator[Figure]:
    yield figure.of(
        [load.rate for load in measured.closed],
        benchmark=benchmark,
        measure=f"closed loop, {CALLERS} callers",
        unit="executions/s",
        more_is_better=True,
        goal=goal,
    )
    for name, loads, at, limit in (
        ("closed", measured.closed, "full load", ""),
        ("open", measured.opened, "half load", "< 150"),
    ):
        for share in (50, 99):
            yield figure.of(
                [load.percentile(share) for load in loads],
                benchmark=benchmark,
                measure=f"{name} loop, {at}, p{share}",
                unit="ms",
                goal=limit if share == 99 else "",
            )
    yield figure.of(
        measured.chain, benchmark=benchmark, measure=f"pure chain of {CHAIN:,}, committed", unit="µs/node", goal="≤ 40"
    )


@asynccontextmanager
async def system(url: str) -> AsyncIterator[Orchestrator]:
    """An orchestrator in this process, over two engines that are there; `url` empty: over a new SQLite file."""
    with tempfile.TemporaryDirectory() as directory:
        async with Cluster(engines=rest.ENGINES, orchestrator=False, environment={"CAPACITY": "1000"}) as engines:
            orchestrator = Orchestrator(
                url or f"sqlite:///{Path(directory) / 'bench.db'}",
                engines=[engine.address for engine in engines.engines],
                options=Options(token=SecretStr(engines.token)),
            )
            async with orchestrator:
                while {engine.state for engine in await orchestrator.engines()} != {"ready"}:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.01)
                yield orchestrator


def chain(length: int) -> dict[str, Any]:
    """A workflow of pure nodes, each after the one before."""
    nodes: list[dict[str, Any]] = [{"id": "n0", "executor": {"type": "lua", "code": "return 1"}}]
    for number in range(1, length):
        nodes.append({**nodes[0], "id": f"n{number}", "dependencies": [f"n{number - 1}"]})
    return {"metadata": {"id": f"bench-chain-{length}", "version": "1.0.0"}, "spec": {"nodes": nodes}}


async def _measure(url: str, *, rounds: int, seconds: float) -> Measured:
    measured = Measured()
    async with system(url) as orchestrator:
        await orchestrator.apply(rest.WORKFLOW)
        await orchestrator.apply(chain(CHAIN))
        await _closed(orchestrator, min(1.0, seconds))  # opens, compiles and warms everything
        for _ in range(rounds):
            measured.closed.append(await _closed(orchestrator, seconds))
            measured.opened.append(await _open(orchestrator, seconds, measured.closed[-1].rate / 2))
            for _ in range(3):
                began = time.perf_counter()
                await orchestrator.execute_workflow(f"bench-chain-{CHAIN}", timeout=60)
                measured.chain.append((time.perf_counter() - began) / CHAIN * 1e6)
    return measured


async def _closed(orchestrator: Orchestrator, seconds: float) -> rest.Load:
    milliseconds: list[float] = []
    gc.collect()
    began = time.perf_counter()

    async def one_after_the_other() -> None:
        while (due := time.perf_counter()) < began + seconds:
            await _execute(orchestrator)
            milliseconds.append((time.perf_counter() - due) * 1e3)

    await asyncio.gather(*(one_after_the_other() for _ in range(CALLERS)))
    return rest.Load(seconds=time.perf_counter() - began, milliseconds=milliseconds)


async def _open(orchestrator: Orchestrator, seconds: float, rate: float) -> rest.Load:
    milliseconds: list[float] = []

    async def one(due: float) -> None:
        await _execute(orchestrator)
        milliseconds.append((time.perf_counter() - due) * 1e3)

    gc.collect()
    began = time.perf_counter()
    async with asyncio.TaskGroup() as calling:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            calling.create_task(one(due))
    return rest.Load(seconds=time.perf_counter() - began, milliseconds=milliseconds)


async def _execute(orchestrator: Orchestrator) -> None:
    outputs = await orchestrator.execute_workflow("bench-rest", rest.INPUTS, timeout=60)
    if outputs != rest.OUTPUTS:
        raise RuntimeError(f"the execution gave {outputs}, not {rest.OUTPUTS}")


if __name__ == "__main__":
    figure.main(figures, "Durable executions through the Python API and two engine processes.")
