"""What surrounds the journal: commands, log lines, the occurrences of triggers, and the store's own life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orchestrator import errors
from orchestrator.store.base import PAGE_BYTES, Batch, InboxItem, NewExecution, Store, Terminal, VersionRecord


def item(name: str, execution: str = "e1") -> InboxItem:
    return InboxItem(id=name, execution=execution, kind="cancel", payload=b'{"reason":"r"}', created_at=3)


async def test_commands_are_kept_in_order_until_they_are_cited(
    dispatched: Store, new_execution: Callable[..., NewExecution]
) -> None:
    await dispatched.create_execution(new_execution("e2"))
    for kept in (item("b"), item("a", "e2"), item("c")):
        assert await dispatched.add_inbox(kept) is True
    assert await dispatched.inbox() == [item("b"), item("a", "e2"), item("c")]
    assert await dispatched.inbox("e1") == [item("b"), item("c")]
    assert await dispatched.inbox("unknown") == []


async def test_a_command_is_kept_once(dispatched: Store) -> None:
    assert [await dispatched.add_inbox(item("a")) for _ in range(2)] == [True, True]
    assert await dispatched.inbox() == [item("a")]


async def test_what_has_ended_takes_no_commands(dispatched: Store) -> None:
    assert await dispatched.add_inbox(item("a", "unknown")) is False
    end = Terminal(status="succeeded", at=1, outputs=b"{}")
    await dispatched.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b"{}"], terminal=end)])
    assert await dispatched.add_inbox(item("a")) is False
    assert await dispatched.inbox() == []


async def test_log_lines_come_back_in_order(dispatched: Store, new_execution: Callable[..., NewExecution]) -> None:
    await dispatched.create_execution(new_execution("e2"))
    await dispatched.add_logs("e1", 1, [("a", b"1"), ("b", b"2")])
    await dispatched.add_logs("e2", 1, [("a", b"other")])
    await dispatched.add_logs("e1", 2, [("a", b"3")])
    await dispatched.add_logs("e1", 2, [])
    await dispatched.add_logs("unknown", 1, [("a", b"lost")])
    lines = await dispatched.logs("e1")
    assert [(line.execution, line.epoch, line.node, line.payload) for line in lines] == [
        ("e1", 1, "a", b"1"),
        ("e1", 1, "b", b"2"),
        ("e1", 2, "a", b"3"),
    ]
    assert [line.id for line in lines] == sorted({line.id for line in lines})
    assert [line.payload for line in await dispatched.logs("e1", node="a")] == [b"1", b"3"]
    assert await dispatched.logs("e1", after=lines[0].id, limit=1) == [lines[1]]
    assert await dispatched.logs("e1", node="a", after=lines[0].id) == [lines[2]]
    assert await dispatched.logs("unknown") == []


async def test_a_page_of_log_lines_is_bounded_in_bytes(dispatched: Store) -> None:
    line = b"x" * (PAGE_BYTES // 2)
    await dispatched.add_logs("e1", 1, [("a", line), ("b", line), ("a", line + line + b"x"), ("a", b"y")])
    for node, expected in ((None, [["a", "b"], ["a"], ["a"]]), ("a", [["a"], ["a"], ["a"]])):
        pages, after = [], 0
        while page := await dispatched.logs("e1", node=node, after=after):
            after = page[-1].id
            pages.append([record.node for record in page])
        assert pages == expected


async def test_occurrences_never_go_backwards(store: Store) -> None:
    assert await store.last_occurrence("cron:w") is None
    for at in (5, 9, 7):
        await store.record_occurrence("cron:w", at)
    await store.record_occurrence("cron:v", 1)
    assert await store.last_occurrence("cron:w") == 9
    assert await store.last_occurrence("cron:v") == 1


async def test_the_incarnation_stays_while_the_store_is_open(store: Store) -> None:
    first = await store.incarnation()
    assert first
    assert await store.incarnation() == first


async def test_a_store_that_is_not_open_says_so(new_store: Callable[[], Store]) -> None:
    store = new_store()
    await store.close()
    for call in (store.versions, store.unfinished, store.incarnation, lambda: store.append([])):
        with pytest.raises(errors.StoreError, match="is not open"):
            await call()
    await store.open()
    with pytest.raises(errors.StoreError, match="is open already"):
        await store.open()
    await store.close()
    await store.close()
    with pytest.raises(errors.StoreError, match="is not open"):
        await store.record_occurrence("cron:w", 1)


async def test_closing_finishes_the_writes_under_way(
    new_store: Callable[[], Store], version: Callable[..., VersionRecord]
) -> None:
    store = new_store()
    await store.open()
    writes = [asyncio.ensure_future(store.add_version(version("w", f"1.0.{n}"))) for n in range(30)]
    await asyncio.sleep(0)  # all have been handed in
    await store.close()
    assert await asyncio.gather(*writes) == [True] * 30


async def test_reads_see_every_write_that_was_answered(store: Store, version: Callable[..., VersionRecord]) -> None:
    async def register(number: int) -> None:
        record = version(f"w{number}")
        await store.add_version(record)
        assert await store.version(record.workflow, record.version) == record

    await asyncio.gather(*(register(number) for number in range(40)))
