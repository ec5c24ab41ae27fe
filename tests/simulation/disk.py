"""The store of the product on a disk that fails: the real SQL, in memory, on virtual time.

A `Disk` outlives the processes that use it and holds what was committed, nothing else: a transaction begins and ends
within one step of the loop. `SimulatedStore` is the product's `SQLiteStore` with its two threads replaced by tasks: the
writer still gathers what is pending into one transaction, and answers later than it commits. So a process can die

- before a commit: nothing of the transaction is there;
- after it, with nothing answered: all of it is there, and nobody was told (a torn acknowledgement);
- in it: one of the two, drawn from the seed.

A commit can fail, too (a full disk, an I/O error), and the disk can be slow for a while.

`SharedStore` is the same for several processes at once, as PostgreSQL is: a lease of a replica runs out when it is not
renewed, each write looks first whether its replica still is one, and replicas hear of each other's changes: late,
twice, or not at all. A machine may be cut off from it.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, TypeVar

import sqlalchemy as sa
from simulation.loop import Process, SimulatedLoop
from sqlalchemy import pool

from orchestrator import errors
from orchestrator.store import base, membership, migration, sqlite, sqlite_connection, writer

__all__ = ["Disk", "SharedStore", "SimulatedStore"]

T = TypeVar("T")


@cache
def _empty() -> bytes:
    """An empty database of this release."""
    connection = sqlite_connection.Connection(None, "a template")
    connection.begin()
    migration.migrate(connection.core, name="a template")
    connection.commit()
    made = connection.driver.serialize()
    connection.close()
    return made


_next_driver: list[sqlite3.Connection] = []
# One for all worlds: it keeps the SQL that it has made.
_core = sa.create_engine(
    "sqlite://", creator=lambda: _next_driver.pop(), poolclass=pool.NullPool, isolation_level="AUTOCOMMIT"
)


class Disk:
    """One database, and how it misbehaves at present.

    `on_commit()` is called after each commit. `failing` is the chance of a commit to fail, `deadly` that the process
    dies in one, `forgetful` that the answer to one is lost (where there is a server), `slowness` the seconds that a
    commit takes longer.
    """

    def __init__(self, loop: SimulatedLoop, chance: random.Random, on_commit: Callable[[], None]) -> None:
        self.loop = loop
        self.chance = chance
        self.on_commit = on_commit
        self.failing = 0.0
        self.deadly = 0.0
        self.slowness = 0.0
        self.forgetful = 0.0
        self.on_deadly: Callable[[Process], None] = Process.kill
        self.driver = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=256)
        self.driver.deserialize(_empty())
        self.driver.execute("PRAGMA foreign_keys = ON")
        _next_driver.append(self.driver)
        self.core = _core.connect()
        self.incarnation = chance.randbytes(16).hex()
        self.unreachable: set[str] = set()
        """Names of the machines that are cut off."""
        self.listeners: dict[Process, Callable[[base.Topic], None]] = {}

    def delay(self) -> float:
        """Seconds that a transaction, or a read, takes now."""
        return self.chance.expovariate(500) + self.slowness * self.chance.random()

    def tell(self, sender: Process, topics: Iterable[base.Topic]) -> None:
        """A process has changed something: the others may hear of it."""
        for process, hear in self.listeners.items():
            for topic in topics if process is not sender and process.alive else ():
                for _ in range(self.chance.choice([0, 1, 1, 1, 1, 1, 1, 2])):
                    delay = self.chance.expovariate(200)
                    self.loop.call_later(delay, hear, topic, context=process.context.copy())

    def close(self) -> None:
        """Forget everything."""
        self.core.close()


class _Died(Exception):  # noqa: N818 - it is what has happened
    """The process has died in a commit."""


class _Connection(sqlite_connection.Connection):
    """A process's way to the disk."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self._name = "the store"
        self._disk = disk
        self._process = process
        self.driver = disk.driver
        self.core = disk.core

    def commit(self) -> None:
        disk = self._disk
        if disk.deadly and disk.chance.random() < disk.deadly:
            torn = disk.chance.random() < 0.5
            self.rollback() if torn else super().commit()
            if not torn:
                disk.on_commit()
            disk.on_deadly(self._process)
            raise _Died
        if disk.failing and disk.chance.random() < disk.failing:
            self.rollback()
            raise sqlite3.OperationalError("disk I/O error")
        super().commit()
        disk.on_commit()
        if disk.forgetful and disk.chance.random() < disk.forgetful:
            raise sqlite3.OperationalError("the connection was lost; whether it was written is not known")

    def close(self) -> None:
        """The disk stays."""


class _Writer(writer.GroupCommitWriter):
    """The product's writer, its thread a task."""

    def __init__(self, database: _Connection, disk: Disk) -> None:
        self._database: Any = database
        self._loop = asyncio.get_running_loop()
        self._pending: Any = _Pending()
        self._closed = False
        self._disk = disk
        self._task = asyncio.create_task(self._perform(), name="store writer")

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._pending.put(None)
        await self._task

    async def _perform(self) -> None:
        more = True
        while more:
            await self._pending.filled()
            await asyncio.sleep(self._disk.delay() / 2)
            batch, more = self._take()
            try:
                if not self._together(batch):
                    for write in batch:
                        self._alone(write)
            except _Died:
                return
            await asyncio.sleep(self._disk.delay())
            writer._answer(batch)

    def _fail(self, batch: list[Any], error: Exception) -> None:
        if isinstance(error, _Died):
            raise error
        super()._fail(batch, error)


