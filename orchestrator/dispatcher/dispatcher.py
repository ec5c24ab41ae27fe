"""The dispatcher: what should run (the store) against what does run (the engines), brought together again and again.

Everything here is level-triggered. A session that begins is compared with the store and mended; an event only makes
the next comparison sooner. Three tasks do the work: one places what waits, one commits facts, one looks after engines
that stay away.

The rules of ownership:

- An execution belongs to the engine of its latest dispatch; each dispatch raises its epoch, in the store, first.
- Facts under another epoch are refused by the store, and their sender is told to drop the execution.
- An engine that comes back and still holds what it should goes on (`Adopt`); what it has lost is placed again, with
  the committed facts as its history. So is what an engine had that stayed away for too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec
import structlog

from dagengine.clock import Clock
from dagengine.events import facts
from dagengine.graph.compiled import compile_document
from dagengine.machine.machine import Machine
from dagengine.machine.stimuli import Begin, Cancel
from dagengine.spec.model import Document
from dagengine.wire.v1 import session_pb2
from orchestrator.dispatcher import placement
from orchestrator.dispatcher.commits import Commit, Commits, is_terminal, terminal_of
from orchestrator.dispatcher.engines import Engine, Roster
from orchestrator.dispatcher.feed import Feed
from orchestrator.dispatcher.tracked import Plan, Tracked
from orchestrator.errors import Conflict, NotFound, Overloaded, StoreError
from orchestrator.monitor.monitor import Monitor
from orchestrator.store.base import Appended, ExecutionRecord, InboxItem, Store
from orchestrator.transport.base import Link

__all__ = ["Dispatcher"]

_log = structlog.get_logger("orchestrator.dispatcher")

_LOOK_AFTER: Final = 1_000_000
"""Microseconds between two looks at engines that stay away."""
_HISTORY_PAGE: Final = 1_000
"""Facts of a history that are read and sent at a time."""


class Dispatcher:
    """Owns every execution that has not ended. `open` it once the store is open; it implements `transport.Listener`."""

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
        self.roster = Roster()
        self._store = store
        self._clock = clock
        self._monitor = monitor
        self._strategy = strategy
        self._queue_limit = queue_limit
        self._lost_after = round(engine_lost_after * 1e6)
        self._tracked: dict[str, Tracked] = {}
        self._queue: dict[str, Tracked] = {}
        """What waits for an engine, oldest first."""
        self._plans: dict[str, Plan] = {}
        self._absent: dict[str, int] = {}
        """Engines that should have executions but are not connected, and since when."""
        self._turn = 0
        self._place = asyncio.Event()
        self._commits = Commits(store, clock, answer=self._answered, took=monitor.commit_took)
        self._tasks: list[asyncio.Task[None]] = []
        self._link_tasks: dict[str, asyncio.Task[None]] = {}

    # --- life ---

    async def open(self) -> None:
        """Take over every execution that has not ended, and start to work."""
        now = self._clock.now()
        for record in await self._store.unfinished():
            tracked = Tracked(record, await self._plan(record.digest))
            self._tracked[record.id] = tracked
            if tracked.engine is None:
                self._queue[record.id] = tracked
            else:
                self._absent.setdefault(tracked.engine, now)
        for work in (self._place_forever, self._commits.run, self._look_after_forever):
            self._tasks.append(asyncio.create_task(work(), name=f"dispatcher.{work.__name__}"))
        self._place.set()

    async def close(self) -> None:
        """Close every session and stop. Executions go on at their engines and are adopted when somebody comes back."""
        for address in list(self.roster.links):
            await self.remove_link(address)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self.feed.close()

    def add_link(self, link: Link) -> None:
        """Keep a session with the engine behind `link` from now on."""
        self.roster.links[link.address] = link
        self._link_tasks[link.address] = asyncio.create_task(link.run(), name=f"link {link.address}")

    async def remove_link(self, address: str) -> None:
        """End the session with the engine at `address`, and forget the engine unless it still has executions."""
        link = self.roster.links.pop(address, None)
        if link is None:
            return
        await link.close()
        task = self._link_tasks.pop(address)
        await asyncio.gather(task, return_exceptions=True)
        engine = self.roster.by_link(link)
        if engine is not None and not engine.running:
            del self.roster.engines[engine.id]
            self.roster.changed()

    # --- what the doors ask for ---

    @property
    def queued(self) -> int:
        """Executions that wait for an engine."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Executions that an engine has."""
        return len(self._tracked) - len(self._queue)

    def admit(self) -> None:
        """Raise Overloaded when the admission queue is full."""
        if len(self._queue) >= self._queue_limit:
            raise Overloaded(f"{len(self._queue)} executions wait for an engine already; try again later")

    def submit(self, record: ExecutionRecord, document: Document) -> None:
        """Run an execution that the store has just recorded as queued."""
        plan = self._plans.get(document.digest)
        if plan is None:
            plan = self._plans[document.digest] = Plan.of(document)
        tracked = Tracked(record, plan)
        self._tracked[record.id] = tracked
        self._monitor.execution_started()
        self._enqueue(tracked)

    def waiting_on(self, execution: str) -> str | None:
        """Why an execution has no engine; None when it has one, or has ended."""
        tracked = self._tracked.get(execution)
        return tracked.waiting_on if tracked is not None and tracked.engine is None else None

    async def cancel(self, item: InboxItem) -> None:
        """Ask an execution to stop; returns once the request is durable. NotFound, or Conflict when it has ended."""
        if not await self._store.add_inbox(item):
            record = await self._store.execution(item.execution)
            if record is None:
                raise NotFound(f"there is no execution '{item.execution}'")
            raise Conflict(f"execution '{item.execution}' has ended already ({record.status})")
        tracked = self._tracked.get(item.execution)
        if tracked is None:
            return
        if tracked.engine is None and await self._end_unplaced(tracked, item):
            return
        engine = self.roster.engines.get(tracked.engine or "")
        if engine is not None:
            engine.link.send(session_pb2.OrchestratorMessage(deliveries=[_delivery(item)]))

    # --- transport.Listener ---

    async def connected(self, link: Link, hello: session_pb2.EngineHello) -> None:
        """A session has begun: compare what the engine holds with what it should hold."""
        engine = self.roster.engines.get(hello.engine)
        if engine is not None and engine.link is not link and engine.link.connected:
            _log.error("engine_id_taken", engine=hello.engine, address=link.address, taken_by=engine.address)
            return
        if engine is None:
            engine = self.roster.engines[hello.engine] = Engine(link, hello)
        else:
            engine.meet(link, hello)
        self._absent.pop(engine.id, None)
        held = {item.execution: item.epoch for item in hello.held}
        mine = {tracked.record.id: tracked for tracked in self._tracked.values() if tracked.record.engine == engine.id}
        engine.running = {}
        answer = session_pb2.OrchestratorMessage()
        for execution, epoch in held.items():
            tracked = mine.pop(execution, None)
            if tracked is None or tracked.record.epoch < epoch:
                answer.drops.add(execution=execution, epoch=epoch)
                continue
            self._queue.pop(execution, None)
            self._given(tracked, engine)
            answer.adopts.add(execution=execution, epoch=tracked.record.epoch, committed_seq=tracked.record.last_seq)
        for tracked in mine.values():
            self._enqueue(tracked)
        answer.deliveries.extend(
            _delivery(item) for item in await self._store.inbox() if item.execution in engine.running
        )
        link.send(answer)
        _log.info("engine_connected", engine=engine.id, address=link.address, adopted=len(answer.adopts))
        self.roster.changed()
        self._place.set()

    async def received(self, link: Link, message: session_pb2.EngineMessage) -> None:
        """A message of an engine. Returns late when the store is behind: that is the backpressure."""
        engine = self.roster.by_link(link)
        if engine is None:
            return
        if message.HasField("load"):
            self._load(engine, message.load)
        for refusal in message.refusals:
            await self._refused(engine, refusal)
        for logs in message.logs:
            await self._keep_logs(logs)
        for batch in message.facts:
            await self._commits.put(link, batch)

    def disconnected(self, link: Link, reason: str) -> None:
        """A session has ended. Its executions stay where they are until the engine has stayed away for too long."""
        engine = self.roster.by_link(link)
        if engine is None or engine.state == "unreachable":
            return
        engine.state, engine.reason = "unreachable", reason
        self._absent[engine.id] = self._clock.now()
        self.roster.changed()
        _log.warning("engine_disconnected", engine=engine.id, address=link.address, reason=reason)

    def _load(self, engine: Engine, load: session_pb2.Load) -> None:
        state: placement.EngineState = "draining" if load.draining else "ready"
        if (engine.capacity, engine.state) != (load.capacity, state):
            engine.capacity, engine.state = load.capacity, state
            engine.reason = "it is shutting down" if load.draining else ""
            self.roster.changed()
            self._place.set()

    async def _keep_logs(self, logs: session_pb2.LogBatch) -> None:
        lines = [(msgspec.json.decode(line, type=_LogNode).node, line) for line in logs.lines]
        try:
            await self._store.add_logs(logs.execution, logs.epoch, lines)
        except StoreError as error:  # the log stream is beside the facts: losing some of it stops nothing
            _log.warning("logs_not_kept", execution=logs.execution, error=str(error))
        self.feed.changed(logs.execution)

    async def _refused(self, engine: Engine, refusal: session_pb2.Refusal) -> None:
        """The engine will not run it: take it back and place it again."""
        tracked = self._tracked.get(refusal.execution)
        if tracked is None or tracked.engine != engine.id or tracked.record.epoch != refusal.epoch:
            return
        reason = session_pb2.Refusal.Reason.Name(refusal.reason)
        _log.info("execution_refused", execution=refusal.execution, engine=engine.id, reason=reason)
        match refusal.reason:
            case session_pb2.Refusal.UNKNOWN_DOCUMENT:
                engine.digests.discard(tracked.record.digest)
            case session_pb2.Refusal.UNABLE:
                tracked.excluded.add(engine.id)
                _log.warning("engine_unable", execution=refusal.execution, engine=engine.id, message=refusal.message)
            case session_pb2.Refusal.DRAINING:
                engine.state, engine.reason = "draining", "it is shutting down"
                self.roster.changed()
        await self._store.release(refusal.execution, refusal.epoch)
        tracked.record = msgspec.structs.replace(tracked.record, engine=None)
        self._enqueue(tracked)

    # --- placing ---

    def _enqueue(self, tracked: Tracked) -> None:
        if tracked.engine is not None:
            engine = self.roster.engines.get(tracked.engine)
            if engine is not None:
                engine.running.pop(tracked.record.id, None)
        tracked.engine = None
        self._queue[tracked.record.id] = tracked
        self._place.set()

    def _given(self, tracked: Tracked, engine: Engine) -> None:
        tracked.engine, tracked.waiting_on = engine.id, None
        engine.running[tracked.record.id] = tracked.plan.reference

    async def _place_forever(self) -> None:
        while True:
            await self._place.wait()
            self._place.clear()
            chosen = self._choose()
            if chosen:
                await asyncio.gather(*(self._dispatch(engine, given) for engine, given in chosen.items()))

    def _choose(self) -> dict[str, list[Tracked]]:
        """Take from the queue whatever has a place now, by engine."""
        fleet, load = self.roster.fleet, self.roster.load
        chosen: dict[str, list[Tracked]] = {}
        for tracked in list(self._queue.values()):
            answer = placement.choose(
                self._strategy,
                tracked.plan.reference,
                fleet,
                load,
                required_executors=tracked.plan.executors,
                excluded=tracked.excluded,
                turn=self._turn,
            )
            if answer.engine is None:
                tracked.waiting_on = answer.reason
                if answer.reason in ("no_engine", "all_draining", "engines_full"):
                    self._same_reason(answer.reason)
                    break
                continue
            self._turn += 1
            load[answer.engine] = load.get(answer.engine, 0) + 1
            del self._queue[tracked.record.id]
            self._given(tracked, self.roster.engines[answer.engine])
            chosen.setdefault(answer.engine, []).append(tracked)
        return chosen

    def _same_reason(self, reason: str) -> None:
        """The reason holds for everything behind, too."""
        for tracked in self._queue.values():
            tracked.waiting_on = tracked.waiting_on or reason

    async def _dispatch(self, engine_id: str, given: list[Tracked]) -> None:
        """Record a dispatch, then send it. When the store cannot, everything goes back into the queue."""
        engine = self.roster.engines[engine_id]
        try:
            records = await self._store.dispatch([tracked.record.id for tracked in given], engine_id)
        except StoreError as error:
            _log.error("dispatch_failed", engine=engine_id, error=str(error))
            for tracked in given:
                self._enqueue(tracked)
            await self._clock.sleep_until(self._clock.now() + _LOOK_AFTER)
            return
        message = session_pb2.OrchestratorMessage()
        for tracked in given:
            record = records.get(tracked.record.id)
            if record is None:
                self._forget(tracked)
                continue
            tracked.record = record
            if record.last_seq:
                await self._send_history(engine, record)
            message.starts.append(self._start(engine, tracked))
            engine.started += 1
        engine.link.send(message)
        redelivered = [tracked for tracked in given if tracked.record.epoch > 1]
        for tracked in redelivered:
            items = await self._store.inbox(tracked.record.id)
            engine.link.send(session_pb2.OrchestratorMessage(deliveries=[_delivery(item) for item in items]))

    def _start(self, engine: Engine, tracked: Tracked) -> session_pb2.Start:
        record, plan = tracked.record, tracked.plan
        document = b"" if plan.digest in engine.digests else plan.canonical
        engine.digests.add(plan.digest)
        return session_pb2.Start(
            execution=record.id,
            epoch=record.epoch,
            digest=plan.digest,
            document=document,
            inputs=record.inputs,
            seed=record.seed,
            history=record.last_seq,
        )

    async def _send_history(self, engine: Engine, record: ExecutionRecord) -> None:
        after = 0
        while after < record.last_seq:
            page = await self._store.facts(record.id, after=after, limit=_HISTORY_PAGE)
            history = session_pb2.History(
                execution=record.id,
                epoch=record.epoch,
                first_seq=after + 1,
                facts=[fact.payload for fact in page],
            )
            engine.link.send(session_pb2.OrchestratorMessage(histories=[history]))
            after = page[-1].seq

    async def _plan(self, digest: str) -> Plan:
        plan = self._plans.get(digest)
        if plan is None:
            canonical = await self._store.document(digest)
            if canonical is None:
                raise StoreError(
                    f"the document {digest} is missing from the store, but executions of it have not ended"
                )
            plan = self._plans[digest] = Plan.of(Document.model_validate_json(canonical))
        return plan

    async def _end_unplaced(self, tracked: Tracked, item: InboxItem) -> bool:
        """Cancel an execution that no engine has; False when nodes of it run even then, or an engine has got it."""
        record = tracked.record
        if record.last_seq:
            return False  # it has run before: its engine-side history decides what may still run
        wish = msgspec.json.decode(item.payload, type=dict[str, str])
        now = self._clock.now()
        machine = Machine(
            compile_document(Document.model_validate_json(tracked.plan.canonical)),
            execution=record.id,
            seed=record.seed,
        )
        cancel = Cancel(at=now, author=wish.get("author", ""), reason=wish.get("reason", ""), command=item.id)
        made = machine.handle(Begin(at=now, inputs=record.inputs, cancel=cancel)).facts
        payloads = [facts.encode(fact) for fact in made]
        if not is_terminal(payloads[-1]):
            return False
        terminal = terminal_of(payloads[-1])
        if not await self._store.end_undispatched(record.id, payloads, terminal):
            return False
        tracked.record = msgspec.structs.replace(
            record, status=terminal.status, finished_at=terminal.at, started_at=now, last_seq=len(payloads)
        )
        self._end(tracked)
        return True

    # --- committing ---

    def _answered(self, commit: Commit, appended: Appended) -> None:
        """A batch is in the store, or was refused: tell its sender, and whoever follows the execution."""
        batch, link = commit.batch, commit.link
        match appended.outcome:
            case "committed":
                link.send(_ack(batch.execution, batch.epoch, appended.last_seq))
            case "gap":
                self._monitor.facts_refused("gap", len(batch.facts))
                link.send(_resend(batch.execution, batch.epoch, appended.last_seq + 1))
                return
            case "fenced":
                self._monitor.facts_refused("fenced", len(batch.facts))
                link.send(_drop(batch.execution, batch.epoch))
                return
        tracked = self._tracked.get(batch.execution)
        if tracked is None or not appended.new_from:
            return
        fresh = batch.facts[appended.new_from - batch.first_seq :]
        self._monitor.facts_committed(batch.execution, appended.new_from, fresh)
        record = tracked.record
        changes: dict[str, object] = {"last_seq": appended.last_seq}
        if record.status == "queued":
            changes |= {"status": "running", "started_at": facts.decode(batch.facts[0]).at}
        if batch.terminal is not None:
            changes |= {
                "status": batch.terminal.status,
                "finished_at": batch.terminal.at,
                "outputs": batch.terminal.outputs,
                "error": batch.terminal.error,
            }
        tracked.record = msgspec.structs.replace(record, **changes)
        if batch.terminal is not None:
            self._end(tracked)
        else:
            self.feed.changed(record.id)

    def _end(self, tracked: Tracked) -> None:
        record = tracked.record
        began = record.started_at or record.created_at
        self._monitor.execution_ended(record.status, ((record.finished_at or began) - began) / 1e6)
        self._forget(tracked)
        self.feed.ended(record)
        self._place.set()

    def _forget(self, tracked: Tracked) -> None:
        identity = tracked.record.id
        self._tracked.pop(identity, None)
        self._queue.pop(identity, None)
        engine = self.roster.engines.get(tracked.engine or "")
        if engine is not None:
            engine.running.pop(identity, None)

    # --- looking after engines that stay away ---

    async def _look_after_forever(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.now() + _LOOK_AFTER)
            deadline = self._clock.now() - self._lost_after
            lost = {engine for engine, since in self._absent.items() if since <= deadline}
            if lost:
                self._take_back(lost)

    def _take_back(self, lost: Iterable[str]) -> None:
        """Engines stayed away for too long: what they had is placed again, under a higher epoch."""
        for engine in lost:
            self._absent.pop(engine, None)
            had = [tracked for tracked in self._tracked.values() if tracked.engine == engine]
            for tracked in had:
                self._enqueue(tracked)
            _log.warning("engine_lost", engine=engine, executions=len(had))
            known = self.roster.engines.get(engine)
            if known is not None and known.address not in self.roster.links:
                del self.roster.engines[engine]
                self.roster.changed()


class _LogNode(msgspec.Struct):
    node: str


def _delivery(item: InboxItem) -> session_pb2.Delivery:
    return session_pb2.Delivery(execution=item.execution, id=item.id, kind=item.kind, payload=item.payload)


def _ack(execution: str, epoch: int, seq: int) -> session_pb2.OrchestratorMessage:
    return session_pb2.OrchestratorMessage(acks=[session_pb2.Ack(execution=execution, epoch=epoch, seq=seq)])


def _resend(execution: str, epoch: int, from_seq: int) -> session_pb2.OrchestratorMessage:
    resend = session_pb2.Resend(execution=execution, epoch=epoch, from_seq=from_seq)
    return session_pb2.OrchestratorMessage(resends=[resend])


def _drop(execution: str, epoch: int) -> session_pb2.OrchestratorMessage:
    return session_pb2.OrchestratorMessage(drops=[session_pb2.Drop(execution=execution, epoch=epoch)])
