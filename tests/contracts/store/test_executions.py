"""Executions: recorded once, dispatched under rising epochs, paged newest first."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from orchestrator import errors
from orchestrator.store.base import (
    TERMINAL,
    Batch,
    ExecutionRecord,
    InboxItem,
    NewExecution,
    Store,
    Terminal,
    VersionRecord,
)

Version = Callable[..., VersionRecord]
New = Callable[..., NewExecution]


@pytest.fixture(autouse=True)
async def _registered(store: Store, version: Version) -> None:
    await store.add_version(version())
    await store.add_version(version("v"))


async def end(store: Store, execution: str, status: str = "succeeded") -> None:
    """Dispatch an execution and end it with one fact."""
    record = (await store.dispatch([execution], "engine-1"))[execution]
    terminal = Terminal(status=status, at=900, outputs=b"{}" if status == "succeeded" else None)  # type: ignore[arg-type] # parametrized
    batch = Batch(
        execution=execution, epoch=record.epoch, first_seq=record.last_seq + 1, facts=[b'{"at":800}'], terminal=terminal
    )
    (answer,) = await store.append([batch])
    assert answer.outcome == "committed"


async def test_an_execution_is_queued_with_everything_that_was_given(store: Store, new_execution: New) -> None:
    new = new_execution(idempotency_key="k", trigger="cron", occurrence="cron:w:1", seed=2**64 - 1)
    record, created = await store.create_execution(new)
    assert created
    assert record == await store.execution("e1")
    assert record == ExecutionRecord(
        id="e1",
        workflow="w",
        version="1.0.0",
        digest="sha256:w-1.0.0",
        status="queued",
        inputs=b'{"limit":1}',
        seed=2**64 - 1,
        epoch=0,
        last_seq=0,
        engine=None,
        trigger="cron",
        idempotency_key="k",
        occurrence="cron:w:1",
        outputs=None,
        error=None,
        created_at=100,
        started_at=None,
        finished_at=None,
        wake_at=0,
    )


async def test_an_unknown_execution_is_none(store: Store) -> None:
    assert await store.execution("unknown") is None


async def test_priority_and_concurrency_key_are_kept(store: Store, new_execution: New) -> None:
    made, _ = await store.create_execution(new_execution(priority=-7, concurrency_key="w/acme"))
    assert (made.priority, made.concurrency_key) == (-7, "w/acme")
    assert await store.execution("e1") == made
    await store.create_execution(new_execution("e2"))
    assert [(one.priority, one.concurrency_key) for one in await store.unfinished()] == [(-7, "w/acme"), (0, None)]
    assert (await store.dispatch(["e1"], "engine-1"))["e1"].concurrency_key == "w/acme"


@pytest.mark.parametrize("given", [{"idempotency_key": "k"}, {"occurrence": "cron:w:5"}])
async def test_a_known_key_or_occurrence_gives_the_execution_that_has_it(
    store: Store, new_execution: New, given: dict[str, str]
) -> None:
    first, _ = await store.create_execution(new_execution("e1", **given))
    again, created = await store.create_execution(new_execution("e2", created_at=200, **given))
    assert (again, created) == (first, False)
    assert await store.execution("e2") is None


async def test_a_key_counts_for_its_workflow_only(store: Store, new_execution: New) -> None:
    await store.create_execution(new_execution("e1", idempotency_key="k"))
    _, created = await store.create_execution(new_execution("e2", workflow="v", idempotency_key="k"))
    assert created


async def test_of_many_with_one_key_at_once_exactly_one_is_made(store: Store, new_execution: New) -> None:
    answers = await asyncio.gather(
        *(store.create_execution(new_execution(f"e{n}", idempotency_key="k")) for n in range(50))
    )
    assert sum(created for _, created in answers) == 1
    assert len({record.id for record, _ in answers}) == 1
    assert len(await store.unfinished()) == 1


async def test_an_execution_of_what_was_never_registered_is_refused(store: Store, new_execution: New) -> None:
    with pytest.raises(errors.StoreError, match=r"digest sha256:w-9\.9\.9"):
        await store.create_execution(new_execution(version="9.9.9"))


async def test_one_refusal_never_aborts_the_writes_beside_it(store: Store, new_execution: New) -> None:
    await store.create_execution(new_execution("taken"))
    writes = [store.create_execution(new_execution("taken" if n % 5 == 0 else f"e{n}")) for n in range(40)]
    writes += [store.create_execution(new_execution("x", version="9.9.9"))]
    answers = await asyncio.gather(*writes, return_exceptions=True)
    refused = [n for n, answer in enumerate(answers) if isinstance(answer, BaseException)]
    assert refused == [0, 5, 10, 15, 20, 25, 30, 35, 40]
    assert all(isinstance(answers[n], errors.StoreError) for n in refused)
    assert len(await store.unfinished()) == 33


async def test_each_dispatch_raises_the_epoch(store: Store, new_execution: New) -> None:
    await store.create_execution(new_execution("e1"))
    await store.create_execution(new_execution("e2"))
    first = await store.dispatch(["e1", "e2", "e1", "unknown"], "engine-1")
    assert {name: (r.epoch, r.engine) for name, r in first.items()} == {"e1": (1, "engine-1"), "e2": (1, "engine-1")}
    second = await store.dispatch(["e1"], "engine-2")
    assert second["e1"] == await store.execution("e1")
    assert (second["e1"].epoch, second["e1"].engine, second["e1"].inputs) == (2, "engine-2", b'{"limit":1}')


async def test_what_has_ended_is_not_dispatched(store: Store, new_execution: New) -> None:
    await store.create_execution(new_execution())
    await end(store, "e1")
    assert await store.dispatch(["e1"], "engine-2") == {}
    record = await store.execution("e1")
    assert record is not None
    assert (record.epoch, record.engine) == (1, "engine-1")


async def test_only_the_epoch_in_force_can_release(store: Store, new_execution: New) -> None:
    await store.create_execution(new_execution())
    await store.dispatch(["e1"], "engine-1")
    await store.dispatch(["e1"], "engine-2")
    await store.release("e1", 1)
    assert (await store.unfinished())[0].engine == "engine-2"
    await store.release("e1", 2)
    await store.release("unknown", 2)
    assert (await store.unfinished())[0].engine is None


async def test_pages_cover_everything_once_newest_first(store: Store, new_execution: New) -> None:
    for number in range(25):  # several at the same moment
        await store.create_execution(new_execution(f"e{number:02}", created_at=number // 4))
        if number % 3 == 0:
            await end(store, f"e{number:02}")
    found: list[ExecutionRecord] = []
    before: tuple[int, str] | None = None
    while page := await store.executions(before=before, limit=4):
        assert len(page) <= 4
        found += page
        before = (page[-1].created_at, page[-1].id)
    assert [record.id for record in found] == [f"e{number:02}" for number in reversed(range(25))]


async def test_pages_are_filtered_by_workflow_and_status(store: Store, new_execution: New) -> None:
    statuses = [*sorted(TERMINAL), "queued", "running"]
    for number, (workflow, status) in enumerate(itertools.product(("w", "v"), statuses)):
        name = f"{workflow}-{status}"
        await store.create_execution(new_execution(name, workflow=workflow, created_at=number))
        if status in TERMINAL:
            await end(store, name, status)
        elif status == "running":
            await store.dispatch([name], "engine-1")
            await store.append([Batch(execution=name, epoch=1, first_seq=1, facts=[b'{"at":1}'])])

    async def names(**filters: object) -> list[str]:
        return [record.id for record in await store.executions(**filters)]  # type: ignore[arg-type] # forwarded

    assert await names(status=["failed"]) == ["v-failed", "w-failed"]
    assert await names(workflow="w") == [f"w-{status}" for status in reversed(statuses)]
    assert await names(workflow="v", status=["queued", "failed", "queued"]) == ["v-queued", "v-failed"]
    assert await names(workflow="v", status=["queued", "failed"], before=(8, "v-queued")) == ["v-failed"]
    assert await names(workflow="unknown") == []
    assert await names(limit=0) == []


async def test_unfinished_are_oldest_first(store: Store, new_execution: New) -> None:
    for number in (3, 1, 2):
        await store.create_execution(new_execution(f"e{number}", created_at=number))
    await end(store, "e2")
    await store.dispatch(["e3"], "engine-1")
    await store.append([Batch(execution="e3", epoch=1, first_seq=1, facts=[b'{"at":1}'])])
    assert [(record.id, record.status) for record in await store.unfinished()] == [("e1", "queued"), ("e3", "running")]


def last(facts: list[bytes], end: Terminal, *, epoch: int = 0, after: int = 0, execution: str = "e1") -> Batch:
    """Facts after position `after` that end an execution."""
    return Batch(execution=execution, epoch=epoch, first_seq=after + 1, facts=facts, terminal=end)


async def test_an_undispatched_execution_is_ended_by_its_owner(store: Store, new_execution: New) -> None:
    await store.create_execution(new_execution())
    await store.add_inbox(InboxItem(id="i1", execution="e1", kind="cancel", payload=b"{}", created_at=1))
    facts = [b'{"at":5,"type":"A"}', b'{"at":6,"type":"B"}']
    assert await store.end_undispatched(last(facts, Terminal(status="cancelled", at=6))) is True
    record = await store.execution("e1")
    assert record is not None
    assert (record.status, record.last_seq, record.started_at, record.finished_at) == ("cancelled", 2, 5, 6)
    assert [fact.payload for fact in await store.facts("e1")] == facts
    assert await store.inbox() == []
    assert await store.end_undispatched(last(facts, Terminal(status="cancelled", at=7), after=2)) is False
    assert len(await store.facts("e1")) == 2


async def test_an_execution_that_an_engine_has_is_not_ended_by_others(store: Store, new_execution: New) -> None:
    await store.create_execution(new_execution())
    await store.dispatch(["e1"], "engine-1")
    terminal = Terminal(status="cancelled", at=6)
    assert await store.end_undispatched(last([b"{}"], terminal, epoch=1)) is False
    assert await store.end_undispatched(last([b"{}"], terminal, epoch=1, execution="unknown")) is False
    assert await store.facts("e1") == []
    await store.release("e1", 1)
    assert await store.end_undispatched(last([b'{"at":1}'], terminal, epoch=1)) is True


async def test_an_end_follows_what_its_owner_has_seen_or_is_none(store: Store, new_execution: New) -> None:
    await store.create_execution(new_execution())
    await store.dispatch(["e1"], "engine-1")
    await store.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}', b'{"at":2}'])])
    await store.release("e1", 1)
    terminal = Terminal(status="failed", at=6)
    for epoch, last_seq in ((1, 1), (1, 3), (0, 2), (2, 2)):
        assert await store.end_undispatched(last([b'{"at":3}'], terminal, epoch=epoch, after=last_seq)) is False
    assert len(await store.facts("e1")) == 2
    assert await store.end_undispatched(last([b'{"at":3}'], terminal, epoch=1, after=2)) is True
    record = await store.execution("e1")
    assert record is not None
    assert (record.status, record.last_seq) == ("failed", 3)


async def test_what_would_not_be_made_again_is_found(store: Store, new_execution: New) -> None:
    keyed, _ = await store.create_execution(new_execution("e1", idempotency_key="k"))
    due, _ = await store.create_execution(new_execution("e2", occurrence="cron:w:1"))
    assert await store.known_execution("w", idempotency_key="k") == keyed
    assert await store.known_execution("w", idempotency_key="k", occurrence="cron:w:1") == keyed
    assert await store.known_execution("w", idempotency_key="l", occurrence="cron:w:1") == due
    assert await store.known_execution("w", occurrence="cron:w:2") is None
    assert await store.known_execution("another", idempotency_key="k") is None
    assert await store.known_execution("w") is None
