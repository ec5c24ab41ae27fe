"""The dispatcher: what should run (the store) against what does run (the engines), brought together again and again.

Everything here is level-triggered. A session that begins is compared with the store and mended; an event only makes
the next comparison sooner. These tasks do the work, each in a module of its own:

- `membership` keeps this process a replica, `leadership` does what only one of them may
- `claims` takes over what nobody owns, `placer` places what waits
- `acceptance` takes what is started, `obstacles` tells why it waits
- `sessions` looks after engines that stay away, `doubts` asks about what engines hold and nobody here knows
- `parking` takes what only waits from engines
- `commits` commits facts, `ending` ends what is given up
- `inboxes` delivers what other replicas were asked for, `following` tells of what others commit
- `concurrency` and `pools` count what is limited over the whole system
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from dagengine.admission.declaration import Declared
from dagengine.clock import Clock
from dagengine.spec.model import Document
from orchestrator import defaults
from orchestrator.blobs.base import Blobs
from orchestrator.dispatcher import placement
from orchestrator.dispatcher.acceptance import Acceptance
from orchestrator.dispatcher.admission import Admission
from orchestrator.dispatcher.answers import Answers
from orchestrator.dispatcher.claims import Claims
from orchestrator.dispatcher.commits import Commits
from orchestrator.dispatcher.concurrency import Limits
from orchestrator.dispatcher.demand import Demand, measure
from orchestrator.dispatcher.election import Election
from orchestrator.dispatcher.ending import Ending
from orchestrator.dispatcher.feed import Feed
from orchestrator.dispatcher.following import Following
from orchestrator.dispatcher.inboxes import Inboxes
from orchestrator.dispatcher.leadership import Leadership
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.links import UNNAMED, Links
from orchestrator.dispatcher.membership import Member
from orchestrator.dispatcher.obstacles import Obstacles
from orchestrator.dispatcher.placer import Placer
from orchestrator.dispatcher.plans import Plans
from orchestrator.dispatcher.pools import Pools
from orchestrator.dispatcher.sessions import Sessions
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.errors import Unavailable
from orchestrator.monitor.monitor import Monitor
from orchestrator.store.base import ExecutionRecord, NewExecution, Store, Topic
from orchestrator.supervision import Supervisor
from orchestrator.transport.base import Transport
from orchestrator.verbs import EngineView, PoolView

__all__ = ["Dispatcher"]

_QUEUE_BYTES: Final = 256 << 20


class Dispatcher:
    """Owns executions that have not ended: all of them, or its share among replicas. `open` it once the store is open.

    `feed` tells of what is committed, `inboxes` take what is asked of executions. `leads` says whether this replica
    does what only one of them may.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        *,
        clock: Clock,
        monitor: Monitor,
        name: str = "",
        lease: float = defaults.REPLICA_LEASE,
        strategy: placement.Strategy = "consistent-hash",
        queue_limit: int = defaults.QUEUE_LIMIT,
        queue_bytes: int = _QUEUE_BYTES,
        engine_lost_after: float = defaults.ENGINE_LOST_AFTER,
        pools: Mapping[str, Declared] | None = None,
        supervisor: Supervisor | None = None,
        led: Callable[[bool], None] | None = None,
        steady: Clock | None = None,
        election: Election | None = None,
    ) -> None:
        """`name` is that of this replica, for people. `lease` and `engine_lost_after` are in seconds.

        `queue_limit` counts executions that wait for an engine, `queue_bytes` bounds what their inputs take. `pools`
        are those over the whole system, by name. The dispatcher's tasks are watched by `supervisor`. `led(leads)` is
        called when this replica becomes the leader, and when that is over. `steady` is the clock for leases, which
        must go on whatever anybody does to the wall clock; without one it is `clock`. Without an `election`, replicas
        elect their leader in the store.
        """
        self.feed = Feed()
        self._ledger = Ledger()
        self._store = store
        self._clock = clock
        self._monitor = monitor
        self._led = led
        self._supervisor = supervisor or Supervisor()
        self._admission = Admission(self._ledger, limit=queue_limit, limit_bytes=queue_bytes)
        self._election = election
        self._member = Member(
            store,
            steady or clock,
            name=name,
            lease=lease,
            changed=self._standing_changed,
            forget=self._forget,
            election=election,
        )
        self._following = Following(self.feed, store, clock, self._ledger, self._member)
        answers = Answers(
            self._ledger,
            self.feed,
            monitor,
            refused=lambda *refusal: self._sessions.not_taken(*refusal),
            ended=lambda execution: self._limits.ended(execution),
            missed=self._following.look,
        )
        self._commits = Commits(
            store,
            blobs,
            clock,
            answer=answers.commit,
            took=monitor.commit_took,
            fenced=self._member.look,
        )
        self._ending = Ending(
            store,
            blobs,
            clock,
            settled=self._commits.settled,
            placeable=self._ledger.placeable,
            ended=answers.made_here,
        )
        self._pools = Pools(pools or {}, clock, self._ledger.roster)
        self._plans = Plans(store, self._pools.names)
        self.inboxes = Inboxes(
            store,
            clock,
            self._ledger,
            member=self._member,
            admission=self._admission,
            ending=self._ending,
            unowned=self._look_for_claims,
            reopened=self._reopened,
        )
        self._limits = Limits(self._ledger, clock, operate=self.inboxes.operate)
        self._placer = Placer(
            self._ledger, store, blobs, clock, strategy, ending=self._ending, fenced=self._member.look
        )
        self._sessions = Sessions(
            self._ledger,
            store,
            blobs,
            clock,
            commits=self._commits,
            ending=self._ending,
            feed=self.feed,
            pools=self._pools,
            monitor=monitor,
            lost_after=engine_lost_after,
            parked=self._parked,
            fenced=self._member.look,
            may_promise=lambda: self._member.owns,
            steady=steady or clock,
        )
        self.links = Links(self._ledger, self._sessions, self._supervisor, clock)
        self._leadership = Leadership(
            self._member,
            store,
            clock,
            plans=self._plans,
            limits=self._limits,
            pools=self._pools,
            expect=self._sessions.expect,
            told=self._lead,
        )
        self._claims = Claims(
            store,
            clock,
            self._ledger,
            member=self._member,
            plans=self._plans,
            limits=self._limits,
            admission=self._admission,
            sessions=self._sessions,
            leads=lambda: self.leads,
        )
        self._acceptance = Acceptance(
            store,
            self._ledger,
            member=self._member,
            plans=self._plans,
            limits=self._limits,
            admission=self._admission,
            claims=self._claims,
            leads=lambda: self.leads,
        )
        self._obstacles = Obstacles(self._ledger, plans=self._plans, limits=self._limits, ending=self._ending)
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ---

    async def open(self) -> None:
        """Become a replica, take over what nobody owns, and start to work. StoreError."""
        await self._member.join()
        self._start(self._member.run)  # the lease runs while the rest is read
        if self._election is not None:
            self._start(self._member.stand)
        self._start(self._commits.run)  # what was cancelled ends when it is claimed, after all that engines have sent
        await self._leadership.take_up()
        await self._claims.claim()
        for work in (
            self._leadership.run,
            self._claims.run,
            self._placer.run,
            self.links.run,
            self._sessions.look_after_absent,
            self._sessions.doubts.run,
            self._sessions.parking.run,
            self._ending.run,
            self.inboxes.run,
            self._following.run,
            self._pools.run,
            self._limits.run,
        ):
            self._start(work)

    async def close(self) -> None:
        """Close every session, stop, and let others have what is owned here.

        Executions go on at their engines, and are adopted by another replica, or when somebody comes back.
        """
        await self.links.close()
        await self._supervisor.stop(*self._tasks)
        self._tasks.clear()
        await self._member.leave()
        self.feed.close()

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self._supervisor.start(work(), name=work.__qualname__)
        task.add_done_callback(self._stop_waiting)
        self._tasks.append(task)

    def _stop_waiting(self, _: asyncio.Task[None]) -> None:
        """A task has ended, by a fault or because all is closed: nobody should wait for what it will not do."""
        self.feed.close()

    def add_link(self, transport: Transport, address: str) -> None:
        """Keep a session with the engine at `address` from now on."""
        self.links.add(transport, address)

    async def remove_link(self, address: str, *, reason: str = UNNAMED) -> None:
        """End the session with the engine at `address`, and forget the engine unless it still has executions."""
        await self.links.remove(address, reason=reason)

    # --- replicas ---

    @property
    def leads(self) -> bool:
        """Whether this replica does what only one of them may."""
        return self._leadership.leads

    @property
    def shared(self) -> bool:
        """Whether there are other replicas."""
        return self._member.others > 0

    @property
    def out_of_touch(self) -> bool:
        """Whether others have, or may take, what this replica owns: it has not renewed its lease for too long."""
        return not self._member.owns

    @property
    def faults(self) -> list[str]:
        """What the store has lost, for people; empty as long as nothing is."""
        return self._sessions.faults

    def heard(self, topic: Topic) -> None:
        """Another replica has changed something."""
        match topic:
            case "facts":
                self._following.look()
            case "inbox":
                self.inboxes.look()
            case "claimable":
                self._claims.look()
            case "replicas":
                self._member.look()

    def _standing_changed(self) -> None:
        self._leadership.changed()
        self._claims.look()
        self.inboxes.look()
        self._following.look()

    def _lead(self, leads: bool) -> None:
        if self._led is not None:
            self._led(leads)
        self._claims.look()  # what has a concurrency key, if it leads

    def _forget(self) -> None:
        """Others look after all that was owned here."""
        self._ledger.clear()
        self._ending.clear()
        self._leadership.changed()
        self._following.look()

    def _parked(self, tracked: Tracked, wake_at: int | None) -> None:
        """An execution only waits, and nobody owns it until it wakes."""
        self._ledger.forget(tracked)
        self._claims.expect(wake_at)

    def _look_for_claims(self) -> None:
        self._claims.look()

    def _reopened(self, execution: str) -> None:
        self._monitor.execution_reopened()
        self.feed.changed(execution)

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

    async def accept(self, new: NewExecution, document: Document) -> tuple[ExecutionRecord, bool]:
        """Record an execution and have it run; False with the one that is there, as from `Store.create_execution`.

        Raises Overloaded, AtLimit when its workflow skips those on top of so many, Unavailable, StoreError.
        """
        if self.feed.closed:
            raise Unavailable("the orchestrator is closing, or has broken down: its log tells")
        made, created = await self._acceptance.accept(new, document)
        if created:
            self._monitor.execution_started()
        return made, created

    async def waiting_on(self, record: ExecutionRecord) -> str | None:
        """Why no engine runs an execution; None when one does, when it waits for something of its own, or has ended.

        The reasons are those of `Obstacles.of_execution`.
        """
        return await self._obstacles.of_execution(record)

    async def obstacle(self, digest: str) -> str | None:
        """Why no engine could run the version with a digest, however idle; None when one could."""
        return await self._obstacles.of_version(digest)

    async def demand(self) -> Demand:
        """What there is to run, over all replicas; for the leader. StoreError."""
        return await measure(self._store, self._ledger, self._plans, self._clock)

    def reconsider(self, engine: str) -> None:
        """`engine` has learnt something: executions that it could not run may be tried there again."""
        self._ledger.reconsider(engine)
