"""A dispatcher over a real store, time that stands still, and engines that say and do what the test tells them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import pytest

from dagengine.events import facts as codec
from dagengine.events.facts import Fact
from dagengine.graph import compile_document
from dagengine.machine import operations
from dagengine.machine.commands import Run
from dagengine.machine.machine import Machine
from dagengine.machine.operations import Cancel, Operation
from dagengine.machine.stimuli import AttemptEnded, Begin
from dagengine.spec.model import Document
from dagengine.testing import START, VirtualClock
from dagengine.wire.v1 import session_pb2
from orchestrator.dispatcher.dispatcher import Dispatcher
from orchestrator.errors import StoreError, TransportError
from orchestrator.monitor.monitor import Monitor
from orchestrator.store.base import ExecutionRecord, InboxItem, NewExecution, VersionRecord
from orchestrator.store.sqlite import SQLiteStore
from orchestrator.transport.base import Listener

T = TypeVar("T")


class TroubledStore(SQLiteStore):
    """A real store in memory whose methods fail, or wait, when the test says so."""

    def __init__(self) -> None:
        super().__init__("sqlite://")
        self.failing: set[str] = set()
        self.refused: list[str] = []
        """Calls that failed."""
        self._gates: dict[str, asyncio.Event] = {}
        self._reached: dict[str, asyncio.Event] = {}

    def hold(self, name: str) -> asyncio.Event:
        """Let calls of `name` wait from now on, until the event that this gives is set."""
        self._reached[name] = asyncio.Event()
        self._gates[name] = asyncio.Event()
        return self._gates[name]

    async def reached(self, name: str) -> None:
        """Return when a call waits."""
        await self._reached[name].wait()

    async def _pass(self, name: str) -> None:
        if name in self._gates:
            self._reached[name].set()
            await self._gates[name].wait()
        if name in self.failing:
            self.refused.append(name)
            raise StoreError(f"the disk is full, says {name}")

    async def dispatch(self, *args: Any, **options: Any) -> Any:
        await self._pass("dispatch")
        return await super().dispatch(*args, **options)

    async def append(self, *args: Any, **options: Any) -> Any:
        await self._pass("append")
        return await super().append(*args, **options)

    async def facts(self, *args: Any, **options: Any) -> Any:
        await self._pass("facts")
        return await super().facts(*args, **options)

    async def release(self, *args: Any, **options: Any) -> Any:
        await self._pass("release")
        return await super().release(*args, **options)

    async def end_undispatched(self, *args: Any, **options: Any) -> Any:
        await self._pass("end_undispatched")
        return await super().end_undispatched(*args, **options)

    async def reopen(self, *args: Any, **options: Any) -> Any:
        await self._pass("reopen")
        return await super().reopen(*args, **options)

    async def add_inbox(self, *args: Any, **options: Any) -> Any:
        await self._pass("add_inbox")
        return await super().add_inbox(*args, **options)

    async def add_logs(self, *args: Any, **options: Any) -> Any:
        await self._pass("add_logs")
        return await super().add_logs(*args, **options)


class ScriptedEngine:
    """An engine and the link to it in one: a `Link` that the test plays. `sent` is what the dispatcher has told it."""

    def __init__(self, address: str, listener: Listener) -> None:
        self.address = address
        self.engine_id = ""
        self.connected = False
        self.reason = ""
        self.sent: list[session_pb2.OrchestratorMessage] = []
        self.largest = 32 * 1024 * 1024
        self._listener = listener
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()

    # --- Link ---

    def send(self, message: session_pb2.OrchestratorMessage) -> None:
        if not self.connected:
            return
        if message.ByteSize() > self.largest:
            raise TransportError(f"a message of {message.ByteSize()} bytes is too large")
        self.sent.append(message)
        self._changed.set()

    async def run(self) -> None:
        await self._closed.wait()

    async def close(self) -> None:
        self._closed.set()
        if self.connected:
            self.cut("the link was closed")

    # --- the engine ---

    async def hello(
        self,
        name: str,
        *,
        capacity: int = 10,
        executors: Sequence[str] = ("lua", "python"),
        held: Sequence[tuple[str, int, int]] = (),
        incarnation: str = "first",
        draining: bool = False,
        pools: Mapping[str, int] | None = None,
    ) -> ScriptedEngine:
        """Begin a session. `held` are `(execution, epoch, last_seq)`."""
        self.engine_id, self.connected, self.reason = name, True, ""
        hello = session_pb2.EngineHello(
            engine=name, incarnation=incarnation, version="0", executors=executors, capacity=capacity, draining=draining
        )
        for pool, size in (pools or {}).items():
            hello.pools.add(name=pool, size=size)
        for execution, epoch, last_seq in held:
            hello.held.add(execution=execution, epoch=epoch, last_seq=last_seq)
        await self._listener.connected(self, hello)
        return self

    def cut(self, reason: str = "the line was cut") -> None:
        """The session ends."""
        self.connected, self.reason = False, reason
        self._listener.disconnected(self, reason)

    async def says(self, **fields: Any) -> None:
        """One message of the engine."""
        await self._listener.received(self, session_pb2.EngineMessage(**fields))

    async def facts(self, execution: str, payloads: Sequence[bytes], *, epoch: int = 1, first: int = 1) -> None:
        """Facts from position `first` on."""
        batch = {"execution": execution, "epoch": epoch, "first_seq": first, "facts": list(payloads)}
        await self.says(facts=[batch])

    async def refuses(self, execution: str, reason: str, *, epoch: int = 1, message: str = "no") -> None:
        """A refusal, by the name of its reason."""
        value = session_pb2.Refusal.Reason.Value(reason)
        await self.says(refusals=[{"execution": execution, "epoch": epoch, "reason": value, "message": message}])

    # --- what it was told ---

    def told(self, field: str) -> list[Any]:
        """All commands of one kind, in order."""
        return [command for message in self.sent for command in getattr(message, field)]

    async def until(self, condition: Callable[[], T]) -> T:
        """Wait for what was sent to fulfil a condition."""
        async with asyncio.timeout(10):
            while not (answer := condition()):
                self._changed.clear()
                await self._changed.wait()
        return answer

    async def gets(self, field: str, count: int = 1) -> list[Any]:
        """The commands of one kind, once there are `count` of them; exactly that many, then."""
        await self.until(lambda: len(self.told(field)) >= count)
        found = self.told(field)
        assert len(found) == count, found
        return found

    def forget(self) -> None:
        """Count from here."""
        self.sent.clear()


class Bench:
    """The dispatcher under test, and the hands around it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = TroubledStore()
        self.monitor = Monitor()
        self.engines: dict[str, ScriptedEngine] = {}
        self.dispatcher: Dispatcher
        self._numbers = itertools.count(1)

    def link(self, address: str, listener: Listener) -> ScriptedEngine:
        self.engines[address] = ScriptedEngine(address, listener)
        return self.engines[address]

    async def open(self, **options: Any) -> None:
        self.dispatcher = Dispatcher(self.store, clock=self.clock, monitor=self.monitor, **options)
        await self.dispatcher.open()

    async def restart(self, **options: Any) -> None:
        """The orchestrator dies and comes back with the same store."""
        await self.dispatcher.close()
        await self.open(**options)

    def dial(self, address: str) -> ScriptedEngine:
        """Have an engine dialled that has not answered yet."""
        self.dispatcher.add_link(self, address)
        return self.engines[address]

    async def engine(self, name: str = "engine-1", **hello: Any) -> ScriptedEngine:
        """An engine that is connected, at the address of its name."""
        return await self.dial(f"{name}:1").hello(name, **hello)

    async def start(
        self,
        document: Document,
        *,
        inputs: bytes = b"{}",
        priority: int = 0,
        concurrency_key: str | None = None,
        wait: int = 0,
    ) -> str:
        """Record an execution and submit it, `wait` microseconds later than now; its id."""
        await self.store.add_version(
            VersionRecord(
                workflow=document.id,
                version=document.version,
                digest=document.digest,
                document=document.canonical,
                labels={},
                name="",
                description="",
                registered_at=START,
            )
        )
        number = next(self._numbers)
        new = NewExecution(
            id=f"x{number}",
            workflow=document.id,
            version=document.version,
            digest=document.digest,
            inputs=inputs,
            created_at=self.clock.now() + number + wait,
            seed=7,
            priority=priority,
            concurrency_key=concurrency_key,
        )
        with self.dispatcher.admission(len(inputs)), self.dispatcher.limits.reserved(new, document):
            record, _ = await self.store.create_execution(new)
            self.dispatcher.submit(record, document)
        return record.id

    async def cancel(self, execution: str, *, id: str = "c1", reason: str = "enough") -> None:
        await self.operate(execution, Cancel(author="ada", reason=reason), id=id)

    async def operate(self, execution: str, operation: Operation, *, id: str) -> None:
        """Ask something of an execution."""
        item = InboxItem(
            id=id,
            execution=execution,
            kind=operations.kind_of(operation),
            payload=operations.encode(operation),
            created_at=self.clock.now(),
        )
        await self.dispatcher.operate(item)

    async def record(self, execution: str) -> ExecutionRecord:
        found = await self.store.execution(execution)
        assert found is not None
        return found

    async def stored(self, execution: str) -> list[Fact]:
        """The committed facts, whose positions have no gaps."""
        found = await SQLiteStore.facts(self.store, execution)
        assert [fact.seq for fact in found] == list(range(1, len(found) + 1))
        return [codec.decode(fact.payload) for fact in found]

    async def quiet(self) -> None:
        """Everything that can happen now has happened: nobody waits but for time, gates or engines."""
        for _ in range(5):
            await self.store.incarnation()
            await self.store.execution("")  # through the thread that writes, behind all that was written before
            for _ in range(20):
                await asyncio.sleep(0)

    async def soon(self, condition: Callable[[], T | Awaitable[T]]) -> T:
        """Wait for a condition that follows from what has happened already."""
        async with asyncio.timeout(10):
            while True:
                answer = condition()
                found = await answer if isinstance(answer, Awaitable) else answer
                if found:
                    return found
                await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Let time pass in steps of half a second, and whoever wakes do what he wants."""
        for _ in range(round(seconds * 2)):
            self.clock.advance(500_000)
            await self.quiet()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.store.open()
    await bench.open()
    yield bench
    await bench.dispatcher.close()
    await bench.store.close()


@pytest.fixture
def lua(document: Callable[..., Document]) -> Document:
    """Two Lua nodes in a row."""
    return document([{"id": "a"}, {"id": "b", "dependencies": ["a"]}], id="lua")


@pytest.fixture
def journal() -> Callable[..., list[bytes]]:
    """`journal(document, execution)`: all facts of a run in which every attempt gives `result`, encoded."""

    def make(document: Document, execution: str, *, result: bytes = b"1", inputs: bytes = b"{}") -> list[bytes]:
        machine = Machine(compile_document(document), execution=execution, seed=7)
        made, commands = machine.handle(Begin(at=START, inputs=inputs))
        while commands:
            command = commands.pop(0)
            assert isinstance(command, Run)
            step = machine.handle(
                AttemptEnded(START, command.node, command.index, command.attempt, "success", result, None, 0)
            )
            made += step.facts
            commands += step.commands
        assert machine.ended
        return [codec.encode(fact) for fact in made]

    return make
