"""The writes on the hot path, as SQL for PostgreSQL: record executions, dispatch them, append their facts and logs.

Each takes whole lists in a round trip or two. They run on the driver's own connection. Called by `postgres` on the
writer's thread, inside its transaction, in which nobody else writes (see `postgres_connection`): what was read there
stays as it is. Each function refuses before it has changed anything (see `writer`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from orchestrator import errors
from orchestrator.store import base, changes, heads, queries, schema
from orchestrator.store.postgres_arrays import byteas, int8s, texts
from orchestrator.store.postgres_connection import Connection

__all__ = ["add_logs", "append", "create_executions", "dispatch", "end_undispatched"]

_COLUMNS: Final = ", ".join(f'"{name}"' for name in queries.EXECUTION_COLUMNS)
_SELECTED: Final = f"{_COLUMNS}, (SELECT inputs FROM execution_inputs WHERE execution = number)"  # noqa: S608 - constants

_DOCUMENTS: Final = "SELECT digest FROM documents WHERE digest = ANY(%s)"
_KNOWN: Final = f"""
    SELECT place, {_SELECTED} FROM unnest(%s, %s, %s) WITH ORDINALITY AS new (of, key, at, place)
    CROSS JOIN LATERAL (
        (SELECT * FROM executions WHERE workflow = of AND idempotency_key = key LIMIT 1)
        UNION ALL
        (SELECT * FROM executions WHERE occurrence = at LIMIT 1)
        LIMIT 1
    ) AS known"""  # noqa: S608 - constants
_UNDER_WAY: Final = """
    SELECT count(*) FROM executions WHERE concurrency_key = %s AND status IN ('queued', 'running')"""
_CREATE: Final = """
    WITH made AS (
        INSERT INTO executions (id, workflow, version, digest, status, seed, epoch, last_seq, "trigger",
                                idempotency_key, occurrence, created_at, priority, concurrency_key, owner, wake_at)
        SELECT id, workflow, version, digest, 'queued', seed, 0, 0, cause, key, occurrence, created_at, priority,
               concurrency_key, owner, wake_at
        FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS new (
            id, workflow, version, digest, seed, cause, key, occurrence, created_at, priority, concurrency_key, owner,
            wake_at)
        ON CONFLICT (id) DO NOTHING
        RETURNING number, id
    ), kept AS (
        INSERT INTO execution_inputs (execution, inputs)
        SELECT number, inputs FROM made JOIN unnest(%s, %s) AS given (id, inputs) USING (id)
    )
    SELECT id FROM made"""

_DISPATCH: Final = f"""
    UPDATE executions SET epoch = epoch + 1, dispatch_epoch = epoch + 1, engine = %s
    WHERE id = ANY(%s) AND status IN ('queued', 'running') AND (%s::text IS NULL OR owner = %s)
    RETURNING {_SELECTED}"""  # noqa: S608 - constants

_HEADS: Final = """
    SELECT id, number, epoch, last_seq, status, engine IS NOT NULL, owner,
           EXISTS (SELECT 1 FROM former_ends WHERE execution = executions.number),
           ARRAY(SELECT CASE kind WHEN 'retry' THEN id END FROM inbox WHERE execution = executions.number)
    FROM executions WHERE id = ANY(%s)"""
_APPEND: Final = f"""
    WITH advanced AS (
        UPDATE counters SET value = %s WHERE name = '{schema.FACT_POSITION}'
    ), added AS (
        INSERT INTO facts (position, execution, seq, epoch, payload) SELECT * FROM unnest(%s, %s, %s, %s, %s)
    )
    UPDATE executions AS old
    SET last_seq = new.last_seq, status = new.status, started_at = coalesce(old.started_at, new.started_at),
        finished_at = new.finished_at, outputs = new.outputs, error = new.error,
        owner = CASE WHEN new.finished_at IS NULL THEN old.owner END,
        wake_at = CASE WHEN new.finished_at IS NULL THEN old.wake_at END
    FROM unnest(%s, %s, %s, %s, %s, %s, %s)
        AS new (number, last_seq, status, started_at, finished_at, outputs, error)
    WHERE old.number = new.number"""  # noqa: S608 - constants
_APPLIED: Final = """
    DELETE FROM inbox USING unnest(%s, %s) AS applied (id, execution)
    WHERE inbox.id = applied.id AND inbox.execution = applied.execution"""
_EMPTY_INBOX: Final = "DELETE FROM inbox WHERE execution = ANY(%s)"
_BEFORE_RETRY: Final = """
    DELETE FROM inbox WHERE execution = %s
        AND number < (SELECT min(number) FROM inbox WHERE execution = %s AND kind = 'retry')"""
_END_FORMERLY: Final = """
    INSERT INTO former_ends (execution, status, finished_at, outputs, error) VALUES (%s, %s, %s, %s, %s)"""
_QUEUE: Final = """
    UPDATE executions SET status = 'queued', engine = NULL WHERE number = %s"""
_END_AGAIN: Final = """
    UPDATE executions AS old SET owner = NULL, wake_at = NULL, status = former.status,
        finished_at = former.finished_at, outputs = former.outputs, error = former.error
    FROM former_ends AS former WHERE former.execution = number AND number = %s"""
_FORGET_FORMER_ENDS: Final = "DELETE FROM former_ends WHERE execution = ANY(%s)"
_RECORD: Final = f"SELECT {_SELECTED} FROM executions WHERE number = %s"  # noqa: S608 - constants
_CITE: Final = """
    INSERT INTO blob_refs (execution, digest) SELECT DISTINCT * FROM unnest(%s, %s) ON CONFLICT DO NOTHING"""
_ADD_LOGS: Final = """
    INSERT INTO logs (execution, epoch, node, payload)
    SELECT number, %s, line.node, line.payload
    FROM executions, unnest(%s, %s) WITH ORDINALITY AS line (node, payload, place) WHERE executions.id = %s
    ORDER BY line.place"""
_KEEP_RESULTS: Final = """
    INSERT INTO results (digest, result, execution, found_at, until) SELECT * FROM unnest(%s, %s, %s, %s, %s)
    ON CONFLICT (digest) DO UPDATE SET (result, execution, found_at, until) =
        (excluded.result, excluded.execution, excluded.found_at, excluded.until)"""
_DROP_EXPIRED: Final = """
    DELETE FROM results WHERE digest IN (SELECT digest FROM results WHERE until <= %s ORDER BY until LIMIT %s)"""
_EXPIRED_AT_ONCE: Final = 64
"""Expired results that a transaction drops when it adds some: more than it usually adds, so that they never pile up."""

_Created: TypeAlias = tuple[base.ExecutionRecord, bool]
_Fate: TypeAlias = Literal["on its way", "ended", "queued", "ended again"]
"""What becomes of an execution: the last two are what `Appended.record` is for."""


class _Head(heads.Journal):
    """With what waits in its inbox: the ids of retries, None for anything else."""

    __slots__ = ("inbox",)

    def __init__(self, *columns: Any) -> None:
        super().__init__(*columns[:-1])
        self.inbox: list[str | None] = columns[-1]


def create_executions(
    connection: Connection, news: Sequence[base.NewExecution], replica: str | None, registered: set[str]
) -> list[_Created | errors.OrchestratorError]:
    """Record executions as `queued`; the answer to each, which may be that it was refused.

    `registered` has digests of versions that were registered, and gets more of them.
    """
    answers: list[_Created | errors.OrchestratorError] = []
    for some in _independent(news):
        answers.extend(_create(connection, some, replica, registered))
    return answers


def _independent(news: Sequence[base.NewExecution]) -> Iterator[list[base.NewExecution]]:
    """All of them in their order, but together only those whose answers do not depend on each other."""
    some: list[base.NewExecution] = []
    seen: set[tuple[str, ...]] = set()
    for new in news:
        marks: set[tuple[str, ...]] = {("id", new.id)}
        if new.idempotency_key is not None:
            marks.add(("key", new.workflow, new.idempotency_key))
        if new.occurrence is not None:
            marks.add(("occurrence", new.occurrence))
        if some and (new.most is not None or not marks.isdisjoint(seen)):
            yield some
            some, seen = [], set()
        some.append(new)
        seen |= marks
    if some:
        yield some


def _create(
    connection: Connection, news: Sequence[base.NewExecution], replica: str | None, registered: set[str]
) -> list[_Created | errors.OrchestratorError]:
    answers: dict[str, _Created | errors.OrchestratorError] = _known(connection, news)
    missing = {new.digest for new in news} - registered
    if missing:
        registered.update(row[0] for row in connection.driver.execute(_DOCUMENTS, (texts(missing),)))
    made: list[base.ExecutionRecord] = []
    for new in news:
        if new.id in answers:
            continue
        if new.digest not in registered:
            answers[new.id] = changes.never_registered(new)
        elif (refusal := _at_limit(connection, new)) is not None:
            answers[new.id] = refusal
        else:
            made.append(queries.queued_record(new, replica if new.owned else None))
    if made:
        inserted = _insert(connection, made)
        for record in made:
            taken = errors.StoreError(f"Execution {record.id} cannot be recorded: there is one with this id.")
            answers[record.id] = (record, True) if record.id in inserted else taken
    return [answers[new.id] for new in news]


def _known(connection: Connection, news: Sequence[base.NewExecution]) -> dict[str, _Created | errors.OrchestratorError]:
    named = [new for new in news if new.idempotency_key is not None or new.occurrence is not None]
    if not named:
        return {}
    parameters = (
        texts(new.workflow for new in named),
        texts(new.idempotency_key for new in named),
        texts(new.occurrence for new in named),
    )
    rows = connection.driver.execute(_KNOWN, parameters).fetchall()
    return {named[row[0] - 1].id: (queries.execution_record(row[1:]), False) for row in rows}


def _at_limit(connection: Connection, new: base.NewExecution) -> errors.AtLimit | None:
    if new.most is None or new.concurrency_key is None:
        return None
    (under_way,) = connection.driver.execute(_UNDER_WAY, (new.concurrency_key,)).fetchone() or (0,)
    return changes.at_limit(new, under_way) if under_way >= new.most else None


def _insert(connection: Connection, made: Sequence[base.ExecutionRecord]) -> set[str]:
    ids = texts(record.id for record in made)
    parameters = (
        ids,
        texts(record.workflow for record in made),
        texts(record.version for record in made),
        texts(record.digest for record in made),
        int8s(queries.signed(record.seed) for record in made),
        texts(record.trigger for record in made),
        texts(record.idempotency_key for record in made),
        texts(record.occurrence for record in made),
        int8s(record.created_at for record in made),
        int8s(record.priority for record in made),
        texts(record.concurrency_key for record in made),
        texts(record.owner for record in made),
        int8s(record.wake_at for record in made),
        ids,
        byteas([record.inputs for record in made]),
    )
    connection.driver.changes += 1  # what it answers does not tell
    return {row[0] for row in connection.driver.execute(_CREATE, parameters)}


def dispatch(
    connection: Connection, executions: Sequence[str], engine: str, replica: str | None
) -> dict[str, base.ExecutionRecord]:
    """Assign executions of `replica` (None: of anybody) to `engine` with their next epoch, unless they have ended."""
    rows = connection.driver.execute(_DISPATCH, (engine, texts(executions), replica, replica)).fetchall()
    records = {row[0]: queries.execution_record(row) for row in rows}
    return {execution: records[execution] for execution in executions if execution in records}


def append(connection: Connection, batches: Sequence[base.Batch]) -> list[base.Appended]:
    """Append facts, conditional on epoch and position; one answer per batch, in order."""
    known = _read_heads(connection, {batch.execution for batch in batches})
    answers: list[base.Appended] = []
    taken: list[tuple[_Head, base.Batch]] = []
    rows: list[heads.FactRow] = []
    turned: list[tuple[int, _Head]] = []
    for batch in batches:
        head = known.get(batch.execution)
        if head is None:
            answers.append(base.Appended(outcome="fenced", last_seq=0, epoch=0))
            continue
        refusal = heads.refusal(head, batch)
        if refusal is None:
            answer = heads.take(head, batch, connection.position + len(rows), rows)
            if answer.new_from or head.answer < 0:
                head.answer = len(answers)
            if heads.is_old_turn(batch, answer):
                turned.append((len(answers), head))
            taken.append((head, batch))
            answers.append(answer)
        else:
            answers.append(refusal)
    turned += [(head.answer, head) for head in _write(connection, taken, rows)]
    for at, head in turned:
        answers[at] = msgspec.structs.replace(answers[at], record=_record(connection, head))
    return answers


def end_undispatched(connection: Connection, batch: base.Batch, replica: str | None, *, retries: bool) -> bool:
    """End an execution of `replica` (None: of anybody) that no engine has, by the facts of `batch`.

    False when they do not follow what is here.
    """
    head = _read_heads(connection, {batch.execution}).get(batch.execution)
    if head is None or head.ended or head.assigned or replica not in (None, head.owner):
        return False
    if (head.epoch, head.last_seq + 1) != (batch.epoch, batch.first_seq):
        return False
    if batch.terminal is None and not head.ended_formerly:
        return False
    if not retries and not {item for item in head.inbox if item is not None} <= set(batch.applied):
        return False
    if head.inbox:
        connection.driver.execute(_EMPTY_INBOX, (int8s([head.number]),))
        head.inbox = []
    rows: list[heads.FactRow] = []
    heads.take(head, batch, connection.position, rows)
    head.changed = True
    _write(connection, [(head, batch)], rows)
    return True


def add_logs(connection: Connection, execution: str, epoch: int, lines: Sequence[tuple[str, bytes]]) -> None:
    """Keep log lines; those of an unknown execution are ignored."""
    nodes, payloads = texts(node for node, _ in lines), byteas([payload for _, payload in lines])
    connection.driver.execute(_ADD_LOGS, (epoch, nodes, payloads, execution))


def _read_heads(connection: Connection, executions: set[str]) -> dict[str, _Head]:
    rows = connection.driver.execute(_HEADS, (texts(executions),))
    return {row[0]: _Head(*row[1:]) for row in rows}


def _write(
    connection: Connection, taken: Sequence[tuple[_Head, base.Batch]], rows: Sequence[heads.FactRow]
) -> list[_Head]:
    """Write what was taken; the heads of which the facts do not tell what becomes of them."""
    _forget_applied(connection, taken)
    cited = [(head.number, digest) for head, batch in taken for digest in batch.blobs]
    if cited:
        connection.driver.execute(_CITE, (int8s(number for number, _ in cited), texts(digest for _, digest in cited)))
    results = {each.digest: each for _, batch in taken for each in batch.results}
    if results:
        _keep(connection, list(results.values()))
    changed = {head.number: head for head, _ in taken if head.changed}
    fates = [(head, _fate(head)) for head in changed.values()]
    if fates:
        _write_rows(connection, fates, rows)
    _write_ends(connection, fates)
    return [head for head, fate in fates if fate in ("queued", "ended again")]


def _forget_applied(connection: Connection, taken: Sequence[tuple[_Head, base.Batch]]) -> None:
    applied = [(item, head.number) for head, batch in taken for item in batch.applied]
    if applied:
        items, numbers = texts(item for item, _ in applied), int8s(number for _, number in applied)
        connection.driver.execute(_APPLIED, (items, numbers))
        gone = {item for item, _ in applied}
        for head, _ in taken:
            head.inbox = [item for item in head.inbox if item not in gone]


def _keep(connection: Connection, results: Sequence[base.KnownResult]) -> None:
    """Let results be found, and drop some that have expired."""
    now = max(result.found_at for result in results)
    connection.driver.execute(_DROP_EXPIRED, (now, _EXPIRED_AT_ONCE + len(results)))
    parameters = (
        texts(result.digest for result in results),
        byteas([result.result for result in results]),
        texts(result.execution for result in results),
        int8s(result.found_at for result in results),
        int8s(result.until for result in results),
    )
    connection.driver.execute(_KEEP_RESULTS, parameters)


def _fate(head: _Head) -> _Fate:
    retries = any(item is not None for item in head.inbox)
    if head.terminal is not None:
        return "queued" if retries else "ended"
    if head.ended_formerly and not head.goes_on and not retries:
        return "ended again"
    return "on its way"


def _write_rows(connection: Connection, fates: Sequence[tuple[_Head, _Fate]], rows: Sequence[heads.FactRow]) -> None:
    """Add the facts, and bring the rows of their executions up to them."""
    ends = [head.terminal if fate == "ended" else None for head, fate in fates]
    connection.position += len(rows)
    parameters = (
        connection.position,
        int8s(row[0] for row in rows),
        int8s(row[1] for row in rows),
        int8s(row[2] for row in rows),
        int8s(row[3] for row in rows),
        byteas([row[4] for row in rows]),
        int8s(head.number for head, _ in fates),
        int8s(head.last_seq for head, _ in fates),
        texts("queued" if fate == "queued" else head.status for head, fate in fates),
        int8s(head.started_at for head, _ in fates),
        int8s(None if end is None else end.at for end in ends),
        byteas([None if end is None else end.outputs for end in ends]),
        byteas([None if end is None else end.error for end in ends]),
    )
    connection.driver.execute(_APPEND, parameters)


def _write_ends(connection: Connection, fates: Sequence[tuple[_Head, _Fate]]) -> None:
    """What else is written of executions that have ended, or that go on after they had."""
    execute = connection.driver.execute
    over = [head.number for head, _ in fates if head.ended_formerly and (head.goes_on or head.terminal is not None)]
    if over:
        execute(_FORGET_FORMER_ENDS, (int8s(over),))
    for head, fate in fates:
        end = head.terminal
        if fate == "queued" and end is not None:
            execute(_QUEUE, (head.number,))
            execute(_END_FORMERLY, (head.number, end.status, end.at, end.outputs, end.error))
            execute(_BEFORE_RETRY, (head.number, head.number))
        elif fate == "ended again":
            execute(_END_AGAIN, (head.number,))
            execute(_FORGET_FORMER_ENDS, (int8s([head.number]),))
    emptied = [head.number for head, fate in fates if fate in ("ended", "ended again") and head.inbox]
    if emptied:
        execute(_EMPTY_INBOX, (int8s(emptied),))


def _record(connection: Connection, head: _Head) -> base.ExecutionRecord:
    row = connection.driver.execute(_RECORD, (head.number,)).fetchone()
    assert row is not None  # noqa: S101 - it was written a moment ago
    return queries.execution_record(row)
