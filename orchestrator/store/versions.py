"""Registered versions of workflows, and the documents that executions are pinned to, in SQLAlchemy Core.

Each function runs inside the transaction of its caller. It refuses before it has changed anything, so that a refusal
costs nobody else's write anything (see `writer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from orchestrator import errors
from orchestrator.store import base, conflicts, queries, schema

__all__ = ["add_version", "document", "remove_versions", "version", "versions"]

_executions = schema.executions
_versions = schema.workflow_versions
_all = sa.select(
    _versions.c.workflow,
    _versions.c.version,
    _versions.c.digest,
    schema.documents.c.document,
    _versions.c.labels,
    _versions.c.name,
    _versions.c.description,
    _versions.c.registered_at,
).join_from(_versions, schema.documents)

_document = sa.select(schema.documents.c.document).where(schema.documents.c.digest == sa.bindparam("digest"))


def add_version(connection: sa.Connection, record: base.VersionRecord) -> bool:
    """Register a version; False when it was there with the same digest. VersionConflict with another digest."""
    if _is_registered(connection, record):
        return False
    values: dict[str, Any] = msgspec.structs.asdict(record)
    document = {"digest": record.digest, "document": values.pop("document")}
    values["labels"] = msgspec.json.encode(record.labels, order="deterministic").decode()
    connection.execute(conflicts.insert(connection, schema.documents).on_conflict_do_nothing(), document)
    insert = conflicts.insert(connection, _versions).values(values).on_conflict_do_nothing()
    added = connection.scalar(insert.returning(_versions.c.number)) is not None
    return added or not _is_registered(connection, record)


def _is_registered(connection: sa.Connection, record: base.VersionRecord) -> bool:
    known = connection.scalar(
        sa.select(_versions.c.digest).where(
            _versions.c.workflow == record.workflow, _versions.c.version == record.version
        )
    )
    if known is not None and known != record.digest:
        raise errors.VersionConflict(
            f"{record.workflow}@{record.version} is registered already with another content ({_short(known)}, this "
            f"is {_short(record.digest)}). Versions are immutable: give the changed workflow a higher version."
        )
    return known is not None


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 12]


def remove_versions(connection: sa.Connection, workflow: str, version: str | None, *, force: bool) -> int:
    """Remove one version, or all of them; how many went. InUse when one has executions under way, unless `force`."""
    chosen = [_versions.c.workflow == workflow]
    running = [_executions.c.workflow == workflow, _executions.c.status.in_(queries.UNFINISHED)]
    if version is not None:
        chosen.append(_versions.c.version == version)
        running.append(_executions.c.version == version)
    if not force:
        count = connection.scalar(sa.select(sa.func.count()).select_from(_executions).where(*running)) or 0
        if count:
            name = workflow if version is None else f"{workflow}@{version}"
            have = "1 execution that has" if count == 1 else f"{count} executions that have"
            raise errors.InUse(f"{name} has {have} not ended: wait, cancel, or remove it by force.")
    return connection.execute(_versions.delete().where(*chosen)).rowcount


def versions(connection: sa.Connection, workflow: str | None) -> list[base.Version]:
    """All versions (of one workflow), in the order of registration."""
    statement = _all.order_by(_versions.c.number)
    if workflow is not None:
        statement = statement.where(_versions.c.workflow == workflow)
    return [base.Version.of(_version_record(row)) for row in connection.execute(statement)]  # one document at a time


def version(connection: sa.Connection, workflow: str, version: str) -> base.VersionRecord | None:
    """One version."""
    statement = _all.where(_versions.c.workflow == workflow, _versions.c.version == version)
    row = connection.execute(statement).first()
    return None if row is None else _version_record(row)


def _version_record(row: Sequence[Any]) -> base.VersionRecord:
    return base.VersionRecord(
        workflow=row[0],
        version=row[1],
        digest=row[2],
        document=row[3],
        labels=msgspec.json.decode(row[4], type=dict[str, str]),
        name=row[5],
        description=row[6],
        registered_at=row[7],
    )


def document(connection: sa.Connection, digest: str) -> bytes | None:
    """The canonical document with this digest."""
    found: bytes | None = connection.scalar(_document, {"digest": digest})
    return found
