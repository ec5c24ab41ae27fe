"""Per-workflow concurrency: executions that share a key, over the whole system, at most `max` of them under way.

An execution's key is evaluated once, when it is accepted, and stored with it. What waits is in the ledger but not in
its queue: nobody places it. Everything is restored from the store after a restart:

- what an engine has, or had, is under way; what was accepted under `skip` is, too;
- the others ask again, in the order in which they were accepted. So a `replace` tells those that it takes the place of
  once more, under the same command: they obey it once.

Used by the dispatcher; `run` is one of its tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import structlog

from dagengine.admission.concurrency import Cancel, Concurrency, Ended, Proceed, Refuse, Restored, Verdict, Wants
from dagengine.clock import Clock
from dagengine.errors import InputError, Problem
from dagengine.machine import operations
from dagengine.spec.model import Document
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import AtLimit, Conflict, NotFound, StoreError
from orchestrator.store.base import InboxItem, NewExecution

__all__ = ["Evaluate", "Limits", "key_of"]

_log = structlog.get_logger("orchestrator.concurrency")

_RETRY: Final = 500_000
"""Microseconds before the next try when the store does not take a cancellation."""

_LONGEST_KEY: Final = 1_024

Evaluate = Callable[[Document, object, bytes], Awaitable[bytes]]
"""`evaluate(document, template, inputs)`: the JSON value of a template over inputs (JSON). Raises InputError."""

Operate = Callable[[InboxItem], Awaitable[None]]
"""Asks something of an execution; returns once that is durable. NotFound, Conflict, StoreError."""


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

    @contextlib.contextmanager
    def reserved(self, new: NewExecution, document: Document) -> Iterator[None]:
        """A place under its key for an execution that is about to be recorded, if others would have it skipped.

        Raises AtLimit when there is none. The place is kept if the execution is in the ledger after the block.
        """
        declared = document.spec.concurrency
        if declared is None or new.concurrency_key is None or declared.on_conflict != "skip":
            yield
            return
        wants = Wants(
            at=new.created_at,
            execution=new.id,
            key=new.concurrency_key,
            max=declared.max,
            on_conflict="skip",
            priority=new.priority,
        )
        for verdict in self._machine.handle(wants):
            if isinstance(verdict, Refuse):
                raise AtLimit(
                    f"{verdict.under_way} of {declared.max} executions of '{new.workflow}' are under way "
                    f"(concurrency key '{new.concurrency_key.removeprefix(new.workflow + '/')}'), "
                    "and it skips those on top of them: try again when one has ended"
                )
        try:
            yield
        finally:
            if new.id not in self._ledger.executions:
                self.ended(new.id)

    def enter(self, tracked: Tracked, *, again: bool = False) -> None:
        """An execution is recorded as queued: let it wait for an engine, or for others under its key.

        With `again` it had ended, and was accepted long ago: then it waits, whatever its workflow says.
        """
        record, declared = tracked.record, tracked.plan.concurrency
        if record.concurrency_key is None or declared is None:
            self._ledger.add(tracked)
            return
        wants = Wants(
            at=tracked.since,
            execution=record.id,
            key=record.concurrency_key,
            max=declared.max,
            on_conflict="queue" if again else declared.on_conflict,
            priority=record.priority,
        )
        verdicts = self._machine.handle(wants)
        self._ledger.hold(tracked)
        if not self._machine.waits(record.id):
            self._ledger.let_go(tracked)
        self._follow(verdicts)

    def restore(self, executions: Iterable[Tracked]) -> None:
        """Take over executions that have not ended, oldest first. Adds all of them to the ledger."""
        waiting: list[Tracked] = []
        for tracked in executions:
            record, declared = tracked.record, tracked.plan.concurrency
            if record.concurrency_key is None or declared is None:
                self._ledger.add(tracked)
            elif (record.epoch and not tracked.waits_for_retry) or declared.on_conflict == "skip":
                restored = Restored(at=self._clock.now(), execution=record.id, key=record.concurrency_key)
                self._machine.handle(restored)
                self._ledger.add(tracked)
            else:
                waiting.append(tracked)
        for tracked in waiting:
            self.enter(tracked, again=tracked.waits_for_retry)

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
        except StoreError as error:
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
                case Refuse():  # only an execution that is not recorded yet is refused: `reserved` has said so
                    pass
