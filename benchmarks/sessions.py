"""Facts per second through one real session: two processes, gRPC over loopback, acknowledged by batch.

The engine's side is the real host, its journals and its gRPC server; its executions make facts as fast as the journals
take them, so that the session alone is measured. The orchestrator's side is the real link; what it listens with appends
conditionally to memory and acknowledges::

    python -m benchmarks.sessions [--quick]
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from benchmarks import figure
from dagengine.clock import SystemClock
from dagengine.driver.local_gate import LocalGate
from dagengine.events.facts import ExecutionCancelled, Fact, NodeStarted, NodeSucceeded
from dagengine.journal.base import Journal
from dagengine.machine.operations import Operation
from dagengine.server.host import Host
from dagengine.server.service import EngineServer
from dagengine.spec.model import Document
from dagengine.wire.v1 import session_pb2
from orchestrator.transport.grpc_link import GrpcTransport
from orchestrator.transport.session import Identity

DOCUMENT = Document.model_validate(
    {
        "metadata": {"id": "flood", "version": "1.0.0"},
        "spec": {"nodes": [{"id": "a", "executor": {"type": "lua", "code": "return 1"}}]},
    }
)


class FloodRun:
    """Makes `number` facts of typical size, a few at a time, then ends."""

    def __init__(self, journal: Journal, number: int) -> None:
        self._journal = journal
        self._number = number
        self._made = 0
        self._finished = asyncio.get_running_loop().create_future()
        journal.on_commit(self._check)

    def start(self, _inputs: bytes) -> None:
        self._work()

    def resume(self, _facts: Sequence[Fact]) -> None:
        raise NotImplementedError("this benchmark cuts no connection")

    def operate(self, _operation: Operation, **_options: str) -> None:
        raise NotImplementedError("this benchmark asks for nothing")

    @property
    def only_waits(self) -> bool:
        return False

    @property
    def wake_at(self) -> int | None:
        return None

    def on_rest(self, _callback: Callable[[], None]) -> None:
        """It never rests."""

    def lose_contact(self) -> None:
        raise NotImplementedError("this benchmark cuts no connection")

    def regain_contact(self) -> None:
        """It has never lost it."""

    def stop(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)

    async def wait(self) -> None:
        await self._finished

    def _work(self) -> None:
        if self._made >= self._number:
            self._made += 1
            self._journal.append([ExecutionCancelled(at=1)])
            return
        if not self._journal.congested:
            pair: list[Fact] = [
                NodeStarted(at=1_767_225_600_000_000, node="transform-rows"),
                NodeSucceeded(
                    at=1_767_225_600_000_000, node="transform-rows", result=msgspec.Raw(b'{"rows":3}'), elapsed=12
                ),
            ]
            self._journal.append(pair)
            self._made += 2
        asyncio.get_running_loop().call_soon(self._work)

    def _check(self) -> None:
        if self._made > self._number and self._journal.committed == self._made and not self._finished.done():
            self._finished.set_result(None)


class FloodEngine:
    """An engine of such executions."""

    executors = ("lua",)

    def __init__(self, number: int) -> None:
        self._number = number
        self.gate = LocalGate({}, SystemClock())

    def missing(self, _document: Document) -> Sequence[str]:
        return ()

    def open(self, _graph: Any, *, journal: Journal, **_options: Any) -> FloodRun:
        return FloodRun(journal, self._number)

    def release(self, _execution: str) -> None:
        pass


class Receiver:
    """An orchestrator's end that keeps facts in memory."""

    def __init__(self, executions: int) -> None:
        self.left = executions
        self.stored: dict[str, list[bytes]] = {f"e{number}": [] for number in range(executions)}
        self.began = 0.0
        self.done = asyncio.Event()

    async def connected(self, link: Any, _hello: session_pb2.EngineHello) -> None:
        self.began = time.perf_counter()
        for name in self.stored:
            start = session_pb2.Start(
                execution=name, epoch=1, digest=DOCUMENT.digest, document=DOCUMENT.canonical, inputs=b"{}"
            )
            link.send(session_pb2.OrchestratorMessage(starts=[start]))

    async def received(self, link: Any, message: session_pb2.EngineMessage) -> None:
        answer = session_pb2.OrchestratorMessage()
        for batch in message.facts:
            stored, facts = self.stored[batch.execution], list(batch.facts)
            if batch.first_seq != len(stored) + 1:
                raise AssertionError(f"{batch.execution}: fact {batch.first_seq} came after {len(stored)}")
            stored += facts
            answer.acks.add(execution=batch.execution, epoch=1, seq=len(stored))
            if facts[-1].startswith(b'{"type":"ExecutionCancelled"'):
                self.left -= 1
        link.send(answer)
        if not self.left:
            self.done.set()

    def disconnected(self, _link: Any, reason: str) -> None:
        if self.left:
            print(f"disconnected: {reason}", file=sys.stderr)


async def serve(facts: int, executions: int) -> None:
    """The engine's process: announces its address, ends with its standard input."""
    host = Host(FloodEngine(facts), engine_id="flood", version="0", capacity=executions)
    server = EngineServer(host)
    await server.start()
    print(json.dumps(server.address), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()


async def measure(address: str, executions: int) -> float:
    """The orchestrator's process: facts per second."""
    receiver = Receiver(executions)
    link = GrpcTransport(Identity(orchestrator="bench", incarnation="bench")).link(address, receiver)
    running = asyncio.create_task(link.run())
    await receiver.done.wait()
    seconds = time.perf_counter() - receiver.began
    await link.close()
    await running
    return sum(map(len, receiver.stored.values())) / seconds


def once(runner: asyncio.Runner, facts: int, executions: int) -> float:
    """One measurement, with the engine in a process of its own. gRPC wants one event loop for all of them."""
    command = [sys.executable, "-m", "benchmarks.sessions", "--serve", str(facts), str(executions)]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as engine:
        assert engine.stdout is not None
        address = json.loads(engine.stdout.readline())
        return runner.run(measure(address, executions))


def figures(*, quick: bool) -> Iterator[figure.Figure]:
    """Facts per second: many executions that share messages, and one alone."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    total, repetitions = (50_000, 1) if quick else (500_000, 3)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for executions in (50, 1):
            yield figure.of(
                [once(runner, total // executions, executions) for _ in range(repetitions)],
                benchmark="session over gRPC",
                measure=f"{executions} execution{'s' if executions > 1 else ''}",
                unit="facts/s",
                more_is_better=True,
                goal="≥ 50,000",
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
        uvloop.run(serve(*map(int, sys.argv[2:4])))
    else:
        figure.main(figures, "Facts per second through a session between two processes.")
