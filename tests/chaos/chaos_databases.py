"""The databases of the crash matrix: how to kill one, where that can be done, and what it holds in the end."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Database", "PostgreSQL", "SQLite", "disorder"]

Row = tuple[Any, ...]


class Database(Protocol):
    """Where the orchestrator keeps everything."""

    name: str
    url: str
    server: bool
    """Whether it is a process of its own, which can be killed."""

    async def kill(self) -> None:
        """It dies on the spot."""

    async def start(self) -> None:
        """It recovers, and takes connections."""

    async def rows(self, statement: str) -> Sequence[Row]:
        """What it holds. Nobody else may be using it."""


class SQLite:
    """A file: it dies with the orchestrator."""

    name = "SQLite"
    server = False

    def __init__(self, folder: Path) -> None:
        self._file = folder / "orchestrator.db"
        self.url = f"sqlite:///{self._file}"

    async def kill(self) -> None:
        raise NotImplementedError("there is no process to be killed")

    async def start(self) -> None:
        raise NotImplementedError("there is no process to be started")

    async def rows(self, statement: str) -> Sequence[Row]:
        with closing(sqlite3.connect(self._file)) as connection:
            return connection.execute(statement).fetchall()


class PostgreSQL:
    """A database of a server (`tests/postgres.py`), which is killed with all its processes."""

    name = "PostgreSQL"
    server = True

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.url()

    async def kill(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def rows(self, statement: str) -> Sequence[Row]:
        rows: Sequence[Row] = await asyncio.to_thread(self._server.sql, self.url, statement)
        return rows


async def disorder(database: Database) -> list[str]:
    """What is wrong with the facts in the store, all in all: they have to be in order along its global positions."""
    wrong: list[str] = []
    reached: defaultdict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    rows = await database.rows("SELECT position, execution, seq, epoch FROM facts ORDER BY position")
    for position, execution, seq, epoch in rows:
        before, epoch_before = reached[execution]
        if seq != before + 1 or epoch < epoch_before:
            wrong.append(f"position {position} is fact {seq} (epoch {epoch}) after {before} (epoch {epoch_before})")
        reached[execution] = (seq, epoch)
    positions = [row[0] for row in rows]
    if positions != list(range(1, len(rows) + 1)):
        wrong.append(f"{len(rows)} facts have positions from {positions[:1]} to {positions[-1:]}, with gaps or twice")
    for number, last_seq, status in await database.rows("SELECT number, last_seq, status FROM executions"):
        if reached[number][0] != last_seq or status != "succeeded":
            wrong.append(
                f"execution {number} is {status} after {last_seq} facts, of which {reached[number][0]} are there"
            )
    return wrong
