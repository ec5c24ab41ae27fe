"""Copies of a store: made while it is written to, checked, and another store once they are put back."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.errors import RequestError, StoreError
from orchestrator.store import backup, schema
from orchestrator.store.base import Batch, NewExecution, VersionRecord
from orchestrator.store.sqlite import SQLiteStore

VERSION = VersionRecord(
    workflow="w",
    version="1.0.0",
    digest="sha256:w",
    document=b'{"spec":{}}',
    labels={},
    name="",
    description="",
    registered_at=1,
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store in `state.db`, with one execution that an engine has."""
    opened = SQLiteStore(f"sqlite:///{tmp_path}/state.db")
    await opened.open()
    await opened.add_version(VERSION)
    await _execution(opened, "e1")
    yield opened
    await opened.close()


async def _execution(store: SQLiteStore, id: str) -> None:
    new = NewExecution(id=id, workflow="w", version="1.0.0", digest="sha256:w", inputs=b"{}", created_at=1, seed=1)
    await store.create_execution(new)
    await store.dispatch([id], "engine-1")


async def _append(store: SQLiteStore, seq: int, size: int = 20_000) -> None:
    fact = b'{"type":"x","value":"%s"}' % (b"v" * size)
    (answer,) = await store.append([Batch(execution="e1", epoch=1, first_seq=seq, facts=[fact])])
    assert answer.outcome == "committed"


async def _facts(store: SQLiteStore) -> int:
    count = 0
    while page := await store.facts("e1", after=count):
        count += len(page)
    return count


async def _count(path: Path) -> tuple[int, int]:
    """How many executions, and how many facts of `e1`, are in a store."""
    opened = SQLiteStore(f"sqlite:///{path}")
    await opened.open()
    try:
        return len(await opened.executions(limit=100)), await _facts(opened)
    finally:
        await opened.close()


async def test_a_copy_is_the_store_at_one_moment_however_much_is_written_meanwhile(
    store: SQLiteStore, tmp_path: Path
) -> None:
    for seq in range(1, 301):
        await _append(store, seq)
    seq, steps = 300, []
    loop = asyncio.get_running_loop()

    def progress(done: int, total: int) -> None:
        """Between two steps, another fact is committed."""
        nonlocal seq
        steps.append((done, total))
        seq += 1
        asyncio.run_coroutine_threadsafe(_append(store, seq), loop).result(timeout=20)

    contents = await asyncio.to_thread(backup.copy, tmp_path / "state.db", tmp_path / "copy.db", progress=progress)
    assert len(steps) >= 2
    assert steps[-1][0] == steps[-1][1]
    assert (contents.executions, contents.facts, contents.revision) == (1, 300, schema.HEAD)
    assert contents.size == (tmp_path / "copy.db").stat().st_size
    assert not (tmp_path / "copy.db-wal").exists()
    assert await _count(tmp_path / "copy.db") == (1, 300)
    assert await _facts(store) == seq > 300


async def test_a_store_that_nobody_has_open_can_be_copied(store: SQLiteStore, tmp_path: Path) -> None:
    await _append(store, 1)
    await store.close()
    backup.copy(tmp_path / "state.db", tmp_path / "copy.db")
    assert await _count(tmp_path / "copy.db") == (1, 1)


async def test_what_was_put_back_is_another_store(store: SQLiteStore, tmp_path: Path) -> None:
    before = await store.incarnation()
    await _append(store, 1)
    place = tmp_path / "state.db"
    backup.copy(place, tmp_path / "copy.db")
    await _append(store, 2)
    await store.close()
    with pytest.raises(RequestError, match="is there already: give --force"):
        backup.put_back(tmp_path / "copy.db", place, force=False)
    backup.put_back(tmp_path / "copy.db", place, force=True)
    assert {path.name for path in _listed(tmp_path)} == {"state.db", "state.db.lock", "copy.db"}
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    await store.open()
    assert await store.incarnation() != before
    assert len(await store.facts("e1")) == 1


async def test_two_stores_from_one_copy_are_not_the_same_store(store: SQLiteStore, tmp_path: Path) -> None:
    backup.copy(tmp_path / "state.db", tmp_path / "copy.db")
    known = {await store.incarnation()}
    for name in ("one.db", "two.db"):
        backup.put_back(tmp_path / "copy.db", tmp_path / name, force=False)
        other = SQLiteStore(f"sqlite:///{tmp_path}/{name}")
        await other.open()
        known.add(await other.incarnation())
        await other.close()
    assert len(known) == 3


async def test_nothing_is_put_where_somebody_has_a_store_open(store: SQLiteStore, tmp_path: Path) -> None:
    backup.copy(tmp_path / "state.db", tmp_path / "copy.db")
    with pytest.raises(StoreError, match=f"is in use by process {os.getpid()}"):
        backup.put_back(tmp_path / "copy.db", tmp_path / "state.db", force=True)
    await _append(store, 1)  # and it is none the worse for it


async def test_what_is_in_the_log_of_a_store_is_not_added_to_the_one_that_takes_its_place(
    store: SQLiteStore, tmp_path: Path
) -> None:
    place = tmp_path / "state.db"
    backup.copy(place, tmp_path / "copy.db")
    for seq in range(1, 50):
        await _append(store, seq)
    left_behind = (tmp_path / "state.db-wal").read_bytes()
    await store.close()
    (tmp_path / "state.db-wal").write_bytes(left_behind)
    backup.put_back(tmp_path / "copy.db", place, force=True)
    assert await _count(place) == (1, 0)


async def test_a_damaged_store_is_not_copied(store: SQLiteStore, tmp_path: Path) -> None:
    for seq in range(1, 50):
        await _append(store, seq)
    await store.close()
    content = bytearray((tmp_path / "state.db").read_bytes())
    content[40_960:81_920] = b"\x55" * 40_960
    (tmp_path / "state.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"(?s)is damaged: .*Restore a backup that was made before"):
        backup.copy(tmp_path / "state.db", tmp_path / "copy.db")


@pytest.mark.parametrize("kind", ["missing", "text", "other", "newer"])
async def test_what_is_no_store_of_this_release_is_refused(store: SQLiteStore, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source.db"
    if kind == "text":
        source.write_text("not a database, but long enough to be looked at as if it were one" * 100)
    elif kind == "newer":
        backup.copy(tmp_path / "state.db", source)
        _execute(source, "UPDATE alembic_version SET version_num = '9999'")
    elif kind == "other":
        _execute(source, "CREATE TABLE people (name TEXT)")
    said = {
        "missing": "There is no store at",
        "text": "is no SQLite database: it is not a store",
        "other": "is a database of something else",
        "newer": "has schema revision 9999",
    }
    with pytest.raises(StoreError, match=said[kind]):
        backup.copy(source, tmp_path / "copy.db")
    with pytest.raises(RequestError if kind == "missing" else StoreError):
        backup.put_back(source, tmp_path / "place.db", force=False)
    assert not (tmp_path / "place.db").exists()


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def _execute(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()
