"""Inserts that may find their row there already, for every database the store runs on.

SQLAlchemy has `ON CONFLICT` in each dialect, under the same names but not in common. With it, whoever looks first and
inserts then needs nobody to hold back the others in between. Called by the rooms of the store that write.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["insert"]


def insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An insert into `table` that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
