"""Copies of a SQLite store, made while its orchestrator runs, and put back when it does not. `dagctl` calls it.

A copy is the store at one moment: a read transaction is held for as long as it takes, which holds up no writer (the
write-ahead log only grows meanwhile). It is one file without a log beside it, and has been checked when it is returned.

What is put back counts as another store: it loses the mark by which the one that was closed here last is known
(`sqlite.SQLiteStore.incarnation`), so that engines drop what they run for executions as they were after the copy.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from orchestrator import drafts, errors
from orchestrator.store import lock, schema, sqlite_connection

__all__ = ["Contents", "Progress", "copy", "put_back"]

_PAGES: Final = 1_024
"""Pages that are copied at a time: 4 MiB of most databases."""
_BUSY_SECONDS: Final = 10.0

Progress = Callable[[int, int], None]
"""Takes how many pages are copied, and of how many."""


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a store: `facts` is the global position of the last one, `size` in bytes."""

    revision: str
    executions: int
    facts: int
    size: int


def copy(source: Path, target: Path, *, progress: Progress = lambda _done, _total: None) -> Contents:
    """Copy the store `source` into the file `target`, which is empty or not there; what is in it.

    Raises StoreError when `source` is no store of this release or of one before, or the copy is not sound.
    """
    with _explained(source):
        if not source.is_file():
            raise errors.StoreError(f"There is no store at {source}.")
        with contextlib.closing(_reader(source)) as original, contextlib.closing(_connect(str(target))) as made:
            original.execute("BEGIN")
            _revision(original, source)  # reads, and so holds the moment
            original.backup(made, pages=_PAGES, progress=lambda _status, left, total: progress(total - left, total))
            original.execute("ROLLBACK")
            made.execute("PRAGMA journal_mode = DELETE")
            return _checked(made, target, name=source)


def put_back(saved: Path, place: Path, *, force: bool, progress: Progress = lambda _done, _total: None) -> Contents:
    """Put the copy `saved` where the store `place` is to be, or with `force` where one is; what is in it.

    Raises StoreError when `saved` is no sound store of this release or of one before, or a process has `place` open,
    and RequestError when something is there already, or nothing at `saved`.
    """
    with _explained(saved):
        if not saved.is_file():
            raise errors.RequestError(f"There is no backup at {saved}.")
        guard = lock.ProcessLock(place.with_name(place.name + ".lock"), guarded=place)
        try:
            with drafts.draft(place, force=force) as draft:
                contents = copy(saved, draft, progress=progress)
                with contextlib.closing(_connect(str(draft))) as made:
                    made.execute("DELETE FROM meta WHERE key = 'mark'")
                    made.execute("UPDATE meta SET value = ? WHERE key = 'incarnation'", (uuid.uuid4().hex,))
                _clear(place)
            return contents
        finally:
            guard.release()


def _clear(place: Path) -> None:
    """Leave nothing beside `place` that SQLite would add to the database that comes there."""
    if place.exists():
        # What is in its log goes into it first: a crash right here must not take anything from what was there.
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_connect(str(place))) as former:
            former.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm", "-journal"):
        place.with_name(place.name + suffix).unlink(missing_ok=True)


def _checked(made: sqlite3.Connection, path: Path, *, name: Path) -> Contents:
    wrong = [row[0] for row in made.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
    if wrong:
        raise errors.StoreError(f"{name} is damaged: {'; '.join(wrong)}. Restore a backup that was made before.")
    (executions,) = made.execute("SELECT count(*) FROM executions").fetchone()
    position = made.execute("SELECT value FROM counters WHERE name = ?", (schema.FACT_POSITION,)).fetchone()
    revision = _revision(made, name)
    return Contents(
        revision=revision,
        executions=executions,
        facts=position[0] if position else 0,
        size=os.stat(path).st_size,
    )


def _revision(connection: sqlite3.Connection, name: Path) -> str:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"alembic_version", "meta", "executions"} <= tables:
        raise errors.StoreError(f"{name} is a database of something else, or empty: it is not a store.")
    (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if str(revision) > schema.HEAD:
        raise errors.StoreError(
            f"{name} has schema revision {revision}, this release knows none after {schema.HEAD}: "
            "it was written by a newer release. Use the dagctl of that one."
        )
    return str(revision)


def _reader(path: Path) -> sqlite3.Connection:
    """Reads only. A database that was in use with a log needs files beside it, which a plain `mode=ro` never makes."""
    connection = _connect(f"file:{quote(str(path))}?mode=rw", uri=True)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(database: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(database, timeout=_BUSY_SECONDS, isolation_level=None, uri=uri)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if "not a database" in str(error):
            raise errors.StoreError(f"{path} is no SQLite database: it is not a store.") from error
        if "malformed" in str(error):
            raise errors.StoreError(f"{path} is damaged: {error}. Restore a backup that was made before.") from error
        raise sqlite_connection.explained(error, str(path)) from error
