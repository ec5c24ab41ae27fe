"""What is particular to the PostgreSQL store: opening it, whose contents it has, and what it tells whom."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from orchestrator import errors
from orchestrator.store import changes, migration, opening, ownership, postgres_connection, postgres_journal, schema
from orchestrator.store.base import (
    Batch,
    InboxItem,
    KnownResult,
    NewExecution,
    Terminal,
    Topic,
    VersionRecord,
)
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.sqlite import SQLiteStore

WITHOUT_DRIVER = """
import sys
sys.modules["psycopg"] = None
from orchestrator import errors
from orchestrator.store import opening
opening.make("sqlite://")
try:
    opening.make("postgresql://u:s3cret@h/d")
except errors.StoreError as error:
    print(error)
"""

SCANS = "SELECT relname, seq_scan FROM pg_stat_xact_user_tables"


@pytest.fixture
def url(postgres_server: Any) -> Iterator[str]:
    """A new database."""
    made = postgres_server.url()
    yield made
    postgres_server.drop(made)


def new(id: str, **fields: Any) -> NewExecution:
    return NewExecution(
        id=id, workflow="w", version="1.0.0", digest="sha256:w", inputs=b"{}", created_at=1, seed=1, **fields
    )


def version() -> VersionRecord:
    return VersionRecord(
        workflow="w",
        version="1.0.0",
        digest="sha256:w",
        document=b"{}",
        labels={},
        name="",
        description="",
        registered_at=1,
    )


def test_the_url_says_which_store_it_is() -> None:
    assert isinstance(opening.make("sqlite:///x.db"), SQLiteStore)
    assert isinstance(opening.make("postgresql://h/d"), PostgresStore)
    assert isinstance(opening.make("postgres://h/d"), PostgresStore)
    with pytest.raises(errors.StoreError, match="'mysql' is no store that this release knows") as caught:
        opening.make("mysql://u:s3cret@h/d")
    assert "s3cret" not in str(caught.value)


def test_without_the_driver_it_is_said_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_DRIVER], capture_output=True, text=True, check=True)
    assert "pip install 'dagengine[postgres]'" in done.stdout
    assert "s3cret" not in done.stdout


def test_messages_call_it_by_host_and_database() -> None:
    assert PostgresStore("postgresql://me:s3cret@db:5433/orders").name == "postgresql://db:5433/orders"


def test_the_revisions_arrive_at_the_schema(url: str) -> None:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        migration.upgrade(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert list(compare_metadata(context, schema.metadata)) == []
    engine.dispose()


async def test_many_may_open_an_empty_database_at_once(url: str) -> None:
    stores = [PostgresStore(url) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    assert len({await store.incarnation() for store in stores}) == 1
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_copy_of_the_database_is_another_incarnation(url: str, postgres_server: Any) -> None:
    incarnations = []
    for place in (url, url, url + "_copy", url):
        if place not in (url,):
            postgres_server.sql(None, f"CREATE DATABASE {place.rpartition('/')[2]} TEMPLATE {url.rpartition('/')[2]}")
            postgres_server.sql(None, f"ALTER DATABASE {place.rpartition('/')[2]} OWNER TO dagengine")
        store = PostgresStore(place)
        await store.open()
        incarnations.append(await store.incarnation())
        await store.close()
    assert incarnations[0] == incarnations[1] == incarnations[3] != incarnations[2]
    postgres_server.drop(url + "_copy")


async def test_a_database_that_will_not_do_is_refused(url: str, postgres_server: Any) -> None:
    postgres_server.sql(url, "CREATE TABLE orders (id int)")
    with pytest.raises(errors.StoreError, match="is a database of something else"):
        await PostgresStore(url).open()
    postgres_server.sql(None, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(errors.StoreError, match="encoding LATIN1"):
        await PostgresStore(url.rpartition("/")[0] + "/latin").open()
    postgres_server.drop(url.rpartition("/")[0] + "/latin")


async def test_a_database_of_a_newer_release_is_refused(url: str, postgres_server: Any) -> None:
    postgres_server.sql(url, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    postgres_server.sql(url, "INSERT INTO alembic_version VALUES ('9999')")
    postgres_server.sql(url, "ALTER TABLE alembic_version OWNER TO dagengine")
    with pytest.raises(errors.StoreError, match=r"has schema revision 9999, .* newer release"):
        await PostgresStore(url).open()


async def test_a_user_who_may_not_create_tables_is_told_so(url: str, postgres_server: Any) -> None:
    postgres_server.sql(None, f"ALTER DATABASE {url.rpartition('/')[2]} OWNER TO postgres")
    postgres_server.sql(url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(errors.StoreError, match="allowed to create tables"):
        await PostgresStore(url).open()


async def test_commits_are_on_the_disk_even_where_the_default_is_not_to_wait(url: str, postgres_server: Any) -> None:
    postgres_server.sql(None, f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = off")
    store = PostgresStore(url)
    await store.open()
    shown = await store._submit(lambda connection: connection.driver.execute("SHOW synchronous_commit").fetchall())
    await store.close()
    assert shown == [("on",)]


async def test_starts_at_once_are_answered_each_for_itself(url: str) -> None:
    store = PostgresStore(url)
    await store.open()
    await store.add_version(version())
    starts = [
        new("a", idempotency_key="k"),
        new("b", idempotency_key="k"),
        new("c", occurrence="o"),
        new("d", occurrence="o", idempotency_key="l"),
        new("a"),
        new("e", concurrency_key="w/x", most=1),
        new("f", concurrency_key="w/x", most=1),
        NewExecution(id="g", workflow="w", version="1.0.0", digest="?", inputs=b"{}", created_at=1, seed=1),
        new("h"),
        new("i\x00"),
    ]
    answers = await asyncio.gather(*map(store.create_execution, starts), return_exceptions=True)
    told = [answer if isinstance(answer, Exception) else (answer[0].id, answer[1]) for answer in answers]
    assert told[:4] == [("a", True), ("a", False), ("c", True), ("c", False)]
    assert "there is one with this id" in str(told[4])
    assert told[5] == ("e", True)
    assert isinstance(told[6], errors.AtLimit)
    assert "was ever registered" in str(told[7])
    assert told[8] == ("h", True)
    assert isinstance(told[9], errors.StoreError)
    assert sorted(record.id for record in await store.executions()) == ["a", "c", "e", "h"]
    await store.close()


async def test_others_are_told_only_while_there_are_any(url: str) -> None:
    one, two = PostgresStore(url), PostgresStore(url)
    heard: asyncio.Queue[Topic] = asyncio.Queue()
    one.listen(heard.put_nowait)
    await asyncio.gather(one.open(), two.open())
    async with asyncio.timeout(30):
        assert {await heard.get() for _ in range(5)} == {"facts", "inbox", "claimable", "versions", "replicas"}
        await one.join("r1", name="one", lease=60_000_000)
        listening = await asyncio.to_thread(psycopg.connect, url, autocommit=True)
        listening.execute("LISTEN dagengine")
        await one.add_version(version())
        await two.join("r2", name="two", lease=60_000_000)
        assert await heard.get() == "replicas"
        await one.create_execution(new("e1", owned=False))
    told = [notice.payload.partition(" ")[0] for notice in listening.notifies(timeout=30, stop_after=2)]
    listening.close()
    assert told == ["replicas", "claimable"]
    assert heard.empty()  # not what it told itself
    await asyncio.gather(one.close(), two.close())


async def test_writes_read_no_whole_table_even_when_they_were_planned_for_empty_ones(url: str) -> None:
    def write(connection: postgres_connection.Connection) -> list[tuple[str, int]]:
        before = set(connection.driver.execute(SCANS))  # of this session so far: opening has made the tables
        for number in range(8):  # statements are prepared at the sixth time
            id = f"e{number}"
            start = new(id, idempotency_key=id, occurrence=id, concurrency_key="w/x", most=100)
            postgres_journal.create_executions(connection, [start], None, {"sha256:w"})
            postgres_journal.dispatch(connection, [id], "engine-1", None)
            changes.add_inbox(connection.core, InboxItem(id=id, execution=id, kind="c", payload=b"{}", created_at=1))
            result = KnownResult(digest=id, result=b"1", execution=id, found_at=1)
            batch = Batch(execution=id, epoch=1, first_seq=1, facts=[b"{}"], applied=[id], results=[result], blobs=[id])
            postgres_journal.append(connection, [batch])
            end = Batch(execution=id, epoch=1, first_seq=2, facts=[b"{}"], terminal=Terminal(status="failed", at=1))
            postgres_journal.append(connection, [end])
            postgres_journal.add_logs(connection, id, 1, [("a", b"{}")])
            ownership.claim(connection.core, "r1", now=1, limit=1, keyed=True)
            changes.reopen(
                connection.core, InboxItem(id=f"r{id}", execution=id, kind="retry", payload=b"", created_at=1)
            )
        return sorted(set(connection.driver.execute(SCANS)) - before)

    store = PostgresStore(url)
    await store.open()
    await store.add_version(version())
    scanned = await store._submit(write)
    records = await store.executions()
    await store.close()
    assert [record.status for record in records] == ["queued"] * 8
    assert scanned == []
