"""The placer: takes executions from the queue as engines have room, records the dispatch, and sends them off."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from dagengine.clock import Clock
from dagengine.wire.v1 import session_pb2
from orchestrator.dispatcher import messages, placement
from orchestrator.dispatcher.engines import Engine
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import StoreError
from orchestrator.store.base import ExecutionRecord, Store

__all__ = ["Placer"]

_log = structlog.get_logger("orchestrator.placer")

_RETRY: Final = 500_000
"""Microseconds before the next try when the store cannot record a dispatch."""
_HISTORY_PAGE: Final = 1_000
"""Facts of a history that are read and sent at a time."""


class Placer:
    """Works off the ledger's queue."""

    def __init__(self, ledger: Ledger, store: Store, clock: Clock, strategy: placement.Strategy) -> None:
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._strategy = strategy
        self._turn = 0

    async def run(self) -> None:
        """Place what can be placed whenever something has changed, until cancelled."""
        while True:
            await self._ledger.work.wait()
            self._ledger.work.clear()
            chosen = self._choose()
            if chosen:
                await asyncio.gather(*(self._dispatch(engine, given) for engine, given in chosen.items()))

    def _choose(self) -> dict[str, list[Tracked]]:
        """Take from the queue whatever has a place now, by engine."""
        roster = self._ledger.roster
        fleet, load = roster.fleet, roster.load
        chosen: dict[str, list[Tracked]] = {}
        for lane in self._ledger.queue:
            for tracked in lane:
                answer = placement.choose(
                    self._strategy,
                    tracked.plan.reference,
                    fleet,
                    load,
                    required_executors=lane.executors,
                    excluded=lane.excluded,
                    turn=self._turn,
                )
                lane.reason = answer.reason
                if answer.engine is None:
                    break
                self._turn += 1
                load[answer.engine] = load.get(answer.engine, 0) + 1
                self._ledger.give(tracked, roster.engines[answer.engine])
                chosen.setdefault(answer.engine, []).append(tracked)
        return chosen

    async def _dispatch(self, engine_id: str, given: list[Tracked]) -> None:
        """Record a dispatch, then send it. When the store cannot, everything goes back into the queue."""
        engine = self._ledger.roster.engines[engine_id]
        try:
            records = await self._store.dispatch([tracked.record.id for tracked in given], engine_id)
        except StoreError as error:
            _log.error("dispatch_failed", engine=engine_id, error=str(error))
            for tracked in given:
                self._ledger.enqueue(tracked)
            await self._clock.sleep_until(self._clock.now() + _RETRY)
            return
        message = session_pb2.OrchestratorMessage()
        for tracked in given:
            record = records.get(tracked.record.id)
            if record is None:
                self._ledger.forget(tracked)
                continue
            tracked.record = record
            if record.last_seq:
                await self._send_history(engine, record)
            message.starts.append(_start(engine, tracked))
            engine.started += 1
        engine.link.send(message)
        await self._deliver_again(engine, [tracked for tracked in given if tracked.record.epoch > 1])

    async def _send_history(self, engine: Engine, record: ExecutionRecord) -> None:
        after = 0
        while after < record.last_seq:
            page = await self._store.facts(record.id, after=after, limit=_HISTORY_PAGE)
            engine.link.send(messages.history(record.id, record.epoch, page))
            after = page[-1].seq

    async def _deliver_again(self, engine: Engine, given: list[Tracked]) -> None:
        """What the inbox holds for executions that had an engine before."""
        for tracked in given:
            items = await self._store.inbox(tracked.record.id)
            if items:
                engine.link.send(messages.delivery(items))


def _start(engine: Engine, tracked: Tracked) -> session_pb2.Start:
    record, plan = tracked.record, tracked.plan
    document = b"" if plan.digest in engine.digests else plan.canonical
    engine.digests.add(plan.digest)
    return session_pb2.Start(
        execution=record.id,
        epoch=record.epoch,
        digest=plan.digest,
        document=document,
        inputs=record.inputs,
        seed=record.seed,
        history=record.last_seq,
    )
