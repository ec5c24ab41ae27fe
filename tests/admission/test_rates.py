from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from dagengine.admission import rates
from dagengine.admission.window import Window
from dagengine.spec.rate import Rate, parse_rate

SECOND = 1_000_000


def ask(machine: rates.Rates, ticket: str, *, at: int = 0, key: str = "flow/node", rate: str = "2/s") -> list[Hashable]:
    return machine.handle(rates.Asked(at=at, ticket=ticket, key=key, rate=parse_rate(rate)))


def test_as_many_as_the_rate_allows_begin_at_once_and_the_next_one_when_the_span_is_over() -> None:
    machine = rates.Rates()
    assert [ask(machine, ticket, at=index) for index, ticket in enumerate("abc")] == [["a"], ["b"], []]
    machine.handle(rates.Began(at=10, ticket="a"))
    machine.handle(rates.Began(at=20, ticket="b"))
    assert machine.wake_at == SECOND + 10
    assert machine.handle(rates.TimePassed(at=SECOND + 9)) == []
    assert machine.handle(rates.TimePassed(at=SECOND + 10)) == ["c"]


def test_a_turn_that_nobody_takes_goes_to_the_next_one() -> None:
    machine = rates.Rates()
    for ticket in "abcd":
        ask(machine, ticket)
    assert machine.handle(rates.Withdrawn(at=0, tickets=("c", "a"))) == ["d"]


def test_a_turn_waits_for_its_begin_as_long_as_that_takes() -> None:
    machine = rates.Rates()
    for ticket in "abc":
        ask(machine, ticket)
    assert machine.wake_at is None
    assert machine.handle(rates.TimePassed(at=60 * SECOND)) == []
    assert machine.handle(rates.Began(at=60 * SECOND, ticket="b")) == []
    assert machine.wake_at == 61 * SECOND
    assert machine.handle(rates.TimePassed(at=61 * SECOND)) == ["c"]


def test_keys_do_not_wait_for_each_other_and_the_latest_rate_counts() -> None:
    machine = rates.Rates()
    assert ask(machine, "a", rate="1/s") == ["a"]
    assert ask(machine, "b", rate="1/s") == []
    assert ask(machine, "other", key="flow/other", rate="1/h") == ["other"]
    assert ask(machine, "c", rate="3/s") == ["b", "c"]


def test_higher_priority_comes_first() -> None:
    machine = rates.Rates()
    ask(machine, "a", rate="1/s")
    ask(machine, "b", rate="1/s")
    machine.handle(rates.Asked(at=0, ticket="c", key="flow/node", rate=parse_rate("1/s"), priority=1))
    machine.handle(rates.Began(at=0, ticket="a"))
    assert machine.handle(rates.TimePassed(at=SECOND)) == ["c"]


def test_keys_that_are_over_are_forgotten() -> None:
    machine = rates.Rates()
    for number in range(3_000):
        at = number * 2 * SECOND
        ask(machine, f"t{number}", at=at, key=f"flow/{number}")
        machine.handle(rates.Began(at=at, ticket=f"t{number}"))
    assert len(machine) < 1_100


@given(
    count=st.integers(1, 5),
    per=st.integers(1, 100),
    waits=st.lists(st.integers(0, 40), max_size=80),
)
def test_no_span_has_more_begins_than_the_rate_and_none_waits_without_need(
    count: int, per: int, waits: list[int]
) -> None:
    window = Window(Rate(count=count, per=per))
    at, begins = 0, list[int]()
    for wait in waits:
        asked = at = at + wait
        at = window.next_at(at)
        recent = [begin for begin in begins if begin > at - per]
        assert len(recent) < count
        if at > asked:
            assert len([begin for begin in begins if begin > at - 1 - per]) >= count
        assert window.room(at) == count - len(recent)
        window.add(at)
        begins.append(at)


@given(ahead=st.integers(0, 2), begins=st.lists(st.integers(0, 30), max_size=3))
def test_begins_that_are_to_come_are_counted(ahead: int, begins: list[int]) -> None:
    window = Window(Rate(count=3, per=10))
    at = 0
    for wait in begins:
        at = window.next_at(at + wait)
        window.add(at)
    opens = window.next_at(at, ahead=ahead)
    assert window.room(opens) > ahead


@given(waits=st.lists(st.integers(0, 3_000), min_size=1, max_size=200))
def test_of_very_high_rates_neighbours_are_counted_together(waits: list[int]) -> None:
    count, per = 5_000, 10_000
    window = Window(Rate(count=count, per=per))
    at, begins = 0, list[int]()
    for wait in waits:
        at += wait
        for _ in range(40):
            at = window.next_at(at)
            window.add(at)
            begins.append(at)
    for begin in begins[:: max(1, len(begins) // 20)]:
        assert sum(begin <= other < begin + per for other in begins) <= count
