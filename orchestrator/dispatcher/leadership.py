"""What only one replica does: it counts concurrency keys, speaks of the pools over the system, and runs the singletons.

Being the leader comes with being a replica (`membership`), and goes with it. Before it acts as one, a new leader learns
from the store what is under way under which key, and which engines may hold room in pools.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from dagengine.clock import Clock
from orchestrator.alarm import Alarm
from orchestrator.dispatcher.concurrency import Limits
from orchestrator.dispatcher.membership import Member
from orchestrator.dispatcher.plans import Plans
from orchestrator.dispatcher.pools import Pools
from orchestrator.dispatcher.tracked import Plan
from orchestrator.errors import StoreError
from orchestrator.store.base import Store

__all__ = ["Leadership"]

_log = structlog.get_logger("orchestrator.leadership")

_RETRY: Final = 500_000
"""Microseconds before the next try when the store cannot be read."""


class Leadership:
    """Whether this replica acts as the leader. `told(leads)` is called when that begins, and when it is over."""

    def __init__(
        self,
        member: Member,
        store: Store,
        clock: Clock,
        *,
        plans: Plans,
        limits: Limits,
        pools: Pools,
        expect: Callable[[str], None],
        told: Callable[[bool], None],
    ) -> None:
        """`expect` is told of engines that should be there: they may hold room in pools."""
        self._member = member
        self._store = store
        self._clock = clock
        self._plans = plans
        self._limits = limits
        self._pools = pools
        self._expect = expect
        self._told = told
        self._alarm = Alarm(clock)
        self._term: int | None = None

    @property
    def leads(self) -> bool:
        """Whether it acts as the leader."""
        return self._term is not None

    def changed(self) -> None:
        """The member may lead now, or not any more."""
        if self._term is not None and self._member.term != self._term:
            self._term = None
            self._limits.clear()
            self._pools.follow()
            self._told(False)
        self._alarm.ring()

    async def run(self) -> None:
        """Take up the leadership when it comes, until cancelled."""
        while True:
            await self._alarm.wait(None)
            try:
                await self.take_up()
            except StoreError as error:
                _log.error("leadership_not_taken_up", error=str(error))
                await self._clock.sleep_until(self._clock.now() + _RETRY)
                self._alarm.ring()

    async def take_up(self) -> None:
        """Become the leader, if the member is. StoreError."""
        term = self._member.term
        if term is None or term == self._term:
            return
        documents: dict[str, Plan] = {}
        keyed = await self._store.unfinished(keyed=True)
        engines = await self._store.dispatched() if self._pools.names else []
        for digest in {record.digest for record in keyed} | {digest for _, digest in engines}:
            plan = await self._plans.get(digest)
            if plan is not None:
                documents[digest] = plan
        if term != self._member.term:
            return
        self._limits.restore((record, documents[record.digest]) for record in keyed if record.digest in documents)
        uses: dict[str, set[str]] = {}
        for engine, digest in engines:
            if digest in documents:
                uses.setdefault(engine, set()).update(documents[digest].shared_pools)
        for engine in self._pools.lead(term, uses):
            self._expect(engine)
        self._term = term
        _log.info("leader_now", term=term, keyed=len(keyed))
        self._told(True)
