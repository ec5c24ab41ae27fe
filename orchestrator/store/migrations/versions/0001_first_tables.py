"""Workflows, executions, facts, inbox, logs and occurrences.

Revision: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create everything."""
    _settings()
    _workflows()
    _executions()
    _execution_indexes()
    _journal()
    _inbox_and_logs()


def _settings() -> None:
    for table, key, value in (
        ("meta", sa.Column("key", sa.Text, nullable=False), sa.Column("value", sa.Text, nullable=False)),
        ("counters", sa.Column("name", sa.Text, nullable=False), sa.Column("value", sa.BigInteger, nullable=False)),
        ("occurrences", sa.Column("trigger", sa.Text, nullable=False), sa.Column("at", sa.BigInteger, nullable=False)),
    ):
        op.create_table(table, key, value, sa.PrimaryKeyConstraint(key.name, name=op.f(f"pk_{table}")))


def _workflows() -> None:
    op.create_table(
        "documents",
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_documents")),
    )
    op.create_table(
        "workflow_versions",
        sa.Column("number", _number, nullable=False),
        sa.Column("workflow", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("registered_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_workflow_versions")),
        sa.UniqueConstraint("workflow", "version", name=op.f("uq_workflow_versions_workflow_version")),
        sa.ForeignKeyConstraint(["digest"], ["documents.digest"], name=op.f("fk_workflow_versions_digest")),
    )


def _executions() -> None:
    op.create_table(
        "executions",
        sa.Column("number", _number, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("workflow", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("engine", sa.Text),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("occurrence", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("outputs", sa.LargeBinary),
        sa.Column("error", sa.LargeBinary),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_executions")),
        sa.UniqueConstraint("id", name=op.f("uq_executions_id")),
        sa.ForeignKeyConstraint(["digest"], ["documents.digest"], name=op.f("fk_executions_digest")),
    )
    op.create_table(
        "execution_inputs",
        sa.Column("execution", _number, nullable=False, autoincrement=False),
        sa.Column("inputs", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("execution", name=op.f("pk_execution_inputs")),
        _of_execution("execution_inputs"),
    )


def _execution_indexes() -> None:
    page = ["status", "created_at", "id"]
    op.create_index(op.f("ix_executions_status_created_at_id"), "executions", page)
    op.create_index(op.f("ix_executions_workflow_status_created_at_id"), "executions", ["workflow", *page])
    for name, columns in (
        ("uq_executions_workflow_idempotency_key", ["workflow", "idempotency_key"]),
        ("uq_executions_occurrence", ["occurrence"]),
    ):
        present = sa.text(f"{columns[-1]} IS NOT NULL")
        op.create_index(name, "executions", columns, unique=True, sqlite_where=present, postgresql_where=present)


def _journal() -> None:
    op.create_table(
        "facts",
        sa.Column("position", _number, nullable=False, autoincrement=False),
        sa.Column("execution", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_facts")),
        sa.UniqueConstraint("execution", "seq", name=op.f("uq_facts_execution_seq")),
        _of_execution("facts"),
    )


def _inbox_and_logs() -> None:
    op.create_table(
        "inbox",
        sa.Column("number", _number, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("execution", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_inbox")),
        sa.UniqueConstraint("id", name=op.f("uq_inbox_id")),
        _of_execution("inbox"),
    )
    op.create_index(op.f("ix_inbox_execution"), "inbox", ["execution"])
    op.create_table(
        "logs",
        sa.Column("id", _number, nullable=False),
        sa.Column("execution", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logs")),
        _of_execution("logs"),
    )
    op.create_index(op.f("ix_logs_execution_id"), "logs", ["execution", "id"])
    op.create_index(op.f("ix_logs_execution_node_id"), "logs", ["execution", "node", "id"])


def _of_execution(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["execution"], ["executions.number"], name=op.f(f"fk_{table}_execution"))
