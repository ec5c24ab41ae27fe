"""Results of nodes that may be used again.

A release that does not know them neither writes nor reads any: its nodes are run.

Revision: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and the index that expired entries are found by."""
    op.create_table(
        "results",
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("result", sa.LargeBinary, nullable=False),
        sa.Column("execution", sa.Text, nullable=False),
        sa.Column("found_at", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_results")),
    )
    op.create_index(op.f("ix_results_until"), "results", ["until"])
