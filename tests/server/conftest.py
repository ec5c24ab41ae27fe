"""An engine whose executions make facts when the test says so, and an orchestrator's end of a session, by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from dagengine.clock import SystemClock
from dagengine.driver.local_gate import LocalGate
from dagengine.events import facts as codec
from dagengine.events.facts import CancelRequested, ExecutionCancelled, Fact
from dagengine.executors.base import LogLine, LogSink
from dagengine.graph import Graph
from dagengine.journal.base import Journal
from dagengine.machine.operations import Operation
from dagengine.server.host import Host
from dagengine.spec.model import Document
from dagengine.wire.handshake import OrchestratorSide
from dagengine.wire.v1 import session_pb2

DOCUMENT = Document.model_validate(
    {
        "metadata": {"id": "scripted", "version": "1.0.0"},
        "spec": {"nodes": [{"id": "a", "executor": {"type": "lua", "code": "return 1"}}]},
    }
)


class ScriptedRun:
    """An execution that makes facts numbered by their `at`; `make` and `end` are the test's."""

    def __init__(self, execution: str, journal: Journal, log: LogSink | None) -> None:
        self.execution = execution
        self.journal = journal
        self.log = log
        self.inputs: bytes | None = None
        self.priority: int | None = None
        self.history: Sequence[Fact] = ()
        self.asked: list[tuple[Operation, str]] = []
        """What was asked of it, each with its command."""
        self.stopped = False
        self.only_waits = False
        self.wake_at: int | None = None
        self.contact: list[str] = []
        """`lost` and `regained`, as it was told."""
        self.rested: Callable[[], None] = lambda: None
        """What it calls when it may only wait, and no commit tells."""
        self._made = journal.committed
        self._ended = False
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        journal.on_commit(self._check)

    def start(self, inputs: bytes) -> None:
        self.inputs = inputs

    def resume(self, facts: Sequence[Fact]) -> None:
        self.history = facts

    def on_rest(self, callback: Callable[[], None]) -> None:
        self.rested = callback

    def lose_contact(self) -> None:
        if self.contact[-1:] != ["lost"]:
            self.contact.append("lost")

    def regain_contact(self) -> None:
        if self.contact[-1:] == ["lost"]:
            self.contact.append("regained")

    def operate(self, operation: Operation, *, command: str) -> None:
        self.asked.append((operation, command))

    def stop(self) -> None:
        self.stopped = True
        if not self._finished.done():
            self._finished.set_result(None)

    async def wait(self) -> None:
        await asyncio.shield(self._finished)

    def make(self, number: int, *, size: int = 0) -> None:
        first = self._made + 1
        self._made += number
        self.journal.append([CancelRequested(at=at, reason="x" * size) for at in range(first, self._made + 1)])

    def end(self) -> None:
        self._made += 1
        self._ended = True
        self.journal.append([ExecutionCancelled(at=self._made)])

    def finish(self) -> None:
        self._finished.set_result(None)

    def fail(self, error: Exception) -> None:
        self._finished.set_exception(error)

    def print(self, text: str) -> None:
        assert self.log is not None
        self.log(LogLine(execution=self.execution, node="a", attempt=1, line=1, at=1, text=text))

    def _check(self) -> None:
        if self._ended and self.journal.committed == self._made and not self._finished.done():
            self._finished.set_result(None)


class ScriptedEngine:
    """Runs what it is given as `ScriptedRun`s; `lacks` is what `missing` answers."""

    executors = ("lua",)

    def __init__(self) -> None:
        self.runs: dict[str, ScriptedRun] = {}
        self.lacks: list[str] = []
        self.released: list[str] = []
        self.fault: Exception | None = None
        self.gate = LocalGate({}, SystemClock())

    def missing(self, document: Document) -> Sequence[str]:
        return self.lacks

    def open(
        self,
        graph: Graph,
        *,
        execution: str,
        journal: Journal,
        seed: int,
        log: LogSink | None = None,
        results: Any = None,
        priority: int | None = None,
    ) -> ScriptedRun:
        if self.fault is not None:
            raise self.fault
        run = self.runs[execution] = ScriptedRun(execution, journal, log)
        run.priority = priority
        return run

    def release(self, execution: str) -> None:
        self.released.append(execution)


