"""The store in a SQLite file, or in memory: what one orchestrator needs, and nothing to install.

A file is in WAL mode with `synchronous=FULL`: a commit is on the disk when it is acknowledged. One process at a time
may have it open (`lock`). All writes go through one thread with group commit (`writer`); reads run beside them on a
few read-only connections, each in a thread, and see every write that was answered before they were asked. A store in
memory has a single connection, so there the writer's thread reads too.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import sqlalchemy as sa

from orchestrator import errors
from orchestrator.store import (
    base,
    changes,
    lock,
    migration,
    queries,
    schema,
    sqlite_connection,
    sqlite_journal,
    writer,
)

__all__ = ["SQLiteStore"]

_Answer = TypeVar("_Answer")


class SQLiteStore:
    """A `Store` in one SQLite database.

    `url` is `sqlite:///relative/path.db`, `sqlite:////absolute/path.db`, or `sqlite://` (also `:memory:`) for a store
    that is gone when it is closed. Raises StoreError for any other.

    `incarnation` changes when the file is not the one that this orchestrator closed, or lost, last: the lock file
    beside it holds a mark that is renewed in both at every opening, and the database also holds its own inode number.
    """

    def __init__(self, url: str = "sqlite://") -> None:
        self._path = sqlite_connection.path_of(url)
        self.name = "the store in memory" if self._path is None else str(self._path)
        """The database as messages call it."""
        self._lock: lock.ProcessLock | None = None
        self._connection: sqlite_connection.Connection | None = None
        self._writer: writer.GroupCommitWriter | None = None
        self._readers: sqlite_connection.Readers | None = None
        self._incarnation = ""

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

    # --- workflows ---

    async def add_version(self, record: base.VersionRecord) -> bool:
        return await self._change(lambda connection: changes.add_version(connection, record))

    async def versions(self, workflow: str | None = None) -> list[base.Version]:
        return await self._ask(lambda connection: queries.versions(connection, workflow))

    async def version(self, workflow: str, version: str) -> base.VersionRecord | None:
        return await self._ask(lambda connection: queries.version(connection, workflow, version))

    async def remove_versions(self, workflow: str, version: str | None, *, force: bool) -> int:
        return await self._change(
            lambda connection: changes.remove_versions(connection, workflow, version, force=force)
        )

    # --- executions ---

    async def create_execution(self, new: base.NewExecution) -> tuple[base.ExecutionRecord, bool]:
        return await self._write(lambda db: sqlite_journal.create_execution(db, new), weight=len(new.inputs))

    async def known_execution(
        self, workflow: str, *, idempotency_key: str | None = None, occurrence: str | None = None
    ) -> base.ExecutionRecord | None:
        return await self._ask(
            lambda connection: queries.known_execution(connection, workflow, idempotency_key, occurrence)
        )

    async def execution(self, execution: str) -> base.ExecutionRecord | None:
        return await self._ask(lambda connection: queries.execution(connection, execution))

    async def executions(
        self,
        *,
        workflow: str | None = None,
        status: Sequence[base.Status] = (),
        before: tuple[int, str] | None = None,
        limit: int = 100,
    ) -> list[base.ExecutionRecord]:
        return await self._ask(
            lambda connection: queries.executions(
                connection, workflow=workflow, status=status, before=before, limit=limit
            )
        )

    async def unfinished(self) -> list[base.ExecutionRecord]:
        return await self._ask(queries.unfinished)

    async def document(self, digest: str) -> bytes | None:
        return await self._ask(lambda connection: queries.document(connection, digest))

    async def dispatch(self, executions: Sequence[str], engine: str) -> dict[str, base.ExecutionRecord]:
        return await self._write(lambda db: sqlite_journal.dispatch(db, executions, engine))

    async def release(self, execution: str, epoch: int) -> None:
        await self._change(lambda connection: changes.release(connection, execution, epoch))

    async def append(self, batches: Sequence[base.Batch]) -> list[base.Appended]:
        weight = sum(sum(map(len, batch.facts)) for batch in batches)
        return await self._write(lambda db: sqlite_journal.append(db, batches), weight=weight)

    async def facts(self, execution: str, *, after: int = 0, limit: int = 1_000) -> list[base.StoredFact]:
        return await self._ask(lambda connection: queries.facts(connection, execution, after=after, limit=limit))

    # --- inbox, logs, triggers ---

    async def add_inbox(self, item: base.InboxItem) -> bool:
        return await self._change(lambda connection: changes.add_inbox(connection, item))

    async def inbox(self, execution: str | None = None) -> list[base.InboxItem]:
        return await self._ask(lambda connection: queries.inbox(connection, execution))

    async def reopen(self, item: base.InboxItem) -> tuple[base.ExecutionRecord, bool] | None:
        return await self._change(lambda connection: changes.reopen(connection, item))

    async def former_end(self, execution: str) -> base.Terminal | None:
        return await self._ask(lambda connection: queries.former_end(connection, execution))

    async def end_undispatched(self, batch: base.Batch, *, retries: bool = False) -> bool:
        return await self._write(
            lambda db: sqlite_journal.end_undispatched(db, batch, retries=retries),
            weight=sum(map(len, batch.facts)),
        )

    async def known_results(self, digests: Collection[str], *, now: int) -> dict[str, base.KnownResult]:
        return await self._ask(lambda connection: queries.known_results(connection, digests, now=now))

    async def add_logs(self, execution: str, epoch: int, lines: Sequence[tuple[str, bytes]]) -> None:
        weight = sum(len(payload) for _, payload in lines)
        await self._write(lambda db: sqlite_journal.add_logs(db, execution, epoch, lines), weight=weight)

    async def logs(
        self, execution: str, *, node: str | None = None, after: int = 0, limit: int = 1_000
    ) -> list[base.LogRecord]:
        return await self._ask(
            lambda connection: queries.logs(connection, execution, node=node, after=after, limit=limit)
        )

    async def last_occurrence(self, trigger: str) -> int | None:
        return await self._ask(lambda connection: queries.last_occurrence(connection, trigger))

    async def record_occurrence(self, trigger: str, at: int) -> None:
        await self._change(lambda connection: changes.record_occurrence(connection, trigger, at))

    # --- how ---

    def _write(self, run: Callable[[sqlite3.Connection], _Answer], *, weight: int = 0) -> asyncio.Future[_Answer]:
        connection, open_writer = self._opened()
        return open_writer.submit(lambda: run(connection.driver), weight=weight)

    def _change(self, run: Callable[[sa.Connection], _Answer]) -> asyncio.Future[_Answer]:
        connection, open_writer = self._opened()
        return open_writer.submit(lambda: run(connection.core))

    def _ask(self, run: Callable[[sa.Connection], _Answer]) -> asyncio.Future[_Answer]:
        if self._readers is None:
            return self._change(run)
        return self._readers.submit(run)

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
        connection.driver.execute(
            "INSERT INTO counters (name, value) VALUES (?, 0) ON CONFLICT DO NOTHING", (schema.FACT_POSITION,)
        )
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
        if self._readers is not None:
            self._readers.close()
            self._readers = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
