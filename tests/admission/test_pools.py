from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dagengine.admission import pools
from dagengine.admission.line import AGEING
from dagengine.spec.model import MAX_PRIORITY
from dagengine.spec.rate import parse_rate


def ask(pool: pools.Pool, ticket: str, *, at: int = 0, weight: int = 1, priority: int = 0) -> list[object]:
    return list(pool.handle(pools.Asked(at=at, ticket=ticket, weight=weight, priority=priority)))


def release(pool: pools.Pool, *tickets: str, at: int = 0) -> list[object]:
    return list(pool.handle(pools.Released(at=at, tickets=tickets)))


def test_room_is_granted_until_the_pool_is_full_and_again_when_some_is_given_back() -> None:
    pool = pools.Pool("db", 2)
    assert ask(pool, "a") == ["a"]
    assert ask(pool, "b") == ["b"]
    assert ask(pool, "c") == []
    assert pool.snapshot() == pools.Snapshot(name="db", size=2, used=2, waiting=1)
    assert release(pool, "a") == ["c"]


def test_a_batch_of_releases_is_one_sweep() -> None:
    pool = pools.Pool("db", 2)
    for ticket in "abcde":
        ask(pool, ticket)
    assert release(pool, "a", "b") == ["c", "d"]


def test_higher_priority_goes_first_and_equals_go_in_the_order_in_which_they_came() -> None:
    pool = pools.Pool("db", 1)
    ask(pool, "running")
    for ticket, priority in (("low", 0), ("first", 5), ("second", 5), ("top", 9)):
        ask(pool, ticket, priority=priority)
    order = []
    current = "running"
    while granted := release(pool, current):
        order += granted
        current = str(granted[0])
    assert order == ["top", "first", "second", "low"]


def test_a_second_of_waiting_is_worth_a_point_of_priority() -> None:
    pool = pools.Pool("db", 1)
    ask(pool, "running")
    ask(pool, "old", at=0, priority=0)
    ask(pool, "new", at=5 * AGEING + 1, priority=5)
    ask(pool, "urgent", at=5 * AGEING + 1, priority=6)
    assert release(pool, "running", at=6 * AGEING) == ["urgent"]
    assert release(pool, "urgent", at=6 * AGEING) == ["old"]


def test_waiting_elsewhere_counts_too() -> None:
    pool = pools.Pool("db", 1)
    ask(pool, "running")
    ask(pool, "here", at=10)
    pool.handle(pools.Asked(at=20, ticket="there", waited=15))
    assert release(pool, "running", at=30) == ["there"]


def test_light_requests_do_not_pass_a_heavy_one() -> None:
    pool = pools.Pool("db", 4)
    ask(pool, "a", weight=3)
    assert ask(pool, "heavy", weight=4) == []
    assert ask(pool, "light", weight=1) == []
    assert release(pool, "a") == ["heavy"]
    assert release(pool, "heavy") == ["light"]


def test_a_request_heavier_than_the_pool_has_it_alone() -> None:
    pool = pools.Pool("db", 2)
    ask(pool, "a")
    assert ask(pool, "huge", weight=100) == []
    assert release(pool, "a") == ["huge"]
    assert pool.used == 2
    assert ask(pool, "b") == []
    assert release(pool, "huge") == ["b"]


def test_a_pool_that_shrinks_grants_nothing_until_it_fits() -> None:
    pool = pools.Pool("db", 3)
    for ticket in "abcd":
        ask(pool, ticket)
    assert pool.handle(pools.Resized(at=0, size=1)) == []
    assert pool.used == 3
    assert release(pool, "a") == []
    assert release(pool, "b") == []
    assert release(pool, "c") == ["d"]


def test_a_pool_that_grows_grants_at_once_and_one_of_size_zero_nothing() -> None:
    pool = pools.Pool("db", 0)
    assert ask(pool, "a") == []
    assert ask(pool, "b") == []
    assert pool.handle(pools.Resized(at=0, size=2)) == ["a", "b"]


def test_who_withdraws_is_passed_over_and_makes_way() -> None:
    pool = pools.Pool("db", 2)
    ask(pool, "a")
    ask(pool, "heavy", weight=2)
    ask(pool, "light")
    assert pool.handle(pools.Withdrawn(at=0, tickets=("heavy",))) == ["light"]


