"""An execution that this engine holds: its run, its journal, and the session that it answers to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from dagengine.events import facts
from dagengine.journal.session import Budget, SessionJournal
from dagengine.server.base import Run
from dagengine.server.lease import Lease
from dagengine.server.logs import LogBuffer
from dagengine.server.outbox import Outbox
from dagengine.server.session import Session
from dagengine.wire.v1 import session_pb2

__all__ = ["HeldExecution", "has_ended"]


class HeldExecution:
    """One execution from its start until all of it is committed, or until it is dropped.

    `outbox` is that of the session whose Start or Adopt came last, or None while that session is gone.
    """

    def __init__(self, start: session_pb2.Start, *, budget: Budget) -> None:
        self.execution: str = start.execution
        self.exclusive: bool = start.exclusive
        """Whether it has the engine for itself while it takes up capacity."""
        self.outbox: Outbox | None = None
        self.session_number = 0
        self.run: Run | None = None
        self.watcher: asyncio.Task[None] | None = None
        self.stopped = False
        """Whether it was stopped here before its end, to be handed back."""
        self.lease: Lease | None = None
        """That of the session that it answers to, or answered to last: it holds when the session is gone."""
        self._fault: Exception | None = None
        self._parked_at = 0
        """Position of the last fact when its session was told that it only waits."""
        self.log = LogBuffer(self._logs_ready)
        self.journal = SessionJournal(
            epoch=start.epoch, committed=start.history, budget=budget, on_ready=self._facts_ready
        )
        self._moved = asyncio.Event()
        self.journal.on_commit(self._moved.set)

    @property
    def epoch(self) -> int:
        """The highest epoch obeyed so far."""
        return self.journal.epoch

    @property
    def active(self) -> bool:
        """Whether it takes up capacity: its last fact is not made yet."""
        return not self.journal.ended

    @property
    def only_waits(self) -> bool:
        """Whether nothing of it is under way: it may as well wait elsewhere."""
        return self.run is not None and self.run.only_waits

    def attach(self, session: Session) -> None:
        """Answer to another session from now on."""
        outbox = self.outbox = session.outbox
        self.session_number = session.number
        self._parked_at = 0
        if self.lease is not None:
            session.lease.presume(self.lease)
        self.lease = session.lease
        self.obey_lease()
        if self.log.pending:
            outbox.logs(self)
        if self.journal.pending:
            outbox.facts(self)

    def detach(self) -> None:
        """Its session is gone: keep what is not acknowledged until another one comes."""
        self.outbox = None

    def obey_lease(self) -> None:
        """Its lease has turned, or it has another one."""
        if self.run is not None and self.lease is not None:
            if self.lease.over:
                self.run.lose_contact()
            else:
                self.run.regain_contact()

    def rest(self) -> None:
        """All facts may be committed, and nothing under way: then its session is told, for it need not stay here."""
        if self.outbox is not None and self._may_park():
            self.outbox.park(self)

    def to_park(self) -> session_pb2.Park | None:
        """How its session is told that it only waits; None when that is not so any more, or was told already."""
        if self.run is None or not self._may_park():
            return None
        seq = self._parked_at = self.journal.last_seq
        return session_pb2.Park(
            execution=self.execution, epoch=self.epoch, last_seq=seq, wake_at=max(0, self.run.wake_at or 0)
        )

    def _may_park(self) -> bool:
        journal = self.journal
        if self.exclusive:  # what it has the engine for must be there when it goes on
            return False
        return not journal.unacknowledged and journal.last_seq != self._parked_at and self.only_waits

    def fail(self, error: Exception) -> None:
        """Its facts cannot be sent any more: it has broken down."""
        self._fault = error
        self._moved.set()
        if self.run is not None:
            self.run.stop()

    def hand_back(self, reason: session_pb2.Refusal.Reason, message: str) -> None:
        """Tell its session, if there is one, that it does not run here any longer."""
        if self.outbox is not None:
            refusal = session_pb2.Refusal(execution=self.execution, epoch=self.epoch, reason=reason, message=message)
            self.outbox.refuse(refusal)

    def stop(self) -> None:
        """Stop the run; the facts that it has made are still sent."""
        self.stopped = True
        self._moved.set()
        if self.run is not None:
            self.run.stop()

    async def end(self) -> None:
        """Return when the execution has ended and all of it is committed, or once it is stopped. Raises what broke it.

        Its last fact may be followed by others: somebody has it go on, or is told that it cannot.
        """
        assert self.run is not None  # noqa: S101 - only executions with a run are waited for
        await self.run.wait()
        while self.journal.unacknowledged and not self.stopped and self._fault is None:
            self._moved.clear()
            await self._moved.wait()
            await self.run.wait()
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        """Stop the run and forget the facts. Log lines that are on their way still go out."""
        if self.watcher is not None:
            self.watcher.cancel()
        if self.run is not None:
            self.run.stop()
        self.journal.close()

    def to_held(self) -> session_pb2.Held:
        """How the engine's hello tells of it."""
        return session_pb2.Held(
            execution=self.execution,
            epoch=self.epoch,
            last_seq=self.journal.last_seq,
            acknowledged=self.journal.committed,
        )

    def _facts_ready(self) -> None:
        if self.outbox is not None:
            self.outbox.facts(self)

    def _logs_ready(self) -> None:
        if self.outbox is not None:
            self.outbox.logs(self)


def has_ended(journal: Sequence[facts.Fact]) -> bool:
    """Whether a journal has ended, and does not go on after that."""
    turns = (*facts.TERMINAL, facts.RerunRequested)
    turn = next((fact for fact in reversed(journal) if isinstance(fact, turns)), None)
    return isinstance(turn, facts.TERMINAL)
