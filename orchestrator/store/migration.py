"""Brings a database to the schema of this release, inside the transaction of whoever opens the store.

Opening is on the way of every start, so the usual case is one query: a version table that says `HEAD`. An empty
database gets the tables of `schema` directly; a test proves that the Alembic revisions arrive at the same ones. Only
an older database needs Alembic itself, which is imported then.

Called by the adapters in `open`, under the store's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from orchestrator import errors
from orchestrator.store import conflicts, schema

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["migrate", "upgrade"]

_VERSION_TABLE: Final = "alembic_version"


def migrate(connection: sa.Connection, *, name: str) -> None:
    """Make the tables what `schema` says, with the rows that are always there.

    `name` is the database as messages shall call it. Raises StoreError when the database belongs to something else, or
    to a newer release.
    """
    tables = set(sa.inspect(connection).get_table_names())
    if tables:
        _upgrade(connection, tables, name)
    else:
        _create(connection)
    for table, row in (
        (schema.counters, {"name": schema.FACT_POSITION, "value": 0}),
        (schema.leases, {"name": schema.LEADER, "holder": None, "term": 0}),
    ):
        connection.execute(conflicts.insert(connection, table).on_conflict_do_nothing(), row)


def _upgrade(connection: sa.Connection, tables: set[str], name: str) -> None:
    if _VERSION_TABLE not in tables:
        raise errors.StoreError(
            f"{name} is a database of something else (it has a table {min(tables)!r}, and no {_VERSION_TABLE!r}). "
            "Give the store a file of its own."
        )
    revision = connection.scalar(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608 - a constant
    if revision != schema.HEAD:
        _require_known(revision, name)
        upgrade(connection)


def upgrade(connection: sa.Connection) -> None:
    """Run the Alembic revisions that the database lacks."""
    from alembic import command  # imports slowly, and is seldom needed

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _create(connection: sa.Connection) -> None:
    schema.metadata.create_all(connection, checkfirst=False)
    version = sa.Table(
        _VERSION_TABLE,
        sa.MetaData(),
        sa.Column("version_num", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("version_num", name=f"{_VERSION_TABLE}_pkc"),
    )
    version.create(connection, checkfirst=False)
    connection.execute(version.insert(), {"version_num": schema.HEAD})


def _require_known(revision: object, name: str) -> None:
    from alembic.script import ScriptDirectory  # imports slowly, and is seldom needed

    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise errors.StoreError(
            f"{name} has schema revision {revision}, this release knows none after {schema.HEAD}: "
            "it was written by a newer release. Upgrade the orchestrator, or restore a backup made before."
        )


def _config() -> Config:
    from alembic import config as alembic_config  # imports slowly, and is seldom needed

    config = alembic_config.Config()
    config.set_main_option("script_location", "orchestrator.store:migrations")
    return config