class _Pending:
    """What the writer's thread takes from a `SimpleQueue`, without a thread."""

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._filled = asyncio.Event()

    async def filled(self) -> None:
        await self._filled.wait()

    def put(self, item: object) -> None:
        self._items.append(item)
        self._filled.set()

    def get(self) -> Any:
        item = self._items.pop(0)
        if not self._items:
            self._filled.clear()
        return item

    def get_nowait(self) -> Any:
        if not self._items:
            raise writer.queue.Empty
        return self.get()


class _Readers:
    """Reads that run beside the writer: as of when they were asked, or of when they are answered."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def submit(self, run: Callable[[sa.Connection], Any]) -> asyncio.Future[Any]:
        disk, loop = self._disk, asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def perform() -> Any:
            try:
                return run(disk.core), None
            except Exception as error:
                fresh = sqlite_connection.explained(error, "the store")
                fresh.__cause__ = error
                return None, fresh

        def reply(found: Any) -> None:
            result, error = found or perform()
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)

        loop.call_later(disk.delay() / 2, reply, perform() if disk.chance.random() < 0.5 else None)
        return answer

    def close(self) -> None:
        """There is nothing to close."""


class SimulatedStore(sqlite.SQLiteStore):
    """The product's store on a simulated disk, as one process has it open."""

    def __init__(self, disk: Disk, process: Process) -> None:
        super().__init__("sqlite://")
        self._disk = disk
        self._process = process

    async def open(self) -> None:
        self._require_reachable()
        self._connection = _Connection(self._disk, self._process)
        self._readers = _Readers(self._disk)  # type: ignore[assignment]  # the same methods
        self._incarnation = self._disk.incarnation
        self._writer = _Writer(self._connection, self._disk)

    async def close(self) -> None:
        if self._writer is not None:
            closing, self._writer = self._writer, None
            await closing.close()
            self._replica, self._left = None, False

    def _submit(self, run: Callable[[sqlite_connection.Connection], T], *, weight: int = 0) -> asyncio.Future[T]:
        self._require_reachable()
        return super()._submit(run, weight=weight)

    def _ask(self, run: Callable[[sa.Connection], T]) -> asyncio.Future[T]:
        self._require_reachable()
        return super()._ask(run)

    def _require_reachable(self) -> None:
        if self._process.name in self._disk.unreachable:
            raise errors.StoreError("the store does not answer")


class SharedStore(SimulatedStore):
    """The same for several processes at once, and with the topics that the PostgreSQL adapter tells of."""

    async def join(self, replica: str, *, name: str, lease: int, elect: bool = True) -> base.Membership:
        def join(connection: sqlite_connection.Connection) -> base.Membership:
            self._tell("replicas")
            now = self._now(connection.core)
            return membership.join(connection.core, replica, name=name, lease=lease, elect=elect, now=now)

        joined = await self._submit(join)
        self._replica, self._lease, self._elect, self._left = replica, lease, elect, False
        return joined

    async def lead(self, term: int) -> base.Membership:
        standing = await super().lead(term)
        self._tell("replicas", "claimable")
        return standing

    async def take_over(self) -> list[str]:
        taken = await super().take_over()
        self._tell(*("replicas", "claimable") if taken else ())
        return taken

    async def leave(self) -> None:
        await super().leave()
        self._tell("replicas", "claimable")

    def listen(self, hear: Callable[[base.Topic], None]) -> None:
        self._disk.listeners[self._process] = hear

    async def create_execution(self, new: base.NewExecution) -> tuple[base.ExecutionRecord, bool]:
        made, created = await super().create_execution(new)
        if created and made.owner is None:
            self._tell("claimable")
        return made, created

    async def append(self, batches: Sequence[base.Batch]) -> list[base.Appended]:
        answers = await super().append(batches)
        self._tell(*["facts"] if any(answer.new_from for answer in answers) else [])
        return answers

    async def end_undispatched(self, batch: base.Batch, *, retries: bool = False) -> bool:
        ended = await super().end_undispatched(batch, retries=retries)
        self._tell(*["facts"] if ended else [])
        return ended

    def _write(self, run: Callable[[sqlite3.Connection], T], *, weight: int = 0) -> asyncio.Future[T]:
        self._may_write()
        replica = self._replica
        return self._submit(lambda connection: run(_checked(connection, replica).driver), weight=weight)

    def _change(
        self, run: Callable[[sa.Connection], T], *, weight: int = 0, tell: Sequence[base.Topic] = ()
    ) -> asyncio.Future[T]:
        self._may_write()
        replica = self._replica

        def change(connection: sqlite_connection.Connection) -> T:
            answer = run(_checked(connection, replica).core)
            self._tell(*tell if answer else ())
            return answer

        return self._submit(change, weight=weight)

    def _tell(self, *topics: base.Topic) -> None:
        self._disk.tell(self._process, topics)


def _checked(connection: sqlite_connection.Connection, replica: str | None) -> sqlite_connection.Connection:
    """Whether a process still is the replica that it was, looked at inside the transaction that writes."""
    known = connection.driver.execute("SELECT 1 FROM replicas WHERE id = ?", (replica,)).fetchone()
    if replica is not None and known is None:
        raise membership.fenced()
    return connection
