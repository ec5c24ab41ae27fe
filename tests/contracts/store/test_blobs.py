"""Large values by digest."""

from __future__ import annotations

import asyncio

from orchestrator.store.base import Store


async def test_values_come_back_by_digest(store: Store) -> None:
    values = {"sha256:a": b"x" * 1_000_000, "sha256:b": b'"b"', "sha256:c": b""}
    await store.put_blobs(values)
    assert await store.blobs(["sha256:a", "sha256:b", "sha256:c", "unknown"]) == values
    assert await store.blobs([]) == {}
    await store.put_blobs({})


async def test_what_is_there_is_left_as_it_is(store: Store) -> None:
    await store.put_blobs({"a": b"1"})
    await store.put_blobs({"a": b"2", "b": b"3"})
    assert await store.blobs({"a", "b"}) == {"a": b"1", "b": b"3"}


async def test_many_may_put_the_same_at_once(store: Store) -> None:
    names = [f"d{number}" for number in range(20)]
    await asyncio.gather(
        *(store.put_blobs({name: name.encode() for name in (names if n % 2 else reversed(names))}) for n in range(10))
    )
    assert await store.blobs(names) == {name: name.encode() for name in names}


async def test_a_new_value_is_kept_before_a_fact_cites_it(store: Store) -> None:
    await store.put_blobs({"a": b"1"})
    assert await store.purge_blobs(rows=100) == 0
    assert await store.blobs(["a"]) == {"a": b"1"}
