"""The session journal against any order of acks, cuts and adoptions: each fact arrives exactly once, in order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dagengine.errors import JournalError
from dagengine.events import facts as codec
from dagengine.events.facts import CancelRequested, ExecutionCancelled, Fact
from dagengine.journal.session import FACT_OVERHEAD_BYTES, Budget, Sendable, SessionJournal
from dagengine.wire import limits


def fact(number: int, size: int = 0) -> Fact:
    return CancelRequested(at=number, reason="x" * size)


def journal_of(
    number: int = 0,
    *,
    epoch: int = 1,
    committed: int = 0,
    budget: Budget | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> SessionJournal:
    journal = SessionJournal(epoch=epoch, committed=committed, budget=budget or Budget(), on_ready=on_ready)
    journal.append([fact(committed + at + 1) for at in range(number)])
    return journal


def positions(batch: Sendable) -> list[int]:
    numbers = [codec.decode(data).at for data in batch.facts]
    assert numbers == list(range(batch.first_seq, batch.first_seq + len(numbers)))
    return numbers


def take(journal: SessionJournal, max_facts: int = 1_000, max_bytes: int = 1 << 20) -> list[int]:
    return positions(journal.take(max_facts=max_facts, max_bytes=max_bytes))


def test_facts_are_taken_in_order_in_bounded_batches() -> None:
    journal = journal_of(5)
    assert take(journal, max_facts=2) == [1, 2]
    assert take(journal, max_bytes=1) == [3]  # one at least, however large
    assert take(journal) == [4, 5]
    assert not journal.pending
    assert (journal.last_seq, journal.unacknowledged, journal.committed) == (5, 5, 0)


def test_an_ack_moves_the_commit_position_and_tells_the_driver_once() -> None:
    journal, told = journal_of(5), []
    journal.on_commit(lambda: told.append(journal.committed))
    take(journal)
    journal.ack(1, 3)
    journal.ack(1, 3)
    journal.ack(1, 2)
    assert told == [3]
    assert journal.unacknowledged == 2


def test_acks_of_another_epoch_are_ignored() -> None:
    journal = journal_of(5, epoch=4)
    for epoch in (3, 5):
        journal.ack(epoch, 5)
        journal.resend(epoch, 1)
    assert journal.committed == 0


def test_an_ack_may_overtake_a_resend() -> None:
    journal = journal_of(4)
    take(journal)
    journal.resend(1, 2)
    journal.ack(1, 3)
    assert take(journal) == [4]


def test_an_ack_of_facts_that_were_never_made_is_an_error() -> None:
    with pytest.raises(JournalError, match="fact 6 is said to be committed, but only 5 were made"):
        journal_of(5).ack(1, 6)


def test_adopting_sends_the_uncommitted_suffix_again_under_the_new_epoch() -> None:
    ready: list[int] = []
    journal = journal_of(5, on_ready=lambda: ready.append(1))
    take(journal)
    journal.adopt(2, 3)
    assert (journal.epoch, journal.committed) == (2, 3)
    assert take(journal) == [4, 5]
    assert len(ready) == 2


@pytest.mark.parametrize(("committed_seq", "message"), [(2, "are not kept any more"), (9, "only 5 were made")])
def test_adopting_from_a_position_it_cannot_go_on_from_is_an_error(committed_seq: int, message: str) -> None:
    journal = journal_of(5)
    journal.ack(1, 3)
    with pytest.raises(JournalError, match=message):
        journal.adopt(2, committed_seq)


def test_a_journal_with_history_goes_on_after_it() -> None:
    journal = journal_of(2, committed=7)
    assert take(journal) == [8, 9]


def test_it_is_settled_once_the_last_fact_is_committed() -> None:
    journal = journal_of(1)
    journal.append([ExecutionCancelled(at=2)])
    assert journal.ended
    assert not journal.settled
    journal.ack(1, 2)
    assert journal.settled


def test_a_closed_journal_holds_nothing_and_takes_nothing() -> None:
    budget = Budget()
    journal = journal_of(5, budget=budget)
    take(journal, max_facts=2)
    journal.close()
    journal.append([fact(6)])
    journal.close()
    assert (journal.unacknowledged, budget.used, budget.facts) == (0, 0, 0)


def test_a_fact_that_no_session_can_carry_is_refused() -> None:
    journal = journal_of()
    with pytest.raises(JournalError, match=r"CancelRequested takes .* bytes, more than"):
        journal.append([fact(1, size=limits.MAX_FACT_BYTES)])
    assert journal.last_seq == 0


def test_congestion_begins_over_the_limit_and_its_end_at_half_is_told_to_all() -> None:
    size = len(codec.encode(fact(1))) + FACT_OVERHEAD_BYTES
    budget = Budget(limit=10 * size)
    one, other = journal_of(6, budget=budget), journal_of(4, budget=budget)
    told: list[str] = []
    other.on_commit(lambda: told.append("other"))
    assert not budget.congested
    other.append([fact(5)])
    assert one.congested
    assert other.congested
    one.ack(1, 5)
    assert one.congested  # 6 left, the limit was 10
    assert told == []
    one.ack(1, 6)
    assert not other.congested
    assert told == ["other"]
    assert budget.facts == 5


@given(sizes=st.lists(st.integers(0, 300), max_size=60), max_bytes=st.integers(1, 500), max_facts=st.integers(1, 9))
def test_batches_keep_their_bounds(sizes: list[int], max_bytes: int, max_facts: int) -> None:
    journal = journal_of()
    journal.append([fact(at + 1, size) for at, size in enumerate(sizes)])
    seen: list[int] = []
    while journal.pending:
        batch = journal.take(max_facts=max_facts, max_bytes=max_bytes)
        assert batch.size == sum(map(len, batch.facts))
        assert 1 <= len(batch.facts) <= max_facts
        assert batch.size <= max_bytes or len(batch.facts) == 1
        seen += positions(batch)
    assert seen == list(range(1, len(sizes) + 1))


class Delivery(RuleBasedStateMachine):
    """A journal, a store that appends conditionally, and a line between them that delays, cuts and reorders ends.

    The line keeps order within one session, as gRPC does; a cut loses all that is on its way, in both directions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(limit=2_000)
        self.journal = journal_of(budget=self.budget)
        self.made = 0
        self.store: list[int] = []
        self.store_epoch = 1
        self.upward: list[tuple[int, Sendable]] = []
        self.downward: list[tuple[str, int, int]] = []

    @rule(number=st.integers(1, 8))
    def the_driver_appends(self, number: int) -> None:
        self.journal.append([fact(self.made + at + 1) for at in range(number)])
        self.made += number

    @rule(max_facts=st.integers(1, 6))
    def the_session_sends(self, max_facts: int) -> None:
        if self.journal.pending:
            batch = self.journal.take(max_facts=max_facts, max_bytes=500)
            self.upward.append((self.journal.epoch, batch))

    @rule()
    def the_store_receives(self) -> None:
        if not self.upward:
            return
        epoch, batch = self.upward.pop(0)
        if epoch != self.store_epoch:
            return
        if batch.first_seq > len(self.store) + 1:
            self.downward.append(("resend", epoch, len(self.store) + 1))
            return
        fresh = positions(batch)[len(self.store) + 1 - batch.first_seq :]
        self.store += fresh
        self.downward.append(("ack", epoch, len(self.store)))

    @rule()
    def the_journal_hears(self) -> None:
        if self.downward:
            kind, epoch, seq = self.downward.pop(0)
            (self.journal.ack if kind == "ack" else self.journal.resend)(epoch, seq)

    @rule(raised=st.booleans())
    def the_line_is_cut_and_the_journal_adopted(self, raised: bool) -> None:
        self.upward.clear()
        self.downward.clear()
        self.store_epoch += raised
        self.journal.adopt(self.store_epoch, len(self.store))

    @rule(data=st.data())
    def a_batch_is_lost(self, data: st.DataObject) -> None:
        """What no line does, and the store's answer repairs all the same."""
        if len(self.upward) > 1:
            del self.upward[data.draw(st.integers(0, len(self.upward) - 2))]

    @invariant()
    def each_fact_is_stored_once_and_in_order(self) -> None:
        assert self.store == list(range(1, len(self.store) + 1))
        assert self.journal.last_seq == self.made
        assert self.journal.committed <= len(self.store)
        assert self.budget.facts == self.journal.unacknowledged == self.made - self.journal.committed

    def teardown(self) -> None:
        self.the_line_is_cut_and_the_journal_adopted(raised=True)
        while self.journal.unacknowledged:
            self.the_session_sends(max_facts=5)
            self.the_store_receives()
            self.the_journal_hears()
        assert self.store == list(range(1, self.made + 1))
        assert self.budget.used == 0


TestDelivery = Delivery.TestCase
