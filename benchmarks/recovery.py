"""How long it takes until 1,000 executions of 100 nodes go on after everything that ran them was lost.

The store is filled with their journals: each has run 99 of its nodes and begun the last one. Then an orchestrator is
opened over it, with two engine processes that know nothing of them. Measured is from the opening until all have ended,
so it holds the reading, sending and folding of 200,000 facts, and 1,000 nodes and ends that are committed.

Called by `benchmarks.__main__`, or alone.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import structlog
import uvloop
from pydantic import SecretStr

from benchmarks import durable, figure, rest
from benchmarks.figure import Figure
from dagengine import DAGEngine
from dagengine.events import facts
from dagengine.events.facts import Fact
from dagengine.spec.model import Document
from orchestrator.app import Options, Orchestrator
from orchestrator.cli.cluster import Cluster
from orchestrator.store import base
from orchestrator.store.sqlite import SQLiteStore

NODES: Final = 100
CAPACITY: Final = 1_000
AT_ONCE: Final = 50
"""Executions whose journals are written in one transaction."""


def figures(*, quick: bool) -> Iterator[Figure]:
    """Seconds, and microseconds for each committed fact."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    executions = 100 if quick else 1_000
    took = [uvloop.run(_measure(executions)) for _ in range(1 if quick else 3)]
    yield figure.of(
        [seconds for seconds, _ in took],
        benchmark="recovery, SQLite",
        measure=f"{executions:,} executions of {NODES} nodes",
        unit="s",
        goal="" if quick else "< 5",
    )
    yield figure.of(
        [seconds / number * 1e6 for seconds, number in took], benchmark="recovery, SQLite", measure="a fact", unit="µs"
    )


async def _measure(executions: int) -> tuple[float, int]:
    """Seconds, and how many facts there were."""
    document = Document.model_validate(durable.chain(NODES))
    history = await _history(document)
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory) / 'bench.db'}"
        async with Cluster(
            engines=rest.ENGINES, orchestrator=False, environment={"CAPACITY": str(CAPACITY)}
        ) as engines:
            names = [engine.id for engine in engines.engines]
            await _fill(url, document, history, executions, names)
            orchestrator = Orchestrator(
                url,
                engines=[engine.address for engine in engines.engines],
                options=Options(token=SecretStr(engines.token)),
            )
            began = time.perf_counter()
            async with orchestrator:
                page = await orchestrator.executions(limit=executions)
                ended = await asyncio.gather(*(orchestrator.wait(view.id, timeout=120) for view in page.items))
                seconds = time.perf_counter() - began
    if [view.status for view in ended] != ["succeeded"] * executions:
        raise RuntimeError("not all executions went on to their end")
    return seconds, executions * len(history)


async def _history(document: Document) -> Sequence[Fact]:
    """The facts of an execution that has begun its last node."""
    made: list[Fact] = []
    async with DAGEngine() as engine:
        await engine.run(document, {}, execution="template", on_fact=lambda _, fact: made.append(fact))
    last = next(
        at for at, fact in enumerate(made) if isinstance(fact, facts.NodeStarted) and fact.node == f"n{NODES - 1}"
    )
    return made[: last + 1]


async def _fill(url: str, document: Document, history: Sequence[Fact], executions: int, engines: Sequence[str]) -> None:
    store = SQLiteStore(url)
    await store.open()
    await store.add_version(
        base.VersionRecord(
            workflow=document.id,
            version=document.version,
            digest=document.digest,
            document=document.canonical,
            labels={},
            name="",
            description="",
            registered_at=0,
        )
    )
    first, *others = history
    rest_of_it = [facts.encode(fact) for fact in others]
    numbers = iter(range(executions))
    while group := list(itertools.islice(numbers, AT_ONCE)):
        batches = []
        for number in group:
            new = base.NewExecution(
                id=str(uuid.uuid4()),
                workflow=document.id,
                version=document.version,
                digest=document.digest,
                inputs=b"{}",
                created_at=number,
                seed=number,
            )
            await store.create_execution(new)
            await store.dispatch([new.id], engines[number % len(engines)])
            begun = facts.encode(first).replace(b"template", new.id.encode())
            batches.append(base.Batch(execution=new.id, epoch=1, first_seq=1, facts=[begun, *rest_of_it]))
        await store.append(batches)
    await store.close()


if __name__ == "__main__":
    figure.main(figures, "How long it takes until executions go on after everything was lost.")
