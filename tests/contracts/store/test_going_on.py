"""Executions that go on after they have ended, because somebody has parts of them run again."""

from __future__ import annotations

import pytest

from orchestrator.store.base import Batch, ExecutionRecord, InboxItem, Store, Terminal

FAILED = Terminal(status="failed", at=9, error=b'{"type":"T","message":"m"}')
SUCCEEDED = Terminal(status="succeeded", at=30, outputs=b'{"a":1}')


def item(name: str, kind: str = "retry") -> InboxItem:
    return InboxItem(id=name, execution="e1", kind=kind, payload=b'{"kind":"%s"}' % kind.encode(), created_at=3)


def batch(first_seq: int, *facts: bytes, epoch: int = 1, **more: object) -> Batch:
    return Batch(execution="e1", epoch=epoch, first_seq=first_seq, facts=facts, **more)  # type: ignore[arg-type]  # as given


async def record(store: Store) -> ExecutionRecord:
    found = await store.execution("e1")
    assert found is not None
    return found


@pytest.fixture
async def failed(dispatched: Store) -> Store:
    """A store whose execution `e1` has failed after two facts."""
    await dispatched.append([batch(1, b'{"at":5}', b'{"at":9}', terminal=FAILED)])
    return dispatched


async def test_one_that_has_ended_is_queued_with_the_retry(failed: Store) -> None:
    answer = await failed.reopen(item("r"))
    assert answer is not None
    reopened, ended = answer
    assert ended is True
    assert reopened == await record(failed)
    assert (reopened.status, reopened.engine, reopened.finished_at, reopened.error) == ("queued", None, None, None)
    assert (reopened.started_at, reopened.last_seq, reopened.epoch) == (5, 2, 1)
    assert await failed.inbox() == [item("r")]
    assert await failed.former_end("e1") == FAILED
    assert await failed.unfinished() == [reopened]


async def test_one_that_has_not_ended_keeps_the_retry(dispatched: Store) -> None:
    answer = await dispatched.reopen(item("r"))
    assert answer == (await record(dispatched), False)
    assert await dispatched.inbox() == [item("r")]
    assert await dispatched.former_end("e1") is None
    assert await dispatched.reopen(InboxItem(id="x", execution="?", kind="retry", payload=b"", created_at=1)) is None


async def test_two_retries_queue_it_once(failed: Store) -> None:
    await failed.reopen(item("r"))
    answer = await failed.reopen(item("s"))
    assert answer is not None
    assert answer[1] is False
    assert [kept.id for kept in await failed.inbox()] == ["r", "s"]


async def test_whoever_had_it_can_add_nothing_any_more(failed: Store) -> None:
    await failed.reopen(item("r"))
    (again,) = await failed.append([batch(1, b'{"at":5}', b'{"at":9}', terminal=FAILED)])
    (more,) = await failed.append([batch(3, b'{"at":10}')])
    assert (again.outcome, more.outcome) == ("fenced", "fenced")
    assert (await record(failed)).last_seq == 2


async def test_it_goes_on_under_another_epoch_and_ends_once_more(failed: Store) -> None:
    await failed.reopen(item("r"))
    await failed.dispatch(["e1"], "engine-2")
    (answer,) = await failed.append([batch(3, b'{"at":20}', b'{"at":21}', epoch=2, goes_on=True, applied=["r"])])
    assert (answer.outcome, answer.record) == ("committed", None)
    running = await record(failed)
    assert (running.status, running.started_at, running.finished_at, running.error) == ("running", 5, None, None)
    assert await failed.inbox() == []
    assert await failed.former_end("e1") is None
    await failed.append([batch(5, b'{"at":30}', epoch=2, terminal=SUCCEEDED)])
    ended = await record(failed)
    assert (ended.status, ended.finished_at, ended.outputs, ended.last_seq) == ("succeeded", 30, b'{"a":1}', 5)


async def test_it_may_go_on_and_end_in_one_batch(failed: Store) -> None:
    await failed.reopen(item("r"))
    await failed.dispatch(["e1"], "engine-2")
    await failed.append([batch(3, b'{"at":20}', b'{"at":30}', epoch=2, terminal=SUCCEEDED, applied=["r"])])
    assert (await record(failed)).status == "succeeded"
    assert await failed.former_end("e1") is None


async def test_a_refused_retry_leaves_it_as_it_had_ended(failed: Store) -> None:
    before = await record(failed)
    await failed.reopen(item("r"))
    await failed.dispatch(["e1"], "engine-2")
    (answer,) = await failed.append([batch(3, b'{"at":20}', epoch=2, applied=["r"])])
    after = await record(failed)
    assert answer.record == after
    assert (after.status, after.finished_at, after.error) == ("failed", before.finished_at, before.error)
    assert (after.last_seq, after.epoch) == (3, 2)
    assert await failed.inbox() == []
    assert await failed.former_end("e1") is None


async def test_it_stays_queued_while_another_retry_waits(failed: Store) -> None:
    await failed.reopen(item("r"))
    await failed.reopen(item("s"))
    await failed.dispatch(["e1"], "engine-2")
    (answer,) = await failed.append([batch(3, b'{"at":20}', epoch=2, applied=["r"])])
    assert answer.record is None
    assert (await record(failed)).status == "queued"
    await failed.append([batch(4, b'{"at":21}', epoch=2, applied=["s"], goes_on=True)])
    assert (await record(failed)).status == "running"


async def test_one_that_ends_while_a_retry_waits_is_queued_again(dispatched: Store) -> None:
    await dispatched.add_inbox(item("p", "pause"))
    await dispatched.reopen(item("r"))
    await dispatched.add_inbox(item("c", "cancel"))
    (answer,) = await dispatched.append([batch(1, b'{"at":5}', b'{"at":9}', terminal=FAILED)])
    queued = await record(dispatched)
    assert answer.record == queued
    assert (queued.status, queued.engine, queued.started_at, queued.finished_at) == ("queued", None, 5, None)
    assert await dispatched.former_end("e1") == FAILED
    assert [kept.id for kept in await dispatched.inbox()] == ["r", "c"]  # the pause was for what has ended


async def test_its_owner_ends_it_unless_a_retry_waits(failed: Store) -> None:
    await failed.reopen(item("r"))
    end = Terminal(status="cancelled", at=40)
    last = batch(3, b'{"at":20}', b'{"at":40}', terminal=end)
    assert await failed.end_undispatched(last) is False
    cited = batch(3, b'{"at":20}', b'{"at":40}', terminal=end, applied=["r"])
    assert await failed.end_undispatched(cited) is True
    assert ((await record(failed)).status, await failed.inbox()) == ("cancelled", [])
    assert await failed.former_end("e1") is None


async def test_its_owner_may_leave_it_as_it_had_ended(failed: Store) -> None:
    before = await record(failed)
    await failed.reopen(item("r"))
    assert await failed.end_undispatched(batch(3, b'{"at":20}'), retries=True) is True
    after = await record(failed)
    assert (after.status, after.finished_at, after.error, after.last_seq) == ("failed", 9, before.error, 3)
    assert await failed.inbox() == []


async def test_what_never_ended_has_no_end_to_go_back_to(dispatched: Store) -> None:
    await dispatched.release("e1", 1)
    assert await dispatched.end_undispatched(batch(1, b'{"at":20}')) is False
    assert await dispatched.facts("e1") == []
