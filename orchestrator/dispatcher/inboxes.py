"""What is asked of executions, on its way to whoever carries it out.

Any replica takes it: into the inbox, in the store, where it is durable. From there it goes to the engine, through the
replica that owns the execution. That may be this one; else the store tells the owner, which reads its inboxes. An
execution that nobody owns is claimed first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from dagengine.clock import Clock
from orchestrator.alarm import Alarm
from orchestrator.dispatcher import messages
from orchestrator.dispatcher.admission import Admission
from orchestrator.dispatcher.ending import Ending
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.membership import Member
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import Conflict, NotFound, StoreError
from orchestrator.store.base import TERMINAL, InboxItem, Store
from orchestrator.trouble import Trouble

__all__ = ["Inboxes"]

_log = structlog.get_logger("orchestrator.inboxes")

_POLL: Final = 1_000_000
"""Microseconds between two readings, at most, while there are other replicas."""


class Inboxes:
    """The inboxes of all executions.

    `unowned(execution)` is called when something was asked of one that this replica does not own; `reopened(execution)`
    when one that had ended is to go on.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ledger: Ledger,
        *,
        member: Member,
        admission: Admission,
        ending: Ending,
        unowned: Callable[[], None],
        reopened: Callable[[str], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._ledger = ledger
        self._member = member
        self._admission = admission
        self._ending = ending
        self._unowned = unowned
        self._reopened = reopened
        self._alarm = Alarm(clock)
        self._trouble = Trouble(_log, "inboxes_not_read", over="inboxes_read_again")

    def look(self) -> None:
        """Another replica has put something into an inbox."""
        self._alarm.ring()

    async def operate(self, item: InboxItem) -> None:
        """Ask something of an execution; returns once the request is durable. NotFound, or Conflict when it has ended.

        One that has ended may be asked to run parts of it again: then it is queued. Overloaded, Unavailable.
        """
        add = self._reopen if item.kind == "retry" else self._add
        if not await add(item):
            record = await self._store.execution(item.execution)
            if record is None:
                raise NotFound(f"there is no execution '{item.execution}'")
            raise Conflict(f"execution '{item.execution}' has ended already ({record.status})")
        tracked = self._ledger.executions.get(item.execution)
        if tracked is None:
            self._unowned()
            return
        if self._member.others:
            # Another replica may have taken something before, and said so: that is to be delivered before this.
            try:
                await self._collect(item.execution)
            except StoreError as error:
                self._trouble.met(error)
        await self._deliver(tracked, item)

    async def run(self) -> None:
        """Deliver what other replicas have taken for executions that are owned here, until cancelled."""
        while True:
            rung = await self._alarm.wait(self._clock.now() + _POLL)
            if not rung and not self._member.others:
                continue
            try:
                await self._collect(None)
            except StoreError as error:
                self._trouble.met(error)
            else:
                self._trouble.over()

    async def _collect(self, execution: str | None) -> None:
        """Deliver what is in the inbox of an execution (None: of all that are owned here), and not known yet."""
        for item in await self._store.inbox(execution):
            tracked = self._ledger.executions.get(item.execution)
            if tracked is not None:
                await self._deliver(tracked, item)

    async def _deliver(self, tracked: Tracked, item: InboxItem) -> None:
        if item.id in tracked.inbox or item.id in tracked.done:
            return
        tracked.inbox[item.id] = item
        if item.kind == "cancel" and tracked.engine is None and await self._ending.obey(tracked):
            return
        engine = self._ledger.roster.engines.get(tracked.engine or "")
        has = engine is not None and tracked.record.id in engine.running
        if engine is not None and has and not tracked.dispatching:  # else it goes with the adoption, or the start
            engine.link.send(messages.delivery([item]))

    async def _add(self, item: InboxItem) -> bool:
        return await self._member.write(lambda: self._store.add_inbox(item))

    async def _reopen(self, item: InboxItem) -> bool:
        """Keep a retry. An execution that has ended can be claimed then, to be told of it by an engine."""
        record = await self._store.execution(item.execution)
        if record is None:
            return False
        with self._admission.place(len(record.inputs)) if record.status in TERMINAL else contextlib.nullcontext():
            kept = await self._member.write(lambda: self._store.reopen(item))
        if kept is None:
            return False
        if kept[1]:
            self._reopened(item.execution)
        return True
