"""Connections to SQLite: one that writes, a few that read, and what their errors mean.

SQLAlchemy runs the statements, but it does not decide about transactions: its connections are in autocommit mode, and
the one that writes begins and commits explicitly (`BEGIN IMMEDIATE`). Used by `sqlite` alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import pool

from orchestrator import errors

__all__ = ["Connection", "Readers", "explained", "make_file", "make_parent", "path_of"]

_Answer = TypeVar("_Answer")

_READERS: Final = 4
_BUSY_SECONDS: Final = 5.0
"""How long to wait for a lock that another program (a backup, the sqlite3 shell) has on the file."""
_WAL_LIMIT: Final = 64 << 20
"""Bytes of the write-ahead log that stay on the disk once they have been copied into the database."""
_NOT_WRITABLE: Final = (
    "it cannot be written. Check the permissions of the file, of its directory, and of what is beside it under its name"
)
_CACHE_KIB: Final = 16 << 10
_MEMORY: Final = (":memory:", "sqlite://", "sqlite:///:memory:")


def path_of(url: str) -> Path | None:
    """The file that a URL names; None for a store in memory. Raises StoreError for anything else."""
    if url in _MEMORY:
        return None
    scheme, separator, rest = url.partition(":///")
    if scheme != "sqlite" or not separator or not rest or "?" in rest:
        shown = url if "@" not in url else f"{url.partition('://')[0]}://…"  # it may hold a password
        raise errors.StoreError(
            f"{shown!r} is not a store this release knows. Write sqlite:///relative/path.db, "
            "sqlite:////absolute/path.db, or sqlite:// for one in memory."
        )
    return Path(rest).expanduser().resolve()


def make_parent(path: Path) -> None:
    """Make the directory that `path` is to be in. Raises StoreError."""
    if path.is_dir():
        raise errors.StoreError(f"{path} is a directory: name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.StoreError(f"Cannot make the directory {path.parent} for the store: {error.strerror}.") from error


def make_file(path: Path) -> None:
    """Make the file of the database, open to its owner alone, unless it is there. Raises StoreError if it is read-only.

    SQLite would let the whole machine read it; its other files get the mode of this one.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # SQLite would make its log beside it first, as little writable as this is, and that would stay.
        if not os.access(path, os.W_OK):
            raise errors.StoreError(f"{path}: {_NOT_WRITABLE}.") from None
    except OSError as error:
        raise errors.StoreError(f"Cannot make the store {path}: {error.strerror}.") from error


def explained(error: Exception, name: str) -> errors.OrchestratorError:
    """What callers get to see for an exception of the database `name`: a refusal as it is, the rest in a StoreError."""
    if isinstance(error, errors.OrchestratorError):
        return error
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
    if isinstance(cause, sqlite3.Error):
        fresh = errors.StoreError(f"{name}: {_advice(str(cause))}.")
    else:
        fresh = errors.StoreError(f"{name}: {type(cause).__name__}: {cause}")
    fresh.__cause__ = error
    return fresh


def _advice(message: str) -> str:
    if "not a database" in message:
        return "it is not a SQLite database. Give the store a file of its own"
    if "readonly" in message or "unable to open" in message:
        return f"{_NOT_WRITABLE} ({message})"
    if "disk is full" in message:
        return "the disk is full, so this was not written. Make room: the next write tries again"
    if "I/O error" in message:
        return (
            f"the disk failed ({message}), so this was not done. Look for a quota, a limit on file sizes, or a broken "
            "device; the next one tries again"
        )
    if "malformed" in message:
        return f"the file is damaged ({message}). Stop the orchestrator and restore a backup"
    if "locked" in message:
        return f"another program holds it for longer than {_BUSY_SECONDS:g} s ({message})"
    return message


class Connection:
    """The connection that writes: `core` for SQLAlchemy, `driver` for the hot path. It is a `writer.Database`."""

    def __init__(self, path: Path | None, name: str) -> None:
        self._name = name
        self.driver = _connect(":memory:" if path is None else str(path))
        try:
            self._configure(path)
            self.core, self._engine = _wrap(self.driver)
        except BaseException:
            self.driver.close()
            raise

    def _configure(self, path: Path | None) -> None:
        execute = self.driver.execute
        execute("PRAGMA foreign_keys = ON")
        execute("PRAGMA temp_store = MEMORY")
        if path is not None:
            (mode,) = execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise errors.StoreError(
                    f"{self._name}: the file system cannot keep a write-ahead log (SQLite says {mode!r}). "
                    "Put the store on a local disk."
                )
            execute("PRAGMA synchronous = FULL")
            execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
            execute(f"PRAGMA cache_size = -{_CACHE_KIB}")

    def begin(self) -> None:
        self.driver.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.driver.execute("COMMIT")

    def rollback(self) -> None:
        # Some errors (a full disk, I/O) have rolled back by themselves; after others even this may fail.
        if self.driver.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self.driver.execute("ROLLBACK")

    def mark(self) -> int:
        return self.driver.total_changes

    def untouched_since(self, mark: int) -> bool:
        return self.driver.in_transaction and self.driver.total_changes == mark

    def explain(self, error: Exception) -> errors.OrchestratorError:
        return explained(error, self._name)

    def close(self) -> None:
        """Let go of the file. What was not committed is undone."""
        self.core.close()
        self._engine.dispose()
        self.driver.close()


class Readers:
    """A few threads with a read-only connection each."""

    def __init__(self, path: Path, name: str) -> None:
        self._uri = f"file:{quote(str(path))}?mode=ro"
        self._name = name
        self._local = threading.local()
        self._opened: list[tuple[sa.Connection, sa.Engine, sqlite3.Connection]] = []
        self._threads = futures.ThreadPoolExecutor(_READERS, thread_name_prefix=f"{name} reader")

    def submit(self, run: Callable[[sa.Connection], _Answer]) -> asyncio.Future[_Answer]:
        """Have `run` performed on one of the threads; its exceptions arrive as StoreError."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._perform, run)

    def close(self) -> None:
        """Wait for the reads under way and close the connections."""
        self._threads.shutdown(wait=True)
        for core, engine, driver in self._opened:
            core.close()
            engine.dispose()
            driver.close()
        self._opened.clear()

    def _perform(self, run: Callable[[sa.Connection], _Answer]) -> _Answer:
        try:
            return run(self._connection())
        except Exception as error:
            raise explained(error, self._name) from error  # queries refuse nothing, so it is never the same

    def _connection(self) -> sa.Connection:
        connection: sa.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            driver = _connect(self._uri, uri=True)
            connection, engine = _wrap(driver)
            self._opened.append((connection, engine, driver))
            self._local.connection = connection
        return connection


def _connect(database: str, *, uri: bool = False) -> sqlite3.Connection:
    # Opened on one thread and used on another, never on two at once.
    return sqlite3.connect(
        database,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        uri=uri,
    )


def _wrap(driver: sqlite3.Connection) -> tuple[sa.Connection, sa.Engine]:
    engine = sa.create_engine(
        "sqlite://", creator=lambda: driver, poolclass=pool.StaticPool, isolation_level="AUTOCOMMIT"
    )
    return engine.connect(), engine
