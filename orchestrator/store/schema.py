"""The tables of the store, in SQLAlchemy Core: one description for every database the store runs on.

`migration` creates them (and a test proves that the Alembic revisions arrive at the same tables); `queries` and
`changes` read and write them. Nothing here knows a dialect.

An execution is known outside by its `id`, inside by its `number`: facts, logs and inbox items refer to the short
number, which keeps their indexes small. What is large and never changes (`inputs`) has a table of its own, because
a row is rewritten as a whole whenever one of its columns changes, and an execution's row changes with every commit.

`fact_position` in `counters` is the position of the last fact. Whoever appends advances it in the same transaction
and so holds its row until the commit: positions become visible in their order on every database. A sequence would
not do, since it hands out numbers in an order that commits need not follow.

`former_ends` holds how those executions had ended that somebody wants to go on, until they do (or cannot).

`results` holds those of nodes that may be used again, by digest of what they depend on, until `until`.

Documents are kept by digest for the executions that are pinned to them, also after their version was removed.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

__all__ = [
    "FACT_POSITION",
    "HEAD",
    "counters",
    "documents",
    "execution_inputs",
    "executions",
    "facts",
    "former_ends",
    "inbox",
    "logs",
    "meta",
    "metadata",
    "occurrences",
    "results",
    "workflow_versions",
]

HEAD: Final = "0004"
"""The newest Alembic revision: the one that these tables are the result of."""

FACT_POSITION: Final = "fact_position"

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives out row numbers only in a column declared INTEGER; other databases need the 64 bits said.
_Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

documents = sa.Table(
    "documents",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("document", sa.LargeBinary, nullable=False),
)

workflow_versions = sa.Table(
    "workflow_versions",
    metadata,
    sa.Column("number", _Number, primary_key=True),
    sa.Column("workflow", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, sa.ForeignKey("documents.digest"), nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("registered_at", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("workflow", "version"),
)

executions = sa.Table(
    "executions",
    metadata,
    sa.Column("number", _Number, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("workflow", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, sa.ForeignKey("documents.digest"), nullable=False),
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
    sa.Column("priority", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("concurrency_key", sa.Text),
)

# Pages are read per status and merged, so these two serve every filter without sorting or scanning.
sa.Index(None, executions.c.status, executions.c.created_at, executions.c.id)
sa.Index(None, executions.c.workflow, executions.c.status, executions.c.created_at, executions.c.id)

_with_key = executions.c.idempotency_key.is_not(None)
sa.Index(
    "uq_executions_workflow_idempotency_key",
    executions.c.workflow,
    executions.c.idempotency_key,
    unique=True,
    sqlite_where=_with_key,
    postgresql_where=_with_key,
)
_with_occurrence = executions.c.occurrence.is_not(None)
sa.Index(
    "uq_executions_occurrence",
    executions.c.occurrence,
    unique=True,
    sqlite_where=_with_occurrence,
    postgresql_where=_with_occurrence,
)

_with_concurrency = executions.c.concurrency_key.is_not(None)
sa.Index(
    None,
    executions.c.concurrency_key,
    executions.c.status,
    sqlite_where=_with_concurrency,
    postgresql_where=_with_concurrency,
)

execution_inputs = sa.Table(
    "execution_inputs",
    metadata,
    sa.Column("execution", _Number, sa.ForeignKey("executions.number"), primary_key=True, autoincrement=False),
    sa.Column("inputs", sa.LargeBinary, nullable=False),
)

facts = sa.Table(
    "facts",
    metadata,
    sa.Column("position", _Number, primary_key=True, autoincrement=False),
    sa.Column("execution", sa.BigInteger, sa.ForeignKey("executions.number"), nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("execution", "seq"),
)

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("number", _Number, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("execution", sa.BigInteger, sa.ForeignKey("executions.number"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index(None, "execution"),
)

logs = sa.Table(
    "logs",
    metadata,
    sa.Column("id", _Number, primary_key=True),
    sa.Column("execution", sa.BigInteger, sa.ForeignKey("executions.number"), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Index(None, "execution", "id"),
    sa.Index(None, "execution", "node", "id"),
)

former_ends = sa.Table(
    "former_ends",
    metadata,
    sa.Column("execution", _Number, sa.ForeignKey("executions.number"), primary_key=True, autoincrement=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("finished_at", sa.BigInteger, nullable=False),
    sa.Column("outputs", sa.LargeBinary),
    sa.Column("error", sa.LargeBinary),
)

results = sa.Table(
    "results",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("result", sa.LargeBinary, nullable=False),
    sa.Column("execution", sa.Text, nullable=False),
    sa.Column("found_at", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, index=True),
)

occurrences = sa.Table(
    "occurrences",
    metadata,
    sa.Column("trigger", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
)
