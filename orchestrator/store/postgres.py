"""The store in a PostgreSQL database: for more than one orchestrator, or one whose machine may be lost.

Writes go through one thread with group commit (`writer`), and the replicas of a store write in turns (see
`postgres_connection`). Reads run beside them on a few connections, each in a thread, and see every write that was
answered before they were asked. While there are other replicas, they are notified of what was changed
(`postgres_listener`).

A connection that is lost is made again. What was asked meanwhile waits for a few seconds and then fails; so does what
was being committed: whoever asked does not know whether it was written.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import psycopg
import sqlalchemy as sa
import structlog

from orchestrator import errors
from orchestrator.store import (
    base,
    membership,
    migration,
    postgres_connection,
    postgres_journal,
    postgres_listener,
    postgres_session,
    postgres_starts,
    relational,
    writer,
)

__all__ = ["PostgresStore"]

_log = structlog.get_logger("orchestrator.store")

_Answer = TypeVar("_Answer")

_OPENING: Final = 0x6461_6765_6E67_696E
"""The advisory lock of whoever looks after the schema."""
_BEGIN_OPENING: Final = f"""
    BEGIN;
    SET LOCAL statement_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = 0;
    SELECT pg_advisory_xact_lock({_OPENING})"""
_MAY_SEE_CLUSTER: Final = "SELECT has_function_privilege('pg_control_system()', 'execute')"
_CLUSTER: Final = "SELECT system_identifier::text FROM pg_control_system()"
_TABLES: Final = """
    SELECT concat_ws('/', (SELECT oid FROM pg_database WHERE datname = current_database()), 'meta'::regclass::oid)"""
_ADD_META: Final = """
    INSERT INTO meta (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"""


class PostgresStore(relational.RelationalStore):
    """A `Store` in one PostgreSQL database (13 or newer), which any number of replicas may have open.

    `url` is what libpq takes: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full`. The user needs the
    right to create tables; best it owns the database. Raises StoreError when it cannot be read.

    `incarnation` changes when the tables are a copy: in another cluster, another database, or restored from a dump.
    """

    def __init__(self, url: str) -> None:
        self._address = postgres_session.Address(url)
        super().__init__(self._address.name)
        self._sender = uuid.uuid4().hex
        self._connection: postgres_connection.Connection | None = None
        self._writer: writer.GroupCommitWriter | None = None
        self._readers: postgres_connection.Readers | None = None
        self._listener: postgres_listener.Listener | None = None
        self._hear: Callable[[base.Topic], None] | None = None
        self._incarnation = ""
        self._lease = 0
        self._elect = True
        self._starts = postgres_starts.Starts(self._submit)

    async def open(self) -> None:
        """Connect, and migrate unless another replica does. Raises StoreError."""
        if self._writer is not None:
            raise errors.StoreError(f"{self.name} is open already.")
        connection = await asyncio.to_thread(self._open)
        self._connection = connection
        self._readers = postgres_connection.Readers(self._address)
        self._writer = writer.GroupCommitWriter(connection, name=self.name)
        self._start_listening()

    async def close(self) -> None:
        """Finish the writes under way and let go of everything. Idempotent."""
        if self._writer is not None and self._connection is not None:
            closing, self._writer = self._writer, None
            self._connection.session.hurry()
            await closing.close()
            await asyncio.to_thread(self._let_go)

    async def incarnation(self) -> str:
        """Id of this store's contents; another one after a restore from a backup."""
        self._opened()
        return self._incarnation

    # --- replicas ---

    async def join(self, replica: str, *, name: str, lease: int, elect: bool = True) -> base.Membership:
        def run(connection: postgres_connection.Connection) -> base.Membership:
            if connection.replica is not None:
                raise errors.StoreError(
                    f"{self.name}: this process has joined it already, as replica {connection.replica}."
                )
            joined = membership.join(connection.core, replica, name=name, lease=lease, elect=elect, now=connection.now)
            connection.enter(replica, others=joined.others)
            return joined

        joined = await self._submit(run)
        self._replica, self._lease, self._elect = replica, lease, elect
        return joined

    async def renew(self) -> base.Membership:
        replica, lease, elect = self._joined(), self._lease, self._elect

        def run(connection: postgres_connection.Connection) -> base.Membership:
            renewed = membership.renew(connection.core, replica, lease=lease, elect=elect, now=connection.now)
            connection.alone = renewed.others == 0
            return renewed

        return await self._write(run)

    async def lead(self, term: int) -> base.Membership:
        replica, lease = self._joined(), self._lease

        def run(connection: postgres_connection.Connection) -> base.Membership:
            standing, ended = membership.lead(connection.core, replica, term=term, lease=lease, now=connection.now)
            if ended:
                connection.tell("replicas", "claimable")
            else:
                connection.alone = standing.others == 0
            return standing

        return await self._write(run)

    async def take_over(self) -> list[str]:
        replica = self._joined()
        return await self._write(
            lambda connection: membership.take_over(connection.core, replica, now=connection.now),
            tell=["replicas", "claimable"],
        )

    async def leave(self) -> None:
        replica = self._replica
        if replica is not None:
            await self._submit(lambda connection: _leave(connection, replica))

    def listen(self, hear: Callable[[base.Topic], None]) -> None:
        if self._listener is not None:
            raise errors.StoreError(f"{self.name}: somebody listens already.")
        self._hear = hear
        if self._writer is not None:
            self._start_listening()

    # --- the hot path ---

    async def create_execution(self, new: base.NewExecution) -> tuple[base.ExecutionRecord, bool]:
        return await self._starts.add(new, self._replica)

    async def dispatch(self, executions: Sequence[str], engine: str) -> dict[str, base.ExecutionRecord]:
        replica = self._replica
        return await self._write(lambda connection: postgres_journal.dispatch(connection, executions, engine, replica))

    async def append(self, batches: Sequence[base.Batch]) -> list[base.Appended]:
        weight = sum(sum(map(len, batch.facts)) for batch in batches)

        def run(connection: postgres_connection.Connection) -> list[base.Appended]:
            before = connection.position
            answers = postgres_journal.append(connection, batches)
            if connection.position != before:
                connection.tell("facts")
            return answers

        return await self._write(run, weight=weight)

    async def end_undispatched(self, batch: base.Batch, *, retries: bool = False) -> bool:
        replica = self._replica
        return await self._write(
            lambda connection: postgres_journal.end_undispatched(connection, batch, replica, retries=retries),
            weight=sum(map(len, batch.facts)),
            tell=["facts"],
        )

    async def add_logs(self, execution: str, epoch: int, lines: Sequence[tuple[str, bytes]]) -> None:
        weight = sum(len(payload) for _, payload in lines)
        await self._write(
            lambda connection: postgres_journal.add_logs(connection, execution, epoch, lines), weight=weight
        )

    # --- how ---

    def _ask(self, run: Callable[[sa.Connection], _Answer]) -> asyncio.Future[_Answer]:
        self._opened()
        assert self._readers is not None  # noqa: S101 - they come with opening
        return self._readers.submit(run)

    def _change(
        self, run: Callable[[sa.Connection], _Answer], *, weight: int = 0, tell: Sequence[base.Topic] = ()
    ) -> asyncio.Future[_Answer]:
        return self._write(lambda connection: run(connection.core), weight=weight, tell=tell)

    def _now(self, connection: sa.Connection) -> int:
        now: int = connection.exec_driver_sql(f"SELECT {postgres_connection.CLOCK}").scalar_one()
        return now

    def _write(
        self,
        run: Callable[[postgres_connection.Connection], _Answer],
        *,
        weight: int = 0,
        tell: Sequence[base.Topic] = (),
    ) -> asyncio.Future[_Answer]:
        """Have something written, unless this process is not the replica any more that it is now."""
        replica = self._replica

        def fenced(connection: postgres_connection.Connection) -> _Answer:
            if replica is not None and connection.replica != replica:
                raise membership.fenced()
            answer = run(connection)
            if answer:
                connection.tell(*tell)
            return answer

        return self._submit(fenced, weight=weight)

    def _submit(
        self, run: Callable[[postgres_connection.Connection], _Answer], *, weight: int = 0
    ) -> asyncio.Future[_Answer]:
        connection, open_writer = self._opened()
        return open_writer.submit(lambda: run(connection), weight=weight)

    def _opened(self) -> tuple[postgres_connection.Connection, writer.GroupCommitWriter]:
        if self._connection is None or self._writer is None:
            raise errors.StoreError(f"{self.name} is not open.")
        return self._connection, self._writer

    def _start_listening(self) -> None:
        if self._hear is not None:
            self._listener = postgres_listener.Listener(self._address, self._heard, sender=self._sender)

    def _heard(self, topic: base.Topic) -> None:
        if topic == "replicas" and self._connection is not None:
            self._connection.alone = False  # until the next renewal counts them
        if self._hear is not None:
            self._hear(topic)

    def _open(self) -> postgres_connection.Connection:
        connection = postgres_connection.Connection(self._address, self._sender)
        try:
            connection.session.connect()
            self._prepare(connection.session)
        except Exception as error:
            connection.session.close()
            raise postgres_session.explained(error, self.name) from error
        return connection

    def _prepare(self, session: postgres_session.Session) -> None:
        """Bring the schema up to date and see whose contents these are. Whoever opens meanwhile waits."""
        plain = psycopg.Cursor(session.driver)
        plain.execute(_BEGIN_OPENING.encode())
        migration.migrate(session.core, name=self.name)
        identity = _identity(session)
        meta = dict(session.driver.execute("SELECT key, value FROM meta"))
        if meta.get("identity") != identity:
            meta["incarnation"] = uuid.uuid4().hex
            for row in (("incarnation", meta["incarnation"]), ("identity", identity)):
                session.driver.execute(_ADD_META, row)
        plain.execute("COMMIT")
        self._incarnation = meta["incarnation"]
        (fsync,) = plain.execute("SHOW fsync").fetchone() or ("",)
        if fsync == "off":
            _log.warning(
                "store_without_fsync", database=self.name, consequence="a crash may lose what was acknowledged"
            )

    def _let_go(self) -> None:
        self._replica = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._readers is not None:
            self._readers.close()
            self._readers = None
        if self._connection is not None:
            self._connection.session.close()
            self._connection = None


def _identity(session: postgres_session.Session) -> str:
    """What a copy of the tables does not have in common with them: their cluster, database, and the tables' own id."""
    (may_see,) = session.driver.execute(_MAY_SEE_CLUSTER).fetchone() or (False,)
    (cluster,) = (session.driver.execute(_CLUSTER).fetchone() if may_see else None) or ("",)
    (tables,) = session.driver.execute(_TABLES).fetchone() or ("",)
    return f"{cluster}/{tables}"


def _leave(connection: postgres_connection.Connection, replica: str) -> None:
    membership.leave(connection.core, replica)
    if connection.replica == replica:
        connection.replica = None
    connection.tell("replicas", "claimable")
