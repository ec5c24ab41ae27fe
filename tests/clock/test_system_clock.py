"""The wall clock as processes see it: steady, whatever is done to the machine's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dagengine import clock as clocks
from dagengine.clock import SystemClock

SECOND = 1_000_000_000


class Hands:
    """A machine's two clocks, in nanoseconds."""

    def __init__(self) -> None:
        self.wall = 1_000 * SECOND
        self.monotonic = 5 * SECOND

    def pass_(self, nanoseconds: int) -> None:
        self.wall += nanoseconds
        self.monotonic += nanoseconds

    def clock(self) -> SystemClock:
        return SystemClock(wall=lambda: self.wall, monotonic=lambda: self.monotonic)


def test_it_follows_the_wall_clock() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.pass_(3 * SECOND)
    assert clock.now() == 1_003_000_000


def test_set_back_it_slows_down_until_the_wall_clock_has_caught_up() -> None:
    hands = Hands()
    clock = hands.clock()
    before = clock.now()
    hands.wall -= 10 * SECOND
    hands.pass_(4 * SECOND)
    assert clock.now() == before + 2_000_000
    hands.pass_(16 * SECOND)
    assert clock.now() == hands.wall // 1_000


def test_set_forward_it_follows_at_once() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.wall += 3_600 * SECOND
    assert clock.now() == hands.wall // 1_000


@given(st.lists(st.tuples(st.integers(0, 10 * SECOND), st.integers(-5_000 * SECOND, 5_000 * SECOND)), max_size=30))
def test_it_never_goes_back_and_never_stands_still(steps: list[tuple[int, int]]) -> None:
    hands = Hands()
    clock = hands.clock()
    last = clock.now()
    for elapsed, jump in steps:
        hands.pass_(elapsed)
        hands.wall = max(0, hands.wall + jump)
        now = clock.now()
        assert now >= last + elapsed // 2_000 - 1
        last = now


async def test_sleeping_ends_when_the_time_has_come() -> None:
    clock = SystemClock()
    at = clock.now() + 2_000
    await clock.sleep_until(at)
    assert clock.now() >= at


def test_elapsed_time_goes_on_and_is_no_wall_clock() -> None:
    first = clocks.elapsed()
    clock = SystemClock(wall=clocks.elapsed, monotonic=clocks.elapsed)
    assert first // 1_000 <= clock.now() <= clocks.elapsed() // 1_000 + 1
    assert clocks.elapsed() < 20 * 365 * 86_400 * SECOND  # counted from a start of the machine, not from 1970
