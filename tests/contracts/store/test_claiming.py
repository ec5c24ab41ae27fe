"""Executions that nobody owns: who may claim them, from when on, and how one gets there by parking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orchestrator import errors
from orchestrator.store.base import Batch, Head, InboxItem, NewExecution, Store, Terminal, VersionRecord

Version = Callable[..., VersionRecord]
New = Callable[..., NewExecution]


async def free(store: Store, new: New, *names: str, concurrency_key: str | None = None) -> None:
    """Record executions that nobody owns."""
    for name in names:
        await store.create_execution(new(name, owned=False, concurrency_key=concurrency_key))


async def claim(store: Store, *, now: int = 10, limit: int = 100, keyed: bool = True) -> list[str]:
    return [record.id for record in await store.claim(now=now, limit=limit, keyed=keyed)]


async def parked(store: Store, new: New, name: str, wake_at: int | None) -> None:
    """Record an execution, run it for one fact, and park it."""
    await store.create_execution(new(name))
    await store.dispatch([name], "engine-1")
    await store.append([Batch(execution=name, epoch=1, first_seq=1, facts=[b'{"at":1}'])])
    assert await store.park(name, 1, 1, wake_at) is True


async def test_what_waited_longest_is_claimed_first(joined: Store, new_execution: New) -> None:
    await parked(joined, new_execution, "late", 9)
    await parked(joined, new_execution, "early", 5)
    await free(joined, new_execution, "a", "b", "c")
    assert await claim(joined, limit=2) == ["a", "b"]
    assert await claim(joined, limit=0) == []
    assert await claim(joined, now=8) == ["c", "early"]
    assert await claim(joined, now=8) == []
    assert await claim(joined) == ["late"]


async def test_a_claimed_one_is_owned_and_recorded_as_it_is_answered(joined: Store, new_execution: New) -> None:
    await free(joined, new_execution, "e2")
    (record,) = await joined.claim(now=0, limit=1, keyed=False)
    assert (record.owner, record.wake_at, record.epoch) == ("r1", None, 0)
    assert record == await joined.execution("e2")


async def test_one_that_an_engine_may_have_gets_its_next_epoch(joined: Store) -> None:
    await joined.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'])])
    await joined.leave()
    await joined.join("r2", name="two", lease=60_000_000)
    (record,) = await joined.claim(now=0, limit=1, keyed=False)
    assert (record.engine, record.epoch, record.dispatch_epoch) == ("engine-1", 2, 1)
    (old, new) = await joined.append(
        [Batch(execution="e1", epoch=epoch, first_seq=2, facts=[b'{"at":2}']) for epoch in (1, 2)]
    )
    assert (old.outcome, old.epoch, new.outcome) == ("fenced", 2, "committed")
    dispatched = (await joined.dispatch(["e1"], "engine-2"))["e1"]
    assert (dispatched.epoch, dispatched.dispatch_epoch) == (3, 3)


async def test_concurrency_keys_are_for_whoever_asks_for_them(joined: Store, new_execution: New) -> None:
    await free(joined, new_execution, "keyed", concurrency_key="w/k")
    assert await joined.next_wake(keyed=False) is None
    assert await joined.next_wake(keyed=True) == 0
    await free(joined, new_execution, "plain")
    assert await claim(joined, keyed=False) == ["plain"]
    assert await claim(joined, keyed=True) == ["keyed"]


async def test_each_is_claimed_once(joined: Store, new_execution: New) -> None:
    await free(joined, new_execution, *(f"f{n:03}" for n in range(40)))
    claims = await asyncio.gather(*(claim(joined, limit=7) for _ in range(10)))
    assert sorted(name for names in claims for name in names) == [f"f{n:03}" for n in range(40)]


async def test_many_are_claimed_at_once(joined: Store, new_execution: New) -> None:
    names = [f"f{n:04}" for n in range(1_100)]
    await asyncio.gather(*(joined.create_execution(new_execution(name, owned=False)) for name in names))
    assert sorted(await claim(joined, limit=5_000)) == names
    heads = await joined.heads(names)
    assert heads == dict.fromkeys(names, Head(0, "queued"))


async def test_what_is_parked_leaves_its_engine_and_its_owner(joined: Store, new_execution: New) -> None:
    await parked(joined, new_execution, "e2", 77)
    record = await joined.execution("e2")
    assert record is not None
    assert (record.status, record.owner, record.engine, record.wake_at, record.epoch) == (
        "running",
        None,
        None,
        77,
        1,
    )
    assert await joined.next_wake(keyed=False) == 77
    late = Batch(execution="e2", epoch=1, first_seq=2, facts=[b'{"at":2}'])
    assert [answer.outcome for answer in await joined.append([late])] == ["fenced"]
    assert await claim(joined, now=76) == []
    (claimed,) = await joined.claim(now=77, limit=1, keyed=False)
    assert (claimed.id, claimed.epoch, claimed.last_seq) == ("e2", 1, 1)
    assert await joined.next_wake(keyed=True) is None


async def test_one_without_a_time_waits_for_its_inbox(joined: Store, new_execution: New) -> None:
    await parked(joined, new_execution, "e2", None)
    assert await joined.next_wake(keyed=True) is None
    assert await claim(joined, now=10**18) == []
    item = InboxItem(id="i", execution="e2", kind="signal", payload=b"{}", created_at=1)
    assert await joined.add_inbox(item) is True
    assert await joined.next_wake(keyed=True) == 0
    assert await claim(joined, now=0) == ["e2"]
    assert await joined.inbox() == [item]


async def test_what_comes_into_the_inbox_of_one_that_sleeps_wakes_it(joined: Store, new_execution: New) -> None:
    await parked(joined, new_execution, "e2", 10**15)
    answer = await joined.reopen(InboxItem(id="r", execution="e2", kind="retry", payload=b"{}", created_at=1))
    assert answer is not None
    assert (answer[0].wake_at, answer[1]) == (0, False)
    assert await claim(joined, now=0) == ["e2"]


async def test_the_inboxes_of_some_executions_are_read_at_once(joined: Store, new_execution: New) -> None:
    await parked(joined, new_execution, "e2", None)
    await joined.create_execution(new_execution("e3"))
    for name, execution in [("a", "e3"), ("b", "e2"), ("c", "e1"), ("d", "e2")]:
        item = InboxItem(id=name, execution=execution, kind="signal", payload=b"{}", created_at=1)
        assert await joined.add_inbox(item) is True
    found = await joined.inboxes(["e2", "e3", "unknown"])
    assert sorted((item.execution, item.id) for item in found) == [("e2", "b"), ("e2", "d"), ("e3", "a")]
    assert [item.id for item in found if item.execution == "e2"] == ["b", "d"]
    assert await joined.inboxes([]) == []


async def test_an_execution_is_parked_only_as_it_is(joined: Store, new_execution: New) -> None:
    await joined.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'])])
    for epoch, last_seq in ((0, 1), (2, 1), (1, 0), (1, 2)):
        assert await joined.park("e1", epoch, last_seq, 5) is False
    assert await joined.park("unknown", 1, 1, 5) is False
    await joined.create_execution(new_execution("no-engine"))
    assert await joined.park("no-engine", 0, 0, 5) is False
    await joined.add_inbox(InboxItem(id="i", execution="e1", kind="signal", payload=b"{}", created_at=1))
    assert await joined.park("e1", 1, 1, 5) is False
    record = await joined.execution("e1")
    assert record is not None
    assert (record.owner, record.engine, record.wake_at) == ("r1", "engine-1", None)
    end = Terminal(status="failed", at=9)
    await joined.append([Batch(execution="e1", epoch=1, first_seq=2, facts=[b'{"at":2}'], terminal=end)])
    assert await joined.park("e1", 1, 2, 5) is False


async def test_parking_and_a_command_never_miss_each_other(joined: Store, new_execution: New) -> None:
    """Whichever comes first: the execution is not parked, or it can be claimed."""
    names = [f"p{number}" for number in range(30)]
    for name in names:
        await joined.create_execution(new_execution(name))
    await joined.dispatch(names, "engine-1")
    asked = []
    for number, name in enumerate(names):
        item = InboxItem(id=name, execution=name, kind="signal", payload=b"{}", created_at=1)
        both = [joined.park(name, 1, 0, None), joined.add_inbox(item)]
        asked.append(asyncio.gather(*(both if number % 2 else reversed(both))))
    await asyncio.gather(*asked)
    for name in names:
        record = await joined.execution(name)
        assert record is not None
        assert (record.owner, record.wake_at) in ((None, 0), ("r1", None))


async def test_a_store_that_nobody_joined_parks_what_it_has(dispatched: Store) -> None:
    await dispatched.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'])])
    assert await dispatched.park("e1", 1, 1, 5) is True
    assert await dispatched.next_wake(keyed=False) == 5


async def test_with_as_many_as_may_be_another_is_not_recorded(joined: Store, new_execution: New) -> None:
    key = {"concurrency_key": "w/acme", "most": 2}
    for name in ("a", "b"):
        await joined.create_execution(new_execution(name, idempotency_key=name, **key))
    with pytest.raises(errors.AtLimit, match=r"2 of 2 executions of 'w' are under way \(concurrency key 'acme'\)"):
        await joined.create_execution(new_execution("c", **key))
    assert await joined.execution("c") is None
    again, created = await joined.create_execution(new_execution("d", idempotency_key="b", **key))
    assert (again.id, created) == ("b", False)
    _, created = await joined.create_execution(new_execution("other", concurrency_key="w/else", most=1))
    assert created
    last = Batch(execution="a", epoch=0, first_seq=1, facts=[b'{"at":1}'], terminal=Terminal(status="failed", at=1))
    assert await joined.end_undispatched(last) is True
    _, created = await joined.create_execution(new_execution("c", **key))
    assert created


async def test_of_many_at_once_no_more_are_recorded_than_may_be(joined: Store, new_execution: New) -> None:
    answers = await asyncio.gather(
        *(joined.create_execution(new_execution(f"m{n}", concurrency_key="w/k", most=3)) for n in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, errors.AtLimit) for answer in answers) == 17
    assert len(await joined.unfinished(keyed=True)) == 3


async def test_those_with_a_key_are_told_from_all(joined: Store, new_execution: New) -> None:
    await joined.create_execution(new_execution("keyed", concurrency_key="w/k"))
    assert [record.id for record in await joined.unfinished(keyed=True)] == ["keyed"]
    assert {record.id for record in await joined.unfinished()} == {"e1", "keyed"}


async def test_heads_tell_where_journals_end(joined: Store, new_execution: New) -> None:
    await joined.create_execution(new_execution("e2"))
    await joined.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}', b'{"at":2}'])])
    assert await joined.heads({"e1", "e2", "unknown"}) == {"e1": Head(2, "running"), "e2": Head(0, "queued")}
    assert await joined.heads([]) == {}


async def test_engines_are_known_by_what_they_have(joined: Store, version: Version, new_execution: New) -> None:
    await joined.add_version(version("v"))
    await joined.create_execution(new_execution("e2", workflow="v"))
    await joined.create_execution(new_execution("queued"))
    await joined.dispatch(["e2"], "engine-2")
    assert sorted(await joined.dispatched()) == [("engine-1", "sha256:w-1.0.0"), ("engine-2", "sha256:v-1.0.0")]
    end = Terminal(status="succeeded", at=9, outputs=b"{}")
    await joined.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'], terminal=end)])
    assert await joined.dispatched() == [("engine-2", "sha256:v-1.0.0")]


async def test_the_position_is_that_of_the_last_fact(joined: Store, new_execution: New) -> None:
    assert await joined.position() == 0
    await joined.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}', b'{"at":2}'])])
    assert await joined.position() == 2
    await joined.create_execution(new_execution("e2"))
    last = Batch(execution="e2", epoch=0, first_seq=1, facts=[b'{"at":1}'], terminal=Terminal(status="failed", at=1))
    await joined.end_undispatched(last)
    assert await joined.position() == 3
