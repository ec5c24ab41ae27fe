"""Replicas: one joins, renews and leaves; what it owned can be claimed then, and it writes no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from orchestrator import errors
from orchestrator.store.base import Batch, InboxItem, NewExecution, Replica, Store, Terminal, VersionRecord

Version = Callable[..., VersionRecord]
New = Callable[..., NewExecution]

LEASE = 60_000_000


def item(name: str = "i1", kind: str = "cancel") -> InboxItem:
    return InboxItem(id=name, execution="e1", kind=kind, payload=b"{}", created_at=1)


async def test_the_first_to_join_leads(store: Store) -> None:
    membership = await store.join("r1", name="one", lease=LEASE)
    assert (membership.term, membership.others) == (1, 0)
    assert membership.until == membership.now + LEASE
    assert await store.replicas() == [
        Replica(id="r1", name="one", joined_at=membership.now, until=membership.until, leads=True)
    ]


async def test_renewing_moves_the_end_of_the_lease_and_keeps_the_term(store: Store) -> None:
    first = await store.join("r1", name="one", lease=LEASE)
    second = await store.renew()
    assert second.term == first.term
    assert second.now >= first.now
    assert second.until == second.now + LEASE
    assert [(replica.joined_at, replica.until) for replica in await store.replicas()] == [(first.now, second.until)]


async def test_a_lease_that_has_run_out_is_renewed_if_nobody_has_ended_it(store: Store) -> None:
    await store.join("r1", name="one", lease=0)
    assert (await store.renew()).term == 1
    assert await store.take_over() == []  # never its own


async def test_nobody_is_a_replica_before_joining(store: Store) -> None:
    assert await store.replicas() == []
    await store.leave()
    for ask in (store.renew, store.take_over, lambda: store.claim(now=1, limit=1, keyed=True)):
        with pytest.raises(errors.StoreError, match="join first"):
            await ask()


async def test_a_process_joins_once(store: Store) -> None:
    await store.join("r1", name="one", lease=LEASE)
    with pytest.raises(errors.StoreError, match="joined it already, as replica r1"):
        await store.join("r2", name="one", lease=LEASE)
    assert [replica.id for replica in await store.replicas()] == ["r1"]


async def test_whoever_comes_after_the_leader_leads_under_a_higher_term(store: Store) -> None:
    await store.join("r1", name="one", lease=LEASE)
    await store.leave()
    assert await store.replicas() == []
    assert (await store.join("r2", name="one", lease=LEASE)).term == 2
    assert (await store.renew()).term == 2


async def test_leaving_frees_what_was_owned_and_its_engine_keeps_it(joined: Store) -> None:
    before = await joined.execution("e1")
    assert before is not None
    assert (before.owner, before.wake_at) == ("r1", None)
    await joined.leave()
    await joined.leave()
    after = await joined.execution("e1")
    assert after is not None
    assert (after.owner, after.wake_at, after.engine, after.epoch) == (None, 0, "engine-1", 1)


async def test_who_has_left_reads_and_writes_no_more(joined: Store, version: Version, new_execution: New) -> None:
    await joined.leave()
    batch = Batch(execution="e1", epoch=1, first_seq=1, facts=[b"{}"])
    writes: list[Callable[[], Awaitable[object]]] = [
        joined.renew,
        joined.take_over,
        lambda: joined.add_version(version("v")),
        lambda: joined.remove_versions("w", None, force=True),
        lambda: joined.create_execution(new_execution("e2")),
        lambda: joined.claim(now=1, limit=1, keyed=True),
        lambda: joined.park("e1", 1, 0, None),
        lambda: joined.dispatch(["e1"], "engine-2"),
        lambda: joined.release("e1", 1),
        lambda: joined.append([batch]),
        lambda: joined.add_inbox(item()),
        lambda: joined.reopen(item(kind="retry")),
        lambda: joined.end_undispatched(batch),
        lambda: joined.add_logs("e1", 1, [("a", b"{}")]),
        lambda: joined.record_occurrence("cron:w", 1),
        lambda: joined.put_blobs({"d": b"1"}),
        lambda: joined.purge(["e1"], rows=10),
    ]
    for write in writes:
        with pytest.raises(errors.Fenced, match="join again"):
            await write()
    assert await joined.facts("e1") == []
    assert await joined.blobs(["d"]) == {}
    record = await joined.execution("e1")
    assert record is not None
    assert (record.engine, record.epoch, record.wake_at) == ("engine-1", 1, 0)


async def test_writes_that_were_asked_for_before_leaving_are_made(joined: Store, new_execution: New) -> None:
    writes = [asyncio.ensure_future(joined.create_execution(new_execution(f"new-{n}"))) for n in range(20)]
    await asyncio.sleep(0)  # all have been handed in
    await joined.leave()
    answers = await asyncio.gather(*writes, return_exceptions=True)
    made = [record.id for record in await joined.unfinished()]
    for number, answer in enumerate(answers):
        assert isinstance(answer, errors.Fenced) != (f"new-{number}" in made)
    assert {(record.owner, record.wake_at) for record in await joined.unfinished()} == {(None, 0)}


async def test_who_has_left_may_join_again(joined: Store) -> None:
    await joined.leave()
    await joined.join("r2", name="one", lease=LEASE)
    (claimed,) = await joined.claim(now=0, limit=5, keyed=False)
    assert (claimed.id, claimed.owner, claimed.epoch) == ("e1", "r2", 2)


async def test_what_is_recorded_is_owned_by_who_records_it(joined: Store, new_execution: New) -> None:
    mine, _ = await joined.create_execution(new_execution("mine"))
    assert (mine.owner, mine.wake_at, mine.dispatch_epoch) == ("r1", None, 0)
    assert mine == await joined.execution("mine")
    free, _ = await joined.create_execution(new_execution("free", owned=False))
    assert (free.owner, free.wake_at) == (None, 0)
    assert free == await joined.execution("free")


async def test_only_what_is_owned_is_dispatched_or_ended(joined: Store, new_execution: New) -> None:
    await joined.create_execution(new_execution("free", owned=False))
    assert await joined.dispatch(["free"], "engine-1") == {}
    end = Batch(
        execution="free", epoch=0, first_seq=1, facts=[b'{"at":1}'], terminal=Terminal(status="cancelled", at=1)
    )
    assert await joined.end_undispatched(end) is False
    await joined.claim(now=0, limit=1, keyed=False)
    assert await joined.end_undispatched(end) is True


async def test_what_has_ended_is_owned_by_nobody(joined: Store, new_execution: New) -> None:
    end = Terminal(status="succeeded", at=9, outputs=b"{}")
    await joined.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'], terminal=end)])
    await joined.create_execution(new_execution("e2"))
    last = Batch(execution="e2", epoch=0, first_seq=1, facts=[b'{"at":1}'], terminal=Terminal(status="failed", at=9))
    assert await joined.end_undispatched(last) is True
    for name in ("e1", "e2"):
        record = await joined.execution(name)
        assert record is not None
        assert (record.owner, record.wake_at) == (None, None)
    assert await joined.next_wake(keyed=True) is None


async def test_one_that_ends_while_a_retry_waits_keeps_its_owner(joined: Store) -> None:
    await joined.reopen(item(kind="retry"))
    end = Terminal(status="failed", at=9, error=b"{}")
    (answer,) = await joined.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'], terminal=end)])
    assert answer.record is not None
    assert (answer.record.status, answer.record.owner, answer.record.wake_at) == ("queued", "r1", None)


async def test_a_retry_that_is_refused_leaves_it_owned_by_nobody(joined: Store) -> None:
    end = Terminal(status="failed", at=9, error=b"{}")
    await joined.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'], terminal=end)])
    answer = await joined.reopen(item("r", kind="retry"))
    assert answer is not None
    assert (answer[0].owner, answer[0].wake_at) == (None, 0)
    assert answer[0] == await joined.execution("e1")
    await joined.claim(now=0, limit=1, keyed=False)
    await joined.dispatch(["e1"], "engine-2")
    (refused,) = await joined.append([Batch(execution="e1", epoch=2, first_seq=2, facts=[b'{"at":2}'], applied=["r"])])
    assert refused.record is not None
    assert (refused.record.status, refused.record.owner, refused.record.wake_at) == ("failed", None, None)


async def test_the_inbox_is_that_of_what_is_owned(joined: Store, new_execution: New) -> None:
    await joined.create_execution(new_execution("free", owned=False))
    other = InboxItem(id="i2", execution="free", kind="cancel", payload=b"{}", created_at=2)
    assert [await joined.add_inbox(one) for one in (item(), other)] == [True, True]
    assert [one.id for one in await joined.inbox()] == ["i1"]
    assert [one.id for one in await joined.inbox("free")] == ["i2"]
    await joined.claim(now=0, limit=1, keyed=False)
    assert [one.id for one in await joined.inbox()] == ["i1", "i2"]


async def test_a_replica_knows_what_it_owns(joined: Store, new_execution: New) -> None:
    await joined.create_execution(new_execution("e2"))
    await joined.create_execution(new_execution("e3", owned=False))
    assert sorted(await joined.owned()) == ["e1", "e2"]
    await joined.append(
        [Batch(execution="e1", epoch=1, first_seq=1, facts=[b"{}"], terminal=Terminal(status="failed", at=1))]
    )
    assert await joined.owned() == ["e2"]


async def test_nobody_owns_anything_before_joining(store: Store) -> None:
    with pytest.raises(errors.StoreError, match="join first"):
        await store.owned()


# --- led by an election elsewhere ---


async def test_without_electing_nobody_leads_until_told_to(store: Store) -> None:
    joined = await store.join("r1", name="one", lease=LEASE, elect=False)
    assert (joined.term, joined.highest) == (None, 0)
    assert ((await store.renew()).term, [one.leads for one in await store.replicas()]) == (None, [False])
    led = await store.lead(3)
    assert (led.term, led.highest, led.until) == (3, 3, led.now + LEASE)
    assert ((await store.renew()).term, [one.leads for one in await store.replicas()]) == (3, [True])


async def test_a_term_that_was_led_under_is_never_led_under_again(store: Store) -> None:
    await store.join("r1", name="one", lease=LEASE, elect=False)
    await store.lead(5)
    for number in range(2, 5):
        await store.leave()
        await store.join(f"r{number}", name="one", lease=LEASE, elect=False)
        for term in (1, 4, 5):
            refused = await store.lead(term)
            assert (refused.term, refused.highest) == (None, 5)
    assert (await store.lead(6)).term == 6


async def test_the_one_that_leads_may_say_so_again_or_under_a_higher_term(store: Store) -> None:
    await store.join("r1", name="one", lease=LEASE, elect=False)
    assert [(await store.lead(term)).term for term in (2, 2, 1, 4)] == [2, 2, 2, 4]


async def test_electing_in_the_store_goes_on_above_the_terms_of_an_election_elsewhere(store: Store) -> None:
    await store.join("r1", name="one", lease=LEASE, elect=False)
    await store.lead(41)
    await store.leave()
    again = await store.join("r2", name="one", lease=LEASE)
    assert (again.term, again.highest) == (42, 42)
    await store.leave()
    await store.join("r3", name="one", lease=LEASE, elect=False)
    assert ((await store.lead(42)).term, (await store.lead(43)).term) == (None, 43)


async def test_whoever_is_no_replica_does_not_lead(joined: Store) -> None:
    await joined.leave()
    with pytest.raises(errors.Fenced, match="join again"):
        await joined.lead(9)
    assert (await joined.join("r2", name="one", lease=LEASE)).term == 2
