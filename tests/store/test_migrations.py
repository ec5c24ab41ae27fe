"""The Alembic revisions and the tables of `schema` are the same thing, and opening does no more than it must."""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from dagengine.machine import operations
from orchestrator import errors
from orchestrator.store import migration, queries, schema
from orchestrator.store.base import Batch
from orchestrator.store.sqlite import SQLiteStore

TWICE = """
import asyncio, sys
from orchestrator.store.sqlite import SQLiteStore

async def main():
    for _ in range(2):
        store = SQLiteStore(sys.argv[1])
        await store.open()
        await store.close()

asyncio.run(main())
print(any(name.partition(".")[0] == "alembic" for name in sys.modules))
"""


PARTS = re.compile(r"[^\s,()]+(?:[^,()]|\([^()]*\))*")


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def other(connection: sa.Connection) -> Iterator[sa.Connection]:
    """A second empty database."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def differences(connection: sa.Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, schema.metadata))


def tables(connection: sa.Connection) -> dict[str, list[str]]:
    """What each table and index is made of. Columns that were added later come last, which means nothing."""
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {name: sorted(PARTS.findall(re.sub(r"\s+", " ", sql))) for name, sql in rows}


def test_the_revisions_arrive_at_the_schema(connection: sa.Connection) -> None:
    migration.upgrade(connection)
    assert differences(connection) == []


def test_a_comparison_would_see_a_difference(connection: sa.Connection) -> None:
    migration.upgrade(connection)
    connection.exec_driver_sql("DROP INDEX uq_executions_occurrence")
    connection.exec_driver_sql("ALTER TABLE facts ADD COLUMN extra TEXT")
    assert len(differences(connection)) == 2


def test_a_new_database_is_what_the_revisions_would_have_made(connection: sa.Connection, other: sa.Connection) -> None:
    migration.migrate(connection, name="new")
    migration.upgrade(other)
    assert tables(connection) == tables(other)
    revision = "SELECT version_num FROM alembic_version"
    assert connection.exec_driver_sql(revision).all() == other.exec_driver_sql(revision).all() == [(schema.HEAD,)]


def test_the_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", "orchestrator.store:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_opening_does_not_import_alembic(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWICE, f"sqlite:///{tmp_path}/s.db"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


async def test_an_older_database_is_upgraded_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    before_the_first = sqlite3.connect(path)
    before_the_first.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    before_the_first.close()
    store = SQLiteStore(f"sqlite:///{path}")
    await store.open()
    assert await store.versions() == []
    await store.close()
    upgraded = sa.create_engine(f"sqlite:///{path}")
    with upgraded.connect() as connection:
        assert differences(connection) == []
    upgraded.dispose()


async def test_a_request_of_an_older_release_is_understood(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    older = sa.create_engine(url)
    with older.begin() as connection:
        config = migration._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.exec_driver_sql("INSERT INTO documents VALUES ('d', x'7b7d')")
        connection.exec_driver_sql(
            "INSERT INTO executions (number, id, workflow, version, digest, status, seed, epoch, last_seq, "
            "\"trigger\", created_at) VALUES (1, 'e1', 'w', '1.0.0', 'd', 'queued', 1, 0, 0, 'api', 1)"
        )
        connection.exec_driver_sql("INSERT INTO execution_inputs VALUES (1, x'7b7d')")
        payload = b'{"author":"ada","reason":"enough"}'
        row = {"number": 1, "id": "i1", "execution": 1, "kind": "cancel", "payload": payload, "created_at": 1}
        connection.execute(schema.inbox.insert(), row)
    older.dispose()
    store = SQLiteStore(url)
    await store.open()
    (item,) = await store.inbox("e1")
    await store.close()
    assert operations.decode(item.payload) == operations.Cancel(author="ada", reason="enough")


KILLED = """
import asyncio, os, signal, sys
import sqlalchemy as sa
from orchestrator.store.sqlite import SQLiteStore

