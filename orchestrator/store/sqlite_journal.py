"""The writes on the hot path, as SQL for SQLite: record an execution, dispatch it, append its facts and logs.

They run on the driver's own connection: one execution costs half a dozen statements, and SQLAlchemy's part of each
would be more than SQLite's. Called by `sqlite` on the writer's thread, inside its transaction; each function refuses
before it has changed anything (see `writer`).
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from orchestrator import errors
from orchestrator.store import base, queries, schema

__all__ = ["add_logs", "append", "create_execution", "dispatch", "end_undispatched"]

_COLUMNS: Final = ", ".join(f'"{name}"' for name in queries.EXECUTION_COLUMNS)
_INPUTS: Final = "(SELECT inputs FROM execution_inputs WHERE execution = number)"

_FIND_KEY: Final = f"SELECT {_COLUMNS}, {_INPUTS} FROM executions WHERE workflow = ? AND idempotency_key = ?"  # noqa: S608 - constants
_FIND_OCCURRENCE: Final = f"SELECT {_COLUMNS}, {_INPUTS} FROM executions WHERE occurrence = ?"  # noqa: S608 - constants
_FIND_DOCUMENT: Final = "SELECT 1 FROM documents WHERE digest = ?"
_CREATE: Final = """
    INSERT INTO executions (id, workflow, version, digest, status, seed, epoch, last_seq, "trigger",
                            idempotency_key, occurrence, created_at, priority, concurrency_key)
    VALUES (?, ?, ?, ?, 'queued', ?, 0, 0, ?, ?, ?, ?, ?, ?)"""
_CREATE_INPUTS: Final = "INSERT INTO execution_inputs (execution, inputs) VALUES (?, ?)"
_DISPATCH: Final = f"""
    UPDATE executions SET epoch = epoch + 1, engine = ? WHERE id = ? AND status IN ('queued', 'running')
    RETURNING {_COLUMNS}, {_INPUTS}"""  # noqa: S608 - constants

_HEAD: Final = """
    SELECT number, epoch, last_seq, status, engine IS NOT NULL,
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
                          error = ?
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
    UPDATE executions SET last_seq = ?, (status, finished_at, outputs, error) =
        (SELECT status, finished_at, outputs, error FROM former_ends WHERE execution = number)
    WHERE number = ?"""
_FORGET_FORMER_END: Final = "DELETE FROM former_ends WHERE execution = ?"
_RECORD: Final = f"SELECT {_COLUMNS}, {_INPUTS} FROM executions WHERE number = ?"  # noqa: S608 - constants
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


class _Header(msgspec.Struct):
    """The part of a fact that the store reads."""

    at: int


_header = msgspec.json.Decoder(_Header)


class _Head:
    """Where the journal of an execution ends, and what this transaction is about to change in its row."""

    __slots__ = (
        "answer",
        "assigned",
        "changed",
        "ended",
        "ended_formerly",
        "epoch",
        "goes_on",
        "last_seq",
        "number",
        "started_at",
        "status",
        "terminal",
    )

    def __init__(self, number: int, epoch: int, last_seq: int, status: str, assigned: int, ended_formerly: int) -> None:
        self.number = number
        self.epoch = epoch
        self.last_seq = last_seq
        self.status = status
        self.assigned = bool(assigned)
        self.ended = status in base.TERMINAL
        self.ended_formerly = bool(ended_formerly)
        self.goes_on = False
        self.changed = False
        self.answer = -1
        """Which of the answers is that to its last batch that was taken."""
        self.started_at: int | None = None
        self.terminal: base.Terminal | None = None


def create_execution(db: sqlite3.Connection, new: base.NewExecution) -> tuple[base.ExecutionRecord, bool]:
    """Record an execution as `queued`, unless its idempotency key or occurrence is known."""
    if (known := _known(db, new)) is not None:
        return queries.execution_record(known), False
    if db.execute(_FIND_DOCUMENT, (new.digest,)).fetchone() is None:
        raise errors.StoreError(
            f"Execution {new.id} cannot be recorded: no version of {new.workflow} with digest {new.digest} was ever "
            "registered."
        )
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
    )
    number = db.execute(_CREATE, values).lastrowid
    db.execute(_CREATE_INPUTS, (number, new.inputs))
    return queries.queued_record(new), True


def _known(db: sqlite3.Connection, new: base.NewExecution) -> Sequence[Any] | None:
    row: Sequence[Any] | None = None
    if new.idempotency_key is not None:
        row = db.execute(_FIND_KEY, (new.workflow, new.idempotency_key)).fetchone()
    if row is None and new.occurrence is not None:
        row = db.execute(_FIND_OCCURRENCE, (new.occurrence,)).fetchone()
    return row


def dispatch(db: sqlite3.Connection, executions: Sequence[str], engine: str) -> dict[str, base.ExecutionRecord]:
    """Assign executions to `engine` with their next epoch; those that have ended are left out."""
    dispatched = {}
    for execution in executions:
        if execution not in dispatched:
            for row in db.execute(_DISPATCH, (engine, execution)).fetchall():
                dispatched[execution] = queries.execution_record(row)
    return dispatched


def append(db: sqlite3.Connection, batches: Sequence[base.Batch]) -> list[base.Appended]:
    """Append facts, conditional on epoch and position; one answer per batch, in order."""
    heads: dict[str, _Head | None] = {}
    answers: list[base.Appended] = []
    rows: list[tuple[int, int, int, int, bytes]] = []
    applied: list[tuple[str, int]] = []
    results: list[base.KnownResult] = []
    before = position = db.execute(_POSITION).fetchone()[0]
    for batch in batches:
        if batch.execution not in heads:
            heads[batch.execution] = _read_head(db, batch.execution)
        head = heads[batch.execution]
        if head is None:
            answers.append(base.Appended(outcome="fenced", last_seq=0, epoch=0))
            continue
        if (refusal := _refusal(head, batch)) is not None:
            answers.append(refusal)
            continue
        added = _take(head, batch, position, rows)
        applied.extend((item, head.number) for item in batch.applied)
        results.extend(batch.results)
        head.answer = len(answers)
        answers.append(
            base.Appended(
                outcome="committed",
                last_seq=head.last_seq,
                epoch=head.epoch,
                new_from=head.last_seq - added + 1 if added else 0,
                first_position=position + 1 if added else 0,
            )
        )
        position += added
    if position != before:
        db.executemany(_ADD_FACT, rows)
        db.execute(_ADVANCE_POSITION, (position,))
    if applied:
        db.executemany(_APPLIED, applied)
    if results:
        _keep(db, results)
    for head in heads.values():
        if head is not None and head.changed and _write_head(db, head):
            answers[head.answer] = msgspec.structs.replace(answers[head.answer], record=_record(db, head))
    return answers


def _keep(db: sqlite3.Connection, results: Sequence[base.KnownResult]) -> None:
    """Let results be found, and drop some that have expired."""
    db.execute(_DROP_EXPIRED, (max(result.found_at for result in results), _EXPIRED_AT_ONCE + len(results)))
    rows = [(each.digest, each.result, each.execution, each.found_at, each.until) for each in results]
    db.executemany(_KEEP_RESULT, rows)


def end_undispatched(db: sqlite3.Connection, batch: base.Batch, *, retries: bool) -> bool:
    """End an execution that no engine has, by the facts of `batch`; False when they do not follow what is here."""
    head = _read_head(db, batch.execution)
    if head is None or head.ended or head.assigned:
        return False
    if (head.epoch, head.last_seq + 1) != (batch.epoch, batch.first_seq):
        return False
    if batch.terminal is None and not head.ended_formerly:
        return False
    if not retries and not set(_retries(db, head)) <= set(batch.applied):
        return False
    db.execute(_EMPTY_INBOX, (head.number,))
    rows: list[tuple[int, int, int, int, bytes]] = []
    position = db.execute(_POSITION).fetchone()[0]
    added = _take(head, batch, position, rows)
    head.changed = True
    db.executemany(_ADD_FACT, rows)
    db.execute(_ADVANCE_POSITION, (position + added,))
    _write_head(db, head)
    return True


def add_logs(db: sqlite3.Connection, execution: str, epoch: int, lines: Sequence[tuple[str, bytes]]) -> None:
    """Keep log lines; those of an unknown execution are ignored."""
    row = db.execute(_NUMBER, (execution,)).fetchone()
    if row is not None:
        db.executemany(_ADD_LOG, [(row[0], epoch, node, payload) for node, payload in lines])


def _read_head(db: sqlite3.Connection, execution: str) -> _Head | None:
    row = db.execute(_HEAD, (execution,)).fetchone()
    return None if row is None else _Head(*row)


def _refusal(head: _Head, batch: base.Batch) -> base.Appended | None:
    end = batch.first_seq + len(batch.facts) - 1
    ended_before = head.ended and end > head.last_seq
    if head.epoch != batch.epoch or not head.assigned or ended_before:
        return base.Appended(outcome="fenced", last_seq=head.last_seq, epoch=head.epoch)
    if not 1 <= batch.first_seq <= head.last_seq + 1:
        return base.Appended(outcome="gap", last_seq=head.last_seq, epoch=head.epoch)
    return None


def _take(head: _Head, batch: base.Batch, position: int, rows: list[tuple[int, int, int, int, bytes]]) -> int:
    """Add what is new in the batch to `rows` and to the head; how many facts that is."""
    new: Sequence[bytes] = batch.facts[head.last_seq + 1 - batch.first_seq :]
    if new:
        rows.extend(
            zip(
                itertools.count(position + 1),
                itertools.repeat(head.number),
                itertools.count(head.last_seq + 1),
                itertools.repeat(batch.epoch),
                new,
                strict=False,  # the first ones are endless
            )
        )
        if batch.goes_on:
            head.goes_on = True
        if head.status == "queued" and (head.goes_on or not head.ended_formerly):
            head.status = "running"
            head.started_at = _at(new[0])
        head.last_seq += len(new)
        head.changed = True
    last = batch.first_seq + len(batch.facts) - 1
    if batch.terminal is not None and not head.ended and last == head.last_seq:
        head.terminal = batch.terminal
        head.status = batch.terminal.status
        head.ended = head.changed = True
    return len(new)


def _at(fact: bytes) -> int:
    try:
        return _header.decode(fact).at
    except msgspec.MsgspecError:  # the store does not judge facts: the time of their arrival is close enough
        return time.time_ns() // 1_000


def _write_head(db: sqlite3.Connection, head: _Head) -> bool:
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


def _retries(db: sqlite3.Connection, head: _Head) -> list[str]:
    return [row[0] for row in db.execute(_RETRIES, (head.number,))]


def _record(db: sqlite3.Connection, head: _Head) -> base.ExecutionRecord:
    return queries.execution_record(db.execute(_RECORD, (head.number,)).fetchone())
