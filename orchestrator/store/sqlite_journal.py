"""The writes on the hot path, as SQL for SQLite: record an execution, dispatch it, append its facts and logs.

They run on the driver's own connection: one execution costs half a dozen statements, and SQLAlchemy's part of each
would be more than SQLite's. Called by `sqlite` on the writer's thread, inside its transaction; each function refuses
before it has changed anything (see `writer`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from orchestrator.store import base, changes, heads, queries, schema

__all__ = ["add_logs", "append", "create_execution", "dispatch", "end_undispatched"]

_COLUMNS: Final = ", ".join(f'"{name}"' for name in queries.EXECUTION_COLUMNS)
_INPUTS: Final = "(SELECT inputs FROM execution_inputs WHERE execution = number)"

_FIND_KEY: Final = f"SELECT {_COLUMNS}, {_INPUTS} FROM executions WHERE workflow = ? AND idempotency_key = ?"  # noqa: S608 - constants
_FIND_OCCURRENCE: Final = f"SELECT {_COLUMNS}, {_INPUTS} FROM executions WHERE occurrence = ?"  # noqa: S608 - constants
_FIND_DOCUMENT: Final = "SELECT 1 FROM documents WHERE digest = ?"
_CREATE: Final = """
    INSERT INTO executions (id, workflow, version, digest, status, seed, epoch, last_seq, "trigger",
                            idempotency_key, occurrence, created_at, priority, concurrency_key, owner, wake_at)
    VALUES (?, ?, ?, ?, 'queued', ?, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?)"""
_UNDER_WAY: Final = """
    SELECT count(*) FROM executions WHERE concurrency_key = ? AND status IN ('queued', 'running')"""
_CREATE_INPUTS: Final = "INSERT INTO execution_inputs (execution, inputs) VALUES (?, ?)"
_DISPATCH: Final = f"""
    UPDATE executions SET epoch = epoch + 1, dispatch_epoch = epoch + 1, engine = ?1
    WHERE id = ?2 AND status IN ('queued', 'running') AND (?3 IS NULL OR owner = ?3)
    RETURNING {_COLUMNS}, {_INPUTS}"""  # noqa: S608 - constants

_HEAD: Final = """
    SELECT number, epoch, last_seq, status, engine IS NOT NULL, owner,
           EXISTS (SELECT 1 FROM former_ends WHERE execution = number)
    FROM executions WHERE id = ?"""
_POSITION: Final = f"SELECT value FROM counters WHERE name = '{schema.FACT_POSITION}'"  # noqa: S608 - a constant
_ADVANCE_POSITION: Final = f"UPDATE counters SET value = ? WHERE name = '{schema.FACT_POSITION}'"  # noqa: S608 - a constant
_ADD_FACT: Final = "INSERT INTO facts (position, execution, seq, epoch, payload) VALUES (?, ?, ?, ?, ?)"
_ADVANCE: Final = "UPDATE executions SET last_seq = ? WHERE number = ?"
_BEGIN: Final = """
    UPDATE executions SET last_seq = ?, status = 'running', started_at = coalesce(started_at, ?) WHERE number = ?"""
_END: Final = """
    UPDATE executions SET last_seq = ?, status = ?, started_at = coalesce(started_at, ?), finished_at = ?, outputs = ?,
                          error = ?, owner = NULL, wake_at = NULL
    WHERE number = ?"""
_APPLIED: Final = "DELETE FROM inbox WHERE id = ? AND execution = ?"
_EMPTY_INBOX: Final = "DELETE FROM inbox WHERE execution = ?"
_RETRIES: Final = "SELECT id FROM inbox WHERE execution = ? AND kind = 'retry'"
_BEFORE_RETRY: Final = """
    DELETE FROM inbox WHERE execution = ?1
        AND number < (SELECT min(number) FROM inbox WHERE execution = ?1 AND kind = 'retry')"""
_END_FORMERLY: Final = """
    INSERT INTO former_ends (execution, status, finished_at, outputs, error) VALUES (?, ?, ?, ?, ?)"""
_QUEUE: Final = """
    UPDATE executions SET last_seq = ?, status = 'queued', started_at = coalesce(started_at, ?), engine = NULL
    WHERE number = ?"""
_END_AGAIN: Final = """
    UPDATE executions SET last_seq = ?, owner = NULL, wake_at = NULL, (status, finished_at, outputs, error) =
        (SELECT status, finished_at, outputs, error FROM former_ends WHERE execution = number)
    WHERE number = ?"""
_FORGET_FORMER_END: Final = "DELETE FROM former_ends WHERE execution = ?"
_RECORD: Final = f"SELECT {_COLUMNS}, {_INPUTS} FROM executions WHERE number = ?"  # noqa: S608 - constants
_CITE: Final = "INSERT OR IGNORE INTO blob_refs (execution, digest) VALUES (?, ?)"
_NUMBER: Final = "SELECT number FROM executions WHERE id = ?"
_ADD_LOG: Final = "INSERT INTO logs (execution, epoch, node, payload) VALUES (?, ?, ?, ?)"


_KEEP_RESULT: Final = """
    INSERT INTO results (digest, result, execution, found_at, until) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (digest) DO UPDATE SET (result, execution, found_at, until) =
        (excluded.result, excluded.execution, excluded.found_at, excluded.until)"""
_DROP_EXPIRED: Final = """
    DELETE FROM results WHERE digest IN (SELECT digest FROM results WHERE until <= ? ORDER BY until LIMIT ?)"""
_EXPIRED_AT_ONCE: Final = 64
"""Expired results that a transaction drops when it adds some: more than it usually adds, so that they never pile up."""


def create_execution(
    db: sqlite3.Connection, new: base.NewExecution, replica: str | None
) -> tuple[base.ExecutionRecord, bool]:
    """Record an execution as `queued`, unless its idempotency key or occurrence is known, and who owns it."""
    if (known := _known(db, new)) is not None:
        return queries.execution_record(known), False
    if db.execute(_FIND_DOCUMENT, (new.digest,)).fetchone() is None:
        raise changes.never_registered(new)
    if new.most is not None and new.concurrency_key is not None:
        (under_way,) = db.execute(_UNDER_WAY, (new.concurrency_key,)).fetchone()
        if under_way >= new.most:
            raise changes.at_limit(new, under_way)
    owner = replica if new.owned else None
    values = (
        new.id,
        new.workflow,
        new.version,
        new.digest,
        queries.signed(new.seed),
        new.trigger,
        new.idempotency_key,
        new.occurrence,
        new.created_at,
        new.priority,
        new.concurrency_key,
        owner,
        None if owner is not None else 0,
    )
    number = db.execute(_CREATE, values).lastrowid
    db.execute(_CREATE_INPUTS, (number, new.inputs))
    return queries.queued_record(new, owner), True


def _known(db: sqlite3.Connection, new: base.NewExecution) -> Sequence[Any] | None:
    row: Sequence[Any] | None = None
    if new.idempotency_key is not None:
        row = db.execute(_FIND_KEY, (new.workflow, new.idempotency_key)).fetchone()
    if row is None and new.occurrence is not None:
        row = db.execute(_FIND_OCCURRENCE, (new.occurrence,)).fetchone()
    return row


def dispatch(
    db: sqlite3.Connection, executions: Sequence[str], engine: str, replica: str | None
) -> dict[str, base.ExecutionRecord]:
    """Assign executions of `replica` (None: of anybody) to `engine` with their next epoch, unless they have ended."""
    dispatched = {}
    for execution in executions:
        if execution not in dispatched:
            for row in db.execute(_DISPATCH, (engine, execution, replica)).fetchall():
                dispatched[execution] = queries.execution_record(row)
    return dispatched


def append(db: sqlite3.Connection, batches: Sequence[base.Batch]) -> list[base.Appended]:
    """Append facts, conditional on epoch and position; one answer per batch, in order."""
    journals: dict[str, heads.Journal | None] = {}
    answers: list[base.Appended] = []
    rows: list[heads.FactRow] = []
    applied: list[tuple[str, int]] = []
    results: list[base.KnownResult] = []
    cited: list[tuple[int, str]] = []
    turned: list[tuple[int, heads.Journal]] = []
    before = position = db.execute(_POSITION).fetchone()[0]
    for batch in batches:
        if batch.execution not in journals:
            journals[batch.execution] = _read_head(db, batch.execution)
        head = journals[batch.execution]
        if head is None:
            answers.append(base.Appended(outcome="fenced", last_seq=0, epoch=0))
            continue
        if (refusal := heads.refusal(head, batch)) is not None:
            answers.append(refusal)
            continue
        applied.extend((item, head.number) for item in batch.applied)
        results.extend(batch.results)
        cited.extend((head.number, digest) for digest in batch.blobs)
        answer = heads.take(head, batch, position, rows)
        if answer.new_from or head.answer < 0:
            head.answer = len(answers)
        if heads.is_old_turn(batch, answer):
            turned.append((len(answers), head))
        answers.append(answer)
        position = before + len(rows)
    if position != before:
        db.executemany(_ADD_FACT, rows)
        db.execute(_ADVANCE_POSITION, (position,))
    if applied:
        db.executemany(_APPLIED, applied)
    if cited:
        db.executemany(_CITE, cited)
    if results:
        _keep(db, results)
    changed = [head for head in journals.values() if head is not None and head.changed]
    turned += [(head.answer, head) for head in changed if _write_head(db, head)]
    for at, head in turned:
        answers[at] = msgspec.structs.replace(answers[at], record=_record(db, head))
    return answers


def _keep(db: sqlite3.Connection, results: Sequence[base.KnownResult]) -> None:
    """Let results be found, and drop some that have expired."""
    db.execute(_DROP_EXPIRED, (max(result.found_at for result in results), _EXPIRED_AT_ONCE + len(results)))
    rows = [(each.digest, each.result, each.execution, each.found_at, each.until) for each in results]
    db.executemany(_KEEP_RESULT, rows)


def end_undispatched(db: sqlite3.Connection, batch: base.Batch, replica: str | None, *, retries: bool) -> bool:
    """End an execution of `replica` (None: of anybody) that no engine has, by the facts of `batch`.

    False when they do not follow what is here.
    """
    head = _read_head(db, batch.execution)
    if head is None or head.ended or head.assigned or replica not in (None, head.owner):
        return False
    if (head.epoch, head.last_seq + 1) != (batch.epoch, batch.first_seq):
        return False
    if batch.terminal is None and not head.ended_formerly:
        return False
    if not retries and not set(_retries(db, head)) <= set(batch.applied):
        return False
    db.execute(_EMPTY_INBOX, (head.number,))
    rows: list[heads.FactRow] = []
    position = db.execute(_POSITION).fetchone()[0]
    heads.take(head, batch, position, rows)
    db.executemany(_ADD_FACT, rows)
    db.executemany(_CITE, [(head.number, digest) for digest in batch.blobs])
    db.execute(_ADVANCE_POSITION, (position + len(rows),))
    _write_head(db, head)
    return True


def add_logs(db: sqlite3.Connection, execution: str, epoch: int, lines: Sequence[tuple[str, bytes]]) -> None:
    """Keep log lines; those of an unknown execution are ignored."""
    row = db.execute(_NUMBER, (execution,)).fetchone()
    if row is not None:
        db.executemany(_ADD_LOG, [(row[0], epoch, node, payload) for node, payload in lines])


def _read_head(db: sqlite3.Connection, execution: str) -> heads.Journal | None:
    row = db.execute(_HEAD, (execution,)).fetchone()
    return None if row is None else heads.Journal(*row)


def _write_head(db: sqlite3.Connection, head: heads.Journal) -> bool:
    """Write what has changed; whether it is something that the facts alone do not tell."""
    if head.ended_formerly and (head.goes_on or head.terminal is not None):
        db.execute(_FORGET_FORMER_END, (head.number,))
        head.ended_formerly = False
    end = head.terminal
    if end is not None and _retries(db, head):
        db.execute(_QUEUE, (head.last_seq, head.started_at, head.number))
        db.execute(_END_FORMERLY, (head.number, end.status, end.at, end.outputs, end.error))
        db.execute(_BEFORE_RETRY, (head.number,))
        return True
    if head.ended_formerly and not _retries(db, head):
        db.execute(_END_AGAIN, (head.last_seq, head.number))
        db.execute(_FORGET_FORMER_END, (head.number,))
        db.execute(_EMPTY_INBOX, (head.number,))
        return True
    if end is not None:
        ended = (head.last_seq, end.status, head.started_at, end.at, end.outputs, end.error, head.number)
        db.execute(_END, ended)
        db.execute(_EMPTY_INBOX, (head.number,))
    elif head.started_at is not None:
        db.execute(_BEGIN, (head.last_seq, head.started_at, head.number))
    else:
        db.execute(_ADVANCE, (head.last_seq, head.number))
    return False


def _retries(db: sqlite3.Connection, head: heads.Journal) -> list[str]:
    return [row[0] for row in db.execute(_RETRIES, (head.number,))]


def _record(db: sqlite3.Connection, head: heads.Journal) -> base.ExecutionRecord:
    return queries.execution_record(db.execute(_RECORD, (head.number,)).fetchone())
