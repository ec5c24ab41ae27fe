"""Per-workflow concurrency: executions that share a key, over the whole system, at most `max` of them under way.

An execution's key is evaluated once, when it is accepted, and stored with it. Only the leader counts keys, and only it
owns executions that have one; whichever replica accepts them, it claims them. What waits is in the ledger but not in
its queue: nobody places it. What is parked is not in the ledger, but under way. A new leader restores everything from
the store:

- what an engine has, or had, is under way; what was accepted under `skip` is, too;
- the others ask again, in the order in which they were accepted. So a `replace` tells those that it takes the place of
  once more, under the same command: they obey it once.

Whether `skip` refuses an execution is decided by the store, in the transaction that would record it.

Used by the dispatcher; `run` is one of its tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
import structlog

from dagengine.admission.concurrency import Cancel, Concurrency, Ended, Proceed, Refuse, Restored, Verdict, Wants
from dagengine.clock import Clock
from dagengine.errors import InputError, Problem
from dagengine.machine import operations
from dagengine.spec.model import Document
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.tracked import Limit, Plan, Tracked, waits_for_retry
from orchestrator.errors import Conflict, NotFound, StoreError, Unavailable
from orchestrator.store.base import ExecutionRecord, InboxItem

__all__ = ["Evaluate", "Limits", "key_of"]

_log = structlog.get_logger("orchestrator.concurrency")

_RETRY: Final = 500_000
"""Microseconds before the next try when the store does not take a cancellation."""

_LONGEST_KEY: Final = 1_024

Evaluate = Callable[[Document, object, bytes], Awaitable[bytes]]
"""`evaluate(document, template, inputs)`: the JSON value of a template over inputs (JSON). Raises InputError."""

Operate = Callable[[InboxItem], Awaitable[None]]
"""Asks something of an execution; returns once that is durable. NotFound, Conflict, StoreError, Unavailable."""


async def key_of(document: Document, inputs: bytes, evaluate: Evaluate) -> str | None:
    """What an execution with `inputs` counts under: `workflow/key`; None when its workflow has no `concurrency`.

    InputError when the key cannot be made of these inputs.
    """
    declared = document.spec.concurrency
    if declared is None:
        return None
    value: Any = declared.key
    if "{{" in declared.key:
        value = msgspec.json.decode(await evaluate(document, declared.key, inputs))
    text = value if isinstance(value, str) else msgspec.json.encode(value, order="deterministic").decode()
    if len(text) > _LONGEST_KEY:
        raise InputError(
            "the inputs give no usable key for spec.concurrency",
            [Problem(path="spec.concurrency.key", message=f"it has {len(text):,} characters, {_LONGEST_KEY} at most")],
        )
    return f"{document.id}/{text}"


class Limits:
    """Which executions may get under way, and which wait for others under their key."""

    def __init__(self, ledger: Ledger, clock: Clock, *, operate: Operate) -> None:
        self._ledger = ledger
        self._clock = clock
        self._operate = operate
        self._machine = Concurrency()
        self._cancels: list[Cancel] = []
        self._work = asyncio.Event()

    def waits(self, execution: str) -> bool:
        """Whether an execution waits for others under its key to end."""
        return self._machine.waits(execution)

    def enter(self, tracked: Tracked) -> None:
        """An execution is owned that no engine has: let it wait for one, or for others under its key."""
        record, declared = tracked.record, tracked.plan.concurrency
        if record.concurrency_key is None or declared is None:
            self._ledger.add(tracked)
            return
        verdicts = self._want(record, declared, tracked.since)
        self._ledger.hold(tracked)
        if not self._machine.waits(record.id):
            self._ledger.let_go(tracked)
        self._follow(verdicts)

    def restore(self, executions: Iterable[tuple[ExecutionRecord, Plan]]) -> None:
        """Begin anew with all executions that have a key and have not ended, oldest first. Any may be in no ledger."""
        self._machine = Concurrency()
        waiting: list[tuple[ExecutionRecord, Limit]] = []
        for record, plan in executions:
            if record.concurrency_key is None or (declared := plan.concurrency) is None:
                continue
            if (
                record.engine is not None
                or (record.epoch and not waits_for_retry(record))
                or (declared.on_conflict == "skip" and not waits_for_retry(record))
            ):
                self._proceeds(record, record.concurrency_key)
            else:
                waiting.append((record, declared))
        for record, declared in waiting:
            self._follow(self._want(record, declared, record.created_at))

    def clear(self) -> None:
        """Forget all: another replica counts them now."""
        self._machine = Concurrency()
        self._cancels.clear()

    def _want(self, record: ExecutionRecord, declared: Limit, since: int) -> Sequence[Verdict]:
        """An execution wants to get under way; one that is known already wants nothing new.

        One that had ended was accepted long ago: then it waits, whatever its workflow says.
        """
        key, on_conflict = record.concurrency_key or "", declared.on_conflict
        if waits_for_retry(record):
            on_conflict = "queue"
        elif on_conflict == "skip":  # the store has taken it, so there was room
            self._proceeds(record, key)
            return []
        wants = Wants(
            at=since,
            execution=record.id,
            key=key,
            max=declared.max,
            on_conflict=on_conflict,
            priority=record.priority,
        )
        return self._machine.handle(wants)

    def _proceeds(self, record: ExecutionRecord, key: str) -> None:
        self._machine.handle(Restored(at=self._clock.now(), execution=record.id, key=key))

    def ended(self, execution: str) -> None:
        """An execution has ended: others of its key may get under way."""
        self._follow(self._machine.handle(Ended(execution)))

    async def run(self) -> None:
        """Cancel what is replaced, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            cancels, self._cancels = self._cancels, []
            left = [cancel for cancel in cancels if not await self._is_asked(cancel)]
            if left:
                self._cancels = left + self._cancels
                await self._clock.sleep_until(self._clock.now() + _RETRY)
                self._work.set()

    async def _is_asked(self, cancel: Cancel) -> bool:
        """Whether an execution is durably asked to make way, or has ended; False when that is to be tried again."""
        operation = operations.Cancel(author="concurrency", reason=f"replaced by execution {cancel.by}")
        item = InboxItem(
            id=f"replace-{cancel.execution}-{cancel.by}",
            execution=cancel.execution,
            kind=operations.kind_of(operation),
            payload=operations.encode(operation),
            created_at=self._clock.now(),
        )
        try:
            await self._operate(item)
        except (Conflict, NotFound):
            return True
        except (StoreError, Unavailable) as error:
            _log.warning("replaced_not_cancelled", execution=cancel.execution, by=cancel.by, error=str(error))
            return False
        _log.info("execution_replaced", execution=cancel.execution, by=cancel.by)
        return True

    def _follow(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            match verdict:
                case Proceed(execution):
                    tracked = self._ledger.executions.get(execution)
                    if tracked is not None:
                        self._ledger.let_go(tracked)
                case Cancel():
                    self._cancels.append(verdict)
                    self._work.set()
                case Refuse():  # what would be skipped is not recorded: the store has said so
                    pass
