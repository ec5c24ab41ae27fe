"""Executions of a three-node workflow through REST: how many a second, and how long each takes.

Everything is real: an orchestrator process with its store in a SQLite file, then in a PostgreSQL server (every fact is
synced to disk), two engine processes, and a process of its own that plays the clients. Each request starts an execution
and waits for its outputs.

- closed loop: 32 connections, each sends its next request when it has its answer; gives executions/s
- open loop: requests at half that rate, whether or not the ones before are answered, on as many connections as it
  takes; gives the latencies, from when a request was due, so that a slow server cannot hide behind a slow client

Called by `benchmarks.__main__`, or alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import figure, postgres
from benchmarks.figure import Figure
from orchestrator.cli.cluster import Cluster
from orchestrator.client.client import Client

ROOT = Path(__file__).parents[1]
CONNECTIONS = 32
ENGINES = 2
EXTRACT = "return {rows = {1, 2, 3, inputs.limit}}"
TRANSFORM = """
local rows = {}
for i, n in ipairs(nodes.extract.rows) do rows[i] = n * 2 end
return rows
"""
LOAD = """
local sum = 0
for _, n in ipairs(nodes.transform) do sum = sum + n end
return {total = sum}
"""
WORKFLOW = {
    "apiVersion": "workflows/v1",
    "kind": "Workflow",
    "metadata": {"id": "bench-rest", "version": "1.0.0"},
    "spec": {
        "inputs": {"limit": {"type": "integer"}},
        "outputs": {"total": "{{ nodes.load.total }}"},
        "nodes": [
            {"id": "extract", "executor": {"type": "lua", "code": EXTRACT}},
            {"id": "transform", "dependencies": ["extract"], "executor": {"type": "lua", "code": TRANSFORM}},
            {"id": "load", "dependencies": ["transform"], "executor": {"type": "lua", "code": LOAD}},
        ],
    },
}
INPUTS = {"limit": 100}
OUTPUTS = {"total": 212}


def figures(*, quick: bool) -> Iterator[Figure]:
    """Executions per second, then milliseconds."""
    rounds, seconds = (1, 1.0) if quick else (3, 6.0)
    yield from _told("REST, SQLite", *asyncio.run(_measure(None, rounds=rounds, seconds=seconds)))
    with postgres.database() as url:
        measured = asyncio.run(_measure(url, rounds=rounds, seconds=seconds))
    yield from _told("REST, PostgreSQL", *measured)


def _told(benchmark: str, closed: list[Load], opened: list[Load]) -> Iterator[Figure]:
    yield figure.of(
        [load.rate for load in closed],
        benchmark=benchmark,
        measure=f"closed loop, {CONNECTIONS} connections",
        unit="executions/s",
        more_is_better=True,
        goal="≥ 300",
    )
    for name, loads, at in (("closed", closed, "full load"), ("open", opened, "half load")):
        for share, goal in ((50, ""), (99, "< 250")):
            yield figure.of(
                [load.percentile(share) for load in loads],
                benchmark=benchmark,
                measure=f"{name} loop, {at}, p{share}",
                unit="ms",
                goal=goal,
            )
    yield figure.of(
        [load.rate for load in opened],
        benchmark=benchmark,
        measure="open loop, half load",
        unit="executions/s",
        more_is_better=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the clients saw: milliseconds of every answered request, and for how many seconds they sent some."""

    seconds: float
    milliseconds: list[float]

    @property
    def rate(self) -> float:
        return len(self.milliseconds) / self.seconds

    def percentile(self, share: int) -> float:
        return statistics.quantiles(self.milliseconds, n=100, method="inclusive")[share - 1]


