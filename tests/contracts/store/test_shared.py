"""Two replicas over one database: what one of them does to the other. For adapters that let several processes in.

`shared_stores` are two open stores over one database, which nobody has joined; what is registered is `w@1.0.0`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orchestrator import errors
from orchestrator.store.base import Batch, InboxItem, Membership, NewExecution, Store, Topic, VersionRecord

New = Callable[..., NewExecution]
Stores = tuple[Store, Store]

LONG = 3_600_000_000
"""A lease that does not run out while a test runs, in microseconds."""


@pytest.fixture
async def joined(shared_stores: Stores, version: Callable[..., VersionRecord], new_execution: New) -> Stores:
    """Replicas `r1`, which leads, and `r2`; `e1` is `r1`'s, dispatched to `engine-1` under epoch 1."""
    one, two = shared_stores
    await one.add_version(version())
    await one.join("r1", name="one", lease=LONG)
    await two.join("r2", name="two", lease=LONG)
    await one.create_execution(new_execution())
    await one.dispatch(["e1"], "engine-1")
    return one, two


@pytest.fixture
async def over(shared_stores: Stores, version: Callable[..., VersionRecord], new_execution: New) -> Stores:
    """The same, but the lease of `r1` has run out, and nobody has ended it."""
    one, two = shared_stores
    await one.add_version(version())
    await one.join("r1", name="one", lease=0)
    await two.join("r2", name="two", lease=LONG)
    await one.create_execution(new_execution())
    await one.dispatch(["e1"], "engine-1")
    return one, two


def fact(*, epoch: int = 1, seq: int = 1) -> Batch:
    return Batch(execution="e1", epoch=epoch, first_seq=seq, facts=[b'{"at":1}'])


async def test_one_leads_and_both_know_of_each_other(joined: Stores) -> None:
    one, two = joined
    mine, theirs = await one.renew(), await two.renew()
    assert (mine.term, mine.others, theirs.term, theirs.others) == (1, 1, None, 1)
    assert [(replica.id, replica.name, replica.leads) for replica in await two.replicas()] == [
        ("r1", "one", True),
        ("r2", "two", False),
    ]
    assert await one.replicas() == await two.replicas()


async def test_of_many_that_join_at_once_one_leads(shared_stores: Stores) -> None:
    memberships = await asyncio.gather(
        *(store.join(f"r{number}", name="n", lease=LONG) for number, store in enumerate(shared_stores))
    )
    assert sorted(membership.term or 0 for membership in memberships) == [0, 1]
    assert sum(replica.leads for replica in await shared_stores[0].replicas()) == 1


async def test_a_lease_that_runs_is_not_taken_over(joined: Stores) -> None:
    assert await joined[1].take_over() == []
    await joined[0].append([fact()])


async def test_a_lease_that_has_run_out_is_no_end_by_itself(over: Stores) -> None:
    one, _ = over
    assert [answer.outcome for answer in await one.append([fact()])] == ["committed"]
    assert (await one.renew()).term == 1


async def test_whoever_is_taken_over_writes_no_more(over: Stores, new_execution: New) -> None:
    one, two = over
    assert await two.take_over() == ["one"]
    assert await two.take_over() == []
    for write in (
        one.renew,
        lambda: one.append([fact()]),
        lambda: one.create_execution(new_execution("e2")),
        lambda: one.dispatch(["e1"], "engine-2"),
        lambda: one.put_blobs({"d": b"1"}),
        lambda: one.record_occurrence("cron:w", 1),
    ):
        with pytest.raises(errors.Fenced):
            await write()
    assert await two.facts("e1") == []
    record = await one.execution("e1")  # reading is for everybody
    assert record is not None
    assert (record.owner, record.wake_at, record.engine, record.epoch) == (None, 0, "engine-1", 1)


async def test_what_it_owned_goes_on_under_another_epoch(over: Stores) -> None:
    one, two = over
    await one.append([fact()])
    await two.take_over()
    (claimed,) = await two.claim(now=0, limit=10, keyed=True)
    assert (claimed.owner, claimed.epoch, claimed.dispatch_epoch, claimed.engine) == ("r2", 2, 1, "engine-1")
    late, adopted = await two.append([fact(seq=2), fact(epoch=2, seq=2)])
    assert (late.outcome, adopted.outcome, adopted.first_position) == ("fenced", "committed", 2)


