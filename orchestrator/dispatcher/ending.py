"""Ends executions that no engine has: what is undispatched is sequenced by its owner, which is the dispatcher.

Two things lead here. Somebody cancels an execution that waits for an engine: then the facts are those that an
engine's machine would have made, because the same machine makes them, folded from the committed journal. Nodes that
run even then wait for an engine, unless none is able to run the execution and it never began: then there is nothing to
clean up after, and it ends without them. Or an
execution is given up: engines have broken down on it, or nobody can be sent it. Then nothing is folded or evaluated,
since that may be what breaks: one last fact says that it has failed, why, and that it was given up. One that had ended
already, and was to go on, stays as it had ended: facts say that what was asked of it is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import structlog

from dagengine.clock import Clock
from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.graph.compiled import compile_document
from dagengine.machine import fanout, operations
from dagengine.machine.conclusion import shortened
from dagengine.machine.machine import Machine, fold
from dagengine.machine.stimuli import Begin, Operate
from dagengine.spec.model import Document
from orchestrator.blobs import values
from orchestrator.blobs.base import Blobs
from orchestrator.dispatcher.commits import made
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

    `settled` returns once every fact that engines have sent so far is committed or refused. `placeable` says whether an
    engine is able to run an execution, or one that is may still come.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        *,
        settled: Callable[[], Awaitable[None]],
        placeable: Callable[[Tracked], bool],
        ended: Ended,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._settled = settled
        self._placeable = placeable
        self._ended = ended
        self._given_up: dict[str, tuple[Tracked, ErrorInfo]] = {}
        self._work = asyncio.Event()

    def __contains__(self, execution: str) -> bool:
        """Whether an execution was given up, and its end is not recorded yet."""
        return execution in self._given_up

    async def obey(self, tracked: Tracked) -> bool:
        """Do what the inbox of an execution without an engine asks for, if that ends it: somebody cancels it.

        False when nodes of it run even then, or when an engine has got it meanwhile: it will do it there. So it is
        when the store cannot be written, because the inbox is kept.
        """
        asked = list(tracked.inbox.values())
        if not any(item.kind == "cancel" for item in asked):
            return False
        try:
            record = await self._taken_back(tracked)
            if record is None:
                return False
            wanted = [Operate(at=self._clock.now(), operation=_meant(item), command=item.id) for item in asked]
            last, ended = _obeyed(tracked, record, await self._history(record), wanted)
            if not ended and not record.last_seq and not self._placeable(tracked):
                last, ended = _obeyed(tracked, record, [], [_without_exit(tracked, operate) for operate in wanted])
            return ended and await self._commit(tracked, record, last)
        except StoreError as error:
            _log.warning("cancel_not_recorded", execution=tracked.record.id, error=str(error))
        except Exception:
            _log.exception("execution_cannot_end", execution=tracked.record.id)
        return False

    async def notice(self, tracked: Tracked) -> None:
        """An execution cannot be dispatched: see whether it has ended and nobody here has heard of that. StoreError."""
        record = await self._store.execution(tracked.record.id)
        if record is not None and record.status in TERMINAL:
            tracked.record = record
            self._ended(tracked, record.last_seq + 1, [])

    def give_up(self, tracked: Tracked, error: ErrorInfo) -> None:
        """Fail an execution of `error`, whatever its nodes are doing. It must have been withdrawn from its engine."""
        _log.error("execution_given_up", execution=tracked.record.id, type=error.type, reason=error.message)
        # Here before anywhere else: whoever has it still, and comes back meanwhile, is told to drop it.
        tracked.record = msgspec.structs.replace(tracked.record, engine=None)
        self._given_up[tracked.record.id] = tracked, shortened(error)
        self._work.set()

    def clear(self) -> None:
        """Forget all: others look after these executions now."""
        self._given_up.clear()

    async def run(self) -> None:
        """Record the ends of what is given up, until cancelled; what the store does not take is tried again."""
        wait = _FIRST_RETRY
        while True:
            await self._work.wait()
            self._work.clear()
            for execution, (tracked, error) in list(self._given_up.items()):
                if await self._has_failed(tracked, error):
                    self._given_up.pop(execution, None)
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
                await self._commit(tracked, record, await self._failed(record, error), given_up=True)
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
        if tracked.engine is not None:
            return None
        if fresh.engine is not None:
            if fresh.epoch == tracked.record.epoch or fresh.owner != tracked.record.owner:
                return None
            tracked.record = fresh  # a dispatch of which nobody has heard: it is taken back as well
            return await self._taken_back(tracked)
        tracked.record = fresh
        if fresh.status not in TERMINAL:
            return fresh
        self._ended(tracked, fresh.last_seq + 1, [])
        return None

    async def _commit(
        self, tracked: Tracked, record: ExecutionRecord, last: Sequence[Fact], *, given_up: bool = False
    ) -> bool:
        """Record last facts; False when they do not follow what is in the store, or leave a retry in the inbox.

        Without any, what was asked was done before, and only the answer to that was lost, or is still to come.
        """
        if not last:
            return False
        payloads = [facts.encode(fact) for fact in last]
        batch = await values.kept(self._blobs, made(record.id, record.epoch, record.last_seq + 1, payloads))
        if tracked.engine is not None or not await self._store.end_undispatched(batch, retries=given_up):
            return False
        tracked.record = await self._store.execution(record.id) or record
        self._ended(tracked, record.last_seq + 1, payloads)
        return True

    async def _history(self, record: ExecutionRecord) -> list[Fact]:
        history: list[Fact] = []
        while len(history) < record.last_seq:
            # Not what follows: somebody else may be ending it at the same time.
            left = record.last_seq - len(history)
            page = await self._store.facts(record.id, after=len(history), limit=min(_PAGE, left))
            if not page:
                raise StoreError(f"the journal of {record.id} ends after {len(history)} of {record.last_seq} facts")
            # With all values: what outputs there were becomes those of the last fact.
            history += map(facts.decode, await values.whole(self._blobs, [fact.payload for fact in page]))
        return history

    async def _failed(self, record: ExecutionRecord, error: ErrorInfo) -> Sequence[Fact]:
        """What follows the journal when the execution is given up. Its last fact is all that is looked at of it."""
        at = self._clock.now()
        if not record.last_seq:
            return [_started(record, at), facts.ExecutionFailed(at=at, error=error, given_up=True)]
        for stored in await self._store.facts(record.id, after=record.last_seq - 1, limit=1):
            at = max(at, _time_of(stored.payload))
        if await self._store.former_end(record.id) is not None:
            return [_refused(item, at, error) for item in await self._store.inbox(record.id)]
        return [facts.ExecutionFailed(at=at, error=error, given_up=True)]


def _meant(item: InboxItem) -> operations.Operation:
    """What an item asks of an execution that no engine has: nothing runs there that could use a grace."""
    operation = operations.decode(item.payload)
    return msgspec.structs.replace(operation, grace=0) if isinstance(operation, operations.Cancel) else operation


def _without_exit(tracked: Tracked, operate: Operate) -> Operate:
    """The same request, a cancel as one that ends everything, with words about what does not run."""
    if not isinstance(cancel := operate.operation, operations.Cancel) or cancel.terminate:
        return operate
    on_exit = Document.model_validate_json(tracked.plan.canonical).spec.on_exit
    left_out = "on_exit" if on_exit else "what runs in any case"
    why = f"it never began and no engine is able to run it, so {left_out} did not run"
    reason = f"{cancel.reason} ({why})" if cancel.reason else why
    return msgspec.structs.replace(operate, operation=msgspec.structs.replace(cancel, terminate=True, reason=reason))


def _obeyed(
    tracked: Tracked, record: ExecutionRecord, history: list[Fact], wanted: list[Operate]
) -> tuple[list[Fact], bool]:
    """What follows `history` once all that is wanted is obeyed; whether that is the end: nodes may run even then."""
    graph = compile_document(Document.model_validate_json(tracked.plan.canonical))
    last: list[Fact] = []
    if history:
        machine = fold(graph, history, execution=record.id, seed=record.seed)
        fanout.resume(machine)  # an item may end of what is asked: how far the others have come is in no fact
    else:
        machine = Machine(graph, execution=record.id, seed=record.seed)
        begin = Begin(at=wanted[0].at, inputs=record.inputs)
        if isinstance(cancel := wanted[0].operation, operations.Cancel):
            begin = msgspec.structs.replace(begin, cancel=cancel, command=wanted[0].command)
            wanted = wanted[1:]
        last += machine.handle(begin).facts
    for operate in wanted:
        last += machine.handle(operate).facts
    return last, machine.ended


def _refused(item: InboxItem, at: int, error: ErrorInfo) -> Fact:
    asked = operations.decode(item.payload)
    why = f"the execution cannot go on: {error.message}"
    return facts.CommandRefused(
        at=at, author=asked.author, reason=asked.reason, command=item.id, kind=item.kind, why=why
    )


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
