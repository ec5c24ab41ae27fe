"""Ends executions that no engine has: what is undispatched is sequenced by its owner, which is the dispatcher.

Two things lead here. Somebody cancels an execution that waits for an engine: then the facts are those that an
engine's machine would have made, because the same machine makes them, folded from the committed journal. Or an
execution is given up: engines have broken down on it, or nobody can be sent it. Then nothing is folded or evaluated,
since that may be what breaks: one last fact says that it has failed, why, and that it was given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
import structlog

from dagengine.clock import Clock
from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.graph.compiled import compile_document
from dagengine.machine.conclusion import shortened
from dagengine.machine.machine import Machine, fold
from dagengine.machine.stimuli import Begin, Cancel
from dagengine.spec.model import Document
from orchestrator.dispatcher.commits import is_terminal, terminal_of
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import StoreError
from orchestrator.store.base import TERMINAL, ExecutionRecord, InboxItem, Store

__all__ = ["Ending"]

_log = structlog.get_logger("orchestrator.ending")

_PAGE: Final = 1_000
_FIRST_RETRY: Final = 500_000
_LAST_RETRY: Final = 60_000_000
"""Microseconds between two tries to record an end, at first and at last."""

Ended = Callable[[Tracked, int, list[bytes]], None]
"""Told of an execution that has ended, with its last facts, the first of them at a position."""


class Ending:
    """Makes last facts. `ended` is called once they are committed and the execution's record says so.

    `settled` returns once every fact that engines have sent so far is committed or refused.
    """

    def __init__(self, store: Store, clock: Clock, *, settled: Callable[[], Awaitable[None]], ended: Ended) -> None:
        self._store = store
        self._clock = clock
        self._settled = settled
        self._ended = ended
        self._given_up: dict[str, tuple[Tracked, ErrorInfo]] = {}
        self._work = asyncio.Event()

    def __contains__(self, execution: str) -> bool:
        """Whether an execution was given up, and its end is not recorded yet."""
        return execution in self._given_up

    async def cancel(self, tracked: Tracked, item: InboxItem) -> bool:
        """Do what an inbox item asks for, to an execution without an engine.

        False when nodes of it run even then, or when an engine has got it meanwhile: it will do it there. So it is
        when the store cannot be written, because the item is kept.
        """
        wish: dict[str, Any] = msgspec.json.decode(item.payload, type=dict[str, Any])
        cancel = Cancel(
            at=self._clock.now(), author=wish.get("author", ""), reason=wish.get("reason", ""), command=item.id
        )
        try:
            record = await self._taken_back(tracked)
            if record is None:
                return False
            made = _cancelled(tracked, record, await self._history(record), cancel)
            return await self._commit(tracked, record, made)
        except StoreError as error:
            _log.warning("cancel_not_recorded", execution=item.execution, error=str(error))
        except Exception:
            _log.exception("execution_cannot_end", execution=item.execution)
        return False

    def give_up(self, tracked: Tracked, error: ErrorInfo) -> None:
        """Fail an execution of `error`, whatever its nodes are doing. It must have been withdrawn from its engine."""
        _log.error("execution_given_up", execution=tracked.record.id, type=error.type, reason=error.message)
        # Here before anywhere else: whoever has it still, and comes back meanwhile, is told to drop it.
        tracked.record = msgspec.structs.replace(tracked.record, engine=None)
        self._given_up[tracked.record.id] = tracked, shortened(error)
        self._work.set()

    async def run(self) -> None:
        """Record the ends of what is given up, until cancelled; what the store does not take is tried again."""
        wait = _FIRST_RETRY
        while True:
            await self._work.wait()
            self._work.clear()
            for execution, (tracked, error) in list(self._given_up.items()):
                if await self._has_failed(tracked, error):
                    del self._given_up[execution]
            if not self._given_up:
                wait = _FIRST_RETRY
            elif not self._work.is_set():
                await self._clock.sleep_until(self._clock.now() + wait)
                wait = min(2 * wait, _LAST_RETRY)
                self._work.set()

    async def _has_failed(self, tracked: Tracked, error: ErrorInfo) -> bool:
        """Whether its end is in the store now."""
        try:
            record = await self._taken_back(tracked)
            if record is not None:
                await self._commit(tracked, record, await self._failed(record, error))
        except StoreError as problem:
            _log.error("end_not_recorded", execution=tracked.record.id, error=str(problem))
        except Exception:  # a fault of ours with one execution must not keep the others from their end
            _log.exception("execution_cannot_end", execution=tracked.record.id)
        return tracked.record.status in TERMINAL

    async def _taken_back(self, tracked: Tracked) -> ExecutionRecord | None:
        """The record as the store has it, once no engine can add to it; None when one has got it, or it has ended."""
        record = tracked.record
        if record.epoch:
            tracked.record = msgspec.structs.replace(record, engine=None)
            await self._store.release(record.id, record.epoch)
            await self._settled()
        fresh = await self._store.execution(record.id)
        if fresh is None or tracked.record.status in TERMINAL:
            return None
        if tracked.engine is not None or fresh.engine is not None:
            return None
        tracked.record = fresh
        if fresh.status not in TERMINAL:
            return fresh
        self._ended(tracked, fresh.last_seq + 1, [])
        return None

    async def _commit(self, tracked: Tracked, record: ExecutionRecord, made: Sequence[Fact]) -> bool:
        """Record last facts; False when they are no end, or do not follow what is in the store (any more)."""
        payloads = [facts.encode(fact) for fact in made]
        if not is_terminal(payloads[-1]) or tracked.engine is not None:
            return False
        terminal = terminal_of(payloads[-1])
        if not await self._store.end_undispatched(
            record.id, payloads, terminal, epoch=record.epoch, last_seq=record.last_seq
        ):
            return False
        tracked.record = msgspec.structs.replace(
            record,
            status=terminal.status,
            started_at=record.started_at or made[0].at,
            finished_at=terminal.at,
            last_seq=record.last_seq + len(payloads),
            outputs=terminal.outputs,
            error=terminal.error,
        )
        self._ended(tracked, record.last_seq + 1, payloads)
        return True

    async def _history(self, record: ExecutionRecord) -> list[Fact]:
        history: list[Fact] = []
        while len(history) < record.last_seq:
            page = await self._store.facts(record.id, after=len(history), limit=_PAGE)
            if not page:
                raise StoreError(f"the journal of {record.id} ends after {len(history)} of {record.last_seq} facts")
            history += [facts.decode(fact.payload) for fact in page]
        return history

    async def _failed(self, record: ExecutionRecord, error: ErrorInfo) -> list[Fact]:
        """What follows the journal when the execution is given up. Its last fact is all that is looked at of it."""
        at = self._clock.now()
        last = facts.ExecutionFailed(at=at, error=error, given_up=True)
        if not record.last_seq:
            return [_started(record, at), last]
        for stored in await self._store.facts(record.id, after=record.last_seq - 1, limit=1):
            last = msgspec.structs.replace(last, at=max(at, _time_of(stored.payload)))
        return [last]


def _cancelled(tracked: Tracked, record: ExecutionRecord, history: list[Fact], cancel: Cancel) -> list[Fact]:
    """What follows `history` once `cancel` is obeyed. Not to the end where nodes run even then."""
    graph = compile_document(Document.model_validate_json(tracked.plan.canonical))
    if history:
        return fold(graph, history, execution=record.id, seed=record.seed).handle(cancel).facts
    machine = Machine(graph, execution=record.id, seed=record.seed)
    return machine.handle(Begin(at=cancel.at, inputs=record.inputs, cancel=cancel)).facts


def _started(record: ExecutionRecord, at: int) -> facts.ExecutionStarted:
    return facts.ExecutionStarted(
        at=at,
        execution=record.id,
        workflow=record.workflow,
        version=record.version,
        digest=record.digest,
        inputs=msgspec.Raw(record.inputs),
    )


class _Header(msgspec.Struct):
    at: int


def _time_of(payload: bytes) -> int:
    try:
        return msgspec.json.decode(payload, type=_Header).at
    except msgspec.MsgspecError:  # a journal that makes no sense: then any time follows it
        return 0
