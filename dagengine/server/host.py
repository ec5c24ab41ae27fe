"""The host: holds the executions that orchestrators gave this engine, and obeys their commands.

It knows messages, not transports: `session` turns one stream of orchestrator messages into one of engine messages. The
gRPC service drives it, and so does the in-process transport, with the very same messages.

Several orchestrator replicas may be in session at once. Which of them an execution obeys is what `holdings` knows. When
its session dies it runs on: effects wait for commits by themselves, and facts are kept until somebody adopts the
execution or drops it. Effects that are under way go on as long as the session's lease; after that, another engine may
do them (`lease`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Final

import structlog

from dagengine.clock import Clock, SystemClock, elapsed
from dagengine.journal.session import Budget
from dagengine.journal.spool import Spool
from dagengine.server.base import Engine
from dagengine.server.gate import SessionGate
from dagengine.server.highest import Highest
from dagengine.server.holdings import Holdings
from dagengine.server.lease import Lease, Leases
from dagengine.server.outbox import Outbox
from dagengine.server.session import Session, expect
from dagengine.wire import handshake, limits
from dagengine.wire.v1 import session_pb2

__all__ = ["Host"]

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 0.2
"""How often a drain looks whether what is left only waits: nothing else tells."""

FLUSH_SECONDS: Final = 2.0
"""How long the facts of executions that are handed back may take to be acknowledged."""


class Host:
    """One engine, as orchestrators see it. Everything happens on the event loop's thread.

    `capacity` is how many executions it runs at a time. With `token`, orchestrators must prove that they know it.
    `budget` is what unacknowledged facts may take; by default 64 MiB of memory, and 1 GiB of a temporary file. `clock`
    is what leases run by: a monotonic one.
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
        clock: Clock | None = None,
    ) -> None:
        self.engine_id = engine_id
        self.capacity = capacity
        self.draining = False
        self._engine = engine
        self._version = version
        self._labels = dict(labels or {})
        self._token = token.encode() if token is not None else None
        self._budget = budget or Budget(spool=Spool())
        self._incarnation = secrets.token_hex(8)
        self._gate = SessionGate(engine.gate)
        self._held = Holdings(
            engine, engine_id=engine_id, capacity=capacity, budget=self._budget, changed=self._holdings_changed
        )
        self._sessions: dict[int, Session] = {}
        self._leases = Leases(clock or SystemClock(wall=elapsed, monotonic=elapsed), self._lease_turned)
        self._positions = Highest()
        """Global positions up to which facts were told to be committed."""
        self._opened = 0
        self._opening = 0
        """Sessions whose orchestrator has not proven yet who it is."""
        self._changed = asyncio.Event()
        """Set when an execution is held no more, or facts of it are committed."""

    @property
    def running(self) -> int:
        """Executions that take up capacity."""
        return self._held.running

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
        outbox, lease = Outbox(self._load), self._leases.begin()
        session = self._sessions[self._opened] = Session(first.hello, number=self._opened, outbox=outbox, lease=lease)
        about = log.bind(orchestrator=session.orchestrator, incarnation=session.incarnation)
        about.info("session_opened", held=len(self._held))
        reader: asyncio.Task[None] | None = None
        try:
            yield session_pb2.EngineMessage(hello=self._hello(session))
            reader = asyncio.create_task(self._read(session, incoming))
            while (message := await session.outbox.next()) is not None:
                session.sends(message)
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
        self._held.left(session.outbox)
        session.outbox.close()
        self._leases.end(session.lease)

    def _lease_turned(self, lease: Lease) -> None:
        """A lease is over, or goes on after all."""
        told = [held for held in self._held if held.lease is lease]
        if told:  # else nothing follows from it: every session that has ended leaves a lease behind
            tell, event = (log.warning, "lease_over") if lease.over else (log.info, "lease_renewed")
            tell(event, held=len(told), seconds=lease.length / 1e6)
        for held in told:
            held.obey_lease()
        self._report()  # whoever wanted this engine for an execution does so no longer, or again

    def _hello(self, session: Session) -> session_pb2.EngineHello:
        return session_pb2.EngineHello(
            engine=self.engine_id,
            incarnation=self._incarnation,
            version=self._version,
            executors=self._engine.executors,
            labels=self._labels,
            capacity=self.capacity,
            draining=self.draining,
            held=[held.to_held() for held in self._held],
            pools=self._gate.own_pools(),
            acknowledged_position=self._positions.of(session.incarnation),
            reservable=True,
            reserved_for=self._held.reserved_for,
        )

    def _load(self) -> session_pb2.Load:
        return session_pb2.Load(
            running=self.running,
            capacity=self.capacity,
            draining=self.draining,
            unacknowledged=self.unacknowledged,
            pools=self._gate.own_pools(),
            reserved_for=self._held.reserved_for,
        )

    # --- commands ---

    def _obey(self, session: Session, message: session_pb2.OrchestratorMessage) -> None:
        """Take the fields of a message in the order of their numbers, but before all else what pools there are."""
        self._leases.check()  # it may have lain there for long, if this process stood still
        if message.HasField("shared_pools"):
            self._gate.announce(
                session.outbox,
                message.shared_pools.names,
                term=message.shared_pools.term,
                incarnation=session.incarnation,
            )
        holdings = self._held
        for drop in message.drops:
            holdings.drop(drop)
        for adopt in message.adopts:
            holdings.adopt(session, adopt)
        for history in message.histories:
            session.add_history(history)
        for start in message.starts:
            holdings.start(session, start, draining=self.draining)
        for delivery in message.deliveries:
            holdings.deliver(delivery)
        for ack in message.acks:
            holdings.ack(ack)
            self._changed.set()
        for resend in message.resends:
            holdings.resend(resend)
        for grant in message.pool_grants:
            self._gate.grant(session.outbox, grant.tickets)
        holdings.results.answered(message.result_answers)
        for reserve in message.reserves:
            holdings.reserve(session, reserve)
        if message.HasField("lease"):
            session.renew(message.lease)
        if message.position:
            self._positions.note(session.incarnation, message.position)

    def _holdings_changed(self) -> None:
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
        await self._until(lambda: all(held.only_waits for held in self._held), timeout)
        left = list(self._held)
        for held in left:
            held.stop()
        await self._until(lambda: not any(held.journal.unacknowledged for held in left), FLUSH_SECONDS)
        for held in left:
            held.hand_back(session_pb2.Refusal.DRAINING, f"{self.engine_id} is shutting down")
            self._held.forget(held)
        log.info("drain_ended", handed_back=len(left))
        self.close()
        # Whoever takes this engine away next must not cut off what tells where its executions go.
        await self._until(lambda: not self._sessions, FLUSH_SECONDS)

    def close(self) -> None:
        """Stop everything. Sessions still send what they have to, and end."""
        self.draining = True
        for held in list(self._held):
            self._held.forget(held)
        for session in self._sessions.values():
            session.outbox.close()
        self._leases.stop()

    async def _until(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait for a condition, for up to `timeout` seconds. Looked at when something has changed, and now and then."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while not condition() and (left := until - loop.time()) > 0:
            self._changed.clear()
            look = loop.call_later(min(left, LOOK_SECONDS), self._changed.set)
            await self._changed.wait()
            look.cancel()