@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def kill(connection, cursor, statement, *rest):
    if sys.argv[2] in statement:
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(SQLiteStore(sys.argv[1]).open())
"""


@pytest.fixture
def of_0004(tmp_path: Path) -> Path:
    """A database of the release before replicas: with an execution that waits, one that runs, and one that ended."""
    path = tmp_path / "s.db"
    older = sa.create_engine(f"sqlite:///{path}")
    with older.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        config = migration._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        connection.exec_driver_sql("INSERT INTO counters VALUES ('fact_position', 1)")
        connection.exec_driver_sql("INSERT INTO documents VALUES ('d', x'7b7d')")
        for number, status, epoch, engine, ended in (
            (1, "queued", 0, None, None),
            (2, "running", 3, "engine-1", None),
            (3, "succeeded", 2, "engine-1", 9),
        ):
            connection.exec_driver_sql(
                "INSERT INTO executions (number, id, workflow, version, digest, status, seed, epoch, last_seq, engine, "
                "\"trigger\", created_at, finished_at) VALUES (?, ?, 'w', '1.0.0', 'd', ?, 1, ?, ?, ?, 'api', 1, ?)",
                (number, f"e{number}", status, epoch, int(number == 2), engine, ended),
            )
            connection.exec_driver_sql("INSERT INTO execution_inputs VALUES (?, x'7b7d')", (number,))
        connection.exec_driver_sql("INSERT INTO facts VALUES (1, 2, 1, 3, x'7b7d')")
    older.dispose()
    return path


def as_of_0004(path: Path) -> tuple[str, list[str], int]:
    """Revision, columns of executions, and how many facts: read as whoever else has the file would."""
    database = sqlite3.connect(path)
    (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    columns = [row[1] for row in database.execute("PRAGMA table_info(executions)")]
    (facts,) = database.execute("SELECT count(*) FROM facts").fetchone()
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
    return revision, columns, facts


async def is_upgraded(path: Path) -> None:
    """Open the store: whatever has not ended can be claimed, and goes on."""
    store = SQLiteStore(f"sqlite:///{path}")
    await store.open()
    records = {name: await store.execution(name) for name in ("e1", "e2", "e3")}
    found = {name: (r.owner, r.wake_at, r.epoch, r.dispatch_epoch) for name, r in records.items() if r is not None}
    assert found == {"e1": (None, 0, 0, 0), "e2": (None, 0, 3, 3), "e3": (None, None, 2, 2)}
    await store.join("r", name="one", lease=1)
    claimed = await store.claim(now=0, limit=10, keyed=False)
    assert [(record.id, record.epoch) for record in claimed] == [("e1", 0), ("e2", 4)]
    (answer,) = await store.append([Batch(execution="e2", epoch=4, first_seq=2, facts=[b"{}"])])
    assert (answer.outcome, answer.first_position) == ("committed", 2)
    await store.close()
    upgraded = sa.create_engine(f"sqlite:///{path}")
    with upgraded.connect() as connection:
        assert differences(connection) == []
    upgraded.dispose()


async def test_what_had_not_ended_can_be_claimed_after_the_upgrade(of_0004: Path) -> None:
    await is_upgraded(of_0004)


async def test_an_upgrade_that_fails_halfway_changes_nothing(of_0004: Path) -> None:
    before = as_of_0004(of_0004)
    in_the_way = sqlite3.connect(of_0004)
    in_the_way.execute("CREATE TABLE leases (mine TEXT)")
    in_the_way.close()
    with pytest.raises(errors.StoreError, match="table leases already exists"):
        await SQLiteStore(f"sqlite:///{of_0004}").open()
    assert as_of_0004(of_0004) == before
    in_the_way = sqlite3.connect(of_0004)
    in_the_way.execute("DROP TABLE leases")
    in_the_way.close()
    await is_upgraded(of_0004)


@pytest.mark.parametrize("at", ["SET wake_at = 0", "CREATE TABLE leases", "UPDATE alembic_version"])
async def test_an_upgrade_that_is_killed_halfway_is_done_by_the_next_open(of_0004: Path, at: str) -> None:
    before = as_of_0004(of_0004)
    url = f"sqlite:///{of_0004}"
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KILLED, url, at], capture_output=True)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, b"")
    assert as_of_0004(of_0004) == before
    await is_upgraded(of_0004)


async def test_a_database_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    newer = sqlite3.connect(path)
    newer.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    newer.execute("INSERT INTO alembic_version VALUES ('9999')")
    newer.commit()
    newer.close()
    with pytest.raises(errors.StoreError, match=r"s\.db has schema revision 9999, .* newer release"):
        await SQLiteStore(f"sqlite:///{path}").open()
    unchanged = sqlite3.connect(path)
    assert unchanged.execute("SELECT name FROM sqlite_master").fetchall() == [("alembic_version",)]
    unchanged.close()


@pytest.mark.parametrize("of_workflow", [False, True])
@pytest.mark.parametrize("continued", [False, True])
def test_pages_are_read_from_an_index(connection: sa.Connection, *, of_workflow: bool, continued: bool) -> None:
    migration.migrate(connection, name="new")
    statement = queries._page(len(queries.EVERY_STATUS), of_workflow=of_workflow, continued=continued)
    compiled = statement.compile(connection)
    assert compiled.positiontup is not None
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", tuple(1 for _ in compiled.positiontup))
    steps = [row[3] for row in plan]
    index = "ix_executions_workflow_status_created_at_id" if of_workflow else "ix_executions_status_created_at_id"
    assert sum(f"USING COVERING INDEX {index}" in step for step in steps) == len(queries.EVERY_STATUS)
    assert not any(step.startswith("SCAN executions") for step in steps)
