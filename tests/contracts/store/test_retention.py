"""What need not be kept, and how it goes: in small steps, and nothing else with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.store.base import Batch, Expired, InboxItem, NewExecution, Store, Terminal, VersionRecord

Version = Callable[..., VersionRecord]
New = Callable[..., NewExecution]


@pytest.fixture(autouse=True)
async def _registered(store: Store, version: Version) -> None:
    for workflow in ("v", "w"):
        await store.add_version(version(workflow))


async def ended(store: Store, new: NewExecution, *, at: int, facts: int = 3) -> None:
    """Record an execution, run it for some facts, and end it."""
    await store.create_execution(new)
    await store.dispatch([new.id], "engine-1")
    batch = Batch(
        execution=new.id,
        epoch=1,
        first_seq=1,
        facts=[b'{"at":%d}' % at] * facts,
        terminal=Terminal(status="succeeded", at=at, outputs=b"{}"),
    )
    await store.append([batch])


async def names(store: Store, **which: object) -> list[str]:
    return [one.id for one in await store.expired(**which)]  # type: ignore[arg-type] # forwarded


async def test_what_ended_before_a_time_is_found_oldest_first(store: Store, new_execution: New) -> None:
    for name, workflow, at in (("b", "w", 20), ("a", "w", 10), ("c", "v", 15), ("d", "v", 30)):
        await ended(store, new_execution(name, workflow=workflow), at=at)
    await store.create_execution(new_execution("running"))
    assert await store.expired(ended_before=16) == [
        Expired(id="a", workflow="w", status="succeeded", finished_at=10, facts=3),
        Expired(id="c", workflow="v", status="succeeded", finished_at=15, facts=3),
    ]
    assert await names(store, ended_before=10) == []
    assert await names(store, ended_before=100) == ["a", "c", "b", "d"]
    assert await names(store, ended_before=100, limit=2) == ["a", "c"]
    assert await names(store, ended_before=100, limit=0) == []
    assert await names(store, ended_before=100, workflow="w") == ["a", "b"]
    assert await names(store, ended_before=100, workflow="unknown") == []
    assert await names(store) == []


async def test_what_is_beyond_the_newest_of_its_workflow_is_found(store: Store, new_execution: New) -> None:
    for number in range(5):
        await ended(store, new_execution(f"w{number}"), at=number)
    for number in range(2):
        await ended(store, new_execution(f"v{number}", workflow="v"), at=7)  # at the same time
    assert await names(store, keep=2) == ["w0", "w1", "w2"]
    assert await names(store, keep=1) == ["w0", "w1", "w2", "w3", "v0"]
    assert await names(store, keep=0, workflow="v") == ["v0", "v1"]
    assert await names(store, keep=9) == []


async def test_either_is_enough(store: Store, new_execution: New) -> None:
    for number in range(5):
        await ended(store, new_execution(f"w{number}"), at=number)
    assert await names(store, keep=4, ended_before=2) == ["w0", "w1"]
    assert await names(store, keep=2, ended_before=2) == ["w0", "w1", "w2"]


async def test_a_purged_execution_is_gone_with_all_that_belongs_to_it(store: Store, new_execution: New) -> None:
    await ended(store, new_execution("gone", idempotency_key="k", occurrence="cron:w:1"), at=1)
    await ended(store, new_execution("kept"), at=1)
    for name in ("gone", "kept"):
        await store.add_logs(name, 1, [("a", b"1"), ("a", b"2")])
    assert await store.purge(["gone", "unknown"], rows=1_000) > 0
    assert await store.purge(["gone", "unknown"], rows=1_000) == 0
    assert await store.execution("gone") is None
    assert (await store.facts("gone"), await store.logs("gone")) == ([], [])
    assert (await store.heads(["gone", "kept"])).keys() == {"kept"}
    assert await names(store, ended_before=9) == ["kept"]
    assert (len(await store.facts("kept")), len(await store.logs("kept"))) == (3, 2)
    _, created = await store.create_execution(new_execution("gone", idempotency_key="k", occurrence="cron:w:1"))
    assert created
    assert (await store.facts("gone"), await store.position()) == ([], 6)


async def test_a_step_deletes_about_as_much_as_it_may(store: Store, new_execution: New) -> None:
    await ended(store, new_execution("e1"), at=1, facts=25)
    await store.add_logs("e1", 1, [("a", b"1")] * 12)
    steps = []
    while step := await store.purge(["e1"], rows=10):
        steps.append(step)
        if len(steps) == 1:
            assert 10 < len(await store.facts("e1")) < 20
    assert max(steps) <= 12
    assert sum(steps) >= 25 + 12 + 1
    assert await store.heads(["e1"]) == {}


async def test_from_the_first_step_on_it_is_unknown(store: Store, new_execution: New) -> None:
    """Nobody goes on with an execution of whose journal a part is missing."""
    await ended(store, new_execution("e1", idempotency_key="k"), at=1, facts=25)
    await store.purge(["e1"], rows=5)
    retry = InboxItem(id="r", execution="e1", kind="retry", payload=b"{}", created_at=1)
    assert await store.reopen(retry) is None
    assert await store.add_inbox(retry) is False
    assert await store.execution("e1") is None
    assert await store.executions() == []
    assert await store.known_execution("w", idempotency_key="k") is None
    assert await names(store, ended_before=9) == ["e1"]  # what was begun is found again
    again, created = await store.create_execution(new_execution("e2", idempotency_key="k"))
    assert (again.id, created) == ("e2", True)


async def test_what_has_not_ended_stays(store: Store, new_execution: New) -> None:
    await store.create_execution(new_execution("queued", idempotency_key="k"))
    await ended(store, new_execution("retried"), at=1)
    await store.reopen(InboxItem(id="r", execution="retried", kind="retry", payload=b"{}", created_at=1))
    assert await store.purge(["queued", "retried"], rows=100) == 0
    assert len(await store.unfinished()) == 2
    assert len(await store.facts("retried")) == 3
    assert await store.known_execution("w", idempotency_key="k") is not None


async def test_many_are_purged_in_one_call(store: Store, new_execution: New) -> None:
    everything = [f"e{number}" for number in range(30)]
    for name in everything:
        await ended(store, new_execution(name), at=1)
    while await store.purge(everything, rows=40):
        pass
    assert await store.executions() == []
    assert await names(store, ended_before=9) == []


async def test_logs_may_go_before_their_executions(store: Store, new_execution: New) -> None:
    for name, workflow, at in (("a", "w", 10), ("b", "v", 10), ("late", "w", 50)):
        await ended(store, new_execution(name, workflow=workflow), at=at)
        await store.add_logs(name, 1, [("n", b"1")] * 7)
    await store.create_execution(new_execution("running"))
    await store.add_logs("running", 1, [("n", b"1")])
    assert await store.purge_logs(workflow="w", ended_before=20, rows=5) == 5
    assert [len(await store.logs(name)) for name in ("a", "b", "late", "running")] == [2, 7, 7, 1]
    assert [await store.purge_logs(ended_before=20, rows=5) for _ in range(3)] == [5, 4, 0]
    assert [len(await store.logs(name)) for name in ("a", "b", "late", "running")] == [0, 0, 7, 1]
    assert len(await store.facts("a")) == 3


async def test_workflows_are_told_of_which_executions_have_ended(store: Store, new_execution: New) -> None:
    await store.create_execution(new_execution("running", workflow="v"))
    assert await store.ended_workflows() == []
    for name, workflow in (("b", "w"), ("a", "w"), ("c", "v")):
        await ended(store, new_execution(name, workflow=workflow), at=10)
    assert await store.ended_workflows() == ["v", "w"]
    await store.remove_versions("w", None, force=True)
    assert await store.ended_workflows() == ["v", "w"]
    while await store.purge(["a", "b"], rows=100):
        pass
    assert await store.ended_workflows() == ["v"]
