"""What `dagctl export` does: a journal, page by page, into a file."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import drafts
from orchestrator.errors import StoreError
from orchestrator.history import lines

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.verbs import Verbs

__all__ = ["export", "exported"]


def export(client: Client, execution: str, file: str | None, *, force: bool) -> None:
    """Write the journal of an execution to `file`, or to standard output."""
    if file is None:
        asyncio.run(_write(client, execution, None))
        return
    with drafts.draft(Path(file), force=force) as draft:
        asyncio.run(_write(client, execution, draft))


async def exported(verbs: Verbs, execution: str) -> AsyncIterator[bytes]:
    """The lines of the journal of an execution, as it was when the first one was asked for. NotFound, StoreError."""
    header = await verbs.journal(execution)
    yield lines.encode(header)
    after = 0
    while after < header.last_seq:
        page = await verbs.facts(execution, after=after, limit=min(1_000, header.last_seq - after))
        if not page:
            raise StoreError(f"the journal of {execution} ends at {after}, and should have {header.last_seq} facts")
        for fact in page:
            yield lines.encode(fact)
        after = page[-1].seq


async def _write(client: Client, execution: str, place: Path | None) -> None:
    async with client:
        if place is None:
            async for line in exported(client, execution):
                sys.stdout.buffer.write(line)
            return
        with place.open("wb") as out:
            async for line in exported(client, execution):
                out.write(line)
