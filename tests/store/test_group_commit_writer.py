"""The writer's thread: sharing transactions, and keeping one write's failure from the others."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import errors
from orchestrator.store import writer as writers
from orchestrator.store.sqlite_connection import Connection
from orchestrator.store.writer import GroupCommitWriter


class CountingConnection(Connection):
    """A real connection that counts its commits."""

    commits = 0

    def commit(self) -> None:
        super().commit()
        self.commits += 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.db"


@pytest.fixture
def connection(path: Path) -> Iterator[CountingConnection]:
    opened = CountingConnection(path, "the test store")
    opened.driver.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, blob BLOB)")
    yield opened
    opened.close()


@pytest.fixture
async def writer(connection: CountingConnection) -> AsyncIterator[GroupCommitWriter]:
    running = GroupCommitWriter(connection, name="test")
    yield running
    await running.close()


class Gate:
    """Holds the writer's thread inside a write, so that others collect behind it."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._open = threading.Event()

    def hold(self, writer: GroupCommitWriter) -> asyncio.Future[None]:
        """Submit a write that waits for the gate to open, and return once it waits."""
        future = writer.submit(self._wait)
        assert self._entered.wait(30)
        return future

    def open(self) -> None:
        self._open.set()

    def _wait(self) -> None:
        self._entered.set()
        assert self._open.wait(30)


def insert(connection: CountingConnection, *numbers: int) -> Callable[[], None]:
    """A write that inserts one row after the other."""

    def run() -> None:
        for n in numbers:
            connection.driver.execute("INSERT INTO t (n) VALUES (?)", (n,))

    return run


def rows(path: Path) -> list[int]:
    other = sqlite3.connect(path)
    try:
        return [n for (n,) in other.execute("SELECT n FROM t ORDER BY n")]
    finally:
        other.close()


async def test_what_waits_together_is_committed_together(
    connection: CountingConnection, writer: GroupCommitWriter, path: Path
) -> None:
    gate = Gate()
    first = gate.hold(writer)
    others = [writer.submit(insert(connection, n)) for n in range(100)]
    gate.open()
    await asyncio.gather(first, *others)
    assert connection.commits == 2
    assert rows(path) == list(range(100))


async def test_a_lone_write_is_committed_at_once(connection: CountingConnection, writer: GroupCommitWriter) -> None:
    for n in range(3):
        await writer.submit(insert(connection, n))
    assert connection.commits == 3


async def test_a_transaction_is_bounded(connection: CountingConnection, writer: GroupCommitWriter, path: Path) -> None:
    gate = Gate()
    first = gate.hold(writer)
    heavy = [writer.submit(insert(connection, n), weight=writers.MAX_WEIGHT) for n in range(3)]
    gate.open()
    await asyncio.gather(first, *heavy)
    assert connection.commits == 4
    assert rows(path) == [0, 1, 2]


async def test_a_write_that_fails_half_way_leaves_nothing_and_takes_nobody_along(
    connection: CountingConnection, writer: GroupCommitWriter, path: Path
) -> None:
    gate = Gate()
    first = gate.hold(writer)
    good = [writer.submit(insert(connection, n)) for n in (1, 2)]
    bad = writer.submit(insert(connection, 50, 1))  # 1 is taken
    after = writer.submit(insert(connection, 3))
    gate.open()
    await asyncio.gather(first, *good, after)
    with pytest.raises(errors.StoreError, match="the test store: UNIQUE constraint failed") as caught:
        await bad
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    assert rows(path) == [1, 2, 3]


async def test_a_refusal_arrives_as_it_is_and_costs_no_transaction(
    connection: CountingConnection, writer: GroupCommitWriter, path: Path
) -> None:
    def refuse() -> None:
        raise errors.VersionConflict("no")

    gate = Gate()
    first = gate.hold(writer)
    refused = writer.submit(refuse)
    good = writer.submit(insert(connection, 1))
    gate.open()
    await asyncio.gather(first, good)
    with pytest.raises(errors.VersionConflict, match=r"^no$"):
        await refused
    assert connection.commits == 2
    assert rows(path) == [1]


async def test_a_commit_that_fails_is_everybodys_failure_and_the_next_write_works(
    connection: CountingConnection, writer: GroupCommitWriter, path: Path
) -> None:
    connection.driver.execute("CREATE TABLE child (n INTEGER REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED)")
    gate = Gate()
    first = gate.hold(writer)
    good = writer.submit(insert(connection, 1))
    orphan = writer.submit(lambda: connection.driver.execute("INSERT INTO child VALUES (7)").rowcount)
    gate.open()
    await first
    for write in (good, orphan):
        with pytest.raises(errors.StoreError, match="FOREIGN KEY constraint failed"):
            await write
    assert rows(path) == []
    await writer.submit(insert(connection, 2))
    assert rows(path) == [2]


async def test_a_full_disk_fails_what_does_not_fit_and_nothing_else(
    connection: CountingConnection, writer: GroupCommitWriter, path: Path
) -> None:
    connection.driver.execute("PRAGMA max_page_count = 10")
    big = "INSERT INTO t (n, blob) VALUES (?, zeroblob(100000))"
    gate = Gate()
    first = gate.hold(writer)
    too_big = writer.submit(lambda: connection.driver.execute(big, (1,)).rowcount)
    small = writer.submit(insert(connection, 2))
    gate.open()
    await asyncio.gather(first, small)
    with pytest.raises(errors.StoreError, match="the test store: the disk is full"):
        await too_big
    assert rows(path) == [2]


async def test_a_database_held_by_another_program_fails_writes_until_it_is_let_go(
    connection: CountingConnection, writer: GroupCommitWriter, path: Path
) -> None:
    connection.driver.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(errors.StoreError, match="another program holds it"):
        await writer.submit(insert(connection, 1))
    other.close()
    await writer.submit(insert(connection, 1))
    assert rows(path) == [1]


async def test_a_write_whose_caller_gave_up_is_written(
    connection: CountingConnection, writer: GroupCommitWriter, path: Path
) -> None:
    gate = Gate()
    first = gate.hold(writer)
    abandoned = writer.submit(insert(connection, 1))
    abandoned.cancel()
    gate.open()
    await first
    await writer.submit(insert(connection, 2))
    assert rows(path) == [1, 2]


async def test_a_closed_writer_takes_nothing(connection: CountingConnection) -> None:
    running = GroupCommitWriter(connection, name="test")
    await running.close()
    await running.close()
    with pytest.raises(errors.StoreError, match="closed"):
        running.submit(lambda: None)
