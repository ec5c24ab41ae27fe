"""The placer: takes executions from the queue as engines have room, records the dispatch, and sends them off.

Engines get histories with all their values: what is kept as large values is put back before it is sent.

What waits for an engine of its own takes its turn with the rest (`saving`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from dagengine.clock import Clock
from dagengine.events.facts import ErrorInfo
from dagengine.wire.v1 import session_pb2
from orchestrator.blobs import values
from orchestrator.blobs.base import Blobs
from orchestrator.dispatcher import messages, placement
from orchestrator.dispatcher.ending import Ending
from orchestrator.dispatcher.engines import Engine
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.queue import Lane
from orchestrator.dispatcher.saving import Savings
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import Fenced, StoreError, TransportError, ValuesMissing
from orchestrator.store.base import Store, StoredFact

__all__ = ["Placer"]

_log = structlog.get_logger("orchestrator.placer")

_RETRY: Final = 500_000
"""Microseconds before the next try when the store cannot record a dispatch."""
_HISTORY_PAGE: Final = 1_000
"""Facts of a history that are read and sent at a time."""
_AT_ONCE: Final = 16
"""Executions whose histories are read at the same time."""


class Placer:
    """Works off the ledger's queue. `fenced()` is called when this replica may not write any more."""

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        strategy: placement.Strategy,
        *,
        ending: Ending,
        fenced: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._strategy = strategy
        self._ending = ending
        self._fenced = fenced
        self._savings = Savings(ledger)
        self._turn = 0

    async def run(self) -> None:
        """Place what can be placed whenever something has changed, until cancelled."""
        while True:
            await self._ledger.work.wait()
            self._ledger.work.clear()
            await self._place()

    async def _place(self) -> None:
        stuck: list[Lane] = []
        self._savings.release()
        chosen = self._choose(stuck)
        if chosen:
            await asyncio.gather(*(self._dispatch(engine, given) for engine, given in chosen.items()))
            self._savings.release()
        self._savings.begin()  # after what was before them in line is sent: an engine that is kept for one refuses it
        for lane in stuck:
            await self._end_cancelled(lane)

    async def _end_cancelled(self, lane: Lane) -> None:
        """If no engine is able to run what is in `lane`: end what somebody had cancelled while one could still come."""
        first = next(iter(lane.waiting.values()), None)
        if first is None or self._ledger.placeable(first):
            return  # all of a lane are alike in that
        for tracked in list(lane.waiting.values()):
            if tracked.inbox and tracked.record.id in self._ledger.queue and not self._ledger.placeable(tracked):
                await self._ending.obey(tracked)

    def _choose(self, stuck: list[Lane]) -> dict[Engine, list[Tracked]]:
        """Take from the queue whatever has a place now, by engine. Lanes that wait for another reason go to `stuck`."""
        chosen: dict[Engine, list[Tracked]] = {}
        if not len(self._ledger.queue):
            return chosen  # most passes: engines tell of their load all the time
        roster = self._ledger.roster
        fleet, load = roster.fleet, roster.load
        for lane in self._ledger.queue:
            alone = lane.needs.exclusive
            for tracked in lane:
                answer = placement.choose(
                    self._strategy,
                    tracked.plan.reference,
                    fleet,
                    self._savings.for_one(tracked.record.id, load) if alone else load,
                    needs=lane.needs,
                    excluded=lane.excluded,
                    turn=self._turn,
                )
                before, lane.reason = lane.reason, answer.reason
                if answer.engine is None:
                    if answer.reason != before:
                        stuck.append(lane)
                    break
                self._turn += 1
                engine = roster.engines[answer.engine]
                load[engine.id] = engine.capacity if alone else load.get(engine.id, 0) + 1
                self._ledger.give(tracked, engine)
                tracked.dispatching = True
                chosen.setdefault(engine, []).append(tracked)
        return chosen

    async def _dispatch(self, engine: Engine, given: list[Tracked]) -> None:
        """Record a dispatch, then send it. What the store cannot record, or read, goes back into the queue."""
        try:
            records = await self._store.dispatch([tracked.record.id for tracked in given], engine.id)
            for tracked in filter(self._is_here, given):
                tracked.record = records.get(tracked.record.id, tracked.record)
            ready = [tracked for tracked in given if tracked.record.id in records]
            for at in range(0, len(ready), _AT_ONCE):
                some = ready[at : at + _AT_ONCE]
                beginnings = await self._beginnings(some)
                for tracked in filter(self._is_here, some):
                    await self._send(engine, tracked, beginnings.get(tracked.record.id, ()))
            for tracked in filter(self._is_here, given):
                if tracked.record.id not in records:  # it has ended meanwhile, or is another replica's
                    await self._ending.notice(tracked)
                    self._ledger.forget(tracked)
        except Exception as error:
            if isinstance(error, Fenced):
                self._fenced()
            fault = not isinstance(error, StoreError)
            _log.error("dispatch_failed", engine=engine.id, error=str(error), exc_info=fault)
            for tracked in filter(self._is_here, given):
                self._ledger.enqueue(tracked)
            await self._clock.sleep_until(self._clock.now() + _RETRY)

    def _is_here(self, tracked: Tracked) -> bool:
        """Whether an execution is still this replica's, and on its way: it may have lost all that it owned."""
        return tracked.dispatching and self._ledger.executions.get(tracked.record.id) is tracked

    async def _beginnings(self, executions: Iterable[Tracked]) -> dict[str, Sequence[StoredFact]]:
        """The first pages of the histories of those that have one: then short ones leave in one message."""
        here = [tracked.record.id for tracked in filter(self._is_here, executions) if tracked.record.last_seq]
        pages = await asyncio.gather(*(self._store.facts(execution, limit=_HISTORY_PAGE) for execution in here))
        return dict(zip(here, pages, strict=True))

    async def _send(self, engine: Engine, tracked: Tracked, beginning: Sequence[StoredFact]) -> None:
        """Send a start with its history and what its inbox holds; nobody else sends anything about it before that."""
        record = tracked.record
        try:
            after = 0
            while after < record.last_seq and engine.connected and self._is_here(tracked):
                page = beginning or await self._store.facts(record.id, after=after, limit=_HISTORY_PAGE)
                beginning = ()
                if not page:
                    self._give_up(tracked, f"its journal ends after {after} of {record.last_seq} facts")
                    return
                for part in values.pages(page):
                    await engine.link.room()
                    whole = await values.whole(self._blobs, [fact.payload for fact in part])
                    for message in messages.histories(record.id, record.epoch, part[0].seq, whole):
                        engine.link.send(message)
                after = page[-1].seq
            if not self._is_here(tracked):
                return
            if not engine.connected:
                self._ledger.enqueue(tracked)  # nothing of it has got there: another engine may have it
                return
            engine.link.send(_start(engine, tracked))
        except TransportError as error:
            self._give_up(tracked, f"it cannot be sent to an engine: {error}")
            return
        except ValuesMissing as error:
            self._give_up(tracked, str(error), kind="FactsLost")
            return
        tracked.dispatching = False
        engine.started += 1
        if tracked.inbox:
            engine.link.send(messages.delivery(tracked.inbox.values()))

    def _give_up(self, tracked: Tracked, fault: str, *, kind: str = "Broken") -> None:
        self._ledger.withdraw(tracked)
        self._ending.give_up(tracked, ErrorInfo(type=kind, message=fault))


def _start(engine: Engine, tracked: Tracked) -> session_pb2.OrchestratorMessage:
    record, plan = tracked.record, tracked.plan
    document = b"" if plan.digest in engine.digests else plan.canonical
    engine.digests.add(plan.digest)
    start = session_pb2.Start(
        execution=record.id,
        epoch=record.epoch,
        digest=plan.digest,
        document=document,
        inputs=record.inputs,
        seed=record.seed,
        history=record.last_seq,
        priority=record.priority,
        exclusive=plan.needs.exclusive,
    )
    return session_pb2.OrchestratorMessage(starts=[start])
