"""What keeps an execution, or a workflow version, from an engine: the reasons that people and programs are given.

The dispatcher is asked by the doors, and asks here.
"""

from __future__ import annotations

from orchestrator.dispatcher import placement
from orchestrator.dispatcher.concurrency import Limits
from orchestrator.dispatcher.ending import Ending
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.plans import Plans
from orchestrator.dispatcher.tracked import waits_for_retry
from orchestrator.store.base import TERMINAL, ExecutionRecord

__all__ = ["Obstacles"]


class Obstacles:
    """Reads what the dispatcher knows; changes nothing."""

    def __init__(self, ledger: Ledger, *, plans: Plans, limits: Limits, ending: Ending) -> None:
        self._ledger = ledger
        self._plans = plans
        self._limits = limits
        self._ending = ending

    async def of_execution(self, record: ExecutionRecord) -> str | None:
        """Why no engine runs an execution; None when one does, when it waits for something of its own, or has ended.

        A reason of `placement.Placement`; or `broken`: it was given up, and the store has yet to take its end; or
        `concurrency`: others of its workflow that share its key are to end first; or `engine_away:ID`: it has an
        engine that is not connected. Of what another replica owns it is told as this one sees it.
        """
        if record.id in self._ending:
            return "broken"
        if self._limits.waits(record.id):
            return "concurrency"
        tracked = self._ledger.executions.get(record.id)
        if (engine := record.engine if tracked is None else tracked.engine) and record.status not in TERMINAL:
            return None if self._ledger.roster.has(engine) else f"engine_away:{engine}"
        if tracked is not None or record.status in TERMINAL:
            return self._ledger.queue.reason(record.id)
        if record.owner is None and record.epoch and not waits_for_retry(record):
            return None  # parked, or about to be claimed
        plan = await self._plans.get(record.digest)
        if plan is None:
            return None
        roster = self._ledger.roster
        answer = placement.choose("least-loaded", plan.reference, roster.fleet, roster.load, needs=plan.needs)
        return answer.reason or ("concurrency" if record.concurrency_key is not None else None)

    async def of_version(self, digest: str) -> str | None:
        """Why no engine could run the version with a digest, however idle; None when one could."""
        plan = await self._plans.get(digest)
        if plan is None:
            return None
        return placement.choose("least-loaded", plan.reference, self._ledger.roster.fleet, {}, needs=plan.needs).reason