def test_asking_twice_and_giving_back_twice_change_nothing() -> None:
    pool = pools.Pool("db", 1)
    assert ask(pool, "a") == ["a"]
    assert ask(pool, "a") == []
    ask(pool, "b")
    ask(pool, "b")
    assert release(pool, "a") == ["b"]
    assert release(pool, "a") == []
    assert pool.snapshot() == pools.Snapshot(name="db", size=1, used=1, waiting=0)


def test_what_was_held_before_counts_even_beyond_the_size() -> None:
    pool = pools.Pool("db", 2)
    pool.handle(pools.Held(at=0, ticket="a", weight=2))
    pool.handle(pools.Held(at=0, ticket="b", weight=2))
    assert ask(pool, "c") == []
    assert release(pool, "a") == []
    assert release(pool, "b") == ["c"]


def test_a_pool_with_a_rate_says_when_the_next_may_begin() -> None:
    pool = pools.Pool("api", 5, rate=parse_rate("2/s"))
    assert ask(pool, "a", at=0) == ["a"]
    assert ask(pool, "b", at=100_000) == ["b"]
    assert ask(pool, "c", at=200_000) == []
    assert pool.wake_at == 1_000_000
    assert pool.handle(pools.TimePassed(at=1_000_000)) == ["c"]
    assert pool.wake_at is None


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size of -1"):
        pools.Pool("db", -1)


class RandomPool(RuleBasedStateMachine):
    """Any requests, releases and sizes: never over the size, first come first served, nobody forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = pools.Pool("db", 3)
        self.at = 0
        self.count = 0
        self.asked: dict[str, pools.Asked] = {}

    def expect(self, granted: list[object]) -> None:
        before = [key for key in self.asked if key not in self.pool.held or key in granted]
        order = sorted(before, key=lambda key: (self.asked[key].at - AGEING * self.asked[key].priority, int(key)))
        assert granted == order[: len(granted)]
        if granted:
            assert self.pool.used <= self.pool.size

    @rule(weight=st.integers(1, 6), priority=st.integers(-MAX_PRIORITY, MAX_PRIORITY), wait=st.integers(0, 10**8))
    def ask(self, weight: int, priority: int, wait: int) -> None:
        self.at += wait
        self.count += 1
        stimulus = pools.Asked(at=self.at, ticket=str(self.count), weight=weight, priority=priority)
        self.asked[str(self.count)] = stimulus
        self.expect(self.pool.handle(stimulus))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        held = sorted(map(str, self.pool.held))
        tickets = tuple(data.draw(st.lists(st.sampled_from(held), unique=True))) if held else ()
        granted = self.pool.handle(pools.Released(at=self.at, tickets=tickets))
        for ticket in tickets:
            del self.asked[ticket]
        self.expect(granted)

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        waiting = sorted(map(str, self.pool.line))
        if waiting:
            ticket = data.draw(st.sampled_from(waiting))
            granted = self.pool.handle(pools.Withdrawn(at=self.at, tickets=(ticket,)))
            del self.asked[ticket]
            self.expect(granted)

    @rule(size=st.integers(0, 6))
    def resize(self, size: int) -> None:
        self.expect(self.pool.handle(pools.Resized(at=self.at, size=size)))

    @invariant()
    def holds(self) -> None:
        pools.check(self.pool)
        assert set(self.asked) == {*self.pool.held, *self.pool.line}

    def teardown(self) -> None:
        """Everything that waits gets its turn in the end, whoever comes meanwhile."""
        self.pool.handle(pools.Resized(at=self.at, size=3))
        waiting = set(self.pool.line)
        for number in range(4 * (len(self.asked) + 10)):
            self.at += MAX_PRIORITY * AGEING
            self.pool.handle(pools.Asked(at=self.at, ticket=f"late {number}", priority=MAX_PRIORITY))
            self.pool.handle(pools.Released(at=self.at, tickets=tuple(self.pool.held)))
        assert not waiting & {*self.pool.line}


TestRandomPool = RandomPool.TestCase


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(-5, 5)), max_size=60))
def test_the_order_of_grants_does_not_depend_on_when_room_comes_free(requests: list[tuple[int, int]]) -> None:
    orders = []
    for batch in (1, 3):
        pool = pools.Pool("db", 3)
        pool.handle(pools.Held(at=0, ticket="before", weight=3))
        for number, (weight, priority) in enumerate(requests):
            ask(pool, str(number), at=number, weight=weight, priority=priority)
        order = release(pool, "before", at=100)
        while pool.held:
            order += release(pool, *map(str, list(pool.held)[:batch]), at=100)
        orders.append(order)
    assert orders[0] == orders[1]
    assert len(orders[0]) == len(requests)
