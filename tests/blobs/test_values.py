"""Batches and records that cite large values, and those values read back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from dagengine.events import facts
from orchestrator.blobs import references, values
from orchestrator.blobs.in_store import InStore
from orchestrator.errors import ValuesMissing
from orchestrator.store.base import PAGE_BYTES, Batch, KnownResult, StoredFact, Terminal
from orchestrator.store.sqlite import SQLiteStore

LARGE = b'"%s"' % (b"x" * 1_000_000)


@pytest.fixture
async def blobs() -> AsyncIterator[InStore]:
    store = SQLiteStore("sqlite://")
    await store.open()
    yield InStore(store)
    await store.close()


def succeeded(result: bytes, node: str = "a") -> bytes:
    return facts.encode(facts.NodeSucceeded(at=1, node=node, result=msgspec.Raw(result)))


def stored(*payloads: bytes) -> list[StoredFact]:
    return [
        StoredFact(position=seq, execution="x", epoch=1, seq=seq, payload=payload)
        for seq, payload in enumerate(payloads, 1)
    ]


async def test_a_batch_is_kept_once_its_values_are(blobs: InStore) -> None:
    known = KnownResult(digest="c", result=LARGE, execution="x", found_at=1)
    payloads = [succeeded(b"1"), succeeded(LARGE), succeeded(LARGE, "b")]
    terminal = Terminal(status="succeeded", at=1, outputs=LARGE)
    batch = Batch(execution="x", epoch=1, first_seq=1, facts=payloads, terminal=terminal, results=[known])
    kept = await values.kept(blobs, batch)
    [digest] = kept.blobs
    assert await blobs.get([digest, "unknown"]) == {digest: LARGE}
    assert kept.facts[0] is payloads[0]
    assert [references.cited(payload) for payload in kept.facts] == [[], [digest], [digest]]
    assert kept.terminal is not None
    assert kept.terminal.outputs == kept.results[0].result == b"blob:%s:%d" % (digest.encode(), len(LARGE))
    assert await values.whole(blobs, kept.facts) == payloads
    assert await values.value(blobs, kept.results[0].result) == LARGE


async def test_a_small_batch_is_left_as_it_is(blobs: InStore) -> None:
    batch = Batch(execution="x", epoch=1, first_seq=1, facts=[succeeded(b"1")])
    assert await values.kept(blobs, batch) is batch
    assert await values.whole(blobs, batch.facts) is batch.facts


async def test_values_that_are_missing_are_named(blobs: InStore) -> None:
    short = [references.externalize(succeeded(b'"%s"' % (b"x" * size)))[0] for size in range(200_000, 200_005)]
    with pytest.raises(ValuesMissing, match=r"that are not kept: sha256:\w+, sha256:\w+, sha256:\w+ and 2 more; rest"):
        await values.whole(blobs, short)


def test_a_page_is_cut_where_its_values_become_too_many() -> None:
    short, _ = references.externalize(succeeded(LARGE))
    half = PAGE_BYTES // len(LARGE)
    page = stored(*[short] * (2 * half + 1))
    assert [len(part) for part in values.pages(page)] == [half, half, 1]
    assert [fact.seq for part in values.pages(page) for fact in part] == [fact.seq for fact in page]


def test_what_is_larger_than_a_page_comes_alone() -> None:
    huge, _ = references.externalize(succeeded(b'"%s"' % (b"x" * 2 * PAGE_BYTES)))
    small = succeeded(b"1")
    assert [len(part) for part in values.pages(stored(small, huge, huge, small))] == [1, 1, 1, 1]
    assert [len(part) for part in values.pages(stored(small, small))] == [2]
    assert list(values.pages([])) == []
