"""What engines hold, or send, that this replica's ledger does not explain: the store is asked before they are answered.

It may be another replica's: that one tells the engine what to do with it. Or nobody's, while it is handed over: then
whoever owns it next does. Only what has ended, or what the engine is not meant to have any more, is dropped. And what
an engine knows more of than the store does shows that the store has lost facts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
import structlog

from dagengine.clock import Clock
from dagengine.wire.v1 import session_pb2
from orchestrator.dispatcher import messages
from orchestrator.dispatcher.losses import is_behind
from orchestrator.errors import StoreError
from orchestrator.store.base import TERMINAL, ExecutionRecord, Store
from orchestrator.transport.base import Link

__all__ = ["Doubts", "late_facts", "may_go_on"]

_log = structlog.get_logger("orchestrator.doubts")

_RETRY: Final = 500_000
"""Microseconds before the next try when the store cannot be read."""

_AT_ONCE: Final = 64
"""Executions that are asked about at the same time."""

Lost = Callable[[Link, session_pb2.Held, ExecutionRecord], None]
"""Told of what an engine knows more of than the store does."""


def may_go_on(record: ExecutionRecord, engine: str, epoch: int) -> bool:
    """Whether an engine may go on with what it holds of an execution under an epoch: nobody else can have changed it.

    Under an epoch of before its dispatch, or if it is meant to have it no more, others may have made other facts since.
    """
    return record.engine == engine and record.dispatch_epoch <= epoch <= record.epoch


def late_facts(record: ExecutionRecord | None, engine: str, held: session_pb2.Held) -> int:
    """How many facts an engine has made that nobody takes: it was not meant to have the execution any more.

    Facts that it may not know to be committed are not among them: those of an execution that has ended with it.
    """
    if record is not None and may_go_on(record, engine, held.epoch):
        return 0
    return max(0, held.last_seq - held.acknowledged)


class Doubts:
    """Asks the store, and drops what the engine is not meant to have any more.

    `late(count)` is told of facts that are refused with that, although they were never sent.
    """

    def __init__(self, store: Store, clock: Clock, *, lost: Lost, late: Callable[[int], None]) -> None:
        self._store = store
        self._clock = clock
        self._lost = lost
        self._late = late
        self._open: dict[tuple[Link, str], dict[str, session_pb2.Held]] = {}
        """By session and engine: a link may lead to another engine tomorrow."""
        self._work = asyncio.Event()

    def about(self, link: Link, helds: Iterable[session_pb2.Held]) -> None:
        """Find out what to say to an engine of what it holds."""
        of_engine = self._open.setdefault((link, link.engine_id), {})
        for held in helds:
            before = of_engine.get(held.execution)
            if before is None or before.epoch <= held.epoch:
                of_engine[held.execution] = held
            self._work.set()

    async def run(self) -> None:
        """Answer what is open, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            asked, self._open = self._open, {}
            wanted = {execution for helds in asked.values() for execution in helds}
            try:
                records = await self._records(sorted(wanted))
            except StoreError as error:
                _log.warning("doubts_not_cleared", executions=len(wanted), error=str(error))
                await self._clock.sleep_until(self._clock.now() + _RETRY)
                for (link, engine), helds in asked.items():
                    if link.engine_id == engine:
                        self.about(link, helds.values())
                continue
            for (link, engine), helds in asked.items():
                if link.connected and link.engine_id == engine:
                    for held in helds.values():
                        self._answer(link, held, records.get(held.execution))

    async def _records(self, executions: Sequence[str]) -> dict[str, ExecutionRecord]:
        """What the store says of executions, without their inputs: those of all that an engine holds take much room."""
        records: dict[str, ExecutionRecord] = {}
        for at in range(0, len(executions), _AT_ONCE):
            found = await asyncio.gather(*map(self._store.execution, executions[at : at + _AT_ONCE]))
            records |= {one.id: msgspec.structs.replace(one, inputs=b"") for one in found if one is not None}
        return records

    def _answer(self, link: Link, held: session_pb2.Held, record: ExecutionRecord | None) -> None:
        if record is not None and is_behind(record, held):
            self._lost(link, held, record)
        elif record is None or record.status in TERMINAL or not may_go_on(record, link.engine_id, held.epoch):
            # If it goes on, then from what is committed, and under a higher epoch.
            self._late(late_facts(record, link.engine_id, held))
            link.send(messages.drop(held.execution, held.epoch))
