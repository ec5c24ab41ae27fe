"""The executions that an engine holds, and what orchestrators have it do with each of them.

An execution answers to the session whose Start or Adopt came last, and obeys the highest epoch it has seen; whatever
comes under a lower one is ignored. The host passes on what its sessions say, one message at a time.

An exclusive execution runs here alone. Several orchestrators place executions at once, and none of them knows what the
others are about to send: so it is decided here, where starts come one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import msgspec
import structlog

from dagengine.errors import JournalError, WireError
from dagengine.events import facts as codec
from dagengine.graph import Graph
from dagengine.journal.session import Budget
from dagengine.machine import operations
from dagengine.server.base import Engine
from dagengine.server.documents import Documents
from dagengine.server.held import HeldExecution, has_ended
from dagengine.server.outbox import Outbox
from dagengine.server.results import SessionResults
from dagengine.server.session import Session
from dagengine.wire.v1 import session_pb2

__all__ = ["Holdings"]

log = structlog.get_logger(__name__)

Refusal = session_pb2.Refusal


class Holdings:
    """`capacity` is how many executions run at a time; `changed()` is called when one is held, or is no more."""

    def __init__(
        self, engine: Engine, *, engine_id: str, capacity: int, budget: Budget, changed: Callable[[], None]
    ) -> None:
        self.results = SessionResults(self._outbox_of)
        """Where nodes with `cache` look: in the sessions that their executions answer to."""
        self._engine = engine
        self._engine_id = engine_id
        self._capacity = capacity
        self._budget = budget
        self._changed = changed
        self._documents = Documents()
        self._held: dict[str, HeldExecution] = {}
        self._exclusive: dict[str, HeldExecution] = {}
        """Those of them that are exclusive: one at most has not ended."""
        self._awaited: dict[str, Session] = {}
        """Exclusive executions that this engine is to become free for, first come first, with who wants that."""

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[HeldExecution]:
        return iter(self._held.values())

    @property
    def running(self) -> int:
        """Executions that take up capacity."""
        return sum(held.active for held in self._held.values())

    @property
    def reserved_for(self) -> str:
        """The exclusive execution that runs, or else the first one that this is to become free for; empty: neither."""
        for execution, held in self._exclusive.items():
            if held.active:
                return execution
        return next((execution for execution, session in self._awaited.items() if not session.lease.over), "")

    # --- what orchestrators say ---

    def start(self, session: Session, start: session_pb2.Start, *, draining: bool) -> None:
        """Run an execution from its beginning, or from the history that came before; or refuse to."""
        held = self._held.get(start.execution)
        if held is not None:
            if self._is_late(session, held, start.epoch):
                session.forget_history(start.execution)
                return
            if start.epoch == held.epoch:
                session.forget_history(start.execution)
                self._continue(session, held, epoch=start.epoch, committed=start.history)
                return
            self.forget(held)
        try:
            history = session.take_history(start)
        except WireError as exc:
            session.refuse(start.execution, start.epoch, Refusal.HISTORY_MISSING, f"{self._engine_id}: {exc}")
            return
        try:
            graph = self._admit(session, start, draining=draining)
            if graph is not None:
                self._run(session, start, graph, history)
        except Exception as exc:
            # Whatever it is, one execution must not take the session with it.
            log.warning("start_failed", execution=start.execution, exc_info=True)
            session.refuse(start.execution, start.epoch, Refusal.BROKEN, f"{type(exc).__name__}: {exc}")

    def adopt(self, session: Session, adopt: session_pb2.Adopt) -> None:
        """Go on, under another epoch and for another session perhaps."""
        held = self._held.get(adopt.execution)
        if held is None:
            message = f"{self._engine_id} does not hold it"
        elif self._is_late(session, held, adopt.epoch):
            return
        elif held.epoch < adopt.dispatch_epoch:
            self.forget(held)
            message = f"what {self._engine_id} holds is of epoch {held.epoch}, before that of its dispatch"
        else:
            self._continue(session, held, epoch=adopt.epoch, committed=adopt.committed_seq)
            return
        session.refuse(adopt.execution, adopt.epoch, Refusal.HISTORY_MISSING, message)

    def drop(self, drop: session_pb2.Drop) -> None:
        """Hold an execution no longer."""
        held = self._held.get(drop.execution)
        if held is not None and drop.epoch >= held.epoch:
            self.forget(held)

    def deliver(self, delivery: session_pb2.Delivery) -> None:
        """Do what somebody asked of an execution."""
        held = self._held.get(delivery.execution)
        if held is None or held.run is None:
            return  # it will be delivered again to whoever holds the execution
        if not held.active and self._closed_to(held):
            return  # it has ended, and its place is taken: should it go on, it is started anew, here or elsewhere
        try:
            operation = operations.decode(delivery.payload)
        except msgspec.MsgspecError as exc:  # of another release perhaps; the others of this session can be obeyed
            log.warning("delivery_not_understood", execution=delivery.execution, command=delivery.id, error=str(exc))
            return
        held.run.operate(operation, command=delivery.id)
        self._begin_to_watch(held)

    def ack(self, ack: session_pb2.Ack) -> None:
        """Facts are committed. WireError when they were never made."""
        held = self._held.get(ack.execution)
        if held is None:
            return
        try:
            held.journal.ack(ack.epoch, ack.seq)
        except JournalError as exc:
            raise WireError(f"execution {ack.execution}: {exc}") from exc
        if not held.journal.unacknowledged:
            held.rest()

    def resend(self, resend: session_pb2.Resend) -> None:
        """Facts did not arrive."""
        held = self._held.get(resend.execution)
        if held is not None:
            held.journal.resend(resend.epoch, resend.from_seq)

    def reserve(self, session: Session, reserve: session_pb2.Reserve) -> None:
        """Become free for an exclusive execution that is about to come, or need not any more."""
        if reserve.over:
            self._await_no_more(reserve.execution, session.outbox)
        elif reserve.execution not in self._held:
            self._awaited[reserve.execution] = session
            self._changed()

    def left(self, outbox: Outbox) -> None:
        """A session has ended: what answered to it waits for another."""
        self.results.left(outbox)
        for execution in list(self._awaited):
            self._await_no_more(execution, outbox)
        for held in self._held.values():
            if held.outbox is outbox:
                held.detach()

    # --- parts ---

    def _outbox_of(self, execution: str) -> Outbox | None:
        held = self._held.get(execution)
        return None if held is None else held.outbox

    def _await_no_more(self, execution: str, outbox: Outbox) -> None:
        session = self._awaited.get(execution)
        if session is not None and session.outbox is outbox:
            del self._awaited[execution]
            self._changed()

    def _closed_to(self, wanted: session_pb2.Start | HeldExecution) -> str:
        """Why an execution may not run here although there may be room: one of two wants to be alone. Empty: it may."""
        kept_for = self.reserved_for
        if kept_for and kept_for != wanted.execution:
            return f"it is reserved for {kept_for}"
        if wanted.exclusive and self.running:
            return f"it runs others ({self.running}), and this execution wants an engine for itself"
        return ""

    def _is_late(self, session: Session, held: HeldExecution, epoch: int) -> bool:
        """Whether a command is out of date: of a lower epoch, or of this one but from a session that was replaced."""
        replaced = held.outbox is not None and session.number < held.session_number
        return epoch < held.epoch or (epoch == held.epoch and replaced)

    def _continue(self, session: Session, held: HeldExecution, *, epoch: int, committed: int) -> None:
        held.attach(session)
        try:
            held.journal.adopt(epoch, committed)
        except JournalError as exc:
            self.forget(held)
            session.refuse(held.execution, epoch, Refusal.HISTORY_MISSING, f"{self._engine_id} was {exc}")
        else:
            held.rest()

    def _admit(self, session: Session, start: session_pb2.Start, *, draining: bool) -> Graph | None:
        """The graph to run, or None when the start was refused."""
        graph, missing = self._documents.find(start.digest), list[str]()
        try:
            if graph is None and start.document:
                graph = self._documents.add(start.digest, start.document)
        except WireError as exc:  # another engine, of another release perhaps, may be able to use it
            missing.append(str(exc))
        if graph is not None:
            missing.extend(self._engine.missing(graph.document))
        reason, message = None, ""
        if draining:
            reason, message = Refusal.DRAINING, "it is shutting down"
        elif closed := self._closed_to(start):
            reason, message = Refusal.RESERVED, closed
        elif self.running >= self._capacity:
            reason, message = Refusal.FULL, f"it runs {self.running} executions, its capacity is {self._capacity}"
        elif self._budget.congested:
            reason, message = Refusal.FULL, f"{self._budget.facts} facts wait to be acknowledged"
        elif missing:
            reason, message = Refusal.UNABLE, "; ".join(missing)
        elif graph is None:
            reason, message = Refusal.UNKNOWN_DOCUMENT, f"it does not know the document {start.digest}"
        if reason is None:
            return graph
        session.refuse(start.execution, start.epoch, reason, f"{self._engine_id}: {message}")
        return None

    # --- the life of an execution ---

    def _run(self, session: Session, start: session_pb2.Start, graph: Graph, history: list[bytes]) -> None:
        facts = [codec.decode(fact) for fact in history]
        held = HeldExecution(start, budget=self._budget)
        held.attach(session)
        self._held[held.execution] = held
        if held.exclusive:
            self._exclusive[held.execution] = held
            self._awaited.pop(held.execution, None)
        try:
            run = held.run = self._engine.open(
                graph,
                execution=held.execution,
                journal=held.journal,
                seed=start.seed,
                log=held.log,
                results=self.results,
                priority=start.priority,
            )
            held.obey_lease()
            run.on_rest(held.rest)
            if facts:
                run.resume(facts)
            else:
                run.start(start.inputs)
        except BaseException:
            self.forget(held)
            raise
        # One that has ended is given to an engine for what is asked of it: that comes next, and must find it here.
        if not has_ended(facts):
            self._begin_to_watch(held)
        self._changed()

    def _begin_to_watch(self, held: HeldExecution) -> None:
        if held.watcher is None:
            held.watcher = asyncio.create_task(self._watch(held), name=f"watch-{held.execution}")

    async def _watch(self, held: HeldExecution) -> None:
        """Forget an execution once all of it is committed, or once it broke down."""
        try:
            await held.end()
        except Exception as exc:
            log.exception("execution_broke", execution=held.execution)
            held.hand_back(Refusal.BROKEN, f"{self._engine_id}: {type(exc).__name__}: {exc}")
            self.forget(held)
        else:
            if not held.stopped:
                self.forget(held)

    def forget(self, held: HeldExecution) -> None:
        """Stop an execution, if it runs still, and hold it no longer."""
        if self._held.get(held.execution) is held:
            del self._held[held.execution]
            self._exclusive.pop(held.execution, None)
        held.close()
        self._engine.release(held.execution)
        self._changed()
