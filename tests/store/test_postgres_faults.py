"""What may happen to a PostgreSQL store: its server dies, cuts connections, stands still, or was never there.

Nothing acknowledged is lost, nothing comes twice or out of order, and the store goes on by itself.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command

from orchestrator import errors
from orchestrator.store import migration, postgres_session, schema
from orchestrator.store.base import Batch, NewExecution, Topic, VersionRecord
from orchestrator.store.postgres import PostgresStore

WRITERS = 4
DIGEST = "sha256:w"
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'dagengine%'"
BLOCKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dagengine writer' AND wait_event_type = 'Lock'"
)


@pytest.fixture(scope="module")
def server(postgres_server: Any) -> Iterator[Any]:
    """One that writes to the disk before it says so."""
    postgres_server.configure(fsync="on", full_page_writes="on")
    yield postgres_server
    postgres_server.configure(fsync="off", full_page_writes="off")


@pytest.fixture
def url(server: Any) -> Iterator[str]:
    """A new database."""
    made = server.url()
    yield made
    server.drop(made)


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    """An open store with executions `e0`, `e1`, …, dispatched under epoch 1."""
    opened = PostgresStore(url)
    await opened.open()
    await opened.add_version(
        VersionRecord(
            workflow="w",
            version="1.0.0",
            digest=DIGEST,
            document=b"{}",
            labels={},
            name="",
            description="",
            registered_at=1,
        )
    )
    for number in range(WRITERS):
        await opened.create_execution(new(f"e{number}"))
        await opened.dispatch([f"e{number}"], "engine-1")
    yield opened
    await opened.close()


def new(id: str) -> NewExecution:
    return NewExecution(id=id, workflow="w", version="1.0.0", digest=DIGEST, inputs=b"{}", created_at=1, seed=1)


def batch(execution: str, seq: int) -> Batch:
    facts = [b'{"at":1,"seq":%d}' % number for number in range(seq, seq + 3)]
    return Batch(execution=execution, epoch=1, first_seq=seq, facts=facts)


def wait_until_blocked(server: Any) -> None:
    """Until the writer of a store waits for a lock: only the server can tell."""
    until = time.monotonic() + 30
    while server.sql(None, BLOCKED) != [(1,)]:
        assert time.monotonic() < until


class Progress:
    """How far each execution was acknowledged."""

    def __init__(self) -> None:
        self.last = {f"e{number}": 0 for number in range(WRITERS)}
        self.over = False
        self._moved = asyncio.Event()

    async def append(self, store: PostgresStore, execution: str) -> None:
        """Append until it is over, again what was refused: an engine would send it again, too."""
        while not self.over:
            try:
                (answer,) = await store.append([batch(execution, self.last[execution] + 1)])
            except errors.StoreError:
                continue
            assert answer.outcome == "committed"
            assert answer.last_seq == self.last[execution] + 3
            self.last[execution] = answer.last_seq
            self._moved.set()

    async def by(self, facts: int) -> None:
        """Until each has so many more."""
        goals = {execution: last + facts for execution, last in self.last.items()}
        async with asyncio.timeout(60):
            while any(self.last[execution] < goal for execution, goal in goals.items()):
                self._moved.clear()
                await self._moved.wait()


async def test_a_server_that_is_killed_and_started_loses_nothing(store: PostgresStore, server: Any) -> None:
    progress = Progress()
    writers = [asyncio.create_task(progress.append(store, execution)) for execution in progress.last]
    for _ in range(2):
        await progress.by(15)
        await asyncio.to_thread(server.restart)
    await progress.by(15)
    progress.over = True  # not cancelled: what the store was given it would write all the same, while it is read here
    await asyncio.gather(*writers)
    positions = []
    for execution, last in progress.last.items():
        facts = await store.facts(execution)
        assert [fact.seq for fact in facts] == list(range(1, len(facts) + 1))
        assert [fact.payload for fact in facts] == [b'{"at":1,"seq":%d}' % fact.seq for fact in facts]
        assert len(facts) >= last  # what was written but not answered may be there
        positions += [fact.position for fact in facts]
    assert sorted(positions) == list(range(1, await store.position() + 1))


async def test_connections_that_are_cut_are_made_again(store: PostgresStore, server: Any) -> None:
    assert await store.position() == 0
    server.sql(None, CUT)
    (answer,) = await store.append([batch("e0", 1)])
    assert answer.outcome == "committed"
    server.sql(None, CUT)
    assert await store.position() == 3


async def test_what_is_asked_waits_for_a_server_that_is_about_to_be_back(store: PostgresStore, server: Any) -> None:
    server.stop()
    asked = [asyncio.ensure_future(store.append([batch("e0", 1)])), asyncio.ensure_future(store.execution("e1"))]
    await asyncio.sleep(0)
    await asyncio.to_thread(server.start)
    assert [bool(answer) for answer in await asyncio.gather(*asked)] == [True, True]


async def test_a_server_that_does_not_come_back_is_told_of_and_the_end_is_not_held_up(
    store: PostgresStore, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_session, "_PATIENCE", 0.2)
    server.stop()
    try:
        for ask in (store.append([batch("e0", 1)]), store.execution("e0"), store.add_logs("e0", 1, [("a", b"{}")])):
            with pytest.raises(errors.StoreError, match=r"Connection refused\. Is the server running there\?$"):
                await ask
        monkeypatch.setattr(postgres_session, "_PATIENCE", 600.0)
        pending = asyncio.ensure_future(store.append([batch("e1", 1)]))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await store.close()
        with pytest.raises(errors.StoreError):
            await pending
    finally:
        await asyncio.to_thread(server.start)


async def test_a_commit_that_is_cut_leaves_open_whether_it_was(store: PostgresStore, server: Any) -> None:
    connection = store._connection
    assert connection is not None
    commit = connection.commit

    def cut() -> None:
        server.sql(None, CUT)
        commit()

    connection.commit = cut  # type: ignore[method-assign] # the server dies at the worst moment
    with pytest.raises(errors.StoreError, match="whether it was is not known"):
        await store.append([batch("e0", 1)])
    connection.commit = commit  # type: ignore[method-assign] # and is back
    (answer,) = await store.append([batch("e0", 1)])
    assert (answer.outcome, answer.last_seq) == ("committed", 3)


async def test_a_statement_that_fails_costs_nobody_else_anything(store: PostgresStore) -> None:
    bad = store._submit(lambda connection: connection.driver.execute("INSERT INTO facts DEFAULT VALUES"))
    good = store.append([batch("e0", 1)])
    with pytest.raises(errors.StoreError, match="null value"):
        await bad
    assert [answer.outcome for answer in await good] == ["committed"]


async def test_whoever_stands_still_in_the_middle_of_a_write_gives_way(
    store: PostgresStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = postgres_session._SETTINGS
    assert "idle_in_transaction_session_timeout = '5s'" in settings
    monkeypatch.setattr(postgres_session, "_SETTINGS", settings.replace("'5s'", "'200ms'"))
    still = postgres_session.Address(url).connect("writer", writes=True)
    still.execute("BEGIN")
    still.execute("SELECT value FROM counters FOR UPDATE")
    (answer,) = await store.append([batch("e0", 1)])
    assert answer.outcome == "committed"
    with pytest.raises(psycopg.Error, match="idle-in-transaction"):
        still.execute("SELECT 1")
    still.close()


async def test_after_a_connection_was_lost_every_topic_is_called(store: PostgresStore, server: Any) -> None:
    heard: asyncio.Queue[Topic] = asyncio.Queue()
    store.listen(heard.put_nowait)
    topics = {"facts", "inbox", "claimable", "versions", "replicas"}
    async with asyncio.timeout(30):
        assert {await heard.get() for _ in topics} == topics
        server.sql(None, CUT)
        assert {await heard.get() for _ in topics} == topics


async def test_a_migration_that_is_interrupted_halfway_has_not_begun(url: str, server: Any) -> None:
    older = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with older.begin() as connection:
        config = migration._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    older.dispose()
    reader = psycopg.connect(url)
    reader.execute("SELECT count(*) FROM executions")  # the third step has to wait for this to end
    store = PostgresStore(url)
    opening = asyncio.ensure_future(store.open())
    await asyncio.to_thread(wait_until_blocked, server)
    await asyncio.to_thread(server.restart)
    with pytest.raises(errors.StoreError):
        await opening
    reader.close()
    assert server.sql(url, "SELECT version_num FROM alembic_version") == [("0002",)]
    assert server.sql(url, "SELECT to_regclass('former_ends')::text") == [(None,)]
    await store.open()
    assert await store.versions() == []
    await store.close()
    assert server.sql(url, "SELECT version_num FROM alembic_version") == [(schema.HEAD,)]


@pytest.mark.parametrize("fault", ["password", "server", "database", "url"])
async def test_a_url_that_leads_nowhere_is_told_at_once_and_without_its_password(
    url: str, server: Any, fault: str
) -> None:
    wrong, told = {
        "password": (url.replace("s3cret", "wr0ng"), "password authentication failed"),
        "server": (url.replace(f":{server.port}/", ":1/"), "Connection refused"),
        "database": (url.rpartition("/")[0] + "/missing", '"missing" does not exist'),
        "url": (url.replace("@127", "%zz@127"), "cannot be read"),
    }[fault]
    began = time.monotonic()
    with pytest.raises(errors.StoreError, match=told) as caught:
        await PostgresStore(wrong).open()
    assert time.monotonic() - began < 5
    story = "".join(traceback.format_exception(caught.value))
    assert not any(secret in story for secret in ("s3cret-of", "wr0ng-of"))
