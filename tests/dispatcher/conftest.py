"""A dispatcher over a real store, time that stands still, and engines that say and do what the test tells them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

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
from orchestrator.blobs.in_store import InStore
from orchestrator.dispatcher.dispatcher import Dispatcher
from orchestrator.errors import StoreError, TransportError
from orchestrator.monitor.monitor import Monitor
from orchestrator.store import schema
from orchestrator.store.base import ExecutionRecord, InboxItem, NewExecution, VersionRecord
from orchestrator.store.sqlite import SQLiteStore
from orchestrator.transport.base import Listener

T = TypeVar("T")


class TroubledStore(SQLiteStore):
    """A real store in memory whose methods fail, or wait, when the test says so."""

    def __init__(self) -> None:
        super().__init__("sqlite://")
        self.failing: set[str] = set()
        self.losing: set[str] = set()
        """Methods that do what they should, but whose answer is lost."""
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

    def was_reached(self, name: str) -> bool:
        """Whether there was a call since `hold`."""
        return self._reached[name].is_set()

    async def _pass(self, name: str) -> None:
        if name in self._gates:
            self._reached[name].set()
            await self._gates[name].wait()
        if name in self.failing:
            self.refused.append(name)
            raise StoreError(f"the disk is full, says {name}")

    async def _answered(self, name: str, answer: Awaitable[T]) -> T:
        given = await answer
        if name in self.losing:
            self.refused.append(name)
            raise StoreError(f"the connection was lost, says {name}: whether it was done is not known")
        return given

    async def create_execution(self, *args: Any, **options: Any) -> Any:
        await self._pass("create_execution")
        return await self._answered("create_execution", super().create_execution(*args, **options))

    async def dispatch(self, *args: Any, **options: Any) -> Any:
        await self._pass("dispatch")
        return await self._answered("dispatch", super().dispatch(*args, **options))

    async def append(self, *args: Any, **options: Any) -> Any:
        await self._pass("append")
        return await self._answered("append", super().append(*args, **options))

    async def facts(self, *args: Any, **options: Any) -> Any:
        await self._pass("facts")
        return await super().facts(*args, **options)

    async def release(self, *args: Any, **options: Any) -> Any:
        await self._pass("release")
        return await self._answered("release", super().release(*args, **options))

    async def end_undispatched(self, *args: Any, **options: Any) -> Any:
        await self._pass("end_undispatched")
        return await self._answered("end_undispatched", super().end_undispatched(*args, **options))

    async def reopen(self, *args: Any, **options: Any) -> Any:
        await self._pass("reopen")
        return await super().reopen(*args, **options)

    async def add_inbox(self, *args: Any, **options: Any) -> Any:
        await self._pass("add_inbox")
        return await super().add_inbox(*args, **options)

    async def add_logs(self, *args: Any, **options: Any) -> Any:
        await self._pass("add_logs")
        return await super().add_logs(*args, **options)

    async def claim(self, *args: Any, **options: Any) -> Any:
        await self._pass("claim")
        return await self._answered("claim", super().claim(*args, **options))

    async def park(self, *args: Any, **options: Any) -> Any:
        await self._pass("park")
        return await self._answered("park", super().park(*args, **options))

    async def inbox(self, *args: Any, **options: Any) -> Any:
        await self._pass("inbox")
        return await super().inbox(*args, **options)

    async def inboxes(self, *args: Any, **options: Any) -> Any:
        await self._pass("inbox")
        return await super().inboxes(*args, **options)

    async def unfinished(self, *args: Any, **options: Any) -> Any:
        await self._pass("unfinished")
        return await super().unfinished(*args, **options)

    async def join(self, *args: Any, **options: Any) -> Any:
        await self._pass("join")
        return await super().join(*args, **options)

    async def heads(self, *args: Any, **options: Any) -> Any:
        await self._pass("heads")
        return await super().heads(*args, **options)

    async def next_wake(self, *args: Any, **options: Any) -> Any:
        await self._pass("next_wake")
        return await super().next_wake(*args, **options)

    async def renew(self, *args: Any, **options: Any) -> Any:
        await self._pass("renew")
        return await super().renew(*args, **options)

    async def lead(self, *args: Any, **options: Any) -> Any:
        await self._pass("lead")
        return await super().lead(*args, **options)

    async def rewind(self, execution: str, last_seq: int) -> None:
        """Forget the facts of an execution that come after `last_seq`, as if they had never been committed."""

        def forget(db: sa.Connection) -> None:
            wanted = schema.executions.c.id == execution
            number = sa.select(schema.executions.c.number).where(wanted).scalar_subquery()
            db.execute(schema.facts.delete().where(schema.facts.c.execution == number, schema.facts.c.seq > last_seq))
            db.execute(schema.executions.update().where(wanted).values(last_seq=last_seq))

        await self._change(forget)

    async def rewrite(self, digest: str, document: bytes) -> None:
        """Have another document stand under a digest."""

        def change(db: sa.Connection) -> None:
            documents = schema.documents
            db.execute(documents.update().where(documents.c.digest == digest).values(document=document))

        await self._change(change)

    async def execution(self, *args: Any, **options: Any) -> Any:
        await self._pass("execution")
        return await super().execution(*args, **options)

    async def put_blobs(self, *args: Any, **options: Any) -> Any:
        await self._pass("put_blobs")
        return await super().put_blobs(*args, **options)


class ScriptedEngine:
    """An engine and the link to it in one: a `Link` that the test plays. `sent` is what the dispatcher has told it."""

    def __init__(self, address: str, listener: Listener) -> None:
        self.address = address
        self.engine_id = ""
        self.connected = False
        self.reason = ""
        self.health: str | None = ""
        """What it says when it is asked how it is; None: nothing."""
        self.sent: list[session_pb2.OrchestratorMessage] = []
        self.largest = 32 * 1024 * 1024
        self._listener = listener
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()
        self.has_room = asyncio.Event()
        self.has_room.set()

    # --- Link ---

    def send(self, message: session_pb2.OrchestratorMessage) -> None:
        if not self.connected:
            return
        if message.ByteSize() > self.largest:
            raise TransportError(f"a message of {message.ByteSize()} bytes is too large")
        self.sent.append(message)
        self._changed.set()

    async def room(self) -> None:
        await self.has_room.wait()

    async def check(self) -> str:
        if self.health is None:
            raise TransportError(f"{self.address} does not say how it is")
        return self.health

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
        held: Sequence[tuple[str, int, int] | tuple[str, int, int, int]] = (),
        incarnation: str = "first",
        draining: bool = False,
        pools: Mapping[str, int] | None = None,
        acknowledged_position: int = 0,
        labels: Mapping[str, str] | None = None,
        reservable: bool = True,
        reserved_for: str = "",
    ) -> ScriptedEngine:
        """Begin a session. `held` are `(execution, epoch, last_seq)`, perhaps with how many are acknowledged."""
        self.engine_id, self.connected, self.reason = name, True, ""
        hello = session_pb2.EngineHello(
            engine=name,
            incarnation=incarnation,
            version="0",
            executors=executors,
            capacity=capacity,
            draining=draining,
            acknowledged_position=acknowledged_position,
            labels=labels,
            reservable=reservable,
            reserved_for=reserved_for,
        )
        for pool, size in (pools or {}).items():
            hello.pools.add(name=pool, size=size)
        for execution, epoch, last_seq, *acknowledged in held:
            hello.held.add(execution=execution, epoch=epoch, last_seq=last_seq, acknowledged=sum(acknowledged))
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
        self.dispatcher = Dispatcher(self.store, InStore(self.store), clock=self.clock, monitor=self.monitor, **options)
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
        if await self.store.version(document.id, document.version) is None:
            await self._register(document)
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
        record, _ = await self.dispatcher.accept(new, document)
        return record.id

    async def _register(self, document: Document) -> None:
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
        await self.dispatcher.inboxes.operate(item)

    async def record(self, execution: str) -> ExecutionRecord:
        found = await self.store.execution(execution)
        assert found is not None
        return found

    async def waiting_on(self, execution: str) -> str | None:
        """Why an execution has no engine."""
        return await self.dispatcher.waiting_on(await self.record(execution))

    async def waits_on(self, execution: str, reason: str) -> None:
        """Wait until that is why an execution has no engine."""

        async def does() -> bool:
            return await self.waiting_on(execution) == reason

        await self.soon(does)

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
