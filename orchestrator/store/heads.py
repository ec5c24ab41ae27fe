"""What becomes of an execution when facts are appended: the decisions, without a database.

An adapter reads the heads of the executions concerned, has each batch judged and taken, and writes what has changed.
Called by the journals of the adapters inside their transactions.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from orchestrator.store import base

__all__ = ["FactRow", "Journal", "is_old_turn", "refusal", "take"]

FactRow: TypeAlias = tuple[int, int, int, int, bytes]
"""A row of `facts`: position, number of the execution, seq, epoch, payload."""


class _Header(msgspec.Struct):
    """The part of a fact that the store reads."""

    at: int


_header = msgspec.json.Decoder(_Header)


class Journal:
    """Where the journal of an execution ends, and what a transaction is about to change in the execution's row."""

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
        "owner",
        "started_at",
        "status",
        "terminal",
    )

    def __init__(
        self,
        number: int,
        epoch: int,
        last_seq: int,
        status: str,
        assigned: int,
        owner: str | None,
        ended_formerly: int,
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.last_seq = last_seq
        self.status = status
        self.assigned = bool(assigned)
        self.owner = owner
        self.ended = status in base.TERMINAL
        self.ended_formerly = bool(ended_formerly)
        self.goes_on = False
        self.changed = False
        self.answer = -1
        """Which of the answers is that to the last batch that added something to it: it tells what became of it."""
        self.started_at: int | None = None
        self.terminal: base.Terminal | None = None


def refusal(head: Journal, batch: base.Batch) -> base.Appended | None:
    """Why a batch is not taken; None when it is."""
    end = batch.first_seq + len(batch.facts) - 1
    ended_before = head.ended and end > head.last_seq
    if head.epoch != batch.epoch or not head.assigned or ended_before:
        return base.Appended(outcome="fenced", last_seq=head.last_seq, epoch=head.epoch)
    if not 1 <= batch.first_seq <= head.last_seq + 1:
        return base.Appended(outcome="gap", last_seq=head.last_seq, epoch=head.epoch)
    return None


def take(head: Journal, batch: base.Batch, position: int, rows: list[FactRow]) -> base.Appended:
    """Add what is new in the batch to `rows` and to the head, after global position `position`; the answer to it."""
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
    return base.Appended(
        outcome="committed",
        last_seq=head.last_seq,
        epoch=head.epoch,
        new_from=head.last_seq - len(new) + 1 if new else 0,
        first_position=position + 1 if new else 0,
    )


def is_old_turn(batch: base.Batch, taken: base.Appended) -> bool:
    """Whether a batch that ends its execution, or lets it go on, was in the store before it was taken."""
    return not taken.new_from and (batch.terminal is not None or batch.goes_on)


def _at(fact: bytes) -> int:
    try:
        return _header.decode(fact).at
    except msgspec.MsgspecError:  # the store does not judge facts: the time of their arrival is close enough
        return time.time_ns() // 1_000
