"""What the store is asked, in SQLAlchemy Core: rows in, records out.

Each function takes an open connection and runs one query, so what it returns is one state of the database. Adapters
call them on whatever thread may read.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from orchestrator.store import base, schema

__all__ = [
    "EXECUTION_COLUMNS",
    "document",
    "execution",
    "execution_record",
    "executions",
    "facts",
    "former_end",
    "inbox",
    "known_execution",
    "last_occurrence",
    "logs",
    "queued_record",
    "signed",
    "unfinished",
    "version",
    "versions",
]

UNFINISHED: Final[tuple[base.Status, ...]] = ("queued", "running")
EVERY_STATUS: Final[tuple[base.Status, ...]] = (*UNFINISHED, *sorted(base.TERMINAL))

EXECUTION_COLUMNS: Final = (
    "id",
    "workflow",
    "version",
    "digest",
    "status",
    "seed",
    "epoch",
    "last_seq",
    "engine",
    "trigger",
    "idempotency_key",
    "occurrence",
    "outputs",
    "error",
    "created_at",
    "started_at",
    "finished_at",
    "priority",
    "concurrency_key",
)
"""Columns of `executions` in the order that `execution_record` takes them, `inputs` after them."""

_executions = schema.executions
_selected = sa.select(*(_executions.c[name] for name in EXECUTION_COLUMNS), schema.execution_inputs.c.inputs).join_from(
    _executions, schema.execution_inputs
)
_number_of = sa.select(_executions.c.number).where(_executions.c.id == sa.bindparam("execution")).scalar_subquery()

_one_execution = _selected.where(_executions.c.id == sa.bindparam("execution"))
_with_key = _selected.where(
    _executions.c.workflow == sa.bindparam("workflow"), _executions.c.idempotency_key == sa.bindparam("key")
)
_with_occurrence = _selected.where(_executions.c.occurrence == sa.bindparam("occurrence"))
_unfinished = _selected.where(_executions.c.status.in_(UNFINISHED)).order_by(_executions.c.created_at, _executions.c.id)
_document = sa.select(schema.documents.c.document).where(schema.documents.c.digest == sa.bindparam("digest"))

_versions = sa.select(
    schema.workflow_versions.c.workflow,
    schema.workflow_versions.c.version,
    schema.workflow_versions.c.digest,
    schema.documents.c.document,
    schema.workflow_versions.c.labels,
    schema.workflow_versions.c.name,
    schema.workflow_versions.c.description,
    schema.workflow_versions.c.registered_at,
).join_from(schema.workflow_versions, schema.documents)

_facts = (
    sa.select(schema.facts.c.position, schema.facts.c.epoch, schema.facts.c.seq, schema.facts.c.payload)
    .where(schema.facts.c.execution == _number_of, schema.facts.c.seq > sa.bindparam("after"))
    .order_by(schema.facts.c.seq)
    .limit(sa.bindparam("limit"))
)
_logs = (
    sa.select(schema.logs.c.id, schema.logs.c.epoch, schema.logs.c.node, schema.logs.c.payload)
    .where(schema.logs.c.execution == _number_of, schema.logs.c.id > sa.bindparam("after"))
    .order_by(schema.logs.c.id)
    .limit(sa.bindparam("limit"))
)
_logs_of_node = _logs.where(schema.logs.c.node == sa.bindparam("node"))
_inbox = (
    sa.select(
        schema.inbox.c.id,
        _executions.c.id,
        schema.inbox.c.kind,
        schema.inbox.c.payload,
        schema.inbox.c.created_at,
    )
    .join_from(schema.inbox, _executions)
    .order_by(schema.inbox.c.number)
)
_inbox_of_one = _inbox.where(_executions.c.id == sa.bindparam("execution"))
_former_end = sa.select(
    schema.former_ends.c.status,
    schema.former_ends.c.finished_at,
    schema.former_ends.c.outputs,
    schema.former_ends.c.error,
).where(schema.former_ends.c.execution == _number_of)
_known_result = sa.select(
    schema.results.c.result, schema.results.c.execution, schema.results.c.found_at, schema.results.c.until
).where(
    schema.results.c.digest == sa.bindparam("digest"),
    sa.or_(schema.results.c.until.is_(None), schema.results.c.until > sa.bindparam("now")),
)
_occurrence = sa.select(schema.occurrences.c.at).where(schema.occurrences.c.trigger == sa.bindparam("trigger"))


def signed(seed: int) -> int:
    """A seed of 64 bits without sign as the signed number that databases have."""
    return seed - (1 << 64) if seed >= 1 << 63 else seed


def execution_record(row: Sequence[Any]) -> base.ExecutionRecord:
    """A row of `EXECUTION_COLUMNS` and `inputs` as a record."""
    return base.ExecutionRecord(
        id=row[0],
        workflow=row[1],
        version=row[2],
        digest=row[3],
        status=row[4],
        seed=row[5] % (1 << 64),
        epoch=row[6],
        last_seq=row[7],
        engine=row[8],
        trigger=row[9],
        idempotency_key=row[10],
        occurrence=row[11],
        outputs=row[12],
        error=row[13],
        created_at=row[14],
        started_at=row[15],
        finished_at=row[16],
        priority=row[17],
        concurrency_key=row[18],
        inputs=row[19],
    )


def queued_record(new: base.NewExecution) -> base.ExecutionRecord:
    """The record of an execution that was just recorded, without reading it back."""
    return base.ExecutionRecord(
        id=new.id,
        workflow=new.workflow,
        version=new.version,
        digest=new.digest,
        status="queued",
        inputs=new.inputs,
        seed=new.seed,
        epoch=0,
        last_seq=0,
        engine=None,
        trigger=new.trigger,
        idempotency_key=new.idempotency_key,
        occurrence=new.occurrence,
        outputs=None,
        error=None,
        created_at=new.created_at,
        started_at=None,
        finished_at=None,
        priority=new.priority,
        concurrency_key=new.concurrency_key,
    )


def known_execution(
    connection: sa.Connection, workflow: str, key: str | None, occurrence: str | None
) -> base.ExecutionRecord | None:
    """The execution with an idempotency key of a workflow, or else that of an occurrence."""
    row = None
    if key is not None:
        row = connection.execute(_with_key, {"workflow": workflow, "key": key}).one_or_none()
    if row is None and occurrence is not None:
        row = connection.execute(_with_occurrence, {"occurrence": occurrence}).one_or_none()
    return None if row is None else execution_record(row)


def execution(connection: sa.Connection, execution: str) -> base.ExecutionRecord | None:
    """One execution."""
    row = connection.execute(_one_execution, {"execution": execution}).first()
    return None if row is None else execution_record(row)


def unfinished(connection: sa.Connection) -> list[base.ExecutionRecord]:
    """Every execution that has not ended, oldest first."""
    return [execution_record(row) for row in connection.execute(_unfinished)]


def executions(
    connection: sa.Connection,
    *,
    workflow: str | None,
    status: Sequence[base.Status],
    before: tuple[int, str] | None,
    limit: int,
) -> list[base.ExecutionRecord]:
    """Executions, newest first."""
    wanted = tuple(dict.fromkeys(status)) or EVERY_STATUS
    parameters: dict[str, Any] = {f"status_{index}": name for index, name in enumerate(wanted)}
    parameters["limit"] = max(limit, 0)
    if workflow is not None:
        parameters["workflow"] = workflow
    if before is not None:
        parameters["created_at"], parameters["id"] = before
    page = _page(len(wanted), of_workflow=workflow is not None, continued=before is not None)
    return [execution_record(row) for row in connection.execute(page, parameters)]


@functools.cache
def _page(statuses: int, *, of_workflow: bool, continued: bool) -> sa.Select[Any]:
    # The first rows of each status come from an index in order, and the page is the first of them all. Together
    # (`status IN …`) they would have to be sorted: all of them, for each page.
    at, name = _executions.c.created_at, _executions.c.id
    arms = []
    for index in range(statuses):
        arm = sa.select(_executions.c.number, at, name).where(_executions.c.status == sa.bindparam(f"status_{index}"))
        if of_workflow:
            arm = arm.where(_executions.c.workflow == sa.bindparam("workflow"))
        if continued:
            last = sa.tuple_(sa.bindparam("created_at", type_=at.type), sa.bindparam("id", type_=name.type))
            arm = arm.where(sa.tuple_(at, name) < last)
        first = arm.order_by(at.desc(), name.desc()).limit(sa.bindparam("limit")).subquery()
        arms.append(sa.select(first))
    merged = sa.union_all(*arms).subquery()
    page = sa.select(merged.c.number).order_by(merged.c.created_at.desc(), merged.c.id.desc())
    return _selected.where(_executions.c.number.in_(page.limit(sa.bindparam("limit")))).order_by(at.desc(), name.desc())


def facts(connection: sa.Connection, execution: str, *, after: int, limit: int) -> list[base.StoredFact]:
    """Committed facts of an execution after position `after`, in order: one page of them."""
    rows = connection.execute(_facts, {"execution": execution, "after": after, "limit": max(limit, 0)})
    return [
        base.StoredFact(position=position, execution=execution, epoch=epoch, seq=seq, payload=payload)
        for position, epoch, seq, payload in _one_page(rows)
    ]


def logs(
    connection: sa.Connection, execution: str, *, node: str | None, after: int, limit: int
) -> list[base.LogRecord]:
    """Log lines of an execution (of one node) with ids after `after`, in order: one page of them."""
    parameters: dict[str, Any] = {"execution": execution, "after": after, "limit": max(limit, 0)}
    if node is not None:
        parameters["node"] = node
    rows = connection.execute(_logs if node is None else _logs_of_node, parameters)
    return [
        base.LogRecord(id=line, execution=execution, epoch=epoch, node=of_node, payload=payload)
        for line, epoch, of_node, payload in _one_page(rows)
    ]


def _one_page(rows: sa.CursorResult[Any]) -> Iterator[Sequence[Any]]:
    """The first of `rows`, and those after it as long as their payloads, which come last, fill no more than a page."""
    room = base.PAGE_BYTES
    for number, row in enumerate(rows):
        room -= len(row[-1])
        if room < 0 and number > 0:
            break
        yield row
    rows.close()  # what is left is never read from the disk


def former_end(connection: sa.Connection, execution: str) -> base.Terminal | None:
    """How an execution had ended that is queued for a retry."""
    row = connection.execute(_former_end, {"execution": execution}).first()
    return None if row is None else base.Terminal(status=row[0], at=row[1], outputs=row[2], error=row[3])


def known_results(connection: sa.Connection, digests: Collection[str], *, now: int) -> dict[str, base.KnownResult]:
    """The results that are known under some digests and have not expired."""
    found = {}
    for digest in digests:
        row = connection.execute(_known_result, {"digest": digest, "now": now}).first()
        if row is not None:
            found[digest] = base.KnownResult(
                digest=digest, result=row[0], execution=row[1], found_at=row[2], until=row[3]
            )
    return found


def inbox(connection: sa.Connection, execution: str | None) -> list[base.InboxItem]:
    """Commands that no committed fact cites yet, oldest first."""
    if execution is None:
        rows = connection.execute(_inbox)
    else:
        rows = connection.execute(_inbox_of_one, {"execution": execution})
    return [
        base.InboxItem(id=item, execution=of_execution, kind=kind, payload=payload, created_at=created_at)
        for item, of_execution, kind, payload, created_at in rows
    ]


def versions(connection: sa.Connection, workflow: str | None) -> list[base.Version]:
    """All versions (of one workflow), in the order of registration."""
    statement = _versions.order_by(schema.workflow_versions.c.number)
    if workflow is not None:
        statement = statement.where(schema.workflow_versions.c.workflow == workflow)
    return [base.Version.of(_version_record(row)) for row in connection.execute(statement)]  # one document at a time


def version(connection: sa.Connection, workflow: str, version: str) -> base.VersionRecord | None:
    """One version."""
    statement = _versions.where(
        schema.workflow_versions.c.workflow == workflow, schema.workflow_versions.c.version == version
    )
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


def last_occurrence(connection: sa.Connection, trigger: str) -> int | None:
    """Time of the latest occurrence of a trigger that was recorded."""
    found: int | None = connection.scalar(_occurrence, {"trigger": trigger})
    return found
