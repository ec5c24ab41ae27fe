"""The acceptance of starts: an execution is recorded, within the limits of the queue, and somebody will look after it.

The dispatcher comes here with every start, from whichever door.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from dagengine.spec.model import Document
from orchestrator.dispatcher.admission import Admission
from orchestrator.dispatcher.claims import Claims
from orchestrator.dispatcher.concurrency import Limits
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.membership import Member
from orchestrator.dispatcher.plans import Plans
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import StoreError
from orchestrator.store.base import ExecutionRecord, NewExecution, Store

__all__ = ["Acceptance"]


class Acceptance:
    """Takes executions that are to run. Those with a concurrency key are owned by whoever `leads`."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        *,
        member: Member,
        plans: Plans,
        limits: Limits,
        admission: Admission,
        claims: Claims,
        leads: Callable[[], bool],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._member = member
        self._plans = plans
        self._limits = limits
        self._admission = admission
        self._claims = claims
        self._leads = leads

    async def accept(self, new: NewExecution, document: Document) -> tuple[ExecutionRecord, bool]:
        """Record an execution and have it run; False with the one that is there, as from `Store.create_execution`.

        Raises Overloaded, AtLimit when its workflow skips those on top of so many, StoreError.
        """
        plan = self._plans.of(document)
        declared = plan.concurrency if new.concurrency_key is not None else None
        if declared is not None and declared.on_conflict == "skip":
            new = msgspec.structs.replace(new, most=declared.max)

        with self._admission.place(len(new.inputs)):
            made, created = await self._record(new, keyed=declared is not None)
            if created:
                if made.owner != self._member.id:
                    self._claims.look()
                elif made.id not in self._ledger.executions:
                    self._limits.enter(Tracked(made, plan))
        return made, created

    async def _record(self, new: NewExecution, *, keyed: bool) -> tuple[ExecutionRecord, bool]:
        def record() -> Awaitable[tuple[ExecutionRecord, bool]]:
            owned = self._leads() or not keyed
            return self._store.create_execution(new if owned else msgspec.structs.replace(new, owned=False))

        try:
            return await self._member.write(record)
        except StoreError:
            self._claims.doubt()  # perhaps only the answer is lost; should nobody be able to tell, it runs all the same
            found = await self._store.execution(new.id)
            if found is None or found.seed != new.seed:
                raise
            return found, True
