"""Connections to PostgreSQL: what they are like, how a lost one is made again, and what errors mean.

SQLAlchemy runs the statements that are not on the hot path, but does not decide about transactions: connections are
in autocommit mode, and whoever writes begins and commits explicitly. Used by the other modules of the adapter alone.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import conninfo, pq
from sqlalchemy import pool

from orchestrator import errors
from orchestrator.store import postgres_arrays

__all__ = ["Address", "Driver", "Session", "explained"]

_DEFAULTS: Final = {
    "connect_timeout": 5,
    # A server that is gone without a word is noticed within about ten seconds.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_OLDEST: Final = 130_000
"""The oldest server that is taken, as PostgreSQL counts: 13."""
_SETTINGS: Final = """
    SET statement_timeout = '30s';
    SET idle_in_transaction_session_timeout = '5s';
    SET default_transaction_isolation = 'read committed';
    SET client_min_messages = warning;
    SET jit = off"""
"""A process that stands still in the middle of a transaction holds up the writes of all others: not for long."""
_FOR_WRITING: Final = """
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"""
"""Writes find their rows by keys. They are planned once, maybe while the tables are empty, and kept for when they are
not: a plan that reads whole tables must not be among them."""
_FOR_READING: Final = "SET default_transaction_read_only = on"

_PATIENCE: Final = 5.0
"""Seconds for which what is asked waits for a server that has just gone: a restart takes about one."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

_ADVICE: Final = {
    "password authentication failed": "Check the user and the password in the URL.",
    "no password supplied": "Write the password into the URL: postgresql://USER:PASSWORD@HOST/DATABASE.",
    "does not exist": "Create it, or correct the URL.",
    "permission denied for schema": "The user of the URL has to be allowed to create tables there; best it owns the "
    "database.",
    "host name": "Correct the host in the URL.",
    "Connection refused": "Is the server running there?",
    ".s.PGSQL.": "Is the server running on this machine? If it is on another, write its host into the URL.",
}


class Address:
    """Where a database is. `name` is what messages call it: its host and its own name, and never the password.

    Raises StoreError when the URL cannot be read.
    """

    def __init__(self, url: str) -> None:
        try:
            given = conninfo.conninfo_to_dict(url)
        except psycopg.Error:
            raise errors.StoreError(
                "The URL of the PostgreSQL store cannot be read. Write "
                "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for an @ in the password and so on."
            ) from None  # the cause quotes parts of the URL
        self._parameters: dict[str, Any] = _DEFAULTS | given
        database = given.get("dbname") or given.get("user") or ""
        port = f":{given['port']}" if given.get("port") else ""
        self.name = f"postgresql://{given.get('host') or given.get('hostaddr') or ''}{port}/{database}"

    def connect(self, purpose: str, *, writes: bool = False) -> Driver:
        """A connection in autocommit mode. Raises psycopg.Error, or StoreError for a server that will not do."""
        parameters = {"application_name": f"dagengine {purpose}"} | self._parameters
        connection = Driver.connect(autocommit=True, cursor_factory=Cursor, **parameters)
        try:
            self._check(connection)
            plain = psycopg.Cursor(connection)
            plain.execute(_SETTINGS)
            plain.execute(_FOR_WRITING if writes else _FOR_READING)
            postgres_arrays.register(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: psycopg.Connection[Any]) -> None:
        version, encoding = connection.info.server_version, connection.info.parameter_status("server_encoding")
        if version < _OLDEST:
            raise errors.StoreError(f"{self.name} is a PostgreSQL {version // 10_000}: the store needs 13 or newer.")
        if encoding != "UTF8":
            raise errors.StoreError(
                f"{self.name} has the encoding {encoding}: create the database with ENCODING 'UTF8' TEMPLATE template0."
            )


class Driver(psycopg.Connection[Any]):
    """A connection that counts the statements that have changed something."""

    changes = 0


class Cursor(psycopg.Cursor[Any]):
    """Results come in the binary format."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.format = pq.Format.BINARY

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        super().execute(*args, **kwargs)
        if self.rowcount > 0 and not (self.statusmessage or "").startswith("SELECT"):
            connection = self.connection
            assert isinstance(connection, Driver)  # noqa: S101 - nobody else makes these cursors
            connection.changes += 1
        return self


class Session:
    """One connection, as `driver` and, for SQLAlchemy, as `core`; made again when it was lost.

    One thread at a time uses it. `connect` has to come first.
    """

    def __init__(self, address: Address, purpose: str, *, writes: bool = False) -> None:
        self._address = address
        self._purpose = purpose
        self._writes = writes
        self._lost_at: float | None = None
        self._failure: Exception | None = None
        self._not_before = 0.0
        self._hurry = threading.Event()
        self._engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=lambda: self.driver,
            poolclass=pool.NullPool,
            isolation_level="AUTOCOMMIT",
            use_native_hstore=False,
            hide_parameters=True,
            pool_reset_on_return=None,
        )
        self.driver: Driver
        self.core: sa.Connection
        self._made = False

    def connect(self) -> None:
        """Connect, once. Raises what `Address.connect` raises."""
        self.close()
        self.driver = self._address.connect(self._purpose, writes=self._writes)
        try:
            self.core = self._engine.connect()
        except BaseException:
            self.driver.close()
            raise
        self._made = True
        self._lost_at = None

    @property
    def is_lost(self) -> bool:
        """Whether there is no connection, or only one that does not answer any more."""
        return not self._made or self.driver.closed

    def require(self) -> None:
        """See to it that there is a connection, and wait a little for one. Raises what kept it from being made."""
        pause = _FIRST_PAUSE
        while self.is_lost:
            self._retry(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _retry(self, pause: float) -> None:
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
        patient = now - self._lost_at < _PATIENCE and not self._hurry.is_set()
        if self._failure is not None and not patient and now < self._not_before:
            raise self._failure  # many may ask at once, and each attempt may take seconds
        try:
            self.connect()
            self._failure = None
        except Exception as error:
            self._failure = error
            self._not_before = time.monotonic() + _LONGEST_PAUSE
            if not patient:
                raise
            self._hurry.wait(pause)

    def hurry(self) -> None:
        """Wait for no server any more."""
        self._hurry.set()

    def close(self) -> None:
        """Let go of the connection. Idempotent."""
        if self._made:
            self._made = False
            with contextlib.suppress(Exception):  # it may be broken in many ways, and goes anyway
                self.core.detach()
                self.core.close()
            self.driver.close()


def explained(error: Exception, name: str) -> errors.OrchestratorError:
    """What callers get to see for an exception of the database `name`: a refusal as it is, the rest in a StoreError."""
    if isinstance(error, errors.OrchestratorError):
        return error
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
    fresh = errors.StoreError(f"{name}: {_message(cause)}")
    fresh.__cause__ = error
    return fresh


def _message(cause: BaseException) -> str:
    if not isinstance(cause, psycopg.Error):
        return f"{type(cause).__name__}: {cause}"
    said = (line.strip() for line in str(cause).splitlines())
    text = cause.diag.message_primary or " ".join(line for line in said if not line.startswith("Is the server running"))
    advice = next((advice for sign, advice in _ADVICE.items() if sign in text), "")
    return f"{text.rstrip('.')}. {advice}".rstrip()
