"""Tells the feed of what other replicas commit, about executions that somebody follows here.

The store says that facts were committed, not whose: then the journals' ends of what is followed are compared with what
they were. Executions in the ledger are left out, since whatever happens to them happens through this replica.
"""

from __future__ import annotations

from typing import Final

import structlog

from dagengine.clock import Clock
from orchestrator.alarm import Alarm
from orchestrator.dispatcher.feed import Feed
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.membership import Member
from orchestrator.errors import StoreError
from orchestrator.store.base import TERMINAL, Head, Store
from orchestrator.trouble import Trouble

__all__ = ["Following"]

_log = structlog.get_logger("orchestrator.following")

_POLL: Final = 1_000_000
"""Microseconds between two comparisons while there are other replicas, at most."""
_PAUSE: Final = 20_000
"""Microseconds between two comparisons, at least."""
_REST: Final = 4
"""And so many times as long as the one before took: much that is followed must not keep this replica busy."""


class Following:
    """Compares what is followed with the store."""

    def __init__(self, feed: Feed, store: Store, clock: Clock, ledger: Ledger, member: Member) -> None:
        self._feed = feed
        self._store = store
        self._clock = clock
        self._ledger = ledger
        self._member = member
        self._alarm = Alarm(clock)
        self._trouble = Trouble(_log, "heads_not_read", over="heads_read_again")
        self._heads: dict[str, Head] = {}
        """As they were at the last comparison."""
        self._took = 0
        """Microseconds that it took."""

    def look(self) -> None:
        """Somebody else has committed facts, or has become the owner of what was owned here."""
        self._alarm.ring()

    async def run(self) -> None:
        """Compare when something may have changed, until cancelled."""
        while True:
            rung = await self._alarm.wait(self._clock.now() + _POLL)
            if rung:
                await self._clock.sleep_until(self._clock.now() + max(_PAUSE, _REST * self._took))
            elif not self._member.others:
                continue
            began = self._clock.now()
            try:
                await self._compare()
            except StoreError as error:
                self._trouble.met(error)
            else:
                self._trouble.over()
            self._took = self._clock.now() - began

    async def _compare(self) -> None:
        followed = [execution for execution in self._feed.followed if execution not in self._ledger.executions]
        former = self._heads
        self._heads = await self._store.heads(followed) if followed else {}
        for execution in followed:
            head = self._heads.get(execution)
            if head is not None and head == former.get(execution):
                continue
            record = await self._store.execution(execution) if head is not None and head.status in TERMINAL else None
            if record is not None and record.status in TERMINAL:
                self._feed.ended(record)
            else:
                self._feed.changed(execution)