async def test_the_other_leads_after_that_under_a_higher_term(over: Stores) -> None:
    _, two = over
    await two.take_over()
    assert [(await two.renew()).term for _ in range(2)] == [2, 2]
    assert [replica.id for replica in await two.replicas() if replica.leads] == ["r2"]


async def test_whoever_was_taken_over_comes_back_as_somebody_else(over: Stores) -> None:
    one, two = over
    await two.take_over()
    await two.renew()
    with pytest.raises(errors.Fenced):
        await one.renew()
    membership = await one.join("r3", name="one", lease=LONG)
    assert (membership.term, membership.others) == (None, 1)
    assert [record.owner for record in await one.claim(now=0, limit=10, keyed=False)] == ["r3"]


async def test_leaving_hands_everything_over_at_once(joined: Stores) -> None:
    one, two = joined
    await one.leave()
    assert (await two.renew()).term == 2
    assert [record.id for record in await two.claim(now=0, limit=10, keyed=False)] == ["e1"]


async def test_each_is_claimed_by_one(joined: Stores, new_execution: New) -> None:
    one, two = joined
    names = {f"f{number}" for number in range(60)}
    for name in names:
        await one.create_execution(new_execution(name, owned=False))
    claims = await asyncio.gather(*(store.claim(now=0, limit=7, keyed=False) for _ in range(6) for store in (one, two)))
    claimed = [record.id for records in claims for record in records]
    assert len(claimed) == len(set(claimed))
    for store in (one, two):
        claimed += [record.id for record in await store.claim(now=0, limit=100, keyed=False)]
    assert sorted(claimed) == sorted(names)


async def test_what_another_owns_is_left_alone(joined: Stores) -> None:
    _, two = joined
    assert await two.dispatch(["e1"], "engine-2") == {}
    assert await two.park("e1", 1, 0, None) is False
    assert await two.claim(now=10**18, limit=10, keyed=True) == []
    assert {record.id for record in await two.unfinished()} == {"e1"}
    assert await two.dispatched() == [("engine-1", "sha256:w-1.0.0")]


async def test_anybody_may_ask_something_of_it_and_its_owner_finds_it(joined: Stores) -> None:
    one, two = joined
    item = InboxItem(id="i", execution="e1", kind="cancel", payload=b"{}", created_at=1)
    assert await two.add_inbox(item) is True
    assert (await one.inbox(), await two.inbox(), await two.inbox("e1")) == ([item], [], [item])


async def test_parking_and_a_command_from_elsewhere_never_miss_each_other(joined: Stores, new_execution: New) -> None:
    one, two = joined
    names = [f"p{number}" for number in range(40)]
    for name in names:
        await one.create_execution(new_execution(name))
    await one.dispatch(names, "engine-1")

    async def both(name: str) -> None:
        item = InboxItem(id=name, execution=name, kind="signal", payload=b"{}", created_at=1)
        await asyncio.gather(one.park(name, 1, 0, None), two.add_inbox(item))

    await asyncio.gather(*(both(name) for name in names))
    for name in names:
        record = await one.execution(name)
        assert record is not None
        assert (record.owner, record.wake_at) in ((None, 0), ("r1", None))


async def test_a_key_makes_one_execution_whoever_is_asked(joined: Stores, new_execution: New) -> None:
    answers = await asyncio.gather(
        *(joined[n % 2].create_execution(new_execution(f"k{n}", idempotency_key="k")) for n in range(30))
    )
    assert sum(created for _, created in answers) == 1
    assert len({record.id for record, _ in answers}) == 1


async def test_no_more_are_recorded_than_may_be_whoever_is_asked(joined: Stores, new_execution: New) -> None:
    answers = await asyncio.gather(
        *(joined[n % 2].create_execution(new_execution(f"m{n}", concurrency_key="w/k", most=3)) for n in range(30)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, errors.AtLimit) for answer in answers) == 27
    assert len(await joined[0].unfinished(keyed=True)) == 3


async def test_a_version_is_registered_once_whoever_is_asked(
    joined: Stores, version: Callable[..., VersionRecord]
) -> None:
    same = await asyncio.gather(*(joined[n % 2].add_version(version("v")) for n in range(10)))
    assert sum(same) == 1
    differing = await asyncio.gather(
        *(joined[n % 2].add_version(version("x", digest=f"sha256:{n}")) for n in range(10)), return_exceptions=True
    )
    assert sum(answer is True for answer in differing) == 1
    assert sum(isinstance(answer, errors.VersionConflict) for answer in differing) == 9


