"""Large values where they are needed: put before the facts that cite them, and read back into what cites them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import msgspec

from orchestrator.blobs import references
from orchestrator.blobs.base import Blobs
from orchestrator.errors import ValuesMissing
from orchestrator.store.base import PAGE_BYTES, Batch, ExecutionRecord, StoredFact

__all__ = ["get", "kept", "lean", "of_record", "pages", "value", "whole"]


def lean(batch: Batch) -> tuple[Batch, dict[str, bytes]]:
    """A batch as the store keeps it, and the values that it then cites, by digest. Hashes them: megabytes take ms."""
    values: dict[str, bytes] = {}
    payloads = []
    for payload in batch.facts:
        short, found = references.externalize(payload)
        payloads.append(short)
        values |= found
    if not values:
        return batch, {}
    terminal, results = batch.terminal, list(batch.results)
    if terminal is not None and terminal.outputs is not None:
        terminal = msgspec.structs.replace(terminal, outputs=references.externalize_value(terminal.outputs)[0])
    for at, known in enumerate(results):
        results[at] = msgspec.structs.replace(known, result=references.externalize_value(known.result)[0])
    batch = msgspec.structs.replace(batch, facts=payloads, terminal=terminal, results=results, blobs=sorted(values))
    return batch, values


async def kept(blobs: Blobs, batch: Batch) -> Batch:
    """A batch as the store keeps it, once the values that it cites are kept. Raises StoreError."""
    short, values = lean(batch)
    if values:
        await blobs.put(values)
    return short


async def get(blobs: Blobs, digests: Collection[str]) -> dict[str, bytes]:
    """The values with some digests. Raises ValuesMissing when one is not there."""
    if not digests:
        return {}
    found = await blobs.get(digests)
    missing = sorted(set(digests) - found.keys())
    if missing:
        raise ValuesMissing(
            f"facts cite large values that are not kept: {', '.join(missing[:3])}"
            f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}; restore them from a backup of the store"
        )
    return found


async def whole(blobs: Blobs, payloads: Sequence[bytes]) -> Sequence[bytes]:
    """Encoded facts with all their values. Raises ValuesMissing when one is not there."""
    digests = {digest for payload in payloads for digest in references.cited(payload)}
    if not digests:
        return payloads
    values = await get(blobs, digests)
    return [references.resolve(payload, values) for payload in payloads]


def pages(page: Sequence[StoredFact]) -> Iterator[Sequence[StoredFact]]:
    """A page of facts in parts that take no more than about `PAGE_BYTES` with all their values, or one fact each."""
    first, size = 0, 0
    for at, fact in enumerate(page):
        more = len(fact.payload) + sum(one.size for one in references.citations(fact.payload).values())
        if size + more > PAGE_BYTES and at > first:
            yield page[first:at]
            first, size = at, 0
        size += more
    if page:
        yield page[first:]


async def value(blobs: Blobs, kept: bytes) -> bytes:
    """A value that is kept by itself. Raises ValuesMissing when it is not there."""
    reference = references.reference_of(kept)
    return kept if reference is None else (await get(blobs, [reference.digest]))[reference.digest]


async def of_record(blobs: Blobs, record: ExecutionRecord) -> ExecutionRecord:
    """A record with its outputs. Raises ValuesMissing when they are not there."""
    if record.outputs is None or references.reference_of(record.outputs) is None:
        return record
    return msgspec.structs.replace(record, outputs=await value(blobs, record.outputs))
