"""Facts beyond what memory is for lie in a file. Nobody who appends, sends or hears of commits notices any of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dagengine.errors import JournalError
from dagengine.events import facts as codec
from dagengine.events.facts import CancelRequested, ExecutionCancelled
from dagengine.journal import spool as spools
from dagengine.journal.session import FACT_OVERHEAD_BYTES, Budget, SessionJournal
from dagengine.journal.spool import REGIONS, Spool


def journal_of(budget: Budget) -> SessionJournal:
    return SessionJournal(epoch=1, committed=0, budget=budget, on_ready=lambda: None)


def fill(journal: SessionJournal, first: int, last: int, size: int = 100) -> None:
    for at in range(first, last + 1):
        journal.append([CancelRequested(at=at, reason="x" * size)])


def everything(journal: SessionJournal) -> list[int]:
    batch = journal.take(max_facts=10_000, max_bytes=1 << 30)
    return [codec.decode(fact).at for fact in batch.facts]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(1 << 20, tmp_path)


def test_what_is_beyond_the_limit_lies_in_the_file_and_comes_back_in_order(spool: Spool, tmp_path: Path) -> None:
    budget = Budget(limit=2_000, spool=spool)
    journal = journal_of(budget)
    fill(journal, 1, 100)
    in_memory = budget.used - budget.spooled
    assert in_memory <= 2_000 + 200 + 100 * FACT_OVERHEAD_BYTES
    assert spool.facts > 80
    assert list(tmp_path.iterdir()) == []  # the file has no name
    assert everything(journal) == list(range(1, 101))
    assert spool.facts > 80  # until they are acknowledged
    journal.ack(1, 100)
    assert (spool.facts, budget.used, budget.spooled) == (0, 0, 0)


def test_congestion_begins_at_the_limit_of_memory_as_without_a_file(spool: Spool) -> None:
    with_file, without = Budget(limit=2_000, spool=spool), Budget(limit=2_000)
    seen = []
    for budget in (with_file, without):
        journal = journal_of(budget)
        for at in range(1, 30):
            fill(journal, at, at)
            seen.append((at, budget.congested, budget.used))
        journal.close()
    assert seen[:29] == seen[29:]
    assert {congested for _, congested, _ in seen} == {False, True}


def test_a_large_step_does_not_go_past_the_limit_at_one_stroke(spool: Spool) -> None:
    budget = Budget(limit=2_000, spool=spool)
    journal = journal_of(budget)
    journal.append([CancelRequested(at=at, reason="x" * 1_000) for at in range(1, 101)])
    assert budget.used - budget.spooled < 2_000 + 1_200 + 100 * FACT_OVERHEAD_BYTES
    journal.close()


def test_the_file_is_closed_when_nothing_in_it_is_needed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    plain = spools.tempfile.TemporaryFile

    def temporary_file(**options: Any) -> Any:
        made.append(plain(**options))
        return made[-1]

    monkeypatch.setattr(spools.tempfile, "TemporaryFile", temporary_file)
    one, other = spool.put(b"one"), spool.put(b"other")
    assert one is not None
    assert other is not None
    spool.free(one)
    assert spool.read(other) == b"other"
    assert [file.closed for file in made] == [False]
    spool.free(other)
    again = spool.put(b"again")
    assert again is not None
    assert [file.closed for file in made] == [True, False]
    spool.free(again)


def test_space_is_used_again(spool: Spool, tmp_path: Path) -> None:
    """Facts come and go, one of them stays: the file does not grow beyond what is needed."""
    stays = spool.put(b"stays")
    assert stays is not None
    highest = 0
    for _ in range(500):
        fact = spool.put(b"x" * 20_000)
        assert fact is not None
        highest = max(highest, fact.offset + fact.size)
        spool.free(fact)
    assert highest <= 3 * (1 << 20) // REGIONS
    assert spool.read(stays) == b"stays"
    spool.free(stays)


def test_what_has_no_place_stays_in_memory_and_is_told_once(
    tmp_path: Path, captured_logs: list[dict[str, Any]]
) -> None:
    budget = Budget(limit=1_000, spool=Spool(32 * 1_000, tmp_path))
    journal = journal_of(budget)
    fill(journal, 1, 400)
    assert budget.spooled <= 32_000
    assert [event["event"] for event in captured_logs] == ["spool_unusable"]
    assert captured_logs[0]["reason"] == "it is full"
    assert everything(journal) == list(range(1, 401))
    assert budget.congested  # so that nothing new is begun
    journal.close()
    assert budget.used == 0


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO], ids=["disk full", "disk broken"])
def test_what_the_system_refuses_stays_in_memory(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, captured_logs: list[dict[str, Any]], fault: int
) -> None:
    def pwrite(*_: Any) -> int:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(os, "pwrite", pwrite)
    budget = Budget(limit=1_000, spool=spool)
    journal = journal_of(budget)
    fill(journal, 1, 50)
    assert [event["reason"] for event in captured_logs] == [os.strerror(fault)]
    assert everything(journal) == list(range(1, 51))
    monkeypatch.undo()
    fill(journal, 51, 60)
    assert spool.facts == 10  # it was tried again
    assert everything(journal) == list(range(51, 61))
    journal.close()


def test_a_directory_that_is_gone_is_told_and_nothing_is_lost(
    tmp_path: Path, captured_logs: list[dict[str, Any]]
) -> None:
    budget = Budget(limit=1_000, spool=Spool(1 << 20, tmp_path / "gone"))
    journal = journal_of(budget)
    fill(journal, 1, 50)
    assert [event["reason"] for event in captured_logs] == ["No such file or directory"]
    assert everything(journal) == list(range(1, 51))


def test_a_write_that_was_cut_short_goes_on(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: plain(file, data[:7], offset))
    fact = spool.put(b"a fact of more than seven bytes")
    assert fact is not None
    assert spool.read(fact) == b"a fact of more than seven bytes"
    spool.free(fact)


def test_a_file_that_does_not_give_back_what_it_took_is_an_error(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = journal_of(Budget(limit=1_000, spool=spool))
    fill(journal, 1, 50)
    monkeypatch.setattr(os, "pread", lambda *_: b"")
    with pytest.raises(
        JournalError, match="facts from 1 on cannot be read back from the spool: the spool ends after 0"
    ):
        everything(journal)
    journal.close()
    assert spool.facts == 0


class Twins(RuleBasedStateMachine):
    """The same things happen to journals with a file and to journals without: whatever they tell is the same."""

    def __init__(self) -> None:
        super().__init__()
        self.spool = Spool(REGIONS * 600)
        self.budgets = [Budget(limit=1_500, spool=self.spool), Budget(limit=1_500)]
        self.told: list[list[tuple[int, int]]] = [[], []]
        self.pairs: list[list[SessionJournal]] = []
        self.made: list[int] = []
        for _ in range(3):
            self.add()

    def add(self) -> None:
        pair = [journal_of(budget) for budget in self.budgets]
        number = len(self.pairs)
        for journal, told in zip(pair, self.told, strict=True):
            journal.on_commit(lambda journal=journal, told=told: told.append((number, journal.committed)))
        self.pairs.append(pair)
        self.made.append(0)

    @rule(number=st.integers(0, 2), sizes=st.lists(st.sampled_from([0, 10, 100, 700]), min_size=1, max_size=6))
    def append(self, number: int, sizes: list[int]) -> None:
        first = self.made[number] + 1
        facts = [CancelRequested(at=at, reason="x" * size) for at, size in enumerate(sizes, first)]
        self.made[number] += len(sizes)
        for journal in self.pairs[number]:
            journal.append(facts)

    @rule(number=st.integers(0, 2), max_facts=st.integers(1, 9), max_bytes=st.integers(1, 2_000))
    def take(self, number: int, max_facts: int, max_bytes: int) -> None:
        one, other = (journal.take(max_facts=max_facts, max_bytes=max_bytes) for journal in self.pairs[number])
        assert one == other

    @rule(number=st.integers(0, 2), data=st.data())
    def ack(self, number: int, data: st.DataObject) -> None:
        seq = data.draw(st.integers(0, self.made[number]))
        for journal in self.pairs[number]:
            journal.ack(journal.epoch, seq)

    @rule(number=st.integers(0, 2), data=st.data())
    def resend(self, number: int, data: st.DataObject) -> None:
        seq = data.draw(st.integers(1, self.made[number] + 1))
        for journal in self.pairs[number]:
            journal.resend(journal.epoch, seq)

    @rule(number=st.integers(0, 2), data=st.data())
    def adopt(self, number: int, data: st.DataObject) -> None:
        seq = data.draw(st.integers(self.pairs[number][0].committed, self.made[number]))
        for journal in self.pairs[number]:
            journal.adopt(journal.epoch + 1, seq)

    @precondition(lambda self: sum(self.made) > 40)
    @rule(number=st.integers(0, 2))
    def close_and_begin_another(self, number: int) -> None:
        for journal in self.pairs[number]:
            journal.close()
        self.pairs[number], self.made[number] = [journal_of(budget) for budget in self.budgets], 0

    @rule(number=st.integers(0, 2))
    def end(self, number: int) -> None:
        self.made[number] += 1
        for journal in self.pairs[number]:
            journal.append([ExecutionCancelled(at=self.made[number])])

    @invariant()
    def they_are_the_same(self) -> None:
        for one, other in self.pairs:
            for name in (
                "committed",
                "congested",
                "last_seq",
                "unacknowledged",
                "pending",
                "settled",
                "ended",
                "epoch",
            ):
                assert getattr(one, name) == getattr(other, name), name
        assert self.told[0] == self.told[1]
        assert (self.budgets[0].used, self.budgets[0].facts) == (self.budgets[1].used, self.budgets[1].facts)
        assert self.budgets[0].spooled <= self.spool.limit

    def teardown(self) -> None:
        for pair in self.pairs:
            for journal in pair:
                journal.close()
        assert self.spool.facts == self.budgets[0].spooled == self.budgets[0].used == 0


TestTwins = Twins.TestCase
