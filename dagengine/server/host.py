"""The host: holds the executions that orchestrators gave this engine, and obeys their commands.

It knows messages, not transports: `session` turns one stream of orchestrator messages into one of engine messages. The
gRPC service drives it, and so does the in-process transport, with the very same messages.

Several orchestrator replicas may be in session at once. An execution answers to the session whose Start or Adopt came
last, and obeys the highest epoch it has seen; whatever comes under a lower one is ignored. When its session dies it
runs on: effects wait for commits by themselves, and facts are kept until somebody adopts the execution or drops it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Final

import msgspec
import structlog

from dagengine.errors import JournalError, WireError
from dagengine.events import facts as codec
from dagengine.graph import Graph
from dagengine.journal.session import Budget
from dagengine.machine import operations
from dagengine.server.base import Engine
from dagengine.server.documents import Documents
from dagengine.server.gate import SessionGate
from dagengine.server.held import HeldExecution, has_ended
from dagengine.server.outbox import Outbox
from dagengine.server.results import SessionResults
from dagengine.server.session import Session, expect
from dagengine.wire import handshake, limits
from dagengine.wire.v1 import session_pb2

__all__ = ["Host"]

log = structlog.get_logger(__name__)

Refusal = session_pb2.Refusal

LOOK_SECONDS: Final = 0.2
"""How often a drain looks whether what is left only waits: nothing else tells."""

FLUSH_SECONDS: Final = 2.0
"""How long the facts of executions that are handed back may take to be acknowledged."""


class Host:
    """One engine, as orchestrators see it. Everything happens on the event loop's thread.

    `capacity` is how many executions it runs at a time. With `token`, orchestrators must prove that they know it.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        engine_id: str,
        version: str,
        capacity: int = 10,
        labels: Mapping[str, str] | None = None,
        token: str | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.engine_id = engine_id
        self.capacity = capacity
        self.draining = False
        self._engine = engine
        self._version = version
        self._labels = dict(labels or {})
        self._token = token.encode() if token is not None else None
        self._budget = budget or Budget()
        self._incarnation = secrets.token_hex(8)
        self._documents = Documents()
        self._gate = SessionGate(engine.gate)
        self._results = SessionResults(self._outbox_of)
        self._held: dict[str, HeldExecution] = {}
        self._sessions: dict[int, Session] = {}
        self._opened = 0
        self._opening = 0
        """Sessions whose orchestrator has not proven yet who it is."""
        self._changed = asyncio.Event()
        """Set when an execution is held no more, or all its facts are committed."""

    @property
    def running(self) -> int:
        """Executions that take up capacity."""
        return sum(held.active for held in self._held.values())

    @property
    def unacknowledged(self) -> int:
        """Facts that wait to be acknowledged, over all executions."""
        return self._budget.facts

    # --- one session ---

    async def session(
        self, incoming: AsyncIterator[session_pb2.OrchestratorMessage]
    ) -> AsyncGenerator[session_pb2.EngineMessage, None]:
        """Carry on one session: messages in, messages out, until `incoming` ends or the host closes.

        Raises WireError when the orchestrator breaks the protocol; ProofError, ProtocolMismatch and Crowded in the
        opening.
        Close it (`aclose`) when the transport fails: its executions then wait for another session.
        """
        if self._opening >= limits.MAX_OPENINGS:
            raise handshake.Crowded(f"{self._opening} sessions are being opened already; try again later")
        self._opening += 1
        try:
            opening = handshake.EngineSide(self._token)
            first = await expect(incoming, "hello")
            yield session_pb2.EngineMessage(challenge=opening.challenge(first.hello))
            opening.verify((await expect(incoming, "proof")).proof)
        finally:
            self._opening -= 1
        self._opened += 1
        session = Session(orchestrator=first.hello.orchestrator, number=self._opened, outbox=Outbox(self._load))
        self._sessions[session.number] = session
        about = log.bind(orchestrator=session.orchestrator, incarnation=first.hello.incarnation)
        about.info("session_opened", held=len(self._held))
        reader: asyncio.Task[None] | None = None
        try:
            yield session_pb2.EngineMessage(hello=self._hello())
            reader = asyncio.create_task(self._read(session, incoming))
            while (message := await session.outbox.next()) is not None:
                yield message
            if reader.done():
                await reader
        finally:
            self._end_session(session)
            if reader is not None:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
            about.info("session_closed", held=len(self._held))

    async def _read(self, session: Session, incoming: AsyncIterator[session_pb2.OrchestratorMessage]) -> None:
        try:
            async for message in incoming:
                self._obey(session, message)
        finally:
            session.outbox.close()

    def _end_session(self, session: Session) -> None:
        del self._sessions[session.number]
        self._changed.set()
        self._gate.left(session.outbox)
        self._results.left(session.outbox)
        session.outbox.close()
        for held in self._held.values():
            if held.outbox is session.outbox:
                held.detach()

    def _hello(self) -> session_pb2.EngineHello:
        return session_pb2.EngineHello(
            engine=self.engine_id,
            incarnation=self._incarnation,
            version=self._version,
            executors=self._engine.executors,
            labels=self._labels,
            capacity=self.capacity,
            draining=self.draining,
            held=[held.to_held() for held in self._held.values()],
            pools=self._gate.own_pools(),
        )

    def _load(self) -> session_pb2.Load:
        return session_pb2.Load(
            running=self.running,
            capacity=self.capacity,
            draining=self.draining,
            unacknowledged=self.unacknowledged,
            pools=self._gate.own_pools(),
        )

    # --- commands ---

    def _obey(self, session: Session, message: session_pb2.OrchestratorMessage) -> None:
        """Take the fields of a message in the order of their numbers, but before all else what pools there are."""
        if message.HasField("shared_pools"):
            self._gate.announce(session.outbox, message.shared_pools.names)
        for drop in message.drops:
            held = self._held.get(drop.execution)
            if held is not None and drop.epoch >= held.epoch:
                self._forget(held)
        for adopt in message.adopts:
            self._adopt(session, adopt)
        for history in message.histories:
            session.add_history(history)
        for start in message.starts:
            self._start(session, start)
        for delivery in message.deliveries:
            self._deliver(delivery)
        for ack in message.acks:
            self._ack(ack)
        for resend in message.resends:
            held = self._held.get(resend.execution)
            if held is not None:
                held.journal.resend(resend.epoch, resend.from_seq)
        for grant in message.pool_grants:
            self._gate.grant(session.outbox, grant.tickets)
        self._results.answered(message.result_answers)

    def _outbox_of(self, execution: str) -> Outbox | None:
        held = self._held.get(execution)
        return None if held is None else held.outbox

    def _adopt(self, session: Session, adopt: session_pb2.Adopt) -> None:
        held = self._held.get(adopt.execution)
        if held is None:
            session.refuse(adopt.execution, adopt.epoch, Refusal.HISTORY_MISSING, f"{self.engine_id} does not hold it")
        elif not self._is_late(session, held, adopt.epoch):
            self._continue(session, held, epoch=adopt.epoch, committed=adopt.committed_seq)

    def _is_late(self, session: Session, held: HeldExecution, epoch: int) -> bool:
        """Whether a command is out of date: of a lower epoch, or of this one but from a session that was replaced."""
        replaced = held.outbox is not None and session.number < held.session_number
        return epoch < held.epoch or (epoch == held.epoch and replaced)

    def _continue(self, session: Session, held: HeldExecution, *, epoch: int, committed: int) -> None:
        held.attach(session.outbox, session.number)
        try:
            held.journal.adopt(epoch, committed)
        except JournalError as exc:
            self._forget(held)
            session.refuse(held.execution, epoch, Refusal.HISTORY_MISSING, f"{self.engine_id} was {exc}")

    def _start(self, session: Session, start: session_pb2.Start) -> None:
        held = self._held.get(start.execution)
        if held is not None:
            if self._is_late(session, held, start.epoch):
                session.forget_history(start.execution)
                return
            if start.epoch == held.epoch:
                session.forget_history(start.execution)
                self._continue(session, held, epoch=start.epoch, committed=start.history)
                return
            self._forget(held)
        try:
            history = session.take_history(start)
        except WireError as exc:
            session.refuse(start.execution, start.epoch, Refusal.HISTORY_MISSING, f"{self.engine_id}: {exc}")
            return
        try:
            graph = self._admit(session, start)
            if graph is not None:
                self._run(session, start, graph, history)
        except Exception as exc:
            # Whatever it is, one execution must not take the session with it.
            log.warning("start_failed", execution=start.execution, exc_info=True)
            session.refuse(start.execution, start.epoch, Refusal.BROKEN, f"{type(exc).__name__}: {exc}")

    def _admit(self, session: Session, start: session_pb2.Start) -> Graph | None:
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
        if self.draining:
            reason, message = Refusal.DRAINING, "it is shutting down"
        elif self.running >= self.capacity:
            reason, message = Refusal.FULL, f"it runs {self.running} executions, its capacity is {self.capacity}"
        elif self._budget.congested:
            reason, message = Refusal.FULL, f"{self.unacknowledged} facts wait to be acknowledged"
        elif missing:
            reason, message = Refusal.UNABLE, "; ".join(missing)
        elif graph is None:
            reason, message = Refusal.UNKNOWN_DOCUMENT, f"it does not know the document {start.digest}"
        if reason is None:
            return graph
        session.refuse(start.execution, start.epoch, reason, f"{self.engine_id}: {message}")
        return None

    def _run(self, session: Session, start: session_pb2.Start, graph: Graph, history: list[bytes]) -> None:
        facts = [codec.decode(fact) for fact in history]
        held = HeldExecution(start, budget=self._budget)
        held.attach(session.outbox, session.number)
        self._held[held.execution] = held
        try:
            run = held.run = self._engine.open(
                graph,
                execution=held.execution,
                journal=held.journal,
                seed=start.seed,
                log=held.log,
                results=self._results,
                priority=start.priority,
            )
            if facts:
                run.resume(facts)
            else:
                run.start(start.inputs)
        except BaseException:
            self._forget(held)
            raise
        # One that has ended is given to an engine for what is asked of it: that comes next, and must find it here.
        if not has_ended(facts):
            self._begin_to_watch(held)
        self._report()

    def _begin_to_watch(self, held: HeldExecution) -> None:
        if held.watcher is None:
            held.watcher = asyncio.create_task(self._watch(held), name=f"watch-{held.execution}")

    def _deliver(self, delivery: session_pb2.Delivery) -> None:
        held = self._held.get(delivery.execution)
        if held is None or held.run is None:
            return  # it will be delivered again to whoever holds the execution
        try:
            operation = operations.decode(delivery.payload)
        except msgspec.MsgspecError as exc:  # of another release perhaps; the others of this session can be obeyed
            log.warning("delivery_not_understood", execution=delivery.execution, command=delivery.id, error=str(exc))
            return
        held.run.operate(operation, command=delivery.id)
        self._begin_to_watch(held)

    def _ack(self, ack: session_pb2.Ack) -> None:
        held = self._held.get(ack.execution)
        if held is None:
            return
        try:
            held.journal.ack(ack.epoch, ack.seq)
        except JournalError as exc:
            raise WireError(f"execution {ack.execution}: {exc}") from exc
        if not held.journal.unacknowledged:
            self._changed.set()

    # --- the life of an execution ---

    async def _watch(self, held: HeldExecution) -> None:
        """Forget an execution once all of it is committed, or once it broke down."""
        try:
            await held.end()
        except Exception as exc:
            log.exception("execution_broke", execution=held.execution)
            if held.outbox is not None:
                held.outbox.refuse(
                    Refusal(
                        execution=held.execution,
                        epoch=held.epoch,
                        reason=Refusal.BROKEN,
                        message=f"{self.engine_id}: {type(exc).__name__}: {exc}",
                    )
                )
            self._forget(held)
        else:
            if not held.stopped:
                self._forget(held)

    def _forget(self, held: HeldExecution) -> None:
        if self._held.get(held.execution) is held:
            del self._held[held.execution]
        held.close()
        self._engine.release(held.execution)
        self._changed.set()
        self._report()

    def _report(self) -> None:
        for session in self._sessions.values():
            session.outbox.report()

    # --- the end ---

    async def drain(self, timeout: float) -> None:
        """Take no more work, let what runs finish for up to `timeout` seconds, hand the rest back, end all sessions.

        What is handed back is stopped; the facts that it has made are sent, and its orchestrator places it elsewhere.
        """
        self.draining = True
        self._report()
        log.info("drain_began", held=len(self._held), seconds=timeout)
        await self._until(lambda: all(held.only_waits for held in self._held.values()), timeout)
        left = list(self._held.values())
        for held in left:
            held.stop()
        await self._until(lambda: not any(held.journal.unacknowledged for held in left), FLUSH_SECONDS)
        for held in left:
            if held.outbox is not None:
                message = f"{self.engine_id} is shutting down"
                held.outbox.refuse(
                    Refusal(execution=held.execution, epoch=held.epoch, reason=Refusal.DRAINING, message=message)
                )
            self._forget(held)
        log.info("drain_ended", handed_back=len(left))
        self.close()
        # Whoever takes this engine away next must not cut off what tells where its executions go.
        await self._until(lambda: not self._sessions, FLUSH_SECONDS)

    def close(self) -> None:
        """Stop everything. Sessions still send what they have to, and end."""
        self.draining = True
        for held in list(self._held.values()):
            self._forget(held)
        for session in self._sessions.values():
            session.outbox.close()

    async def _until(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait for a condition, for up to `timeout` seconds. Looked at when something has changed, and now and then."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while not condition() and (left := until - loop.time()) > 0:
            self._changed.clear()
            look = loop.call_later(min(left, LOOK_SECONDS), self._changed.set)
            await self._changed.wait()
            look.cancel()
