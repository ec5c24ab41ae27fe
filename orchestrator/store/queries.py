"""What the store is asked, in SQLAlchemy Core: rows in, records out.

Each function takes an open connection and runs one query, so what it returns is one state of the database. Adapters
call them on whatever thread may read.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from orchestrator.store import base, schema

__all__ = [
    "EXECUTION_COLUMNS",
    "dispatched",
    "execution",
    "execution_record",
    "executions",
    "facts",
    "former_end",
    "heads",
    "inbox",
    "inboxes",
    "known_execution",
    "last_occurrence",
    "logs",
    "numbered",
    "owned",
    "portions",
    "position",
    "queued_record",
    "signed",
    "unfinished",
]

_Item = TypeVar("_Item")

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
    "owner",
    "dispatch_epoch",
    "wake_at",
)
"""Columns of `executions` in the order that `execution_record` takes them, `inputs` after them."""

_executions = schema.executions
_selected = sa.select(*(_executions.c[name] for name in EXECUTION_COLUMNS), schema.execution_inputs.c.inputs).join_from(
    _executions, schema.execution_inputs
)
_AT_ONCE: Final = 500
"""Values in one list of a statement: databases bound it."""

_number_of = sa.select(_executions.c.number).where(_executions.c.id == sa.bindparam("execution")).scalar_subquery()

_one_execution = _selected.where(_executions.c.id == sa.bindparam("execution"))
_with_key = _selected.where(
    _executions.c.workflow == sa.bindparam("workflow"), _executions.c.idempotency_key == sa.bindparam("key")
)
_with_occurrence = _selected.where(_executions.c.occurrence == sa.bindparam("occurrence"))
_unfinished = _selected.where(_executions.c.status.in_(UNFINISHED)).order_by(_executions.c.created_at, _executions.c.id)
_unfinished_with_key = _unfinished.where(_executions.c.concurrency_key.is_not(None))
_numbered = _selected.add_columns(_executions.c.number)
_heads = sa.select(_executions.c.id, _executions.c.last_seq, _executions.c.status)
_owned = sa.select(_executions.c.id).where(_executions.c.owner == sa.bindparam("owner"))
_dispatched = sa.select(_executions.c.engine, _executions.c.digest).where(
    _executions.c.status.in_(UNFINISHED), _executions.c.engine.is_not(None)
)
_position = sa.select(schema.counters.c.value).where(schema.counters.c.name == schema.FACT_POSITION)
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
_inbox_of_owner = _inbox.where(_executions.c.owner == sa.bindparam("owner"))
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


def portions(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """All items in their order, no more at once than fit into a statement."""
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))


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
        owner=row[19],
        dispatch_epoch=row[20],
        wake_at=row[21],
        inputs=row[22],
    )


def queued_record(new: base.NewExecution, owner: str | None) -> base.ExecutionRecord:
    """The record of an execution that was just recorded, without reading it back. Without owner it can be claimed."""
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
        owner=owner,
        wake_at=None if owner is not None else 0,
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


def numbered(connection: sa.Connection, numbers: Sequence[int]) -> list[base.ExecutionRecord]:
    """The executions with some numbers, in their order."""
    rows: dict[int, Sequence[Any]] = {}
    for some in portions(numbers):
        rows.update((row[-1], row) for row in connection.execute(_numbered.where(_executions.c.number.in_(some))))
    return [execution_record(rows[number]) for number in numbers]


def unfinished(connection: sa.Connection, *, keyed: bool) -> list[base.ExecutionRecord]:
    """Every execution (with a concurrency key) that has not ended, oldest first."""
    rows = connection.execute(_unfinished_with_key if keyed else _unfinished)
    return [execution_record(row) for row in rows]


def owned(connection: sa.Connection, owner: str) -> list[str]:
    """The executions that a replica owns."""
    return list(connection.scalars(_owned, {"owner": owner}))


def heads(connection: sa.Connection, executions: Collection[str]) -> dict[str, base.Head]:
    """Where the journals of executions end; unknown ones are left out."""
    found: dict[str, base.Head] = {}
    for some in portions(list(executions)):
        rows = connection.execute(_heads.where(_executions.c.id.in_(some)))
        found.update((name, base.Head(last_seq, status)) for name, last_seq, status in rows)
    return found


def dispatched(connection: sa.Connection) -> list[tuple[str, str]]:
    """Every `(engine, digest)` for which an engine has an execution that has not ended."""
    return [(engine, digest) for engine, digest in connection.execute(_dispatched)]


def position(connection: sa.Connection) -> int:
    """Global position of the last committed fact; 0 when there is none."""
    found: int | None = connection.scalar(_position)
    return found or 0


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


def inbox(connection: sa.Connection, execution: str | None, owner: str | None) -> list[base.InboxItem]:
    """Commands that no committed fact cites yet, oldest first: of one execution, of all of an owner, or all."""
    if execution is not None:
        rows = connection.execute(_inbox_of_one, {"execution": execution})
    elif owner is not None:
        rows = connection.execute(_inbox_of_owner, {"owner": owner})
    else:
        rows = connection.execute(_inbox)
    return [_inbox_item(row) for row in rows]


def inboxes(connection: sa.Connection, executions: Collection[str]) -> list[base.InboxItem]:
    """Commands that no committed fact cites yet, of some executions; for each, oldest first."""
    found: list[base.InboxItem] = []
    for some in portions(list(executions)):
        rows = connection.execute(_inbox.where(_executions.c.id.in_(some)))
        found += [_inbox_item(row) for row in rows]
    return found


def _inbox_item(row: Sequence[Any]) -> base.InboxItem:
    item, of_execution, kind, payload, created_at = row
    return base.InboxItem(id=item, execution=of_execution, kind=kind, payload=payload, created_at=created_at)


def last_occurrence(connection: sa.Connection, trigger: str) -> int | None:
    """Time of the latest occurrence of a trigger that was recorded."""
    found: int | None = connection.scalar(_occurrence, {"trigger": trigger})
    return found
