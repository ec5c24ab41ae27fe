"""From the URL of a store to the adapter for it.

Called by `app` and by commands that look into a store. An adapter is imported when a URL asks for it: SQLite needs
nothing that is not there, PostgreSQL the extra `postgres`.
"""

from __future__ import annotations

from orchestrator import errors
from orchestrator.store import base, sqlite

__all__ = ["make"]


def make(url: str) -> base.Store:
    """The store at `url`, not yet open. Raises StoreError when no adapter knows it, or its driver is missing."""
    scheme = url.partition(":")[0]
    if scheme in ("sqlite", ""):
        return sqlite.SQLiteStore(url)
    if scheme not in ("postgresql", "postgres"):
        raise errors.StoreError(
            f"{scheme!r} is no store that this release knows. Write sqlite:///path/to/file.db, sqlite:// for one in "
            "memory, or postgresql://USER:PASSWORD@HOST/DATABASE."
        )
    try:
        from orchestrator.store import postgres  # its driver is an extra
    except ModuleNotFoundError as error:
        if error.name not in ("psycopg", "psycopg_binary"):
            raise
        raise errors.StoreError(
            "A PostgreSQL store needs a driver that is not installed: pip install 'dagengine[postgres]'."
        ) from error
    return postgres.PostgresStore(url)
