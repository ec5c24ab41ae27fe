"""The dispatcher: what should run (the store) against what does run (the engines), brought together again and again.

Everything here is level-triggered. A session that begins is compared with the store and mended; an event only makes
the next comparison sooner. Four tasks do the work: `placer` places what waits, `commits` commits facts, `sessions`
looks after engines that stay away, `ending` ends what is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Final

from dagengine.admission.declaration import Declared
from dagengine.clock import Clock
from dagengine.spec.model import Document
from orchestrator import defaults
from orchestrator.dispatcher import messages, placement
from orchestrator.dispatcher.commits import Commit, Commits
from orchestrator.dispatcher.concurrency import Limits
from orchestrator.dispatcher.ending import Ending
from orchestrator.dispatcher.feed import Feed
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.placer import Placer
from orchestrator.dispatcher.pools import Pools
from orchestrator.dispatcher.sessions import Sessions
from orchestrator.dispatcher.tracked import Plan, Tracked
from orchestrator.errors import Conflict, NotFound, Overloaded, StoreError, Unavailable
from orchestrator.monitor.monitor import Monitor
from orchestrator.store.base import TERMINAL, Appended, ExecutionRecord, InboxItem, Store, Terminal
from orchestrator.supervision import Supervisor
from orchestrator.transport.base import Transport
from orchestrator.verbs import EngineView, PoolView

__all__ = ["Dispatcher"]

_QUEUE_BYTES: Final = 256 << 20


class Dispatcher:
    """Owns every execution that has not ended. `open` it once the store is open."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        monitor: Monitor,
        strategy: placement.Strategy = "consistent-hash",
        queue_limit: int = defaults.QUEUE_LIMIT,
        queue_bytes: int = _QUEUE_BYTES,
        engine_lost_after: float = defaults.ENGINE_LOST_AFTER,
        pools: Mapping[str, Declared] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        """`queue_limit` counts executions that wait for an engine, `queue_bytes` bounds what their inputs take.

        `engine_lost_after` is in seconds. `pools` are those over the whole system, by name. The dispatcher's tasks are
        watched by `supervisor`.
        """
        self.feed = Feed()
        self._ledger = Ledger()
        self._store = store
        self._clock = clock
        self._monitor = monitor
        self._queue_limit = queue_limit
        self._queue_bytes = queue_bytes
        self._admitted = 0
        """Executions that were let in, but are not recorded yet; and the bytes of their inputs."""
        self._admitted_bytes = 0
        self._plans: MutableMapping[str, Plan] = weakref.WeakValueDictionary()
        """Of the versions of which executions have not ended: those hold on to them."""
        self._supervisor = supervisor or Supervisor()
        self._commits = Commits(store, clock, answer=self._answered, took=monitor.commit_took)
        self._ending = Ending(
            store,
            clock,
            settled=self._commits.settled,
            placeable=self._ledger.placeable,
            ended=self._ended_here,
        )
        self._pools = Pools(pools or {}, clock, self._ledger.roster)
        self.limits = Limits(self._ledger, clock, operate=self.operate)
        self._placer = Placer(self._ledger, store, clock, strategy, ending=self._ending)
        self._sessions = Sessions(
            self._ledger,
            store,
            clock,
            commits=self._commits,
            ending=self._ending,
            feed=self.feed,
            pools=self._pools,
            lost_after=engine_lost_after,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._links: dict[str, asyncio.Task[None]] = {}

    # --- life ---

    async def open(self) -> None:
        """Take over every execution that has not ended, and start to work."""
        unfinished = [Tracked(record, await self._plan(record.digest)) for record in await self._store.unfinished()]
        for tracked in unfinished:
            if tracked.engine is not None:
                self._sessions.expect(tracked.engine)
                self._pools.expect(tracked.engine, tracked.plan.shared_pools)
        self.limits.restore(unfinished)
        for item in await self._store.inbox():
            if item.execution in self._ledger.executions:
                self._ledger.executions[item.execution].inbox[item.id] = item
        for work in (
            self._placer.run,
            self._commits.run,
            self._sessions.look_after_absent,
            self._ending.run,
            self._pools.run,
            self.limits.run,
        ):
            task = self._supervisor.start(work(), name=work.__qualname__)
            task.add_done_callback(self._stop_waiting)
            self._tasks.append(task)
        await self._sessions.cancel_waiting(list(self._ledger.executions.values()))

    async def close(self) -> None:
        """Close every session and stop. Executions go on at their engines and are adopted when somebody comes back."""
        for address in list(self._links):
            await self.remove_link(address)
        await self._supervisor.stop(*self._tasks)
        self._tasks.clear()
        self.feed.close()

    def add_link(self, transport: Transport, address: str) -> None:
        """Keep a session with the engine at `address` from now on."""
        link = transport.link(address, self._sessions)
        self._ledger.roster.links[address] = link
        self._links[address] = self._supervisor.start(link.run(), name=f"link {address}")

    async def remove_link(self, address: str) -> None:
        """End the session with the engine at `address`, and forget the engine unless it still has executions."""
        link = self._ledger.roster.links.pop(address, None)
        if link is None:
            return
        engine = self._ledger.roster.by_link(link)
        self._sessions.disconnected(link, "it is not among the known engines any more")
        task = self._links.pop(address)
        self._supervisor.release(task)
        await link.close()
        await asyncio.gather(task, return_exceptions=True)
        if engine is not None and not engine.running:
            self._ledger.roster.forget_unlinked(engine.id)

    # --- what the doors ask for ---

    @property
    def queued(self) -> int:
        """Executions that wait for an engine, or to be allowed one."""
        return self._ledger.waiting

    @property
    def running(self) -> int:
        """Executions that an engine has."""
        return len(self._ledger.executions) - self._ledger.waiting

    def engines(self) -> list[EngineView]:
        """The engines, and the addresses at which none has answered yet."""
        return self._ledger.roster.views()

    def pools(self) -> list[PoolView]:
        """The pools over the whole system, and those of the engines that are connected."""
        return self._pools.views()

    @contextlib.contextmanager
    def admission(self, size: int = 0) -> Iterator[None]:
        """A place in the admission queue, kept for the block that fills it; `size` is how many bytes the inputs take.

        Raises Overloaded when there is none, Unavailable when nobody would take it from there.
        """
        if self.feed.closed:
            raise Unavailable("the orchestrator is closing, or has broken down: its log tells")
        if self.queued + self._admitted >= self._queue_limit:
            raise Overloaded(f"{self.queued} executions wait for an engine already; try again later")
        held = self._ledger.waiting_size + self._admitted_bytes
        if held and held + size > self._queue_bytes:
            raise Overloaded(f"the executions that wait for an engine have {held:,} bytes of inputs; try again later")
        self._admitted += 1
        self._admitted_bytes += size
        try:
            yield
        finally:
            self._admitted -= 1
            self._admitted_bytes -= size

    def submit(self, record: ExecutionRecord, document: Document) -> None:
        """Run an execution that the store has just recorded as queued."""
        plan = self._plans.get(document.digest) or Plan.of(document, self._pools.names)
        self._plans[document.digest] = plan
        self.limits.enter(Tracked(record, plan))
        self._monitor.execution_started()

    def waiting_on(self, execution: str) -> str | None:
        """Why an execution has no engine; None when it has one, or has ended.

        A reason of `placement.Placement`; or `broken`: it was given up, and the store has yet to take its end; or
        `concurrency`: others of its workflow that share its key are to end first.
        """
        if execution in self._ending:
            return "broken"
        if self.limits.waits(execution):
            return "concurrency"
        return self._ledger.queue.reason(execution)

    async def operate(self, item: InboxItem) -> None:
        """Ask something of an execution; returns once the request is durable. NotFound, or Conflict when it has ended.

        One that has ended may be asked to run parts of it again: then it is queued. Overloaded, Unavailable.
        """
        if not await (self._reopen(item) if item.kind == "retry" else self._store.add_inbox(item)):
            record = await self._store.execution(item.execution)
            if record is None:
                raise NotFound(f"there is no execution '{item.execution}'")
            raise Conflict(f"execution '{item.execution}' has ended already ({record.status})")
        tracked = self._ledger.executions.get(item.execution)
        if tracked is None:
            return
        tracked.inbox[item.id] = item
        if item.kind == "cancel" and tracked.engine is None and await self._ending.obey(tracked):
            return
        engine = self._ledger.roster.engines.get(tracked.engine or "")
        if engine is not None and not tracked.dispatching:  # else it goes with the start
            engine.link.send(messages.delivery([item]))

    async def _reopen(self, item: InboxItem) -> bool:
        """Keep a retry. An execution that has ended waits for an engine again, to be told of it there."""
        record = await self._store.execution(item.execution)
        if record is None:
            return False
        plan = await self._plan(record.digest)
        with self.admission(len(record.inputs)) if record.status in TERMINAL else contextlib.nullcontext():
            kept = await self._store.reopen(item)
            if kept is None:
                return False
            record, reopened = kept
            if reopened:
                tracked = Tracked(record, plan)
                tracked.since = item.created_at
                self.limits.enter(tracked, again=True)
                self._monitor.execution_reopened()
                self.feed.changed(record.id)
        return True

    def reconsider(self, engine: str) -> None:
        """`engine` has learnt something: executions that it could not run may be tried there again."""
        self._ledger.reconsider(engine)

    async def _plan(self, digest: str) -> Plan:
        plan = self._plans.get(digest)
        if plan is None:
            canonical = await self._store.document(digest)
            if canonical is None:
                raise StoreError(f"the store has executions of {digest} that have not ended, but not its document")
            plan = self._plans[digest] = Plan.of(Document.model_validate_json(canonical), self._pools.names)
        return plan

    def _stop_waiting(self, _: asyncio.Task[None]) -> None:
        """A task has ended, by a fault or because all is closed: nobody should wait for what it will not do."""
        self.feed.close()

    # --- what is committed ---

    def _answered(self, commit: Commit, appended: Appended) -> None:
        """A batch is in the store, or was refused: tell its sender, and whoever follows the execution."""
        batch, link = commit.batch, commit.link
        match appended.outcome:
            case "committed":
                link.send(messages.ack(batch.execution, batch.epoch, appended.last_seq))
            case "gap":
                self._monitor.facts_refused("gap", len(batch.facts))
                link.send(messages.resend(batch.execution, batch.epoch, appended.last_seq + 1))
                return
            case "fenced":
                self._monitor.facts_refused("fenced", len(batch.facts))
                link.send(messages.drop(batch.execution, batch.epoch))
                return
        tracked = self._ledger.executions.get(batch.execution)
        if tracked is None or not appended.new_from:
            return
        self._monitor.facts_committed(
            batch.execution, appended.new_from, batch.facts[appended.new_from - batch.first_seq :]
        )
        tracked.committed(batch, appended)
        if tracked.record.status in TERMINAL:
            self._ended(tracked)
            return
        if batch.terminal is not None:
            # A retry came while it ended. Whoever had it may have forgotten it already: it is dispatched anew.
            link.send(messages.drop(batch.execution, batch.epoch))
            self._count_end(tracked, batch.terminal)
            self._monitor.execution_reopened()
            self._ledger.enqueue(tracked)
        self.feed.changed(batch.execution)

    def _ended_here(self, tracked: Tracked, first_seq: int, payloads: list[bytes]) -> None:
        self._monitor.facts_committed(tracked.record.id, first_seq, payloads)
        self._ended(tracked)

    def _ended(self, tracked: Tracked) -> None:
        record = tracked.record
        self._count_end(tracked, Terminal(status=record.status, at=record.finished_at or 0))
        self._ledger.forget(tracked)
        self.limits.ended(record.id)
        self.feed.ended(record)

    def _count_end(self, tracked: Tracked, end: Terminal) -> None:
        began = max(tracked.went_on, tracked.record.started_at or tracked.record.created_at)
        self._monitor.execution_ended(end.status, max(0, end.at - began) / 1e6)
