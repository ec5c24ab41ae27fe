"""Claims: this replica takes over what nobody owns. After a start, a takeover, a retry, and when what was parked wakes.

Level-triggered as all else: it claims when the store says that something can be claimed. It looks there at the time at
which the next execution wakes, when it is told that something has changed, and every second or two in any case.

The order matters. What is claimed is put into the ledger first, and its inbox is read after that: so whatever is asked
of it meanwhile is either in what was read, or delivered by whoever asked. Only then it is placed, or adopted where it
runs.

A write whose answer is lost may have made this replica the owner of something that it has never heard of. After such a
one, what the store says is owned here is compared with the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from dagengine.clock import Clock
from orchestrator.alarm import Alarm
from orchestrator.dispatcher.admission import Admission
from orchestrator.dispatcher.concurrency import Limits
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.membership import Member
from orchestrator.dispatcher.plans import Plans
from orchestrator.dispatcher.sessions import Sessions
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import Fenced, StoreError
from orchestrator.store.base import ExecutionRecord, InboxItem, Store
from orchestrator.trouble import Trouble

__all__ = ["Claims"]

_log = structlog.get_logger("orchestrator.claims")

_POLL: Final = 1_000_000
"""Microseconds between two looks, at most."""
_RETRY: Final = 500_000
"""Microseconds before the next try when the store fails."""
_DOUBTS: Final = 3
"""Looks for what is owned and not known, after a write whose answer was lost: it may be carried out a little later."""
_PAGE: Final = 500
"""Executions that are claimed at a time, at most."""
_LEAST: Final = 50
"""Executions that are claimed at a look even when the admission queue is full: what was parked goes on at some time."""


class Claims:
    """Owns what can be owned. `leads` says whether that includes executions with a concurrency key."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ledger: Ledger,
        *,
        member: Member,
        plans: Plans,
        limits: Limits,
        admission: Admission,
        sessions: Sessions,
        leads: Callable[[], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._ledger = ledger
        self._member = member
        self._plans = plans
        self._limits = limits
        self._admission = admission
        self._sessions = sessions
        self._leads = leads
        self._alarm = Alarm(clock)
        self._trouble = Trouble(_log, "nothing_claimed", over="claimed_again")
        self._looks_at = 0
        """When it looks next by itself."""
        self._doubts = 0
        """How often it still looks for what is owned here and not in the ledger."""
        self._claimed: Sequence[ExecutionRecord] = ()
        """Owned, as the store has it, but not taken in yet."""

    def look(self) -> None:
        """Something may be there to be claimed."""
        self._alarm.ring()

    def doubt(self) -> None:
        """Something may be owned here of which nobody has heard: a write was made, or not, and its answer is lost."""
        self._doubts = _DOUBTS
        self._alarm.ring()

    def expect(self, wake_at: int | None) -> None:
        """Something can be claimed at `wake_at` (None: when something is asked of it)."""
        if wake_at is not None and wake_at < self._looks_at:
            self._alarm.ring()

    async def run(self) -> None:
        """Claim what can be claimed, until cancelled."""
        while True:
            await self._alarm.wait(self._looks_at)
            try:
                wake = await self.claim()
                self._trouble.over()
                now = self._clock.now()
                self._looks_at = now + _POLL if wake is None or wake <= now else min(wake, now + _POLL)
            except Fenced:
                self._member.look()
                self._looks_at = self._clock.now() + _RETRY
            except StoreError as error:
                self._trouble.met(error)
                self._doubts = _DOUBTS
                self._looks_at = self._clock.now() + _RETRY

    async def claim(self) -> int | None:
        """Claim what can be claimed now, as far as there is room; when to look again (None: not for a time).

        A time that is past means that there is more, but no room for it, or that others are about to have it.
        Raises StoreError.
        """
        if self._doubts and not self._claimed:
            self._claimed = await self._unheard()
            self._doubts -= 1
        while True:
            if not self._claimed:
                wake = await self._store.next_wake(keyed=self._leads())
                if wake is None or wake > self._clock.now():
                    return wake
                limit = max(_LEAST, min(_PAGE, self._admission.room))
                self._claimed = await self._store.claim(now=self._clock.now(), limit=limit, keyed=self._leads())
                if not self._claimed:
                    return wake
            await self._take_in(self._claimed)
            waiting, self._claimed = any(record.engine is None for record in self._claimed), ()
            if waiting and not self._admission.room:  # what runs at engines already takes no room
                return self._clock.now()

    async def _unheard(self) -> Sequence[ExecutionRecord]:
        """What the store says is owned here, and the ledger does not know."""
        unknown = [execution for execution in await self._store.owned() if execution not in self._ledger.executions]
        found = [await self._store.execution(execution) for execution in unknown[:_PAGE]]
        return [one for one in found if one is not None and one.id not in self._ledger.executions]

    async def _take_in(self, records: Sequence[ExecutionRecord]) -> None:
        """Have claimed executions run. StoreError: then it is to be called again."""
        plans = {digest: await self._plans.get(digest) for digest in {record.digest for record in records}}
        taken: list[Tracked] = []
        for record in records:
            plan = plans[record.digest]
            if plan is None:
                _log.error("execution_without_document", execution=record.id, digest=record.digest)
            elif record.owner == self._member.id:  # else this replica was fenced off meanwhile
                tracked = self._ledger.executions.get(record.id)
                if tracked is None or _is_former(tracked.record, record):
                    tracked = Tracked(record, plan)
                    self._ledger.take_in(tracked)
                taken.append(tracked)
        asked: dict[str, dict[str, InboxItem]] = {}
        for item in await self._store.inboxes([tracked.record.id for tracked in taken]):
            asked.setdefault(item.execution, {})[item.id] = item
        for tracked in taken:
            # What was delivered meanwhile, and is not among what was read, came later.
            merged = asked.get(tracked.record.id, {}) | tracked.inbox
            tracked.inbox = {key: item for key, item in merged.items() if key not in tracked.done}
        # Meanwhile a session may have begun, and somebody may have cancelled something.
        waiting = [one for one in taken if self._ledger.has(one) and not self._ledger.waits(one.record.id)]
        for tracked in waiting:
            if tracked.engine is None:
                self._enter(tracked)
        self._sessions.take_on([tracked for tracked in waiting if tracked.engine is not None])
        await self._sessions.cancel_waiting(waiting)

    def _enter(self, tracked: Tracked) -> None:
        if tracked.waits_for_retry:
            retries = [item.created_at for item in tracked.inbox.values() if item.kind == "retry"]
            tracked.since = min(retries, default=tracked.since)
        self._limits.enter(tracked)


def _is_former(known: ExecutionRecord, claimed: ExecutionRecord) -> bool:
    """Whether what is known of an execution is of before it was claimed; else it was taken in, and has gone on."""
    return known is not claimed and (known.epoch, known.last_seq) <= (claimed.epoch, claimed.last_seq)
