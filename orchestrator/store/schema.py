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

`replicas` are the processes that share the store, each until its lease ends; `leases` names what only one of them may
do: its `holder` keeps it for as long as it is a replica. An execution that has not ended has an `owner` among them, or
none: then it can be claimed from `wake_at` on, or, where that is missing too, waits for its inbox.

`blobs` are large values by digest, `blob_refs` which executions' facts cite them, wherever those values are kept.

Documents are kept by digest for the executions that are pinned to them, also after their version was removed.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

__all__ = [
    "FACT_POSITION",
    "HEAD",
    "LEADER",
    "blob_refs",
    "blobs",
    "counters",
    "documents",
    "execution_inputs",
    "executions",
    "facts",
    "former_ends",
    "inbox",
    "leases",
    "logs",
    "meta",
    "metadata",
    "occurrences",
    "replicas",
    "results",
    "workflow_versions",
]

HEAD: Final = "0005"
"""The newest Alembic revision: the one that these tables are the result of."""

FACT_POSITION: Final = "fact_position"

LEADER: Final = "leader"
"""The lease of the replica that does what only one may do."""

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
    sa.Column("owner", sa.Text),
    sa.Column("dispatch_epoch", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("wake_at", sa.BigInteger),
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

_owned = executions.c.owner.is_not(None)
sa.Index(None, executions.c.owner, sqlite_where=_owned, postgresql_where=_owned)

# Whether it has a concurrency key is in the index, so that what only the leader may claim costs the others no row.
_claimable = sa.and_(executions.c.owner.is_(None), executions.c.wake_at.is_not(None))
sa.Index(
    None,
    executions.c.wake_at,
    executions.c.number,
    executions.c.concurrency_key,
    sqlite_where=_claimable,
    postgresql_where=_claimable,
)

_ended = executions.c.finished_at.is_not(None)
sa.Index(
    None,
    executions.c.workflow,
    executions.c.finished_at,
    executions.c.number,
    sqlite_where=_ended,
    postgresql_where=_ended,
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

replicas = sa.Table(
    "replicas",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("joined_at", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text),
    sa.Column("term", sa.BigInteger, nullable=False),
)

blobs = sa.Table(
    "blobs",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("put_at", sa.BigInteger, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),  # last, so that nothing of it is read to get at the others
)

blob_refs = sa.Table(
    "blob_refs",
    metadata,
    sa.Column("execution", _Number, sa.ForeignKey("executions.number"), primary_key=True, autoincrement=False),
    sa.Column("digest", sa.Text, primary_key=True, index=True),
)
