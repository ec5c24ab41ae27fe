"""Facts that the store has lost: engines know up to where they were told that all is committed.

A database whose log was damaged, or that was put back from an older copy, ends before that. Nothing can bring such
facts back, and nobody may act as if they had never been: what they were about may have happened. So this is shown for
as long as the process lives, and the executions that they belong to fail instead of going on (`Sessions`).
"""

from __future__ import annotations

import structlog

from dagengine.events.facts import ErrorInfo
from dagengine.wire.v1 import session_pb2
from orchestrator.dispatcher import messages
from orchestrator.dispatcher.ending import Ending
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import StoreError
from orchestrator.monitor.monitor import Monitor
from orchestrator.store.base import TERMINAL, ExecutionRecord, Store
from orchestrator.transport.base import Link

__all__ = ["Losses", "is_behind"]

_log = structlog.get_logger("orchestrator.losses")


def is_behind(record: ExecutionRecord, held: session_pb2.Held) -> bool:
    """Whether an engine knows more of an execution than a record does."""
    return held.epoch > record.epoch or held.acknowledged > record.last_seq


class Losses:
    """What engines have shown to be lost, and the end of what that belongs to."""

    def __init__(self, ledger: Ledger, store: Store, monitor: Monitor, *, ending: Ending) -> None:
        self._ledger = ledger
        self._store = store
        self._monitor = monitor
        self._ending = ending
        self._positions = (0, 0)
        """The highest position that engines know of and the store did not, and where the store ended."""
        self._ahead: set[str] = set()
        """Incarnations of the engines that know of such positions."""
        self._executions: set[str] = set()
        """Those that facts are known to be lost of."""
        self._unowned: dict[str, tuple[int, ErrorInfo]] = {}
        """Those of them that were not in the ledger, with the epochs that engines have obeyed."""

    @property
    def faults(self) -> list[str]:
        """What is lost, for people; empty as long as nothing is."""
        faults = []
        told, position = self._positions
        if told:
            faults.append(
                f"the store has lost facts: an engine was told that all up to position {told} are committed, "
                f"and the store ended at {position}"
            )
        if self._executions:
            some = ", ".join(sorted(self._executions)[:3])
            faults.append(f"the store has lost facts of {len(self._executions)} executions, among them {some}")
        return faults

    async def shown_by(self, hello: session_pb2.EngineHello) -> bool:
        """Whether an engine was told to be committed what the store does not have."""
        told = hello.acknowledged_position
        if not told:
            return False
        try:
            position = await self._store.position()
        except StoreError as error:  # it tells again in its next session
            _log.warning("position_not_read", engine=hello.engine, error=str(error))
            return False
        if told <= position:
            return False
        _log.error("store_lost_facts", engine=hello.engine, acknowledged_position=told, position=position)
        self._ahead.add(hello.incarnation)
        known = self._positions[0]
        if told > known:
            self._monitor.facts_lost(told - max(position, known))
            self._positions = told, position
        return True

    def were_shown_by(self, incarnation: str) -> bool:
        """Whether that engine has shown so before."""
        return incarnation in self._ahead

    def found(self, link: Link, held: session_pb2.Held, record: ExecutionRecord) -> None:
        """An engine knows more of an execution than the store does: that ends it, and nobody does it over again."""
        engine = self._ledger.roster.by_link(link)
        if record.id not in self._executions and (engine is None or engine.incarnation not in self._ahead):
            self._monitor.facts_lost(max(0, held.acknowledged - record.last_seq))  # else its position has shown them
        error = self._found(
            record,
            link.engine_id,
            f"engine '{link.engine_id}' was told that {held.acknowledged} facts of it are committed, under epoch "
            f"{held.epoch}; the store has {record.last_seq}, and ends at epoch {record.epoch}",
        )
        tracked = self._ledger.executions.get(record.id)
        if tracked is not None:
            self._end(tracked, error)
        elif record.status not in TERMINAL and record.engine == link.engine_id:
            self._unowned[record.id] = held.epoch, error  # whoever owns it ends it: perhaps this replica, later
            return
        link.send(messages.drop(record.id, held.epoch))

    def ends(self, tracked: Tracked, link: Link | None) -> bool:
        """Whether facts of an execution are lost that has just come into the ledger: then that ends it."""
        if tracked.record.id not in self._unowned:
            return False
        epoch, error = self._unowned.pop(tracked.record.id)
        self._end(tracked, error)
        if link is not None:
            link.send(messages.drop(tracked.record.id, epoch))
        return True

    def gone(self, tracked: Tracked, *, engine: str) -> None:
        """An engine that knows of more than the store does holds nothing of what it should: that may have ended."""
        fault = (
            f"engine '{engine}' knows of facts that the store does not have, and no longer holds what the store says "
            "that it runs: it may have gone further there, or ended"
        )
        self._end(tracked, self._found(tracked.record, engine, fault))

    def _end(self, tracked: Tracked, error: ErrorInfo) -> None:
        if tracked.record.id not in self._ending:
            self._ledger.withdraw(tracked)
            self._ending.give_up(tracked, error)

    def _found(self, record: ExecutionRecord, engine: str, fault: str) -> ErrorInfo:
        _log.error("store_lost_facts", execution=record.id, engine=engine, reason=fault)
        self._executions.add(record.id)
        return ErrorInfo(type="FactsLost", message=f"facts of this execution are lost: {fault}")
