"""A large value goes when no fact cites it, and not before the fact that is to cite it had its time to come."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from orchestrator.store import blobs, schema
from orchestrator.store.base import Batch, NewExecution, Terminal, VersionRecord
from orchestrator.store.sqlite import SQLiteStore


@pytest.fixture
async def store(version: VersionRecord) -> AsyncIterator[SQLiteStore]:
    """A store with executions `e1` and `e2`, both dispatched under epoch 1."""
    opened = SQLiteStore()
    await opened.open()
    await opened.add_version(version)
    for name in ("e1", "e2"):
        await opened.create_execution(
            NewExecution(id=name, workflow="w", version="1.0.0", digest="d", inputs=b"{}", created_at=1, seed=1)
        )
    await opened.dispatch(["e1", "e2"], "engine-1")
    yield opened
    await opened.close()


def core(store: SQLiteStore) -> sa.Connection:
    assert store._connection is not None
    return store._connection.core


def age(store: SQLiteStore, microseconds: int) -> None:
    """Have everything been put so much earlier."""
    core(store).execute(schema.blobs.update().values(put_at=schema.blobs.c.put_at - microseconds))


def citing(execution: str, *digests: str, first_seq: int = 1, terminal: Terminal | None = None) -> Batch:
    return Batch(
        execution=execution, epoch=1, first_seq=first_seq, facts=[b'{"at":1}'], blobs=digests, terminal=terminal
    )


async def test_what_no_fact_cites_goes_after_an_hour(store: SQLiteStore) -> None:
    await store.put_blobs({"a": b"1", "b": b"2", "c": b"3"})
    age(store, blobs.KEPT - 60_000_000)
    assert await store.purge_blobs(rows=10) == 0
    age(store, 120_000_000)
    assert [await store.purge_blobs(rows=2) for _ in range(3)] == [2, 1, 0]
    assert await store.blobs(["a", "b", "c"]) == {}


async def test_what_is_cited_stays_as_long_as_one_execution_cites_it(store: SQLiteStore) -> None:
    await store.put_blobs({"a": b"1", "b": b"2"})
    age(store, 2 * blobs.KEPT)
    end = Terminal(status="succeeded", at=1, outputs=b"{}")
    await store.append([citing("e1", "a"), citing("e2", "a", "b", "a")])
    await store.append([citing("e1", "a", first_seq=2, terminal=end), citing("e2", first_seq=2, terminal=end)])
    assert await store.purge_blobs(rows=10) == 0
    await store.purge(["e2"], rows=100)
    assert await store.purge_blobs(rows=10) == 1
    assert await store.blobs(["a", "b"]) == {"a": b"1"}
    await store.purge(["e1"], rows=100)
    assert await store.purge_blobs(rows=10) == 1


async def test_facts_that_are_refused_cite_nothing(store: SQLiteStore) -> None:
    await store.put_blobs({"a": b"1"})
    age(store, 2 * blobs.KEPT)
    await store.append([citing("e1", "a", first_seq=7)])
    assert await store.purge_blobs(rows=10) == 1


async def test_an_execution_that_its_owner_ends_cites_values_too(store: SQLiteStore) -> None:
    await store.put_blobs({"a": b"1"})
    age(store, 2 * blobs.KEPT)
    await store.release("e1", 1)
    assert await store.end_undispatched(citing("e1", "a", terminal=Terminal(status="failed", at=1))) is True
    assert await store.purge_blobs(rows=10) == 0


async def test_putting_a_value_again_gives_it_its_time_again(store: SQLiteStore) -> None:
    """Whoever puts it may find it there, and be about to cite it."""
    await store.put_blobs({"a": b"1"})
    age(store, 2 * blobs.KEPT)
    await store.put_blobs({"a": b"1"})
    assert await store.purge_blobs(rows=10) == 0
    age(store, blobs.KEPT - blobs.KEPT // 2 - 60_000_000)  # not yet half of it: not worth a write
    before = core(store).scalar(sa.select(schema.blobs.c.put_at))
    await store.put_blobs({"a": b"1"})
    assert core(store).scalar(sa.select(schema.blobs.c.put_at)) == before