async def _measure(url: str | None, *, rounds: int, seconds: float) -> tuple[list[Load], list[Load]]:
    closed, opened = [], []
    async with (
        Cluster(engines=ENGINES, database_url=url) as cluster,
        Client(cluster.url, token=cluster.token) as client,
    ):
        await client.apply(WORKFLOW)
        await _load(cluster, seconds=min(1.0, seconds), rate=0.0)  # opens, compiles and warms everything
        for _ in range(rounds):
            closed.append(await _load(cluster, seconds=seconds, rate=0.0))
            opened.append(await _load(cluster, seconds=seconds, rate=closed[-1].rate / 2))
        idle = [engine.id for engine in await client.engines() if not engine.started]
        if idle:
            raise RuntimeError(f"engines that were given nothing: {', '.join(idle)}")
    return closed, opened


async def _load(cluster: Cluster, *, seconds: float, rate: float) -> Load:
    """What a process of clients sees; a closed loop when `rate` is 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.rest", "--clients", cluster.url, str(seconds), str(rate)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "DAGENGINE_TOKEN": cluster.token},
    )
    answer, complaint = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the clients failed:\n{complaint.decode()}")
    return Load(**json.loads(answer))


# --- the process of the clients ---


@dataclass(slots=True)
class _Connection:
    """One connection that is kept open. Bare HTTP: a full client would cost more than what it measures."""

    host: str
    port: int
    request: bytes
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def execute(self) -> None:
        """Start an execution and wait for its outputs. Raises RuntimeError when they are not the right ones."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self.host, self.port)
        reader, writer = self._streams
        writer.write(self.request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, found, rest = head.partition(b"content-length:")
        body = await reader.readexactly(int(rest.split(b"\r\n", 1)[0])) if found else b""
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"expected 200 with the outputs, got {head!r} {body!r}")
        answer = json.loads(body)
        if answer["status"] != "succeeded" or answer["outputs"] != OUTPUTS:
            raise RuntimeError(f"the execution did not give {OUTPUTS}: {body!r}")

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


@dataclass(slots=True)
class _Clients:
    """Sends requests for a time, closed-loop or open-loop, and keeps how long each took."""

    connect: Callable[[], _Connection]
    seconds: float
    milliseconds: list[float] = field(default_factory=list)
    opened: list[_Connection] = field(default_factory=list)
    idle: deque[_Connection] = field(default_factory=deque)

    async def closed_loop(self) -> None:
        until = time.perf_counter() + self.seconds
        await asyncio.gather(*(self._one_after_the_other(until) for _ in range(CONNECTIONS)))

    async def _one_after_the_other(self, until: float) -> None:
        while (due := time.perf_counter()) < until:
            await self._send(due)

    async def open_loop(self, rate: float) -> None:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as sending:
            for number in range(int(rate * self.seconds)):
                due = began + number / rate
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                sending.create_task(self._send(due))

    async def _send(self, due: float) -> None:
        connection = self.idle.popleft() if self.idle else self._open()
        await connection.execute()
        self.milliseconds.append((time.perf_counter() - due) * 1e3)
        self.idle.append(connection)

    def _open(self) -> _Connection:
        connection = self.connect()
        self.opened.append(connection)
        return connection


async def _clients(url: str, seconds: float, rate: float) -> dict[str, Any]:
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    body = json.dumps({"inputs": INPUTS}).encode()
    request = (
        f"POST /api/v1/workflows/bench-rest/executions?wait=true&timeout=30 HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Authorization: Bearer {os.environ['DAGENGINE_TOKEN']}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    clients = _Clients(lambda: _Connection(host, port, request), seconds)
    work: Awaitable[None] = clients.open_loop(rate) if rate else clients.closed_loop()
    began = time.perf_counter()
    await work
    elapsed = time.perf_counter() - began
    for connection in clients.opened:
        connection.close()
    return {"seconds": elapsed, "milliseconds": clients.milliseconds}


def main() -> None:
    """Measure everything, or (for our own subprocess) be the clients."""
    if sys.argv[1:2] == ["--clients"]:
        json.dump(asyncio.run(_clients(sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))), sys.stdout)
    else:
        figure.main(figures, "Executions of a three-node workflow through REST and two engines.")


if __name__ == "__main__":
    main()
