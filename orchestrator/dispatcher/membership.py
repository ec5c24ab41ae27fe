"""This process as a replica: it joins, renews its lease, and ends the leases of others that have run out.

A replica that was paused for too long, or cut off from the database, finds its lease ended: somebody else has what it
owned, and the store takes no write of it. Then it forgets what it owned, joins again under a new id, and goes on;
nobody who waits for an execution notices. The store is the judge of that: what is told `Fenced` asks for a look
(`look`), and only a renewal that is refused makes it so.

Who leads is found out in the store, or in an election elsewhere (`election`). Then it goes like this:

- who is elected tells the store its term with each renewal, and leads if the store takes it;
- who learns that somebody else is elected ends its own lease at once and joins again, as it would had the store ended
  it: what only a leader may own is in other hands before anybody counts it anew.

Run by the dispatcher; `leadership` follows from it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from dagengine.clock import Clock
from orchestrator.alarm import Alarm
from orchestrator.dispatcher.election import Election
from orchestrator.errors import Fenced, StoreError, Unavailable
from orchestrator.store.base import Membership, Store
from orchestrator.trouble import Trouble

__all__ = ["Member"]

_log = structlog.get_logger("orchestrator.membership")

T = TypeVar("T")


class Member:
    """One replica, under one id after the other.

    `id` is the one that it has (empty while it has none), `others` how many other replicas there are, `term` is
    set while it is the leader. `changed` is called after one of these has; `forget` when all that it owned is lost.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        name: str,
        lease: float,
        changed: Callable[[], None],
        forget: Callable[[], None],
        election: Election | None = None,
    ) -> None:
        """`lease` is in seconds: so long after its last renewal others may take over what it owns.

        `clock` is one that nobody sets (`dagengine.clock.elapsed`): were it put back, this replica would take what it
        owns for its own when it is not any more. Without an `election`, the store elects.
        """
        self.id = ""
        self.others = 0
        self.term: int | None = None
        self._store = store
        self._clock = clock
        self._name = name
        self._lease = round(lease * 1e6)
        self._changed = changed
        self._forget = forget
        self._election = election
        self._alarm = Alarm(clock)
        self._trouble = Trouble(_log, "lease_not_renewed", over="lease_renewed_again")
        self._until = 0
        """The end of its lease, on its own clock, at the earliest."""
        self._lost = False
        """Whether its lease was ended, and it has not joined again yet."""
        self._deposed = False
        """Whether that was because somebody else was elected, and its lease in the store is still to be ended."""
        self._next = asyncio.Event()
        """Set when it joins again."""
        self._judges_from = 0
        """When it may end leases of others. Not right after it could not renew its own: then the fault is with us."""

    @property
    def owns(self) -> bool:
        """Whether what it owns is still its own for now: nobody else may have ended its lease yet."""
        return not self._lost and self._clock.now() < self._until

    @property
    def lost(self) -> bool:
        """Whether its lease was ended, and it has not joined again yet."""
        return self._lost

    async def join(self) -> None:
        """Become a replica, under a new id. StoreError."""
        replica, until = uuid.uuid4().hex, self._clock.now() + self._lease
        standing = await self._store.join(
            replica, name=self._name or replica, lease=self._lease, elect=self._election is None
        )
        self.id, self._until = replica, until
        self._lost = False
        joined, self._next = self._next, asyncio.Event()
        joined.set()
        self._learn(standing)
        _log.info("replica_joined", replica=replica, name=self._name, others=self.others, leads=self.term is not None)

    async def leave(self) -> None:
        """Let others lead, and have at once what it owns. What the store does not take is left to the lease."""
        if self._election is not None:
            await self._election.release()  # first: who hears that this replica has left can be elected
        if not self.id and not self._deposed:
            return
        try:
            await self._store.leave()
        except StoreError as error:
            _log.warning("replica_not_left", replica=self.id, error=str(error))

    def look(self) -> None:
        """Renew now: a write was refused as that of a replica whose lease was ended, or another one came or went."""
        if self._election is not None:
            self._election.look()
        self._alarm.ring()

    async def stand(self) -> None:
        """Stand for election, where there is one, until cancelled."""
        if self._election is not None:
            await self._election.run(self._elected, fit=lambda: self.owns)

    def _elected(self) -> None:
        """The election has another answer: this replica may lead, or not any more."""
        assert self._election is not None  # noqa: S101 - it is the one that calls
        if self.term is not None and self.term != self._election.term:
            self._deposed = True
            self._lose("somebody else was elected")
        else:
            self._alarm.ring()

    async def write(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do something that writes; when it was fenced off, once more as soon as this replica has joined again.

        Raises Unavailable when that takes longer than the lease, and what `attempt` raises.
        """
        while True:
            joined = self._next
            try:
                return await attempt()
            except Fenced as error:
                self.look()
                try:
                    async with asyncio.timeout(self._lease / 1e6):
                        await joined.wait()
                except TimeoutError:
                    raise Unavailable(
                        "this orchestrator was out of touch for too long, and cannot join the others again: "
                        "try again later, or ask another one"
                    ) from error

    async def run(self) -> None:
        """Renew, and look after the others, until cancelled."""
        while True:
            await self._alarm.wait(self._clock.now() + self._lease // 3)
            try:
                await (self._rejoin() if self._lost else self._renew())
            except Fenced as error:
                self._lose(str(error))
            except StoreError as error:
                self._judges_from = self._clock.now() + self._lease
                self._trouble.met(error, replica=self.id)
            else:
                self._trouble.over()

    async def _rejoin(self) -> None:
        if self._deposed:
            await self._store.leave()
            self._deposed = False
        await self.join()
        self._alarm.ring()  # it may be elected already

    async def _renew(self) -> None:
        await self._ask()
        if not self.others or self._lost or self._clock.now() < self._judges_from:
            return
        if taken := await self._store.take_over():
            _log.warning("replicas_lost", replicas=taken)
            await self._ask()  # one of them may have been the leader
            self._changed()

    async def _ask(self) -> None:
        """Renew the lease, and lead if this replica does."""
        replica, until = self.id, self._clock.now() + self._lease
        term = None if self._election is None else self._election.term
        standing = await (self._store.renew() if term is None else self._store.lead(term))
        if replica == self.id:  # else it was deposed meanwhile: what it was told is about the past
            self._until = until
            self._learn(standing)

    def _learn(self, standing: Membership) -> None:
        before = self.term, self.others
        self.term, self.others = standing.term, standing.others
        if self._election is not None:
            if standing.term is None:
                self._election.outbid(standing.highest)
            elif standing.term != self._election.term:  # which has another answer since the store was asked
                self._elected()
                return
        if before != (self.term, self.others):
            self._changed()

    def _lose(self, reason: str) -> None:
        _log.error("replica_fenced", replica=self.id, reason=reason)
        self.id, self.term = "", None
        self._lost = True
        self._forget()
        self._alarm.ring()