class Peer:
    """The orchestrator's end of one session."""

    def __init__(self, host: Host) -> None:
        self._queue: asyncio.Queue[session_pb2.OrchestratorMessage | None] = asyncio.Queue()
        self.incoming = host.session(self._outgoing())
        self.hello = session_pb2.EngineHello()
        self.facts: list[tuple[str, int, int]] = []
        """(execution, epoch, position) of every fact that came, in order."""
        self.made: list[Fact] = []
        """The facts themselves."""

    async def _outgoing(self) -> AsyncIterator[session_pb2.OrchestratorMessage]:
        while (message := await self._queue.get()) is not None:
            yield message

    async def open(self, token: bytes | None = None, *, name: str = "orch", incarnation: str = "store") -> Peer:
        side = OrchestratorSide(token, orchestrator=name, incarnation=incarnation)
        self.send(hello=side.hello())
        challenge = await self.next()
        self.send(proof=side.answer(challenge.challenge))
        self.hello = (await self.next()).hello
        return self

    def send(self, **fields: Any) -> None:
        self._queue.put_nowait(session_pb2.OrchestratorMessage(**fields))

    def start(self, execution: str, *, epoch: int = 1, document: bytes | None = None, **fields: Any) -> None:
        content = DOCUMENT.canonical if document is None else document
        start = {"inputs": b"{}"} | fields
        self.send(
            starts=[
                session_pb2.Start(
                    execution=execution, epoch=epoch, document=content, **{"digest": DOCUMENT.digest} | start
                )
            ]
        )

    def ack(self, execution: str, seq: int, *, epoch: int = 1) -> None:
        self.send(acks=[session_pb2.Ack(execution=execution, epoch=epoch, seq=seq)])

    async def next(self) -> session_pb2.EngineMessage:
        async with asyncio.timeout(10):
            message = await anext(self.incoming)
        for batch in message.facts:
            for at, data in enumerate(batch.facts, start=batch.first_seq):
                fact = codec.decode(data)
                assert fact.at == at or not isinstance(fact, CancelRequested), "scripted facts tell their position"
                self.facts.append((batch.execution, batch.epoch, at))
                self.made.append(fact)
        return message

    async def until(self, wanted: Callable[[session_pb2.EngineMessage], object]) -> session_pb2.EngineMessage:
        """The next message that is wanted; those before it are passed over."""
        while True:
            message = await self.next()
            if wanted(message):
                return message

    async def load(self, **wanted: object) -> session_pb2.Load:
        """The next load report that has these values."""

        def fits(message: session_pb2.EngineMessage) -> bool:
            return message.HasField("load") and all(
                getattr(message.load, name) == value for name, value in wanted.items()
            )

        return (await self.until(fits)).load

    async def refusal(self) -> session_pb2.Refusal:
        return (await self.until(lambda message: message.refusals)).refusals[0]

    async def positions(self, execution: str, last: int) -> list[int]:
        """The positions that came for an execution, once `last` is among them; forgets them."""
        while not any(name == execution and at == last for name, _, at in self.facts):
            await self.next()
        found = [at for name, _, at in self.facts if name == execution]
        self.facts.clear()
        return found

    async def cut(self) -> None:
        """The connection dies."""
        await self.incoming.aclose()


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
async def host(engine: ScriptedEngine) -> AsyncIterator[Host]:
    host = Host(engine, engine_id="engine-1", version="0", capacity=3, labels={"pool": "gpu"})
    yield host
    host.close()


@pytest.fixture
async def connect(host: Host) -> AsyncIterator[Callable[..., Any]]:
    """`await connect()` opens one more session with the host; all are cut in the end."""
    peers: list[Peer] = []

    async def make(token: bytes | None = None, *, to: Host | None = None, **who: str) -> Peer:
        peer = Peer(to or host)
        peers.append(peer)
        return await peer.open(token, **who)

    yield make
    for peer in peers:
        await peer.cut()


@pytest.fixture
async def peer(connect: Callable[..., Any]) -> Peer:
    """An open session."""
    opened: Peer = await connect()
    return opened
