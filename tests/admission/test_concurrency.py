from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dagengine.admission.concurrency import (
    Cancel,
    Concurrency,
    Ended,
    OnConflict,
    Proceed,
    Refuse,
    Restored,
    Verdict,
    Wants,
)


def wants(
    machine: Concurrency, execution: str, *, at: int = 0, most: int = 1, on: OnConflict = "queue", priority: int = 0
) -> list[Verdict]:
    return machine.handle(
        Wants(at=at, execution=execution, key="flow/acme", max=most, on_conflict=on, priority=priority)
    )


def test_queue_lets_the_next_one_go_when_one_has_ended() -> None:
    machine = Concurrency()
    assert wants(machine, "a") == [Proceed("a")]
    assert wants(machine, "b") == []
    assert machine.waits("b")
    assert machine.handle(Ended("a")) == [Proceed("b")]
    assert machine.handle(Ended("b")) == []
    assert len(machine) == 0


def test_keys_have_nothing_to_do_with_each_other() -> None:
    machine = Concurrency()
    wants(machine, "a")
    assert machine.handle(Wants(at=0, execution="b", key="flow/other", max=1)) == [Proceed("b")]


def test_higher_priority_goes_first_until_the_other_has_waited_for_long() -> None:
    machine = Concurrency()
    wants(machine, "a")
    wants(machine, "old", at=0)
    wants(machine, "urgent", at=5_000_000, priority=6)
    wants(machine, "late", at=5_000_000, priority=4)
    assert machine.handle(Ended("a")) == [Proceed("urgent")]
    assert machine.handle(Ended("urgent")) == [Proceed("old")]


def test_skip_refuses_and_remembers_nothing() -> None:
    machine = Concurrency()
    wants(machine, "a", most=2)
    assert wants(machine, "b", most=2, on="skip") == [Proceed("b")]
    assert wants(machine, "c", most=2, on="skip") == [Refuse("c", 2)]
    assert machine.handle(Ended("c")) == []
    machine.handle(Ended("a"))
    assert wants(machine, "c", most=2, on="skip") == [Proceed("c")]


def test_replace_cancels_the_oldest_and_waits_until_it_has_ended() -> None:
    machine = Concurrency()
    wants(machine, "a", most=2)
    wants(machine, "b", most=2)
    assert wants(machine, "c", most=2, on="replace") == [Cancel("a", "c")]
    assert machine.waits("c")
    assert machine.handle(Ended("a")) == [Proceed("c")]
    assert machine.under_way("flow/acme") == ("b", "c")


def test_replace_replaces_what_waits_as_well_and_tells_nobody_twice() -> None:
    machine = Concurrency()
    wants(machine, "a")
    assert wants(machine, "b", on="replace") == [Cancel("a", "b")]
    assert wants(machine, "c", on="replace") == [Cancel("b", "c")]
    assert machine.handle(Ended("b")) == []
    assert machine.handle(Ended("a")) == [Proceed("c")]


def test_what_was_told_to_cancel_but_has_work_to_do_first_still_gets_its_turn() -> None:
    machine = Concurrency()
    wants(machine, "a")
    wants(machine, "b", on="replace")
    wants(machine, "c", on="replace")
    assert machine.handle(Ended("a")) == [Proceed("b")]
    assert machine.handle(Ended("b")) == [Proceed("c")]


def test_what_was_under_way_before_counts_whatever_the_limit() -> None:
    machine = Concurrency()
    for execution in "abc":
        assert machine.handle(Restored(at=0, execution=execution, key="flow/acme")) == []
    assert wants(machine, "d", most=2) == []
    assert machine.handle(Ended("a")) == []
    assert machine.handle(Ended("b")) == [Proceed("d")]


def test_wanting_twice_and_ending_twice_change_nothing() -> None:
    machine = Concurrency()
    wants(machine, "a")
    assert wants(machine, "a") == []
    wants(machine, "b")
    machine.handle(Ended("a"))
    assert machine.handle(Ended("a")) == []
    assert machine.under_way("flow/acme") == ("b",)


class RandomConcurrency(RuleBasedStateMachine):
    """Any starts and ends: never more than the limit under way, and everybody gets a turn."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Concurrency()
        self.waiting: list[str] = []
        self.under_way: list[str] = []
        self.count = 0

    def follow(self, verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            match verdict:
                case Proceed(execution):
                    self.waiting.remove(execution)
                    self.under_way.append(execution)
                    assert len(self.under_way) <= 2
                case Cancel(execution, _):
                    assert execution in self.under_way + self.waiting
                case Refuse(execution, _):
                    self.waiting.remove(execution)
                    assert len(self.under_way) == 2

    @rule(on=st.sampled_from(["queue", "skip", "replace"]), priority=st.integers(-9, 9))
    def want(self, on: OnConflict, priority: int) -> None:
        self.count += 1
        name = str(self.count)
        self.waiting.append(name)
        self.follow(wants(self.machine, name, at=self.count, most=2, on=on, priority=priority))

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        known = self.under_way + self.waiting
        if known:
            name = data.draw(st.sampled_from(known))
            (self.under_way if name in self.under_way else self.waiting).remove(name)
            self.follow(self.machine.handle(Ended(name)))

    @invariant()
    def nobody_waits_without_need(self) -> None:
        assert not self.waiting or len(self.under_way) == 2
        assert self.machine.under_way("flow/acme") == tuple(self.under_way)
        assert len(self.machine) == len(self.waiting) + len(self.under_way)


TestRandomConcurrency = RandomConcurrency.TestCase
