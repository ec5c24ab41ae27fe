"""How fast the SQLite store is: facts per second by batch size, and what one execution costs it.

    python benchmarks/store.py [--seconds 2] [--directory DIR]

The store is a file (in a temporary directory, unless another is given), so every figure includes its fsyncs. CPU is
that of the whole process: the event loop's thread, the writer's and SQLite.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
import uuid
from pathlib import Path

import msgspec

from orchestrator.store import base
from orchestrator.store.sqlite import SQLiteStore

DIGEST = "sha256:" + "0" * 64
RESULT = b'{"rows":[1,2,3],"total":6,"note":"' + b"x" * 60 + b'"}'
CYCLE = [
    b'{"type":"ExecutionStarted","at":1700000000000000,"execution":"e","workflow":"w","version":"1.0.0"}',
    *(
        fact
        for node in (b"extract", b"transform", b"load")
        for fact in (
            b'{"type":"NodeStarted","at":1700000000000001,"node":"%b"}' % node,
            b'{"type":"NodeSucceeded","at":1700000000000002,"node":"%b","result":%b}' % (node, RESULT),
        )
    ),
    b'{"type":"ExecutionSucceeded","at":1700000000000009,"outputs":{"total":6}}',
]


def new_execution() -> base.NewExecution:
    return base.NewExecution(
        id=uuid.uuid4().hex,
        workflow="bench",
        version="1.0.0",
        digest=DIGEST,
        inputs=b'{"limit":100}',
        created_at=time.time_ns() // 1_000,
        seed=7,
    )


async def append_facts(store: SQLiteStore, *, size: int, writers: int, seconds: float) -> None:
    """Facts per second when `writers` executions append `size` facts at a time, each waiting for its commit."""
    until = time.perf_counter() + seconds

    async def write() -> int:
        execution = new_execution()
        await store.create_execution(execution)
        await store.dispatch([execution.id], "engine-1")
        facts = (CYCLE[1:-1] * (size // 6 + 1))[:size]
        seq = 1
        while time.perf_counter() < until:
            batch = base.Batch(execution=execution.id, epoch=1, first_seq=seq, facts=facts)
            (answer,) = await store.append([batch])
            assert answer.outcome == "committed"
            seq += size
        return seq - 1

    began, cpu = time.perf_counter(), time.process_time()
    facts = sum(await asyncio.gather(*(write() for _ in range(writers))))
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"{size:>8} {writers:>8} {facts / elapsed:>12,.0f} {cpu / facts * 1e6:>14.1f}")


async def run_cycles(store: SQLiteStore, *, concurrency: int, seconds: float) -> None:
    """Executions per second, recorded, dispatched and ended with eight facts, `concurrency` at a time."""
    until = time.perf_counter() + seconds
    times: list[float] = []

    async def work() -> None:
        while (began := time.perf_counter()) < until:
            execution = new_execution()
            await store.create_execution(execution)
            await store.dispatch([execution.id], "engine-1")
            end = base.Terminal(status="succeeded", at=1_700_000_000_000_009, outputs=b'{"total":6}')
            batch = base.Batch(execution=execution.id, epoch=1, first_seq=1, facts=CYCLE, terminal=end)
            (answer,) = await store.append([batch])
            assert answer.outcome == "committed"
            times.append(time.perf_counter() - began)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    slow = statistics.quantiles(times, n=100)[98]
    print(
        f"{concurrency:>11} {len(times) / elapsed:>13,.0f} {cpu / len(times) * 1e3:>17.3f}"
        f" {statistics.median(times) * 1e3:>9.2f} {slow * 1e3:>9.2f}"
    )


async def measure(directory: Path, seconds: float) -> None:
    began = time.perf_counter()
    store = SQLiteStore(f"sqlite:///{directory}/bench.db")
    await store.open()
    print(f"open, new file: {(time.perf_counter() - began) * 1e3:.1f} ms")
    await store.close()
    began = time.perf_counter()
    await store.open()
    print(f"open, existing file: {(time.perf_counter() - began) * 1e3:.1f} ms")
    await store.add_version(
        base.VersionRecord(
            workflow="bench",
            version="1.0.0",
            digest=DIGEST,
            document=msgspec.json.encode({"kind": "Workflow"}),
            labels={},
            name="",
            description="",
            registered_at=0,
        )
    )
    print("\n   batch  writers      facts/s  CPU us per fact")
    for size, writers in ((1, 1), (1, 50), (10, 50), (100, 1), (100, 10), (1_000, 1), (1_000, 4)):
        await append_facts(store, size=size, writers=writers, seconds=seconds)
    print("\nconcurrency  executions/s  CPU ms/execution   p50 ms    p99 ms")
    for concurrency in (1, 10, 50, 200):
        await run_cycles(store, concurrency=concurrency, seconds=seconds)
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the SQLite store.")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement")
    parser.add_argument("--directory", type=Path, help="where to put the database")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        asyncio.run(measure(Path(directory), arguments.seconds))


if __name__ == "__main__":
    main()
