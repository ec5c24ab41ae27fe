"""How executions had ended that are to go on.

A release that does not know it finds those executions queued, and gives them to an engine as they are. What is in
inboxes says what it is from now on.

Revision: 0003
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and name the kind of what is in inboxes: so far there were requests to cancel only."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "former_ends",
        sa.Column("execution", number, autoincrement=False, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("finished_at", sa.BigInteger, nullable=False),
        sa.Column("outputs", sa.LargeBinary),
        sa.Column("error", sa.LargeBinary),
        sa.PrimaryKeyConstraint("execution", name=op.f("pk_former_ends")),
        sa.ForeignKeyConstraint(["execution"], ["executions.number"], name=op.f("fk_former_ends_execution")),
    )
    inbox = sa.table("inbox", sa.column("number"), sa.column("kind"), sa.column("payload"))
    connection = op.get_bind()
    for number, kind, payload in connection.execute(sa.select(inbox)).all():
        named = json.dumps({"kind": kind, **json.loads(payload)}).encode()
        connection.execute(inbox.update().where(inbox.c.number == number).values(payload=named))
