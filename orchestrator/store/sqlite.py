"""The store in a SQLite file, or in memory: what one orchestrator needs, and nothing to install.

A file is in WAL mode with `synchronous=FULL`: a commit is on the disk when it is acknowledged. One process at a time
may have it open (`lock`). All writes go through one thread with group commit (`writer`); reads run beside them on a
few read-only connections, each in a thread, and see every write that was answered before they were asked. A store in
memory has a single connection, so there the writer's thread reads too.

Whoever has the lock knows that all others are gone: joining frees what they owned, and nobody ends the lease of the
one that has joined but itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TypeVar

import sqlalchemy as sa

from orchestrator import errors
from orchestrator.store import (
    base,
    lock,
    membership,
    migration,
    relational,
    sqlite_connection,
    sqlite_journal,
    writer,
)

__all__ = ["SQLiteStore"]

_Answer = TypeVar("_Answer")


class SQLiteStore(relational.RelationalStore):
    """A `Store` in one SQLite database.

    `url` is `sqlite:///relative/path.db`, `sqlite:////absolute/path.db`, or `sqlite://` (also `:memory:`) for a store
    that is gone when it is closed. Raises StoreError for any other.

    `incarnation` changes when the file is not the one that this orchestrator closed, or lost, last: the lock file
    beside it holds a mark that is renewed in both at every opening, and the database also holds its own inode number.
    """

    def __init__(self, url: str = "sqlite://") -> None:
        self._path = sqlite_connection.path_of(url)
        super().__init__("the store in memory" if self._path is None else str(self._path))
        self._lock: lock.ProcessLock | None = None
        self._connection: sqlite_connection.Connection | None = None
        self._writer: writer.GroupCommitWriter | None = None
        self._readers: sqlite_connection.Readers | None = None
        self._incarnation = ""
        self._lease = 0
        self._elect = True
        self._left = False

    async def open(self) -> None:
        """Connect, lock and migrate. The parent directory is made when it is missing. Raises StoreError."""
        if self._writer is not None:
            raise errors.StoreError(f"{self.name} is open already.")
        connection = await asyncio.to_thread(self._open)
        self._writer = writer.GroupCommitWriter(connection, name=self.name)

    async def close(self) -> None:
        """Finish the writes under way and let go of everything. Idempotent."""
        if self._writer is not None:
            closing, self._writer = self._writer, None
            await closing.close()
            await asyncio.to_thread(self._let_go)

    async def incarnation(self) -> str:
        """Id of this store's contents; another one after a restore from a backup."""
        self._opened()
        return self._incarnation

    # --- replicas ---

    async def join(self, replica: str, *, name: str, lease: int, elect: bool = True) -> base.Membership:
        def alone(connection: sa.Connection) -> base.Membership:
            membership.end_all(connection)
            now = self._now(connection)
            return membership.join(connection, replica, name=name, lease=lease, elect=elect, now=now)

        if self._replica is not None and not self._left:
            raise errors.StoreError(f"{self.name}: this process has joined it already, as replica {self._replica}.")
        joined = await self._submit(lambda connection: alone(connection.core))
        self._replica, self._lease, self._elect, self._left = replica, lease, elect, False
        return joined

    async def renew(self) -> base.Membership:
        replica, lease, elect = self._joined(), self._lease, self._elect
        return await self._change(
            lambda connection: membership.renew(
                connection, replica, lease=lease, elect=elect, now=self._now(connection)
            )
        )

    async def lead(self, term: int) -> base.Membership:
        replica, lease = self._joined(), self._lease
        standing, _ = await self._change(
            lambda connection: membership.lead(connection, replica, term=term, lease=lease, now=self._now(connection))
        )
        return standing

    async def take_over(self) -> list[str]:
        replica = self._joined()
        return await self._change(
            lambda connection: membership.take_over(connection, replica, now=self._now(connection))
        )

    async def leave(self) -> None:
        replica = self._replica
        if replica is not None:
            self._left = True  # what is asked from here on comes after it
            await self._submit(lambda connection: membership.leave(connection.core, replica))

    def listen(self, hear: Callable[[base.Topic], None]) -> None:
        """There is nobody else whose changes could be heard of."""

    # --- the hot path ---

    async def create_execution(self, new: base.NewExecution) -> tuple[base.ExecutionRecord, bool]:
        replica = self._replica
        return await self._write(lambda db: sqlite_journal.create_execution(db, new, replica), weight=len(new.inputs))

    async def dispatch(self, executions: Sequence[str], engine: str) -> dict[str, base.ExecutionRecord]:
        replica = self._replica
        return await self._write(lambda db: sqlite_journal.dispatch(db, executions, engine, replica))

    async def append(self, batches: Sequence[base.Batch]) -> list[base.Appended]:
        weight = sum(sum(map(len, batch.facts)) for batch in batches)
        return await self._write(lambda db: sqlite_journal.append(db, batches), weight=weight)

    async def end_undispatched(self, batch: base.Batch, *, retries: bool = False) -> bool:
        replica = self._replica
        return await self._write(
            lambda db: sqlite_journal.end_undispatched(db, batch, replica, retries=retries),
            weight=sum(map(len, batch.facts)),
        )

    async def add_logs(self, execution: str, epoch: int, lines: Sequence[tuple[str, bytes]]) -> None:
        weight = sum(len(payload) for _, payload in lines)
        await self._write(lambda db: sqlite_journal.add_logs(db, execution, epoch, lines), weight=weight)

    # --- how ---

    def _write(self, run: Callable[[sqlite3.Connection], _Answer], *, weight: int = 0) -> asyncio.Future[_Answer]:
        self._may_write()
        return self._submit(lambda connection: run(connection.driver), weight=weight)

    def _change(
        self,
        run: Callable[[sa.Connection], _Answer],
        *,
        weight: int = 0,
        tell: Sequence[base.Topic] = (),  # noqa: ARG002 - nobody else has this store open
    ) -> asyncio.Future[_Answer]:
        self._may_write()
        return self._submit(lambda connection: run(connection.core), weight=weight)

    def _now(self, _: sa.Connection) -> int:
        return time.time_ns() // 1_000

    def _ask(self, run: Callable[[sa.Connection], _Answer]) -> asyncio.Future[_Answer]:
        if self._readers is None:
            return self._submit(lambda connection: run(connection.core))
        return self._readers.submit(run)

    def _submit(
        self, run: Callable[[sqlite_connection.Connection], _Answer], *, weight: int = 0
    ) -> asyncio.Future[_Answer]:
        connection, open_writer = self._opened()
        return open_writer.submit(lambda: run(connection), weight=weight)

    def _may_write(self) -> None:
        if self._left:
            raise membership.fenced()

    def _opened(self) -> tuple[sqlite_connection.Connection, writer.GroupCommitWriter]:
        if self._connection is None or self._writer is None:
            raise errors.StoreError(f"{self.name} is not open.")
        return self._connection, self._writer

    def _open(self) -> sqlite_connection.Connection:
        path = self._path
        with contextlib.ExitStack() as undo:
            if path is not None:
                sqlite_connection.make_parent(path)
                self._lock = lock.ProcessLock(path.with_name(path.name + ".lock"), guarded=path)
            undo.callback(self._let_go)
            try:
                if path is not None:
                    sqlite_connection.make_file(path)
                self._connection = sqlite_connection.Connection(path, self.name)
                self._prepare(self._connection)
            except errors.OrchestratorError:
                raise
            except Exception as error:
                raise sqlite_connection.explained(error, self.name) from error
            if path is not None:
                self._readers = sqlite_connection.Readers(path, self.name)
            undo.pop_all()
            return self._connection

    def _prepare(self, connection: sqlite_connection.Connection) -> None:
        mark = uuid.uuid4().hex
        connection.begin()
        migration.migrate(connection.core, name=self.name)
        self._incarnation = self._identify(connection.driver, mark)
        connection.commit()
        if self._lock is not None:
            self._lock.sign(mark)

    def _identify(self, db: sqlite3.Connection, mark: str) -> str:
        """The incarnation, a new one when the contents are not those that were here last; leaves `mark`."""
        meta = dict(db.execute("SELECT key, value FROM meta"))
        inode = "" if self._path is None else str(self._path.stat().st_ino)
        last_mark = "" if self._lock is None else self._lock.mark
        same = last_mark != "" and (meta.get("mark"), meta.get("inode")) == (last_mark, inode)
        incarnation = meta["incarnation"] if same else uuid.uuid4().hex
        db.executemany(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [("incarnation", incarnation), ("mark", mark), ("inode", inode)],
        )
        return incarnation

    def _let_go(self) -> None:
        self._replica, self._left = None, False
        if self._readers is not None:
            self._readers.close()
            self._readers = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
