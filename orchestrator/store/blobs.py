"""Large values by digest, in the database.

Each function runs inside the transaction of its caller. `now` is what the clock of the store says. A value that was
put is kept for `KEPT` at least, so that the fact that is to cite it can be committed meanwhile; after that for as
long as a fact cites it (see `retention`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import sqlalchemy as sa

from orchestrator.store import conflicts, queries, schema

__all__ = ["KEPT", "put", "values"]

KEPT: Final = 3_600_000_000
"""Microseconds for which a value is kept that no fact cites. It counts from when it was put last, or a little before:
that is written anew only once half of it has passed."""

_blobs = schema.blobs


def put(connection: sa.Connection, blobs: Mapping[str, bytes], *, now: int) -> None:
    """Keep values by digest; what is there already counts as put again."""
    for digest, value in sorted(blobs.items()):  # in one order, so that two that put the same never wait crosswise
        insert = conflicts.insert(connection, _blobs).values(digest=digest, put_at=now, value=value)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=[_blobs.c.digest],
                set_={"put_at": insert.excluded.put_at},
                where=_blobs.c.put_at < insert.excluded.put_at - KEPT // 2,
            )
        )


def values(connection: sa.Connection, digests: Collection[str]) -> dict[str, bytes]:
    """The values with some digests; unknown ones are left out."""
    found: dict[str, bytes] = {}
    for some in queries.portions(list(digests)):
        rows = connection.execute(sa.select(_blobs.c.digest, _blobs.c.value).where(_blobs.c.digest.in_(some)))
        found.update((digest, value) for digest, value in rows)
    return found
