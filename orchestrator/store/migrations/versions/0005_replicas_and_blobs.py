"""Who owns an execution, replicas and their leases, and large values.

Whatever has not ended is owned by nobody after it, and can be claimed at once.

Revision: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the columns, in place, and the tables."""
    op.add_column("executions", sa.Column("owner", sa.Text))
    op.add_column("executions", sa.Column("dispatch_epoch", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("executions", sa.Column("wake_at", sa.BigInteger))
    op.execute("UPDATE executions SET dispatch_epoch = epoch")
    op.execute("UPDATE executions SET wake_at = 0 WHERE status IN ('queued', 'running')")
    _indexes()
    _replicas()
    _blobs()


def _indexes() -> None:
    for columns, condition in (
        (["owner"], "owner IS NOT NULL"),
        (["wake_at", "number", "concurrency_key"], "owner IS NULL AND wake_at IS NOT NULL"),
        (["workflow", "finished_at", "number"], "finished_at IS NOT NULL"),
    ):
        name, where = op.f(f"ix_executions_{'_'.join(columns)}"), sa.text(condition)
        op.create_index(name, "executions", columns, sqlite_where=where, postgresql_where=where)


def _replicas() -> None:
    op.create_table(
        "replicas",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("joined_at", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replicas")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("holder", sa.Text),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def _blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("put_at", sa.BigInteger, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blobs")),
    )
    op.create_table(
        "blob_refs",
        sa.Column("execution", _number, autoincrement=False, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("execution", "digest", name=op.f("pk_blob_refs")),
        sa.ForeignKeyConstraint(["execution"], ["executions.number"], name=op.f("fk_blob_refs_execution")),
    )
    op.create_index(op.f("ix_blob_refs_digest"), "blob_refs", ["digest"])
