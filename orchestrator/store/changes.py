"""The writes that are not on the hot path, in SQLAlchemy Core.

Each function runs inside the transaction of its caller. It refuses before it has changed anything, so that a refusal
costs nobody else's write anything (see `writer`).
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from orchestrator import errors
from orchestrator.store import base, queries, schema

__all__ = ["add_inbox", "add_version", "record_occurrence", "release", "remove_versions", "reopen"]

_executions = schema.executions
_versions = schema.workflow_versions


def add_version(connection: sa.Connection, record: base.VersionRecord) -> bool:
    """Register a version; False when it was there with the same digest. VersionConflict with another digest."""
    known = connection.scalar(
        sa.select(_versions.c.digest).where(
            _versions.c.workflow == record.workflow, _versions.c.version == record.version
        )
    )
    if known == record.digest:
        return False
    if known is not None:
        raise errors.VersionConflict(
            f"{record.workflow}@{record.version} is registered already with another content ({_short(known)}, this "
            f"is {_short(record.digest)}). Versions are immutable: give the changed workflow a higher version."
        )
    if queries.document(connection, record.digest) is None:
        connection.execute(schema.documents.insert(), {"digest": record.digest, "document": record.document})
    values: dict[str, Any] = msgspec.structs.asdict(record)
    del values["document"]
    values["labels"] = msgspec.json.encode(record.labels, order="deterministic").decode()
    connection.execute(_versions.insert(), values)
    return True


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


def release(connection: sa.Connection, execution: str, epoch: int) -> None:
    """Take an execution back from its engine, if `epoch` is still in force."""
    connection.execute(
        _executions.update()
        .where(
            _executions.c.id == execution,
            _executions.c.epoch == epoch,
            _executions.c.status.in_(queries.UNFINISHED),
        )
        .values(engine=None)
    )


def add_inbox(connection: sa.Connection, item: base.InboxItem) -> bool:
    """Keep a command; False when the execution has ended or is unknown. One that is kept already is kept once."""
    number = connection.scalar(
        sa.select(_executions.c.number).where(
            _executions.c.id == item.execution, _executions.c.status.in_(queries.UNFINISHED)
        )
    )
    if number is None:
        return False
    _keep(connection, number, item)
    return True


def _keep(connection: sa.Connection, number: int, item: base.InboxItem) -> None:
    if connection.scalar(sa.select(schema.inbox.c.number).where(schema.inbox.c.id == item.id)) is None:
        values = msgspec.structs.asdict(item) | {"execution": number}
        connection.execute(schema.inbox.insert(), values)


def reopen(connection: sa.Connection, item: base.InboxItem) -> tuple[base.ExecutionRecord, bool] | None:
    """Keep a retry, and queue its execution again if it has ended; whether it had. None when it is unknown."""
    record = queries.execution(connection, item.execution)
    if record is None:
        return None
    number = connection.scalar(sa.select(_executions.c.number).where(_executions.c.id == item.execution))
    assert number is not None  # noqa: S101 - it was read above
    ended = record.status in base.TERMINAL
    if ended:
        cleared: dict[str, Any] = {"engine": None, "finished_at": None, "outputs": None, "error": None}
        end = {name: getattr(record, name) for name in ("status", "finished_at", "outputs", "error")}
        connection.execute(schema.former_ends.insert(), {"execution": number, **end})
        change = _executions.update().where(_executions.c.number == number)
        connection.execute(change.values(status="queued", **cleared))
        record = msgspec.structs.replace(record, status="queued", **cleared)
    _keep(connection, number, item)
    return record, ended


def record_occurrence(connection: sa.Connection, trigger: str, at: int) -> None:
    """Remember that the occurrences of `trigger` up to `at` have been dealt with. Never goes backwards."""
    last = queries.last_occurrence(connection, trigger)
    if last is None:
        connection.execute(schema.occurrences.insert(), {"trigger": trigger, "at": at})
    elif last < at:
        connection.execute(schema.occurrences.update().where(schema.occurrences.c.trigger == trigger).values(at=at))
