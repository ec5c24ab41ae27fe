"""The connection that writes, and those that read.

**One writer at a time.** Every transaction that writes begins by locking the row of the counter of positions, and so
has all that it reads afterwards to itself: the replicas of a store write in turns, each as many writes at once as are
pending (see `writer`). That makes positions follow the order of commits, has no two transactions wait for each other
crosswise, and gives whoever owns something the same guarantees as a database with one process. The same round trip
reads the clock of the store and whether this process is still the replica that it was.

Used by `postgres` alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Final, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg import pq, sql

from orchestrator import errors
from orchestrator.store import base, postgres_session, schema

__all__ = ["CHANNEL", "CLOCK", "Connection", "Readers"]

_Answer = TypeVar("_Answer")

CHANNEL: Final = "dagengine"
"""Where replicas tell each other what they have changed: a topic and who tells."""
CLOCK: Final = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
"""Now on the clock of the store, as microseconds."""

_READERS: Final = 4
_ATTEMPTS: Final = 3
"""Connections that may be lost under one question before it is given up."""
_READ_ONLY: Final = "25006"
"""What a server answers that has become a standby: the primary is somewhere else."""


class Connection:
    """The connection that writes. It is a `writer.Database`; `sender` marks what it tells other replicas.

    In a transaction, `position` is that of the last fact, to be advanced by who adds some; `now` is when it began;
    `replica` is which replica this process is, if it still is one.
    """

    def __init__(self, address: postgres_session.Address, sender: str) -> None:
        self.session = postgres_session.Session(address, "writer", writes=True)
        self._name = address.name
        self._sender = sender
        self._member: str | None = None
        self._topics: dict[base.Topic, None] = {}
        self.alone = False
        """Whether there is no other replica that could want to be told."""
        self.position = 0
        self.now = 0
        self.replica: str | None = None

    @property
    def driver(self) -> postgres_session.Driver:
        return self.session.driver

    @property
    def core(self) -> sa.Connection:
        return self.session.core

    def tell(self, *topics: base.Topic) -> None:
        """Have the other replicas told once the transaction is committed."""
        self._topics.update(dict.fromkeys(topics))

    def enter(self, replica: str, *, others: int) -> None:
        """Be this replica from here on, if the transaction is committed."""
        self.replica = replica
        self.alone = others == 0
        self.tell("replicas")

    # --- as the writer's thread drives it ---

    def begin(self) -> None:
        self._topics.clear()
        while True:
            self.session.require()
            try:
                self._begin()
            except psycopg.Error:
                if not self.session.is_lost:
                    raise
            else:
                return

    def _begin(self) -> None:
        cursor = psycopg.Cursor(self.driver)
        cursor.execute(
            sql.SQL(
                "BEGIN;"
                "SELECT value FROM counters WHERE name = {position} FOR UPDATE;"
                "SELECT {clock}, (SELECT id FROM replicas WHERE id = {member})"  # only now: it waits for nobody
            ).format(position=schema.FACT_POSITION, clock=sql.SQL(CLOCK), member=self._member or "")
        )
        cursor.nextset()
        (self.position,) = cursor.fetchone() or (0,)
        cursor.nextset()
        self.now, self.replica = cursor.fetchone() or (0, None)

    def commit(self) -> None:
        statement = "COMMIT"
        if self._topics and not self.alone:
            notices = ", ".join(f"pg_notify('{CHANNEL}', '{topic} {self._sender}')" for topic in self._topics)
            statement = f"SELECT {notices}; COMMIT"
        cursor = psycopg.Cursor(self.driver)
        try:
            cursor.execute(statement.encode())
        except psycopg.Error as error:
            if not self.session.is_lost:
                raise
            raise errors.StoreError(
                f"{self._name}: the connection was lost while something was written; whether it was is not known."
            ) from error
        while cursor.nextset():
            pass
        if cursor.statusmessage != "COMMIT":
            raise errors.StoreError(f"{self._name}: a transaction was undone ({cursor.statusmessage}).")
        self._member = self.replica or self._member

    def rollback(self) -> None:
        if self.session.is_lost:
            self.session.close()
            return
        if self.driver.info.transaction_status != pq.TransactionStatus.IDLE:
            try:
                psycopg.Cursor(self.driver).execute("ROLLBACK")
            except psycopg.Error:
                self.session.close()

    def mark(self) -> int:
        return self.driver.changes

    def untouched_since(self, mark: int) -> bool:
        status = None if self.session.is_lost else self.driver.info.transaction_status
        return status == pq.TransactionStatus.INTRANS and self.mark() == mark

    def explain(self, error: Exception) -> errors.OrchestratorError:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if isinstance(cause, psycopg.Error) and cause.sqlstate == _READ_ONLY:
            self.session.close()
        return postgres_session.explained(error, self._name)


class Readers:
    """A few threads with a connection each, made when it is first needed."""

    def __init__(self, address: postgres_session.Address) -> None:
        self._address = address
        self._local = threading.local()
        self._sessions: list[postgres_session.Session] = []
        self._threads = futures.ThreadPoolExecutor(_READERS, thread_name_prefix=f"{address.name} reader")

    def submit(self, run: Callable[[sa.Connection], _Answer]) -> asyncio.Future[_Answer]:
        """Have `run` performed on one of the threads, again if its connection is lost; errors arrive as StoreError."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._perform, run)

    def close(self) -> None:
        """Wait for the reads under way, and close the connections."""
        for session in list(self._sessions):
            session.hurry()
        self._threads.shutdown(wait=True)
        for session in self._sessions:
            session.close()
        self._sessions.clear()

    def _perform(self, run: Callable[[sa.Connection], _Answer]) -> _Answer:
        session = self._session()
        try:
            for _ in range(_ATTEMPTS - 1):
                session.require()
                try:
                    return run(session.core)
                except Exception:
                    if not session.is_lost:
                        raise
            session.require()
            return run(session.core)
        except Exception as error:
            raise postgres_session.explained(error, self._address.name) from error

    def _session(self) -> postgres_session.Session:
        session: postgres_session.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = postgres_session.Session(self._address, "reader")
            self._sessions.append(session)
            self._local.session = session
        return session
