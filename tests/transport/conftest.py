"""One engine, an orchestrator's end that keeps facts in memory, and a line between them that can be cut or frozen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from dagengine.app import DAGEngine
from dagengine.events import facts as codec
from dagengine.journal.session import Budget
from dagengine.server.host import Host
from dagengine.server.service import EngineServer
from dagengine.spec.model import Document
from dagengine.wire.v1 import session_pb2
from orchestrator.errors import TransportError
from orchestrator.transport.base import Link
from orchestrator.transport.grpc_link import GrpcTransport
from orchestrator.transport.in_process import InProcessTransport
from orchestrator.transport.session import Identity


class Counted(Budget):
    """A budget that a test can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def change(self, *, facts: int, size: int) -> None:
        super().change(facts=facts, size=size)
        self._changed.set()

    async def until(self, *, facts: int) -> None:
        """Return when that many facts are unacknowledged."""
        async with asyncio.timeout(20):
            while self.facts < facts:
                self._changed.clear()
                await self._changed.wait()


def chain(length: int, *, id: str = "chain", code: str = "return 1") -> Document:
    """A workflow of `length` Lua nodes in a row: 2 * length + 2 facts."""
    nodes = [
        {
            "id": f"n{at}",
            "dependencies": [f"n{at - 1}"] if at else [],
            "executor": {"type": "lua", "code": code},
        }
        for at in range(length)
    ]
    return Document.model_validate({"metadata": {"id": id, "version": "1.0.0"}, "spec": {"nodes": nodes}})


class Ledger:
    """A listener with a conditional-append store in memory: what an orchestrator promises, and nothing more."""

    def __init__(self) -> None:
        self.wanted: dict[str, Document] = {}
        self.epochs: dict[str, int] = {}
        self.facts: dict[str, list[bytes]] = {}
        self.refusals: list[session_pb2.Refusal] = []
        self.hellos: list[session_pb2.EngineHello] = []
        self.reasons: list[str] = []
        self.messages: list[session_pb2.EngineMessage] = []
        self.duplicates = 0
        self.resumed = 0
        """Starts that went on from history."""
        self.changed = asyncio.Event()
        self.before: Callable[[session_pb2.EngineMessage], Any] | None = None
        """Called (and awaited, when it is a coroutine) before a message is taken."""

    def want(self, link: Link, execution: str, document: Document) -> None:
        """Have an execution run, now and whenever the engine has lost it."""
        self.wanted[execution] = document
        self.epochs[execution] = 0
        self.facts[execution] = []
        self._start(link, execution)

    def ended(self, execution: str) -> bool:
        return bool(self.facts[execution]) and isinstance(codec.decode(self.facts[execution][-1]), codec.TERMINAL)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def all_ended(self) -> None:
        await self.until(lambda: all(map(self.ended, self.wanted)))

    # --- Listener ---

    async def connected(self, link: Link, hello: session_pb2.EngineHello) -> None:
        self.hellos.append(hello)
        held = {item.execution: item.epoch for item in hello.held}
        for execution in self.wanted:
            if self.ended(execution):
                if execution in held:
                    drop = session_pb2.Drop(execution=execution, epoch=self.epochs[execution])
                    link.send(session_pb2.OrchestratorMessage(drops=[drop]))
            elif held.get(execution) == self.epochs[execution]:
                self.epochs[execution] += 1
                adopt = session_pb2.Adopt(
                    execution=execution,
                    epoch=self.epochs[execution],
                    committed_seq=len(self.facts[execution]),
                )
                link.send(session_pb2.OrchestratorMessage(adopts=[adopt]))
            else:
                self._start(link, execution)
        self.changed.set()

    async def received(self, link: Link, message: session_pb2.EngineMessage) -> None:
        self.messages.append(message)
        self.changed.set()
        if self.before is not None and (waiting := self.before(message)) is not None:
            await waiting
        for batch in message.facts:
            link.send(self._append(batch))
        self.refusals += message.refusals
        self.changed.set()

    def disconnected(self, link: Link, reason: str) -> None:
        self.reasons.append(reason)
        self.changed.set()

    def _append(self, batch: session_pb2.FactBatch) -> session_pb2.OrchestratorMessage:
        execution, stored = batch.execution, self.facts[batch.execution]
        if batch.epoch != self.epochs[execution]:
            return session_pb2.OrchestratorMessage(drops=[{"execution": execution, "epoch": batch.epoch}])
        if batch.first_seq > len(stored) + 1:
            resend = {"execution": execution, "epoch": batch.epoch, "from_seq": len(stored) + 1}
            return session_pb2.OrchestratorMessage(resends=[resend])
        skip = len(stored) + 1 - batch.first_seq
        self.duplicates += min(skip, len(batch.facts))
        stored.extend(batch.facts[skip:])
        ack = {"execution": execution, "epoch": batch.epoch, "seq": len(stored)}
        return session_pb2.OrchestratorMessage(acks=[ack])

    def _start(self, link: Link, execution: str) -> None:
        document, stored = self.wanted[execution], self.facts[execution]
        self.epochs[execution] += 1
        epoch = self.epochs[execution]
        message = session_pb2.OrchestratorMessage()
        if stored:
            self.resumed += 1
            message.histories.add(execution=execution, epoch=epoch, first_seq=1, facts=stored)
        message.starts.add(
            execution=execution,
            epoch=epoch,
            digest=document.digest,
            document=document.canonical,
            inputs=b"{}",
            seed=1,
            history=len(stored),
        )
        link.send(message)


