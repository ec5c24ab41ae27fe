"""Two replicas over one database do whatever comes to mind, in any order; the store does what a model of it does.

A replica that is none any more changes nothing, whatever it tries: that is what a takeover relies on.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from orchestrator import errors
from orchestrator.store.base import Batch, InboxItem, NewExecution, Store, Terminal, VersionRecord

Stores = tuple[Store, Store]

NOW = 1_000
STEPS = 100


@dataclass
class Execution:
    """What the port promises about one execution."""

    owner: str | None
    wake_at: int | None
    epoch: int = 0
    dispatch_epoch: int = 0
    engine: str | None = None
    last_seq: int = 0
    status: str = "queued"
    asked: set[str] = field(default_factory=set)

    @property
    def ended(self) -> bool:
        return self.status == "failed"

    def end(self) -> None:
        self.status, self.owner, self.wake_at = "failed", None, None
        self.asked.clear()

    def free(self) -> None:
        self.owner, self.wake_at = None, 0


class Model:
    """The store, and the two who have it open. A step is `step(which of them)`."""

    def __init__(self, stores: Stores, seed: int, new: Callable[..., NewExecution]) -> None:
        self.stores = stores
        self.random = random.Random(seed)
        self.executions: dict[str, Execution] = {}
        self.members: list[str | None] = [None, None]
        self.leader: str | None = None
        self.term = 0
        self.story: list[str] = []
        self._new = new
        self._joined = 0

    async def step(self) -> None:
        who = self.random.randrange(2)
        tricks = [self.create, self.dispatch, self.claim, self.park, self.append, self.ask, self.release, self.end]
        tricks += [self.dispatch, self.claim, self.append, self.append]
        trick = self.random.choice([*tricks, *tricks, self.renew, self.take_over, self.lead, self.leave, self.join])
        self.story.append(f"{trick.__name__} by {who}")
        if self.members[who] is None and trick != self.join:
            await self.refused(trick, who)
        else:
            await trick(who)
        await self.check()

    async def refused(self, trick: Callable[[int], Awaitable[None]], who: int) -> None:
        if trick == self.leave:
            await self.stores[who].leave()
            return
        with pytest.raises(errors.Fenced):
            await trick(who)

    def one(self) -> tuple[str, Execution]:
        name = self.random.choice(sorted(self.executions))
        return name, self.executions[name]

    async def check(self) -> None:
        for name, expected in self.executions.items():
            record = await self.stores[0].execution(name)
            assert record is not None
            found = Execution(
                owner=record.owner,
                wake_at=record.wake_at,
                epoch=record.epoch,
                dispatch_epoch=record.dispatch_epoch,
                engine=record.engine,
                last_seq=record.last_seq,
                status=record.status,
                asked={item.id for item in await self.stores[1].inbox(name)},
            )
            assert found == expected, (name, self.story)
        replicas = await self.stores[0].replicas()
        assert {one.id for one in replicas} == {member for member in self.members if member is not None}, self.story
        assert [one.id for one in replicas if one.leads] == [
            member for member in self.members if member is not None and member == self.leader
        ], self.story

    # --- what they do ---

    async def create(self, who: int) -> None:
        name, owned = f"e{len(self.executions) + 1}", self.random.random() < 0.8
        record, created = await self.stores[who].create_execution(self._new(name, owned=owned))
        owner = self.members[who] if owned else None
        assert (created, record.owner) == (True, owner)
        self.executions[name] = Execution(owner=owner, wake_at=None if owned else 0)

    async def dispatch(self, who: int) -> None:
        (name, one), engine = self.one(), f"engine-{self.random.randrange(2)}"
        done = await self.stores[who].dispatch([name], engine)
        if not one.ended and one.owner == self.members[who]:
            one.epoch += 1
            one.dispatch_epoch, one.engine = one.epoch, engine
            assert list(done) == [name]
        else:
            assert done == {}

    async def claim(self, who: int) -> None:
        limit = self.random.randrange(4)
        due = [(one.wake_at, int(name[1:]), name) for name, one in self.executions.items() if one.wake_at is not None]
        expected = [name for wake_at, _, name in sorted(due) if wake_at <= NOW][:limit]
        claimed = await self.stores[who].claim(now=NOW, limit=limit, keyed=True)
        assert [record.id for record in claimed] == expected, self.story
        for name in expected:
            one = self.executions[name]
            one.owner, one.wake_at = self.members[who], None
            one.epoch += one.engine is not None

    async def park(self, who: int) -> None:
        name, one = self.one()
        wake_at, epoch = self.random.choice([None, NOW, NOW + 1]), one.epoch - self.random.choice([0, 0, 0, 1])
        parked = await self.stores[who].park(name, epoch, one.last_seq, wake_at)
        fits = epoch == one.epoch and one.engine is not None and one.owner == self.members[who]
        assert parked == (fits and not one.ended and not one.asked), self.story
        if parked:
            one.engine, one.owner, one.wake_at = None, None, wake_at

    async def append(self, who: int) -> None:
        name, one = self.one()
        epoch, ends = one.epoch - self.random.choice([0, 0, 0, 0, 1]), self.random.random() < 0.1
        batch = Batch(
            execution=name,
            epoch=epoch,
            first_seq=one.last_seq + 1,
            facts=[b'{"at":1}'],
            terminal=Terminal(status="failed", at=1) if ends else None,
            applied=sorted(one.asked)[:1],
        )
        (answer,) = await self.stores[who].append([batch])
        takes = epoch == one.epoch and one.engine is not None and not one.ended
        assert (answer.outcome == "committed") == takes, self.story
        if takes:
            one.last_seq += 1
            one.status = "running"
            one.asked -= set(batch.applied)
            if ends:
                one.end()

    async def ask(self, who: int) -> None:
        name, one = self.one()
        item = InboxItem(id=f"i{len(self.story)}", execution=name, kind="cancel", payload=b"{}", created_at=1)
        assert await self.stores[who].add_inbox(item) == (not one.ended)
        if not one.ended:
            one.asked.add(item.id)
            one.wake_at = 0 if one.owner is None else None

    async def release(self, who: int) -> None:
        name, one = self.one()
        epoch = one.epoch - self.random.choice([0, 0, 1])
        await self.stores[who].release(name, epoch)
        if epoch == one.epoch and not one.ended:
            one.engine = None

    async def end(self, who: int) -> None:
        name, one = self.one()
        batch = Batch(
            execution=name,
            epoch=one.epoch,
            first_seq=one.last_seq + 1,
            facts=[b'{"at":1}'],
            terminal=Terminal(status="failed", at=1),
        )
        done = await self.stores[who].end_undispatched(batch)
        assert done == (one.owner == self.members[who] and one.engine is None and not one.ended), self.story
        if done:
            one.last_seq += 1
            one.end()

    async def renew(self, who: int) -> None:
        renewed = await self.stores[who].renew()
        self._lead(who)
        assert renewed.term == (self.term if self.leader == self.members[who] else None)

    async def lead(self, who: int) -> None:
        """An election elsewhere says that it leads; perhaps it is late with that."""
        term, other = self.term + self.random.choice([-1, 0, 1, 3]), self.members[1 - who]
        answer = await self.stores[who].lead(term)
        if term > self.term:
            if self.leader is not None and self.leader == other:
                self._gone(1 - who)
            self.leader, self.term = self.members[who], term
        assert answer.highest == self.term, self.story
        assert answer.term == (self.term if self.leader == self.members[who] else None), self.story

    async def take_over(self, who: int) -> None:
        other = self.members[1 - who]
        assert len(await self.stores[who].take_over()) == (other is not None)
        self._gone(1 - who)

    async def leave(self, who: int) -> None:
        await self.stores[who].leave()
        self._gone(who)

    async def join(self, who: int) -> None:
        if self.members[who] is not None:
            with pytest.raises(errors.StoreError, match="joined it already"):
                await self.stores[who].join("again", name="", lease=0)
            return
        self._joined += 1
        name = f"r{self._joined}"
        joined = await self.stores[who].join(name, name=name, lease=0)  # over at once: whoever wants may end it
        self.members[who] = name
        self._lead(who)
        assert joined.term == (self.term if self.leader == name else None)

    def _lead(self, who: int) -> None:
        if self.leader is None or self.leader not in self.members:
            self.leader, self.term = self.members[who], self.term + 1

    def _gone(self, who: int) -> None:
        for one in self.executions.values():
            if one.owner is not None and one.owner == self.members[who]:
                one.free()
        self.members[who] = None


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_two_replicas_do_the_store_is_what_the_model_says(
    shared_stores: Stores, version: Callable[..., VersionRecord], new_execution: Callable[..., NewExecution], seed: int
) -> None:
    model = Model(shared_stores, seed, new_execution)
    await shared_stores[0].add_version(version())
    for who in (0, 1):
        await model.join(who)
    for _ in range(3):
        await model.create(0)
    for _ in range(STEPS):
        await model.step()
