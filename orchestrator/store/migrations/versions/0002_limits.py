"""The priority of executions, and the key under which they count for their workflow's concurrency.

Both can be left out by whoever inserts: a release that does not know them still can.

Revision: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, in place, and the index."""
    op.add_column("executions", sa.Column("priority", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("executions", sa.Column("concurrency_key", sa.Text))
    present = sa.text("concurrency_key IS NOT NULL")
    op.create_index(
        op.f("ix_executions_concurrency_key_status"),
        "executions",
        ["concurrency_key", "status"],
        sqlite_where=present,
        postgresql_where=present,
    )