class TCPLine:
    """A TCP proxy in front of an address: the line between a gRPC link and its engine."""

    def __init__(self) -> None:
        self.target = ""
        self.address = ""
        self.dials = 0
        self._frozen = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection, without a word; later ones are fine."""
        self._frozen = False
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Carry nothing more on the connections there are; later ones are fine."""
        self._frozen = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.dials += 1
        self._frozen = False
        if not self.target:
            writer.transport.abort()
            return
        host, _, port = self.target.rpartition(":")
        upstream = await asyncio.open_connection(host, int(port))
        self._writers |= {writer, upstream[1]}
        frozen = asyncio.Event()
        for source, sink in ((reader, upstream[1]), (upstream[0], writer)):
            task = asyncio.create_task(self._pump(source, sink, frozen, (writer, upstream[1])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        frozen: asyncio.Event,
        writers: tuple[asyncio.StreamWriter, ...],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if self._frozen or frozen.is_set():
                    frozen.set()
                    continue
                sink.write(data)
                await sink.drain()
        for writer in writers:
            writer.transport.abort()
            self._writers.discard(writer)


class GrpcEnd:
    """An engine behind a real gRPC server, a TCP proxy before it."""

    def __init__(self, host: Host) -> None:
        self.line = TCPLine()
        self._server = EngineServer(host)

    @property
    def address(self) -> str:
        return self.line.address

    def transport(self, identity: Identity, *, silence: float) -> GrpcTransport:
        return GrpcTransport(identity, silence=silence)

    async def open(self) -> None:
        await self.line.open()
        await self._server.start()
        self.appear()

    def appear(self) -> None:
        self.line.target = self._server.address

    def vanish(self) -> None:
        self.line.target = ""
        self.line.cut()

    async def replace(self, host: Host) -> None:
        """The engine dies, another process takes its place."""
        self.vanish()
        await self._server.stop()
        self._server = EngineServer(host)
        await self._server.start()
        self.appear()

    async def close(self) -> None:
        self.line.cut()
        await self._server.stop()
        await self.line.close()


class InProcessLine:
    """The same faults between a link and a host in one process."""

    def __init__(self, host: Host) -> None:
        self.dials = 0
        self.host = host
        self._cuts: set[asyncio.Event] = set()
        self._frozen: set[asyncio.Event] = set()

    def cut(self) -> None:
        for event in self._cuts:
            event.set()

    def freeze(self) -> None:
        self._frozen |= self._cuts

    async def session(
        self, incoming: AsyncIterator[session_pb2.OrchestratorMessage]
    ) -> AsyncGenerator[session_pb2.EngineMessage, None]:
        self.dials += 1
        cut = asyncio.Event()
        self._cuts.add(cut)
        cutting = asyncio.create_task(cut.wait())
        reading: asyncio.Future[session_pb2.EngineMessage] | None = None
        try:
            async with contextlib.aclosing(self.host.session(incoming)) as messages:
                try:
                    while True:
                        reading = asyncio.ensure_future(anext(messages))
                        await asyncio.wait([reading, cutting], return_when=asyncio.FIRST_COMPLETED)
                        if cutting.done():
                            raise TransportError("the line was cut")
                        message = await reading
                        if cut in self._frozen:
                            await cutting
                        yield message
                except StopAsyncIteration:
                    return
                finally:
                    if reading is not None and not reading.done():
                        reading.cancel()
                        await asyncio.gather(reading, return_exceptions=True)
        finally:
            cutting.cancel()
            self._cuts.discard(cut)


class InProcessEnd:
    """An engine in this process."""

    address = "engine-1"

    def __init__(self, host: Host) -> None:
        self.line = InProcessLine(host)
        self._transports: list[InProcessTransport] = []
        self._present = True

    def transport(self, identity: Identity, *, silence: float) -> InProcessTransport:
        transport = InProcessTransport(identity, silence=silence)
        self._transports.append(transport)
        if self._present:
            self.appear()
        return transport

    async def open(self) -> None:
        pass

    def appear(self) -> None:
        self._present = True
        for transport in self._transports:
            transport.register(self.address, self.line.session)

    def vanish(self) -> None:
        self._present = False
        for transport in self._transports:
            transport.unregister(self.address)
        self.line.cut()

    async def replace(self, host: Host) -> None:
        """The engine dies, another one takes its place."""
        self.line.cut()
        self.line.host.close()
        self.line.host = host

    async def close(self) -> None:
        self.line.cut()


@pytest.fixture
async def engine() -> AsyncIterator[DAGEngine]:
    async with DAGEngine(lua="thread") as engine:
        yield engine


@pytest.fixture
def token() -> str | None:
    """The engine's token; tests that need one override it."""
    return None


@pytest.fixture
def budget() -> Counted:
    return Counted()


@pytest.fixture
def host(engine: DAGEngine, token: str | None, budget: Counted) -> Host:
    return Host(engine, engine_id="engine-1", version="0", capacity=50, token=token, budget=budget)


@pytest.fixture(params=[GrpcEnd, InProcessEnd], ids=["grpc", "in-process"])
async def end(request: pytest.FixtureRequest, host: Host) -> AsyncIterator[Any]:
    """The engine's end of the line; a test that uses it runs once for each transport."""
    end = request.param(host)
    await end.open()
    yield end
    host.close()
    await end.close()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
async def dial(end: Any, ledger: Ledger) -> AsyncIterator[Callable[..., Any]]:
    """`dial()` runs a link to the engine and returns it at once; all are closed in the end."""
    links: list[tuple[Link, asyncio.Task[None]]] = []

    def make(*, token: str | None = None, silence: float = 15.0) -> Link:
        identity = Identity(orchestrator="orch", incarnation="store", token=token)
        link = end.transport(identity, silence=silence).link(end.address, ledger)
        links.append((link, asyncio.create_task(link.run())))
        return link

    yield make
    for link, task in links:
        await link.close()
        await task


@pytest.fixture
async def link(dial: Callable[..., Any], ledger: Ledger) -> Link:
    """A link with its session up."""
    link: Link = dial()
    await ledger.until(lambda: ledger.hellos)
    return link


@pytest.fixture
def chain_of() -> Callable[..., Document]:
    return chain
