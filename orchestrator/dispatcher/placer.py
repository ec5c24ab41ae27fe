"""The placer: takes executions from the queue as engines have room, records the dispatch, and sends them off."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from dagengine.clock import Clock
from dagengine.events.facts import ErrorInfo
from dagengine.wire.v1 import session_pb2
from orchestrator.dispatcher import messages, placement
from orchestrator.dispatcher.ending import Ending
from orchestrator.dispatcher.engines import Engine
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.queue import Lane
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import StoreError, TransportError
from orchestrator.store.base import Store

__all__ = ["Placer"]

_log = structlog.get_logger("orchestrator.placer")

_RETRY: Final = 500_000
"""Microseconds before the next try when the store cannot record a dispatch."""
_HISTORY_PAGE: Final = 1_000
"""Facts of a history that are read and sent at a time."""


class Placer:
    """Works off the ledger's queue."""

    def __init__(
        self, ledger: Ledger, store: Store, clock: Clock, strategy: placement.Strategy, *, ending: Ending
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._strategy = strategy
        self._ending = ending
        self._turn = 0

    async def run(self) -> None:
        """Place what can be placed whenever something has changed, until cancelled."""
        while True:
            await self._ledger.work.wait()
            self._ledger.work.clear()
            await self._place()

    async def _place(self) -> None:
        stuck: list[Lane] = []
        chosen = self._choose(stuck)
        if chosen:
            await asyncio.gather(*(self._dispatch(engine, given) for engine, given in chosen.items()))
        for lane in stuck:
            await self._end_cancelled(lane)

    async def _end_cancelled(self, lane: Lane) -> None:
        """No engine is able to run what is in `lane`: end what somebody had cancelled while one could still come."""
        for tracked in list(lane.waiting.values()):
            if tracked.inbox and tracked.record.id in self._ledger.queue and not self._ledger.placeable(tracked):
                await self._ending.obey(tracked)

    def _choose(self, stuck: list[Lane]) -> dict[Engine, list[Tracked]]:
        """Take from the queue whatever has a place now, by engine. Lanes that wait for another reason go to `stuck`."""
        roster = self._ledger.roster
        fleet, load = roster.fleet, roster.load
        chosen: dict[Engine, list[Tracked]] = {}
        for lane in self._ledger.queue:
            for tracked in lane:
                answer = placement.choose(
                    self._strategy,
                    tracked.plan.reference,
                    fleet,
                    load,
                    required_executors=lane.executors,
                    required_pools=lane.pools,
                    excluded=lane.excluded,
                    turn=self._turn,
                )
                before, lane.reason = lane.reason, answer.reason
                if answer.engine is None:
                    if answer.reason != before:
                        stuck.append(lane)
                    break
                self._turn += 1
                load[answer.engine] = load.get(answer.engine, 0) + 1
                engine = roster.engines[answer.engine]
                self._ledger.give(tracked, engine)
                tracked.dispatching = True
                chosen.setdefault(engine, []).append(tracked)
        return chosen

    async def _dispatch(self, engine: Engine, given: list[Tracked]) -> None:
        """Record a dispatch, then send it. What the store cannot record, or read, goes back into the queue."""
        try:
            records = await self._store.dispatch([tracked.record.id for tracked in given], engine.id)
            for tracked in given:
                record = records.get(tracked.record.id)
                if record is None:
                    self._ledger.forget(tracked)  # it has ended meanwhile
                else:
                    tracked.record = record
            for tracked in given:
                if tracked.dispatching:
                    await self._send(engine, tracked)
        except Exception as error:
            fault = not isinstance(error, StoreError)
            _log.error("dispatch_failed", engine=engine.id, error=str(error), exc_info=fault)
            for tracked in given:
                if tracked.dispatching:
                    self._ledger.enqueue(tracked)
            await self._clock.sleep_until(self._clock.now() + _RETRY)

    async def _send(self, engine: Engine, tracked: Tracked) -> None:
        """Send a start with its history and what its inbox holds; nobody else sends anything about it before that."""
        record = tracked.record
        try:
            after = 0
            while after < record.last_seq:
                page = await self._store.facts(record.id, after=after, limit=_HISTORY_PAGE)
                if not page:
                    self._give_up(tracked, f"its journal ends after {after} of {record.last_seq} facts")
                    return
                for message in messages.histories(record.id, record.epoch, page):
                    engine.link.send(message)
                after = page[-1].seq
            if not engine.connected:
                self._ledger.enqueue(tracked)  # nothing of it has got there: another engine may have it
                return
            engine.link.send(_start(engine, tracked))
        except TransportError as error:
            self._give_up(tracked, f"it cannot be sent to an engine: {error}")
            return
        tracked.dispatching = False
        engine.started += 1
        if tracked.inbox:
            engine.link.send(messages.delivery(tracked.inbox.values()))

    def _give_up(self, tracked: Tracked, fault: str) -> None:
        self._ledger.withdraw(tracked)
        self._ending.give_up(tracked, ErrorInfo(type="Broken", message=fault))


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
    )
    return session_pb2.OrchestratorMessage(starts=[start])
