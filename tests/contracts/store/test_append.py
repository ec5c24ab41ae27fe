"""Appending facts: conditional on epoch and position, in whatever order and however often batches arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.store.base import PAGE_BYTES, Appended, Batch, InboxItem, NewExecution, Store, Terminal, VersionRecord

Version = Callable[..., VersionRecord]
New = Callable[..., NewExecution]


def batch(
    first_seq: int, count: int, *, epoch: int = 1, execution: str = "e1", terminal: Terminal | None = None
) -> Batch:
    """Facts that name their own position, so that one in the wrong place is seen."""
    facts = [b'{"at":%d,"seq":%d}' % (1_000 + seq, seq) for seq in range(first_seq, first_seq + count)]
    return Batch(execution=execution, epoch=epoch, first_seq=first_seq, facts=facts, terminal=terminal)


async def append(store: Store, *batches: Batch) -> list[tuple[str, int, int]]:
    """Outcome, last position and first new position of each."""
    return [(a.outcome, a.last_seq, a.new_from) for a in await store.append(batches)]


async def sequences(store: Store, execution: str = "e1") -> list[int]:
    return [fact.seq for fact in await store.facts(execution)]


async def test_facts_come_back_as_they_were_appended(dispatched: Store) -> None:
    (answer,) = await dispatched.append([batch(1, 3)])
    assert answer == Appended(outcome="committed", last_seq=3, epoch=1, new_from=1, first_position=1)
    stored = await dispatched.facts("e1")
    assert [(fact.position, fact.execution, fact.epoch, fact.seq) for fact in stored] == [
        (1, "e1", 1, 1),
        (2, "e1", 1, 2),
        (3, "e1", 1, 3),
    ]
    assert [fact.payload for fact in stored] == list(batch(1, 3).facts)
    assert await dispatched.facts("e1", after=1, limit=1) == [stored[1]]
    assert await dispatched.facts("e1", after=3) == []
    assert await dispatched.facts("unknown") == []


async def test_a_page_of_facts_is_bounded_in_bytes(dispatched: Store) -> None:
    """So that nobody who asks for a page of large facts holds all of them at once."""
    large = b'{"at":1,"value":"%s"}' % (b"x" * (PAGE_BYTES // 3))
    huge = b'{"at":1,"value":"%s"}' % (b"x" * (PAGE_BYTES + 1))
    payloads = [large, large, large, huge, b'{"at":1}', b'{"at":2}']
    await dispatched.append([Batch(execution="e1", epoch=1, first_seq=1, facts=payloads)])
    pages, after = [], 0
    while page := await dispatched.facts("e1", after=after):
        after = page[-1].seq
        pages.append([fact.seq for fact in page])
    assert pages == [[1, 2], [3], [4], [5, 6]]
    assert [fact.seq for fact in await dispatched.facts("e1", limit=1)] == [1]


async def test_the_first_fact_starts_the_execution_and_the_last_ends_it(dispatched: Store) -> None:
    await dispatched.append([batch(1, 1)])
    record = await dispatched.execution("e1")
    assert record is not None
    assert (record.status, record.started_at, record.last_seq) == ("running", 1_001, 1)
    await dispatched.append([batch(2, 2, terminal=Terminal(status="succeeded", at=77, outputs=b'{"n":1}'))])
    record = await dispatched.execution("e1")
    assert record is not None
    assert (record.status, record.started_at, record.finished_at, record.outputs, record.error, record.last_seq) == (
        "succeeded",
        1_001,
        77,
        b'{"n":1}',
        None,
        3,
    )


async def test_an_execution_may_start_and_fail_in_one_batch(dispatched: Store) -> None:
    await dispatched.append([batch(1, 2, terminal=Terminal(status="failed", at=77, error=b'{"type":"X"}'))])
    record = await dispatched.execution("e1")
    assert record is not None
    assert (record.status, record.started_at, record.finished_at, record.outputs, record.error) == (
        "failed",
        1_001,
        77,
        None,
        b'{"type":"X"}',
    )


async def test_a_first_fact_that_cannot_be_read_still_starts_the_execution(dispatched: Store) -> None:
    await dispatched.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b"\xff"])])
    record = await dispatched.execution("e1")
    assert record is not None
    assert record.status == "running"
    assert record.started_at is not None
    assert record.started_at > 1_600_000_000_000_000


async def test_duplicates_are_acknowledged_and_only_the_new_suffix_is_added(dispatched: Store) -> None:
    assert await append(dispatched, batch(1, 3)) == [("committed", 3, 1)]
    assert await append(dispatched, batch(1, 3), batch(2, 1)) == [("committed", 3, 0), ("committed", 3, 0)]
    assert await append(dispatched, batch(2, 4)) == [("committed", 5, 4)]
    assert await sequences(dispatched) == [1, 2, 3, 4, 5]


async def test_a_gap_says_from_where_to_send_again(dispatched: Store) -> None:
    assert await append(dispatched, batch(2, 1)) == [("gap", 0, 0)]
    assert await append(dispatched, batch(1, 2), batch(4, 1), batch(3, 1)) == [
        ("committed", 2, 1),
        ("gap", 2, 0),
        ("committed", 3, 3),
    ]
    assert await append(dispatched, batch(0, 9)) == [("gap", 3, 0)]
    assert await sequences(dispatched) == [1, 2, 3]


async def test_a_batch_of_no_facts_is_committed_where_it_fits(dispatched: Store) -> None:
    assert await append(dispatched, batch(1, 0), batch(5, 0)) == [("committed", 0, 0), ("gap", 0, 0)]
    record = await dispatched.execution("e1")
    assert record is not None
    assert record.status == "queued"


async def test_other_epochs_are_fenced(dispatched: Store) -> None:
    await dispatched.append([batch(1, 2)])
    await dispatched.dispatch(["e1"], "engine-2")
    answers = await dispatched.append([batch(3, 1, epoch=1), batch(1, 2, epoch=1), batch(3, 1, epoch=3)])
    assert answers == [Appended(outcome="fenced", last_seq=2, epoch=2)] * 3
    assert await append(dispatched, batch(3, 1, epoch=2)) == [("committed", 3, 3)]
    assert [fact.epoch for fact in await dispatched.facts("e1")] == [1, 1, 2]


async def test_without_an_engine_facts_are_fenced(store: Store, version: Version, new_execution: New) -> None:
    await store.add_version(version())
    await store.create_execution(new_execution())
    assert await store.append([batch(1, 1, epoch=0)]) == [Appended(outcome="fenced", last_seq=0, epoch=0)]
    await store.dispatch(["e1"], "engine-1")
    await store.release("e1", 1)
    assert await store.append([batch(1, 1)]) == [Appended(outcome="fenced", last_seq=0, epoch=1)]
    assert await store.append([batch(1, 1, execution="unknown")]) == [Appended(outcome="fenced", last_seq=0, epoch=0)]


async def test_after_the_end_only_what_is_known_is_acknowledged(dispatched: Store) -> None:
    last = batch(1, 2, terminal=Terminal(status="succeeded", at=5, outputs=b"{}"))
    late = batch(3, 1, terminal=Terminal(status="failed", at=6))
    assert await append(dispatched, last, late, last) == [("committed", 2, 1), ("fenced", 2, 0), ("committed", 2, 0)]
    assert await append(dispatched, last, late) == [("committed", 2, 0), ("fenced", 2, 0)]
    record = await dispatched.execution("e1")
    assert record is not None
    assert (record.status, record.finished_at) == ("succeeded", 5)


async def test_positions_follow_the_order_of_commits(store: Store, version: Version, new_execution: New) -> None:
    await store.add_version(version())
    for name in ("e1", "e2", "e3"):
        await store.create_execution(new_execution(name))
    await store.dispatch(["e1", "e2", "e3"], "engine-1")
    answers = await store.append([batch(1, 2), batch(1, 3, execution="e2"), batch(9, 1), batch(3, 1)])
    assert [answer.first_position for answer in answers] == [1, 3, 0, 6]
    end = Terminal(status="cancelled", at=1)
    last = Batch(execution="e3", epoch=1, first_seq=1, facts=[b"{}"], terminal=end)
    assert await store.end_undispatched(last) is False  # it takes no position
    together = await asyncio.gather(store.append([batch(4, 1)]), store.append([batch(1, 2, execution="e3")]))
    assert [answer.first_position for (answer,) in together] == [7, 8]
    assert [fact.position for fact in await store.facts("e1")] == [1, 2, 6, 7]


async def test_cited_commands_leave_the_inbox_and_the_end_empties_it(dispatched: Store) -> None:
    for name in ("i1", "i2", "i3"):
        await dispatched.add_inbox(InboxItem(id=name, execution="e1", kind="cancel", payload=b"{}", created_at=1))
    cites = msgspec.structs.replace(batch(1, 1), applied=["i2", "never-heard-of"])
    assert await append(dispatched, msgspec.structs.replace(cites, epoch=9)) == [("fenced", 0, 0)]
    assert len(await dispatched.inbox()) == 3
    await dispatched.append([cites])
    assert [item.id for item in await dispatched.inbox()] == ["i1", "i3"]
    await dispatched.append([batch(2, 1, terminal=Terminal(status="cancelled", at=5))])
    assert await dispatched.inbox() == []


# --- against a model ---


@dataclass
class Journal:
    """What the port promises about one execution, in a dozen lines."""

    epoch: int = 0
    assigned: bool = False
    ended: bool = False
    facts: list[tuple[int, bytes]] = field(default_factory=list)

    def append(self, batch: Batch) -> tuple[str, int, int, int]:
        last = len(self.facts)
        end = batch.first_seq + len(batch.facts) - 1
        if batch.epoch != self.epoch or not self.assigned or (self.ended and end > last):
            return "fenced", last, self.epoch, 0
        if batch.first_seq > last + 1:
            return "gap", last, self.epoch, 0
        new = [(batch.epoch, fact) for seq, fact in enumerate(batch.facts, batch.first_seq) if seq > last]
        self.facts += new
        self.ended = self.ended or (batch.terminal is not None and end == len(self.facts))
        return "committed", len(self.facts), self.epoch, last + 1 if new else 0


@dataclass(frozen=True)
class Send:
    """A batch whose epoch and position are off from what would be right by so much."""

    execution: str
    epoch: int
    position: int
    count: int
    last: bool


_names = st.sampled_from(["e1", "e2"])
_off = st.integers(-1, 1).map(lambda off: off if off < 0 else 0) | st.just(0) | st.integers(-2, 2)
_sends = st.builds(
    Send,
    execution=_names,
    epoch=st.just(0) | st.just(0) | st.integers(-1, 1),
    position=_off,
    count=st.integers(0, 4),
    last=st.sampled_from([False] * 7 + [True]),
)
_steps = st.lists(
    st.lists(_sends, min_size=1, max_size=4) | st.tuples(st.sampled_from(["dispatch", "release"]), _names), max_size=25
)


async def play(
    store: Store, steps: Sequence[object], version: VersionRecord, executions: Sequence[NewExecution]
) -> None:
    await store.open()
    try:
        await store.add_version(version)
        journals = {new.id: Journal() for new in executions}
        for new in executions:
            await store.create_execution(new)
        await store.dispatch(list(journals), "engine-1")
        for journal in journals.values():
            journal.epoch, journal.assigned = 1, True
        for step in steps:
            match step:
                case ("dispatch", str(name)):
                    await store.dispatch([name], "engine-2")
                    if not journals[name].ended:
                        journals[name].epoch, journals[name].assigned = journals[name].epoch + 1, True
                case ("release", str(name)):
                    await store.release(name, journals[name].epoch)
                    journals[name].assigned = journals[name].assigned and journals[name].ended
                case list(sends):
                    await send(store, journals, sends)
        for name, journal in journals.items():
            stored = await store.facts(name)
            assert [(fact.epoch, fact.payload) for fact in stored] == journal.facts
            record = await store.execution(name)
            assert record is not None
            assert (record.last_seq, record.epoch) == (len(journal.facts), journal.epoch)
            assert (record.status == "succeeded") == journal.ended
            assert (record.status == "running") == (bool(journal.facts) and not journal.ended)
    finally:
        await store.close()


async def send(store: Store, journals: dict[str, Journal], sends: Sequence[Send]) -> None:
    batches = []
    for spec in sends:
        journal = journals[spec.execution]
        terminal = Terminal(status="succeeded", at=1, outputs=b"{}") if spec.last else None
        first_seq = max(1, len(journal.facts) + 1 + spec.position)
        made = batch(
            first_seq, spec.count, epoch=journal.epoch + spec.epoch, execution=spec.execution, terminal=terminal
        )
        batches.append(made)
    expected = [journals[made.execution].append(made) for made in batches]
    answers = await store.append(batches)
    assert [(a.outcome, a.last_seq, a.epoch, a.new_from) for a in answers] == expected


@settings(max_examples=80)
@given(steps=_steps)
def test_whatever_arrives_the_journal_is_what_the_model_says(
    new_store: Callable[[], Store], version: Version, new_execution: New, steps: list[object]
) -> None:
    asyncio.run(play(new_store(), steps, version(), [new_execution("e1"), new_execution("e2")]))


async def test_an_end_that_was_in_the_store_before_is_told_with_the_record(dispatched: Store) -> None:
    """Its first answer may be lost: whoever sends it again has to know what became of it."""
    end = Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'], terminal=Terminal(status="failed", at=2))
    (first,) = await dispatched.append([end])
    assert first.record is None
    (again,) = await dispatched.append([end])
    assert (again.outcome, again.new_from) == ("committed", 0)
    assert again.record == await dispatched.execution("e1")
    assert again.record is not None
    assert again.record.status == "failed"


async def test_an_end_that_comes_twice_at_once_is_told_with_the_record_where_it_is_new(dispatched: Store) -> None:
    """A session that was made anew sends again what waits to be committed; the first one must tell of the retry."""
    await dispatched.add_inbox(InboxItem(id="r1", execution="e1", kind="retry", payload=b"{}", created_at=1))
    end = Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'], terminal=Terminal(status="failed", at=2))
    first, again = await dispatched.append([end, end])
    assert (first.new_from, again.new_from) == (1, 0)
    record = await dispatched.execution("e1")
    assert record is not None
    assert record.status == "queued"
    assert first.record == record
