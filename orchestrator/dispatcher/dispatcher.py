"""The dispatcher: what should run (the store) against what does run (the engines), brought together again and again.

Everything here is level-triggered. A session that begins is compared with the store and mended; an event only makes
the next comparison sooner. Three tasks do the work: `placer` places what waits, `commits` commits facts, `sessions`
looks after engines that stay away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import structlog

from dagengine.clock import Clock
from dagengine.spec.model import Document
from orchestrator.dispatcher import messages, placement
from orchestrator.dispatcher.commits import Commit, Commits
from orchestrator.dispatcher.ending import Ending
from orchestrator.dispatcher.feed import Feed
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.placer import Placer
from orchestrator.dispatcher.sessions import Sessions
from orchestrator.dispatcher.tracked import Plan, Tracked
from orchestrator.errors import Conflict, NotFound, Overloaded, StoreError
from orchestrator.monitor.monitor import Monitor
from orchestrator.store.base import Appended, ExecutionRecord, InboxItem, Store
from orchestrator.transport.base import Transport
from orchestrator.verbs import EngineView

__all__ = ["Dispatcher"]

_log = structlog.get_logger("orchestrator.dispatcher")


class Dispatcher:
    """Owns every execution that has not ended. `open` it once the store is open."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        monitor: Monitor,
        strategy: placement.Strategy = "consistent-hash",
        queue_limit: int = 10_000,
        engine_lost_after: float = 30.0,
    ) -> None:
        """`queue_limit` counts executions that wait for an engine; `engine_lost_after` is in seconds."""
        self.feed = Feed()
        self._ledger = Ledger()
        self._store = store
        self._clock = clock
        self._monitor = monitor
        self._queue_limit = queue_limit
        self._admitted = 0
        """Executions that were let in, but are not recorded yet."""
        self._plans: dict[str, Plan] = {}
        self._ending = Ending(store, clock, ended=self._ended_here)
        self._placer = Placer(self._ledger, store, clock, strategy, ending=self._ending)
        self._commits = Commits(store, clock, answer=self._answered, took=monitor.commit_took)
        self._sessions = Sessions(
            self._ledger,
            store,
            clock,
            commits=self._commits,
            ending=self._ending,
            feed=self.feed,
            lost_after=engine_lost_after,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._links: dict[str, asyncio.Task[None]] = {}

    # --- life ---

    async def open(self) -> None:
        """Take over every execution that has not ended, and start to work."""
        for record in await self._store.unfinished():
            tracked = Tracked(record, await self._plan(record.digest))
            self._ledger.add(tracked)
            if tracked.engine is not None:
                self._sessions.expect(tracked.engine)
        for item in await self._store.inbox():
            if item.execution in self._ledger.executions:
                self._ledger.executions[item.execution].inbox[item.id] = item
        await self._sessions.cancel_waiting(list(self._ledger.executions.values()))
        for work in (self._placer.run, self._commits.run, self._sessions.look_after_absent):
            task = asyncio.create_task(work(), name=work.__qualname__)
            task.add_done_callback(_report_death)
            self._tasks.append(task)

    async def close(self) -> None:
        """Close every session and stop. Executions go on at their engines and are adopted when somebody comes back."""
        for address in list(self._links):
            await self.remove_link(address)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self.feed.close()

    def add_link(self, transport: Transport, address: str) -> None:
        """Keep a session with the engine at `address` from now on."""
        link = transport.link(address, self._sessions)
        self._ledger.roster.links[address] = link
        self._links[address] = asyncio.create_task(link.run(), name=f"link {address}")

    async def remove_link(self, address: str) -> None:
        """End the session with the engine at `address`, and forget the engine unless it still has executions."""
        link = self._ledger.roster.links.pop(address, None)
        if link is None:
            return
        engine = self._ledger.roster.by_link(link)
        self._sessions.disconnected(link, "it is not among the known engines any more")
        await link.close()
        await asyncio.gather(self._links.pop(address), return_exceptions=True)
        if engine is not None and not engine.running:
            self._ledger.roster.forget_unlinked(engine.id)

    # --- what the doors ask for ---

    @property
    def queued(self) -> int:
        """Executions that wait for an engine."""
        return len(self._ledger.queue)

    @property
    def running(self) -> int:
        """Executions that an engine has."""
        return len(self._ledger.executions) - len(self._ledger.queue)

    def engines(self) -> list[EngineView]:
        """The engines, and the addresses at which none has answered yet."""
        return self._ledger.roster.views()

    @contextlib.contextmanager
    def admission(self) -> Iterator[None]:
        """A place in the admission queue, kept for the block that fills it. Raises Overloaded when there is none."""
        if self.queued + self._admitted >= self._queue_limit:
            raise Overloaded(f"{self.queued} executions wait for an engine already; try again later")
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    def submit(self, record: ExecutionRecord, document: Document) -> None:
        """Run an execution that the store has just recorded as queued."""
        plan = self._plans.get(document.digest)
        if plan is None:
            plan = self._plans[document.digest] = Plan.of(document)
        self._ledger.add(Tracked(record, plan))
        self._monitor.execution_started()

    def waiting_on(self, execution: str) -> str | None:
        """Why an execution has no engine; None when it has one, or has ended."""
        return self._ledger.queue.reason(execution)

    async def cancel(self, item: InboxItem) -> None:
        """Ask an execution to stop; returns once the request is durable. NotFound, or Conflict when it has ended."""
        if not await self._store.add_inbox(item):
            record = await self._store.execution(item.execution)
            if record is None:
                raise NotFound(f"there is no execution '{item.execution}'")
            raise Conflict(f"execution '{item.execution}' has ended already ({record.status})")
        tracked = self._ledger.executions.get(item.execution)
        if tracked is None:
            return
        tracked.inbox[item.id] = item
        if tracked.engine is None and await self._ending.cancel(tracked, item):
            return
        engine = self._ledger.roster.engines.get(tracked.engine or "")
        if engine is not None and not tracked.dispatching:  # else it goes with the start
            engine.link.send(messages.delivery([item]))

    def reconsider(self, engine: str) -> None:
        """`engine` has learnt something: executions that it could not run may be tried there again."""
        self._ledger.reconsider(engine)

    async def _plan(self, digest: str) -> Plan:
        plan = self._plans.get(digest)
        if plan is None:
            canonical = await self._store.document(digest)
            if canonical is None:
                raise StoreError(f"the store has executions of {digest} that have not ended, but not its document")
            plan = self._plans[digest] = Plan.of(Document.model_validate_json(canonical))
        return plan

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
        if batch.terminal is not None:
            self._ended(tracked)
        else:
            self.feed.changed(batch.execution)

    def _ended_here(self, tracked: Tracked, first_seq: int, payloads: list[bytes]) -> None:
        self._monitor.facts_committed(tracked.record.id, first_seq, payloads)
        self._ended(tracked)

    def _ended(self, tracked: Tracked) -> None:
        record = tracked.record
        began = record.started_at or record.created_at
        self._monitor.execution_ended(record.status, ((record.finished_at or began) - began) / 1e6)
        self._ledger.forget(tracked)
        self.feed.ended(record)


def _report_death(task: asyncio.Task[None]) -> None:
    """These tasks never end by themselves. If one does, it is a fault of ours, and must not pass in silence."""
    if not task.cancelled():
        _log.critical("dispatcher_stopped", task=task.get_name(), exc_info=task.exception())
