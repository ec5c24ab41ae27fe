"""The sessions: hears what engines say, and mends what differs from the ledger. Implements `transport.Listener`.

The rules of ownership:

- An execution belongs to the engine of its latest dispatch; each dispatch raises its epoch, in the store, first.
- Facts under another epoch are refused by the store, and their sender is told to drop the execution.
- An engine that comes back and still holds what it should goes on (`Adopt`); what it has lost is placed again, with
  the committed facts as its history. So is what an engine had that stayed away for too long.
- What goes down with engine after engine, and gets nowhere, is given up before it has taken all of them down. The
  count of that is kept in memory: after a restart of the orchestrator it begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import structlog

from dagengine.clock import Clock
from dagengine.events.facts import ErrorInfo
from dagengine.wire.v1 import session_pb2
from orchestrator.dispatcher import messages, results
from orchestrator.dispatcher.commits import Commits
from orchestrator.dispatcher.ending import Ending
from orchestrator.dispatcher.engines import Engine
from orchestrator.dispatcher.feed import Feed
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.placement import EngineState
from orchestrator.dispatcher.pools import Pools
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import StoreError
from orchestrator.store.base import Store
from orchestrator.transport.base import Link

__all__ = ["Sessions"]

_log = structlog.get_logger("orchestrator.sessions")

_LOOK_EVERY: Final = 1_000_000
"""Microseconds between two looks at engines that stay away."""
_MOST_LOSSES: Final = 5
"""Engines that one execution may take down in a row before it is not tried again."""


class Sessions:
    """What engines say, and whether they are there."""

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        clock: Clock,
        *,
        commits: Commits,
        ending: Ending,
        feed: Feed,
        pools: Pools,
        lost_after: float,
    ) -> None:
        """`lost_after`: seconds that an engine may stay away before its executions are placed again."""
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._commits = commits
        self._ending = ending
        self._feed = feed
        self._pools = pools
        self._lost_after = round(lost_after * 1e6)
        self._absent: dict[str, int] = {}
        """Engines that should have executions but are not connected, and since when."""

    def expect(self, engine: str) -> None:
        """An engine should be there, but has not been heard of since the start."""
        self._absent.setdefault(engine, self._clock.now())

    async def look_after_absent(self) -> None:
        """Place again, for ever, what engines had that stay away for too long."""
        while True:
            await self._clock.sleep_until(self._clock.now() + _LOOK_EVERY)
            deadline = self._clock.now() - self._lost_after
            for engine in list(self._absent):
                # Asked anew for each: while the one before was given up, this one may have come back.
                since = self._absent.get(engine)
                if since is not None and since <= deadline:
                    await self._give_up(engine)

    async def _give_up(self, engine: str) -> None:
        self._absent.pop(engine, None)
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
        self._give_up_on(
            tracked,
            "Quarantined",
            f"{tracked.losses} engines in a row were lost or broke down while they had it, the last of them "
            f"'{engine}', and no node of it succeeded in between",
        )

    def _give_up_on(self, tracked: Tracked, kind: str, fault: str) -> None:
        self._ledger.withdraw(tracked)
        self._ending.give_up(tracked, ErrorInfo(type=kind, message=fault))

    async def cancel_waiting(self, executions: Iterable[Tracked]) -> None:
        """End those among `executions` that somebody has cancelled, and that have no engine to do it."""
        for tracked in executions:
            if self._ledger.waits(tracked.record.id):
                await self._ending.obey(tracked)

    # --- transport.Listener ---

    async def connected(self, link: Link, hello: session_pb2.EngineHello) -> None:
        """A session has begun: compare what the engine holds with what it should hold."""
        self._begin(link, hello)

    def _begin(self, link: Link, hello: session_pb2.EngineHello) -> None:
        """One step without a pause, so that nothing changes between the comparison and the answer to it."""
        roster = self._ledger.roster
        known = roster.engines.get(hello.engine)
        is_new = known is None or known.incarnation != hello.incarnation
        died = known is not None and is_new
        engine = roster.meet(link, hello)
        if engine is None:
            _log.error("engine_id_taken", engine=hello.engine, address=link.address)
            return
        self._absent.pop(engine.id, None)
        if is_new:
            self._ledger.reconsider(engine.id)
        answer, missing = self._compare(engine, hello)
        for tracked in missing:
            if died and tracked.engine == engine.id:
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
        self._ledger.work.set()

    def _compare(
        self, engine: Engine, hello: session_pb2.EngineHello
    ) -> tuple[session_pb2.OrchestratorMessage, list[Tracked]]:
        """What is to be said about what the engine holds, and the executions that it should hold but does not."""
        self._ledger.keep_dispatching(engine)
        mine = self._ledger.dispatched_to(engine.id)
        answer = session_pb2.OrchestratorMessage()
        for held in hello.held:
            known = mine.get(held.execution)
            # Under an older epoch, somebody else may have made other facts meanwhile: only the very same one goes on.
            if known is None or known.record.epoch != held.epoch:
                answer.drops.add(execution=held.execution, epoch=held.epoch)
                continue
            del mine[held.execution]
            self._ledger.give(known, engine)
            record = known.record
            answer.adopts.add(execution=record.id, epoch=record.epoch, committed_seq=record.last_seq)
        return answer, list(mine.values())

    async def received(self, link: Link, message: session_pb2.EngineMessage) -> None:
        """A message of an engine. Returns late when the store is behind: that is the backpressure."""
        engine = self._ledger.roster.by_link(link)
        if engine is None:
            return
        for logs in message.logs:
            await self._keep_logs(logs)
        for batch in message.facts:
            await self._commits.put(link, batch)
        # Before the refusals: one of them may tell that there is less room than the report says.
        if message.HasField("load"):
            self._load(engine, message.load)
        self._pools.received(engine, message)
        if message.result_lookups:
            for answer in await results.answers(self._store, self._clock, message.result_lookups):
                link.send(answer)
        if message.refusals:
            # What is handed back is handed back with all that was made of it; nobody may go on before that is in.
            await self._commits.settled()
        for refusal in message.refusals:
            await self._refused(engine, refusal)

    def disconnected(self, link: Link, reason: str) -> None:
        """A session has ended. Its executions stay where they are until the engine has stayed away for too long."""
        engine = self._ledger.roster.by_link(link)
        if engine is not None and engine.state != "unreachable":
            engine.state, engine.reason = "unreachable", reason
            self._absent[engine.id] = self._clock.now()
            self._pools.away(engine.id)
            self._ledger.roster.changed()
            wanted = self._ledger.roster.links.get(link.address) is link
            tell = _log.warning if wanted else _log.info
            tell("engine_disconnected", engine=engine.id, address=link.address, reason=reason)
        successor = self._ledger.roster.gone(link)
        if successor is not None:
            self._begin(*successor)

    def _load(self, engine: Engine, load: session_pb2.Load) -> None:
        state: EngineState = "draining" if load.draining else "ready"
        engine.pools = {pool.name: pool for pool in load.pools}
        if (engine.capacity, engine.state) != (load.capacity, state):
            engine.capacity, engine.state = load.capacity, state
            engine.reason = "it is shutting down" if load.draining else ""
            self._ledger.roster.changed()
            self._ledger.work.set()

    async def _keep_logs(self, logs: session_pb2.LogBatch) -> None:
        lines = [(msgspec.json.decode(line, type=_LogNode).node, line) for line in logs.lines]
        try:
            await self._store.add_logs(logs.execution, logs.epoch, lines)
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
            case session_pb2.Refusal.DRAINING:
                engine.state, engine.reason = "draining", "it is shutting down"
                self._ledger.roster.changed()
            case session_pb2.Refusal.BROKEN:
                why = refusal.message.removeprefix(f"{engine.id}: ")
                self._broken(engine, tracked, f"{engine.id} cannot run it: {why}")
                if tracked.record.id in self._ending:
                    return
        tracked.record = msgspec.structs.replace(tracked.record, engine=None)
        self._ledger.enqueue(tracked)
        try:
            await self._store.release(refusal.execution, refusal.epoch)
        except StoreError as error:  # the next dispatch takes it from the engine as well
            _log.warning("release_failed", execution=refusal.execution, error=str(error))
        await self.cancel_waiting([tracked])

    def _broken(self, engine: Engine, tracked: Tracked, fault: str) -> None:
        """An engine broke down on it. Perhaps that engine's own fault: another one may try, as long as there is one."""
        tracked.excluded.add(engine.id)
        able = self._ledger.roster.fleet.eligible(tracked.plan.executors, tracked.plan.pools).capacities
        if able.keys() <= tracked.excluded:
            self._give_up_on(tracked, "Broken", fault)
        else:
            self._lose(tracked, engine.id)


class _LogNode(msgspec.Struct):
    node: str
