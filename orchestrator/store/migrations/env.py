"""How Alembic runs the revisions: on the connection that the store hands over, inside the store's transaction.

`orchestrator.store.migration` is the only caller. There is no alembic.ini and no second way in: who upgrades a store
holds its lock.
"""

from __future__ import annotations

from alembic import context

from orchestrator.store import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    render_as_batch=True,  # SQLite cannot alter most of a table in place
)
context.run_migrations()
