"""The sessions: hears what engines say, and mends what differs from the ledger. Implements `transport.Listener`.

The rules of ownership:

- An execution belongs to the engine of its latest dispatch; each dispatch raises its epoch, in the store, first.
- Facts under another epoch are refused by the store, and their sender is told to drop the execution.
- An engine that comes back and still holds what it should goes on (`Adopt`); what it has lost is placed again, with
  the committed facts as its history. So is what an engine had that stayed away for too long. A change of the owner
  raises the epoch as well: what the engine made since its dispatch is good all the same.
- What an engine holds that is not in the ledger may be another replica's: the store is asked first (`doubts`).
- An engine keeps what it has for as long as it was promised (`Lease`), and nobody else gets it before that is over.
- What goes down with engine after engine, and gets nowhere, is given up before it has taken all of them down. The
  count of that is kept in memory: after a restart of the orchestrator it begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import structlog

from dagengine.clock import Clock
from dagengine.events.facts import ErrorInfo
from dagengine.wire.v1 import session_pb2
from orchestrator.blobs.base import Blobs
from orchestrator.dispatcher import messages, results
from orchestrator.dispatcher.absences import Absences
from orchestrator.dispatcher.commits import Commits
from orchestrator.dispatcher.doubts import Doubts, late_facts, may_go_on
from orchestrator.dispatcher.ending import Ending
from orchestrator.dispatcher.engines import Engine
from orchestrator.dispatcher.feed import Feed
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.losses import Losses, is_behind
from orchestrator.dispatcher.parking import Parking
from orchestrator.dispatcher.placement import EngineState
from orchestrator.dispatcher.pools import Pools
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import Fenced, StoreError
from orchestrator.monitor.monitor import Monitor
from orchestrator.store.base import Appended, Batch, Store
from orchestrator.transport.base import Link

__all__ = ["Sessions"]

_log = structlog.get_logger("orchestrator.sessions")

_MOST_LOSSES: Final = 5
"""Engines that one execution may take down in a row before it is not tried again."""


class Sessions:
    """What engines say, and whether they are there."""

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        *,
        commits: Commits,
        ending: Ending,
        feed: Feed,
        pools: Pools,
        monitor: Monitor,
        lost_after: float,
        parked: Callable[[Tracked, int | None], None],
        fenced: Callable[[], None],
        may_promise: Callable[[], bool],
        steady: Clock,
    ) -> None:
        """`lost_after`: seconds that an engine may stay away before its executions are placed again.

        `parked(tracked, wake_at)` is called when an execution has no engine and no owner any more, and can be claimed
        then; `fenced()` when this replica may not write any more; `may_promise()` says whether what it owns is its own
        for now. `steady` is the clock for what is promised.
        """
        self._ledger = ledger
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._commits = commits
        self._ending = ending
        self._feed = feed
        self._pools = pools
        self._monitor = monitor
        self._fenced = fenced
        self._may_promise = may_promise
        self._losses = Losses(ledger, store, monitor, ending=ending)
        self.parking = Parking(ledger, store, clock, monitor, parked=parked, fenced=fenced)
        self.doubts = Doubts(store, clock, lost=self._losses.found, late=self._refuse_late)
        self._absences = Absences(steady, lease=lost_after)

    @property
    def faults(self) -> list[str]:
        """What the store has lost, for people; empty as long as nothing is."""
        return self._losses.faults

    def expect(self, engine: str) -> None:
        """An engine should be there, but has not been heard of since the start."""
        self._absences.expect(engine)

    def take_on(self, executions: Iterable[Tracked]) -> None:
        """Go on with executions in the ledger that engines may still have: they were another owner's until now."""
        for tracked in executions:
            record = tracked.record
            engine = self._ledger.roster.engines.get(record.engine or "")
            if record.engine is None or tracked.dispatching or (engine is not None and record.id in engine.running):
                continue  # a session that has begun meanwhile has seen to it
            self._monitor.execution_taken_over()
            if self._losses.ends(tracked, None if engine is None else engine.link):
                continue
            if engine is None or not engine.connected:
                self._absences.begin(record.engine)
                continue
            self._ledger.give(tracked, engine)
            engine.others = max(0, engine.others - 1)  # it was one of those until now
            engine.link.send(messages.adopt(record))
            self._monitor.executions_adopted(1)
            if tracked.inbox:
                engine.link.send(messages.delivery(tracked.inbox.values()))

    async def look_after_absent(self) -> None:
        """Place again, for ever, what engines had that stay away for too long."""
        while True:
            await self._absences.until_next_look()
            for engine in self._absences.over():
                await self._give_up(engine)

    async def _give_up(self, engine: str) -> None:
        self._pools.lost(engine)
        had = [tracked for tracked in self._ledger.meant_for(engine) if not tracked.dispatching]
        for tracked in had:
            self._lose(tracked, engine)
        if had:
            _log.warning("engine_lost", engine=engine, executions=len(had))
        self._ledger.roster.forget_unlinked(engine)
        await self.cancel_waiting(had)

    def _lose(self, tracked: Tracked, engine: str) -> None:
        """`engine` went down with an execution: place it again, unless it has taken too many engines with it."""
        tracked.losses += 1
        if tracked.losses < _MOST_LOSSES:
            self._ledger.enqueue(tracked)
            return
        why = (
            f"{tracked.losses} engines in a row were lost or broke down while they had it, the last of them "
            f"'{engine}', and no node of it succeeded in between"
        )
        self._give_up_on(tracked, ErrorInfo(type="Quarantined", message=why))

    def _give_up_on(self, tracked: Tracked, error: ErrorInfo) -> None:
        self._ledger.withdraw(tracked)
        self._ending.give_up(tracked, error)

    async def cancel_waiting(self, executions: Iterable[Tracked]) -> None:
        """End those among `executions` that somebody has cancelled, and that have no engine to do it."""
        for tracked in executions:
            if self._ledger.waits(tracked.record.id):
                await self._ending.obey(tracked)

    # --- transport.Listener ---

    async def connected(self, link: Link, hello: session_pb2.EngineHello) -> None:
        """A session has begun: compare what the engine holds with what it should hold."""
        self._begin(link, hello, knows_more=await self._losses.shown_by(hello))

    def _begin(self, link: Link, hello: session_pb2.EngineHello, *, knows_more: bool = False) -> None:
        """One step without a pause, so that nothing changes between the comparison and the answer to it."""
        roster = self._ledger.roster
        known = roster.engines.get(hello.engine)
        is_new = known is None or known.incarnation != hello.incarnation
        died = known is not None and is_new
        engine = roster.meet(link, hello)
        if engine is None:
            _log.error("engine_id_taken", engine=hello.engine, address=link.address)
            return
        self._absences.end(engine.id)
        if is_new:
            self._ledger.reconsider(engine.id)
        answer, missing = self._compare(engine, hello)
        for tracked in missing:
            if knows_more:
                self._losses.gone(tracked, engine=engine.id)
            elif died and tracked.engine == engine.id:
                self._lose(tracked, engine.id)
            else:
                self._ledger.enqueue(tracked)
        link.send(session_pb2.OrchestratorMessage(shared_pools=self._pools.begin(engine)))
        link.send(answer)
        for adopt in answer.adopts:
            for item in self._ledger.executions[adopt.execution].inbox.values():
                link.send(messages.delivery([item]))
        _log.info(
            "engine_connected",
            engine=engine.id,
            address=link.address,
            adopted=len(answer.adopts),
            dropped=len(answer.drops),
            placed_again=len(missing),
        )
        self._monitor.executions_adopted(len(answer.adopts))
        self._ledger.work.set()

    def _compare(
        self, engine: Engine, hello: session_pb2.EngineHello
    ) -> tuple[session_pb2.OrchestratorMessage, list[Tracked]]:
        """What is to be said about what the engine holds, and the executions that it should hold but does not."""
        self._ledger.keep_dispatching(engine)
        mine = self._ledger.dispatched_to(engine.id)
        answer = session_pb2.OrchestratorMessage()
        doubtful = []
        for held in hello.held:
            known = self._ledger.executions.get(held.execution)
            if known is None or is_behind(known.record, held):
                doubtful.append(held)
                mine.pop(held.execution, None)
            elif held.execution in mine and may_go_on(known.record, engine.id, held.epoch):
                del mine[held.execution]
                self._ledger.give(known, engine)
                answer.MergeFrom(messages.adopt(known.record))
            else:
                self._refuse_late(late_facts(known.record, engine.id, held))
                answer.drops.add(execution=held.execution, epoch=held.epoch)
        self.doubts.about(engine.link, doubtful)
        return answer, list(mine.values())

    def not_taken(self, link: Link, batch: Batch, appended: Appended) -> None:
        """The store did not take facts of an engine: it is to send others first, or to forget the execution."""
        tracked = self._ledger.executions.get(batch.execution)
        held = session_pb2.Held(execution=batch.execution, epoch=batch.epoch)
        if appended.outcome == "fenced" and (tracked is None or may_go_on(tracked.record, link.engine_id, batch.epoch)):
            # Another's; or its owner has changed, and the adoption is on its way: then the facts come again after it.
            self.doubts.about(link, [held])
            return
        if tracked is not None and appended.last_seq < tracked.record.last_seq:
            # The store was further already. Or this answer is older than what the ledger has read since: it is asked.
            held.acknowledged = tracked.record.last_seq
            self.doubts.about(link, [held])
        if appended.outcome == "gap":
            link.send(messages.resend(batch.execution, batch.epoch, appended.last_seq + 1))
        else:
            link.send(messages.drop(batch.execution, batch.epoch))

    def _refuse_late(self, count: int) -> None:
        if count:
            self._monitor.facts_refused("fenced", count)

    async def received(self, link: Link, message: session_pb2.EngineMessage) -> None:
        """A message of an engine. Returns late when the store is behind: that is the backpressure."""
        engine = self._ledger.roster.by_link(link)
        if engine is None:
            return
        if message.load.beat and self._may_promise():
            # Before all that may take time, since this is what the engine waits for.
            link.send(self._absences.promise(engine.id, message.load.beat))
        for logs in message.logs:
            await self._keep_logs(logs)
        for batch in message.facts:
            await self._commits.put(link, batch)
        # Before the refusals: one of them may tell that there is less room than the report says.
        if message.HasField("load"):
            self._load(engine, message.load)
        self._pools.received(engine, message)
        if message.result_lookups:
            for answer in await results.answers(self._store, self._blobs, self._clock, message.result_lookups):
                link.send(answer)
        if message.refusals or message.parks:
            # What is handed back is handed back with all that was made of it; nobody may go on before that is in.
            await self._commits.settled()
        for refusal in message.refusals:
            await self._refused(engine, refusal)
        if message.parks:
            await self.parking.offered(engine, message.parks)

    def disconnected(self, link: Link, reason: str) -> None:
        """A session has ended. Its executions stay where they are until the engine has stayed away for too long."""
        engine = self._ledger.roster.by_link(link)
        if engine is not None and engine.state != "unreachable":
            surprising = engine.standing[0] != "draining" and self._ledger.roster.links.get(link.address) is link
            engine.state, engine.reason = "unreachable", reason
            self._absences.begin(engine.id)
            self._pools.away(engine.id)
            self._ledger.roster.changed()
            tell = _log.warning if surprising else _log.info
            tell("engine_disconnected", engine=engine.id, address=link.address, reason=reason)
        successor = self._ledger.roster.gone(link)
        if successor is not None:
            self._begin(*successor)

    def _load(self, engine: Engine, load: session_pb2.Load) -> None:
        state: EngineState = "draining" if load.draining else "ready"
        engine.pools = {pool.name: pool for pool in load.pools}
        others = max(0, load.running - len(engine.running))
        told = load.capacity, state, others, load.reserved_for
        before = engine.capacity, engine.state, engine.others, engine.reserved
        if before != told:
            engine.capacity, engine.state, engine.others, engine.reserved = told
            engine.reason = "it is shutting down" if load.draining else ""
            self._ledger.work.set()
        if before[:2] != told[:2]:  # what others have there changes all the time, and is no part of the fleet
            self._ledger.roster.changed()

    async def _keep_logs(self, logs: session_pb2.LogBatch) -> None:
        lines = [(msgspec.json.decode(line, type=_LogNode).node, line) for line in logs.lines]
        try:
            await self._store.add_logs(logs.execution, logs.epoch, lines)
        except Fenced:
            self._fenced()
        except StoreError as error:  # the log stream is beside the facts: losing some of it stops nothing
            _log.warning("logs_not_kept", execution=logs.execution, error=str(error))
        self._feed.changed(logs.execution)

    async def _refused(self, engine: Engine, refusal: session_pb2.Refusal) -> None:
        """The engine will not run it: take it back and place it again."""
        tracked = self._ledger.executions.get(refusal.execution)
        if tracked is None or tracked.engine != engine.id or tracked.record.epoch != refusal.epoch:
            return
        if tracked.dispatching:
            return  # that was the start before the one that is on its way
        reason = session_pb2.Refusal.Reason.Name(refusal.reason)
        _log.info("execution_refused", execution=refusal.execution, engine=engine.id, reason=reason)
        match refusal.reason:
            case session_pb2.Refusal.UNKNOWN_DOCUMENT:
                engine.digests.discard(tracked.record.digest)
            case session_pb2.Refusal.UNABLE:
                tracked.excluded.add(engine.id)
                engine.digests.discard(tracked.record.digest)
                _log.warning("engine_unable", execution=refusal.execution, engine=engine.id, message=refusal.message)
            case session_pb2.Refusal.FULL:
                # It counts otherwise than we do; its next load report says when there is room again.
                engine.capacity = max(0, len(engine.running) - 1)
                self._ledger.roster.changed()
            case session_pb2.Refusal.RESERVED if tracked.plan.needs.exclusive:
                # Others are there; its next load report says when they are gone.
                engine.others = max(1, engine.others)
            case session_pb2.Refusal.DRAINING:
                engine.state, engine.reason = "draining", "it is shutting down"
                self._ledger.roster.changed()
            case session_pb2.Refusal.BROKEN:
                why = refusal.message.removeprefix(f"{engine.id}: ")
                self._broken(engine, tracked, f"{engine.id} cannot run it: {why}")
            case session_pb2.Refusal.HISTORY_MISSING if self._may_have_ended(engine, tracked):
                self._losses.gone(tracked, engine=engine.id)
        if tracked.record.id in self._ending:
            return
        tracked.record = msgspec.structs.replace(tracked.record, engine=None)
        self._ledger.enqueue(tracked)
        try:
            await self._store.release(refusal.execution, refusal.epoch)
        except Fenced:
            self._fenced()
            return
        except StoreError as error:  # the next dispatch takes it from the engine as well
            _log.warning("release_failed", execution=refusal.execution, error=str(error))
        await self.cancel_waiting([tracked])

    def _may_have_ended(self, engine: Engine, tracked: Tracked) -> bool:
        """Whether an engine that knows of more than the store does lacks what it was given by a former owner."""
        record = tracked.record
        return self._losses.were_shown_by(engine.incarnation) and record.epoch > record.dispatch_epoch

    def _broken(self, engine: Engine, tracked: Tracked, fault: str) -> None:
        """An engine broke down on it. Perhaps that engine's own fault: another one may try, as long as there is one."""
        tracked.excluded.add(engine.id)
        able = self._ledger.roster.fleet.eligible(tracked.plan.needs).capacities
        if able.keys() <= tracked.excluded:
            self._give_up_on(tracked, ErrorInfo(type="Broken", message=fault))
        else:
            self._lose(tracked, engine.id)


class _LogNode(msgspec.Struct):
    node: str
