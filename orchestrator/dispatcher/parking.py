"""Parking: what only waits is taken from its engine, and from this replica, until it wakes.

An engine offers it once. What the store does not take in that moment is tried again, until it is true no more: else
the engine would keep it, and lose capacity to it, for as long as it waits.

Called by `sessions`; `run` is one of the dispatcher's tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import structlog

from dagengine.clock import Clock
from dagengine.wire.v1 import session_pb2
from orchestrator.dispatcher import messages
from orchestrator.dispatcher.engines import Engine
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import Fenced, StoreError
from orchestrator.monitor.monitor import Monitor
from orchestrator.store.base import Store

__all__ = ["Parking"]

_log = structlog.get_logger("orchestrator.parking")

_RETRY: Final = 500_000
"""Microseconds before the next try when the store cannot be written."""


class Parking:
    """Takes executions from engines that say that they only wait.

    `parked(tracked, wake_at)` is called when an execution has no engine and no owner any more, and can be claimed
    then; `fenced()` when this replica may not write any more.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        clock: Clock,
        monitor: Monitor,
        *,
        parked: Callable[[Tracked, int | None], None],
        fenced: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._monitor = monitor
        self._parked = parked
        self._fenced = fenced
        self._later: list[tuple[Engine, session_pb2.Park]] = []
        self._work = asyncio.Event()

    async def offered(self, engine: Engine, parks: Iterable[session_pb2.Park]) -> None:
        """Park what can be parked. All facts that came before must be settled."""
        await asyncio.gather(*(self._park(engine, park) for park in parks))

    async def run(self) -> None:
        """Try again what the store did not take, until cancelled."""
        while True:
            await self._work.wait()
            await self._clock.sleep_until(self._clock.now() + _RETRY)
            self._work.clear()
            later, self._later = self._later, []
            await asyncio.gather(*(self._again(engine, park) for engine, park in later))

    async def _again(self, engine: Engine, park: session_pb2.Park) -> None:
        """Park what the store did not take, or what it took without being able to say so."""
        try:
            record = await self._store.execution(park.execution)
        except StoreError as error:
            self._try_again(engine, park, error)
            return
        tracked = self._ledger.executions.get(park.execution)
        taken = record is not None and tracked is not None and record.owner != tracked.record.owner
        if record is None or tracked is None or not taken or tracked.dispatching or tracked.engine != engine.id:
            await self._park(engine, park)
            return
        if record.engine is None:
            engine.link.send(messages.drop(park.execution, park.epoch))
        tracked.record = record
        self._parked(tracked, record.wake_at)

    async def _park(self, engine: Engine, park: session_pb2.Park) -> None:
        """An execution only waits: take it from its engine, unless there is something to do after all."""
        tracked = self._ledger.executions.get(park.execution)
        if tracked is None or tracked.dispatching or tracked.engine != engine.id or tracked.inbox:
            return
        if tracked.plan.needs.exclusive:
            return  # it has its engine until its end
        wake_at = park.wake_at or None
        try:
            parked = await self._store.park(park.execution, park.epoch, park.last_seq, wake_at)
        except Fenced:
            self._fenced()
            return
        except StoreError as error:
            self._try_again(engine, park, error)
            return
        if not parked:
            return
        engine.link.send(messages.drop(park.execution, park.epoch))
        self._monitor.execution_parked()
        if self._ledger.executions.get(park.execution) is tracked:
            tracked.record = msgspec.structs.replace(tracked.record, engine=None, owner=None, wake_at=wake_at)
            self._parked(tracked, wake_at)

    def _try_again(self, engine: Engine, park: session_pb2.Park, error: StoreError) -> None:
        _log.warning("execution_not_parked", execution=park.execution, error=str(error))
        self._later.append((engine, park))
        self._work.set()