async def test_positions_are_in_the_order_of_commits(joined: Stores, new_execution: New) -> None:
    """Whoever has read up to a position never finds a fact below it later."""
    one, two = joined
    await two.create_execution(new_execution("e2"))
    await two.dispatch(["e2"], "engine-2")
    seen: list[int] = []

    async def write(store: Store, name: str) -> None:
        for seq in range(1, 31):
            (answer,) = await store.append([Batch(execution=name, epoch=1, first_seq=seq, facts=[b'{"at":1}'] * 1)])
            seen.append(answer.first_position)
            assert await store.position() >= answer.first_position

    await asyncio.gather(write(one, "e1"), write(two, "e2"))
    assert sorted(seen) == list(range(1, 61))
    positions = [fact.position for name in ("e1", "e2") for fact in await one.facts(name)]
    assert sorted(positions) == list(range(1, 61))


async def test_others_hear_of_what_has_changed(joined: Stores, new_execution: New) -> None:
    one, two = joined
    heard: set[Topic] = set()
    came = asyncio.Event()

    def hear(topic: Topic) -> None:
        heard.add(topic)
        came.set()

    async def until(topic: Topic) -> None:
        async with asyncio.timeout(20):
            while topic not in heard:
                await came.wait()
                came.clear()

    two.listen(hear)
    await one.append([fact()])
    await until("facts")
    await one.create_execution(new_execution("free", owned=False))
    await until("claimable")
    await one.add_inbox(InboxItem(id="i", execution="e1", kind="cancel", payload=b"{}", created_at=1))
    await until("inbox")
    await one.remove_versions("unknown", None, force=False)
    await one.remove_versions("w", None, force=True)
    await until("versions")
    await one.leave()
    await until("replicas")


async def test_a_higher_term_ends_the_former_leader_as_a_replica(joined: Stores, new_execution: New) -> None:
    """It may not know yet that it was replaced: nothing of it is written under the new one."""
    one, two = joined
    await one.append([fact()])
    led = await two.lead(7)
    assert (led.term, led.highest, led.others) == (7, 7, 0)
    for write in (
        one.renew,
        lambda: one.lead(8),
        lambda: one.append([fact(seq=2)]),
        lambda: one.create_execution(new_execution("e2")),
        lambda: one.record_occurrence("cron:w", 1),
    ):
        with pytest.raises(errors.Fenced):
            await write()
    (claimed,) = await two.claim(now=0, limit=10, keyed=True)
    assert (claimed.owner, claimed.epoch, claimed.dispatch_epoch, claimed.engine) == ("r2", 2, 1, "engine-1")
    assert [(replica.id, replica.leads) for replica in await two.replicas()] == [("r2", True)]


async def test_a_term_that_is_not_higher_changes_nothing_about_who_leads(joined: Stores) -> None:
    one, two = joined
    await one.lead(7)
    for term in (1, 6, 7):
        refused = await two.lead(term)
        assert (refused.term, refused.highest, refused.others) == (None, 7, 1)
    assert (await one.renew()).term == 7


async def test_of_many_that_lead_under_one_term_at_once_one_does(shared_stores: Stores) -> None:
    out = {0, 1}
    for term in range(1, 11):
        for number in out:
            await shared_stores[number].join(f"r{number}-{term}", name="n", lease=LONG, elect=False)
        answers = await asyncio.gather(*(store.lead(term) for store in shared_stores), return_exceptions=True)
        # The other one came too late; or it had led before, and then it is no replica any more.
        out = {number for number, one in enumerate(answers) if isinstance(one, errors.Fenced)}
        terms = [one.term for one in answers if isinstance(one, Membership)]
        assert sorted(terms, key=str) in ([term], [term, None])
        assert len(terms) + len(out) == 2


async def test_others_hear_that_somebody_else_leads(joined: Stores) -> None:
    one, two = joined
    heard = asyncio.Event()

    def hear(topic: Topic) -> None:
        if topic == "replicas":
            heard.set()

    one.listen(hear)
    await two.lead(7)
    async with asyncio.timeout(20):
        await heard.wait()
