"""The gate of one engine: who may begin, in what order, and who is told to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from dagengine.admission import declaration
from dagengine.driver.gate import Granted, Request, Ticket
from dagengine.driver.local_gate import PATIENCE, LocalGate
from dagengine.spec.rate import parse_rate
from dagengine.testing import VirtualClock

SECOND = 1_000_000


class Elsewhere:
    """Pools over the whole system that grant when the test says so."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.asked: dict[Ticket, Granted] = {}
        self.given_back: list[Ticket] = []

    def knows(self, pool: str) -> bool:
        return pool in self.names

    def ask(self, request: Request, granted: Granted, /) -> None:
        self.asked[request.ticket] = granted

    def give_back(self, ticket: Ticket, /) -> None:
        self.given_back.append(ticket)


class Attempts:
    """Attempts that ask at a gate, by name; `log` is what they were told, in order."""

    def __init__(self, gate: LocalGate) -> None:
        self.gate = gate
        self.log: list[str] = []

    def ask(
        self, name: str, *, pool: str = "", rate: str = "", weight: int = 1, priority: int = 0, key: str = "w/n"
    ) -> None:
        request = Request(
            ticket=ticket(name),
            pool=pool,
            weight=weight,
            rate=parse_rate(rate) if rate else None,
            rate_key=key,
            priority=priority,
        )
        self.gate.ask(
            request,
            lambda: self.log.append(name),
            lambda pool, rate: self.log.append(f"{name} waits for {pool or rate}"),
        )

    def heard(self) -> list[str]:
        log, self.log = self.log, []
        return log


def ticket(name: str) -> Ticket:
    return Ticket(f"execution {name[0]}", 0, int(name[1:] or 0), 1)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def make(clock: VirtualClock) -> Iterator[Callable[[str], Attempts]]:
    gates: list[LocalGate] = []

    def made(pools: str = "") -> Attempts:
        gates.append(LocalGate(declaration.parse(pools), clock))
        return Attempts(gates[-1])

    yield made
    for gate in gates:
        gate.close()


async def sweep() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def pass_time(clock: VirtualClock, by: int) -> None:
    await clock.asleep()
    clock.advance(by)
    await sweep()


async def test_who_finds_room_begins_at_once_and_who_finds_none_is_told_once(make: Callable[[str], Attempts]) -> None:
    attempts = make("db=2")
    for name in ("a", "b", "c"):
        attempts.ask(name, pool="db")
    assert attempts.heard() == ["a", "b", "c waits for db"]
    attempts.gate.release(ticket("a"))
    assert attempts.heard() == []
    await sweep()
    assert attempts.heard() == ["c"]


async def test_attempts_that_end_together_make_room_in_one_sweep(make: Callable[[str], Attempts]) -> None:
    attempts = make("db=2")
    attempts.ask("a", pool="db")
    attempts.ask("b", pool="db")
    attempts.ask("c", pool="db", weight=2)
    attempts.ask("d", pool="db")
    attempts.heard()
    attempts.gate.release(ticket("b"))
    attempts.gate.release(ticket("a"))
    await sweep()
    assert attempts.heard() == ["c"]


async def test_a_rate_is_kept_and_the_rest_follow_by_the_clock(
    make: Callable[[str], Attempts], clock: VirtualClock
) -> None:
    attempts = make("")
    for index in range(5):
        attempts.ask(f"a{index}", rate="2/s")
    assert attempts.heard() == ["a0", "a1", *(f"a{index} waits for 2/s" for index in (2, 3, 4))]
    await pass_time(clock, SECOND - 1)
    assert attempts.heard() == []
    await pass_time(clock, 1)
    assert attempts.heard() == ["a2", "a3"]
    await pass_time(clock, SECOND)
    assert attempts.heard() == ["a4"]


async def test_nobody_holds_room_and_waits_for_a_turn(make: Callable[[str], Attempts], clock: VirtualClock) -> None:
    attempts = make("db=2")
    attempts.ask("a1", pool="db", rate="1/s")
    attempts.ask("a2", pool="db", rate="1/s")
    attempts.ask("b", pool="db")
    assert attempts.heard() == ["a1", "a2 waits for 1/s", "b"]
    await pass_time(clock, SECOND)
    assert attempts.heard() == []  # its turn has come, but there is no room
    attempts.gate.release(ticket("b"))
    await sweep()
    assert attempts.heard() == ["a2"]


async def test_the_rate_counts_from_the_begin_and_not_from_the_turn(
    make: Callable[[str], Attempts], clock: VirtualClock
) -> None:
    attempts = make("db=1")
    attempts.ask("b", pool="db")
    for index in range(3):
        attempts.ask(f"a{index}", pool="db", rate="1/s")
    clock.advance(10 * SECOND)
    attempts.heard()
    for name in ("b", "a0"):
        attempts.gate.release(ticket(name))
        await sweep()
    assert attempts.heard() == ["a0"]
    await pass_time(clock, SECOND)
    assert attempts.heard() == ["a1"]


async def test_a_pool_may_have_a_rate(make: Callable[[str], Attempts], clock: VirtualClock) -> None:
    attempts = make("api=5:2/s")
    for index in range(3):
        attempts.ask(f"a{index}", pool="api")
    assert attempts.heard() == ["a0", "a1", "a2 waits for api"]
    await pass_time(clock, SECOND)
    assert attempts.heard() == ["a2"]


async def test_who_withdraws_makes_way_and_hears_nothing_more(
    make: Callable[[str], Attempts], clock: VirtualClock
) -> None:
    attempts = make("db=1")
    attempts.ask("a", pool="db", rate="1/s", key="w/1")
    attempts.ask("b", pool="db")
    attempts.ask("c", pool="db")
    attempts.heard()
    attempts.gate.withdraw(ticket("b"))
    attempts.gate.withdraw(ticket("a"))
    await sweep()
    assert attempts.heard() == ["c"]


async def test_an_execution_that_is_forgotten_leaves_nothing_behind(make: Callable[[str], Attempts]) -> None:
    attempts = make("db=2")
    for index in range(4):
        attempts.ask(f"a{index}", pool="db")
    attempts.ask("b", pool="db")
    attempts.heard()
    attempts.gate.forget("execution a")
    await sweep()
    assert attempts.heard() == ["b"]
    [db] = attempts.gate.snapshot()
    assert (db.used, db.waiting) == (1, 0)


async def test_callbacks_do_not_run_inside_each_other(make: Callable[[str], Attempts]) -> None:
    gate = make("db=10").gate
    log: list[str] = []

    def granted(name: str, then: str) -> None:
        log.append(f"{name} begins")
        if then:
            gate.ask(Request(ticket=ticket(then), pool="db"), lambda: granted(then, ""), lambda *_: None)
            gate.release(ticket(name))
        log.append(f"{name} has begun")

    gate.ask(Request(ticket=ticket("a"), pool="db"), lambda: granted("a", "b"), lambda *_: None)
    assert log == ["a begins", "a has begun", "b begins", "b has begun"]


async def test_one_that_is_withdrawn_while_its_grant_is_on_its_way_never_begins(
    make: Callable[[str], Attempts],
) -> None:
    gate = make("db=2").gate
    log: list[str] = []

    def first() -> None:
        log.append("a")
        gate.ask(Request(ticket=ticket("b"), pool="db"), lambda: log.append("b"), lambda *_: None)
        gate.withdraw(ticket("b"))

    gate.ask(Request(ticket=ticket("a"), pool="db"), first, lambda *_: None)
    await sweep()
    assert log == ["a"]
    assert gate.snapshot()[0].used == 1


async def test_a_pool_that_nobody_declared_is_missing_and_is_waited_for(make: Callable[[str], Attempts]) -> None:
    attempts = make("db=1")
    assert attempts.gate.missing(["db", "x", "y", "x"]) == ["x", "y"]
    attempts.ask("a", pool="x")
    assert attempts.heard() == ["a waits for x"]
    shared = Elsewhere("x")
    attempts.gate.attach(shared)
    attempts.gate.reconsider()
    shared.asked[ticket("a")]()
    assert attempts.heard() == ["a"]
    assert attempts.gate.missing(["x"]) == []


async def test_a_pool_over_the_whole_system_goes_before_one_of_the_engine(
    make: Callable[[str], Attempts], clock: VirtualClock
) -> None:
    attempts, shared = make("db=1"), Elsewhere("db")
    attempts.gate.attach(shared)
    attempts.ask("a", pool="db", rate="1/s")
    attempts.ask("b", pool="db")
    assert attempts.heard() == []  # the answer may come soon
    shared.asked[ticket("a")]()
    assert attempts.heard() == ["a"]
    await pass_time(clock, PATIENCE)
    assert attempts.heard() == ["b waits for db"]
    shared.asked[ticket("b")]()
    assert attempts.heard() == ["b"]
    attempts.gate.release(ticket("a"))
    attempts.gate.withdraw(ticket("b"))
    assert shared.given_back == [ticket("a"), ticket("b")]


async def test_who_waits_for_a_shared_pool_that_is_gone_waits_for_the_engines_own(
    make: Callable[[str], Attempts],
) -> None:
    attempts, shared = make("db=1"), Elsewhere("db")
    attempts.gate.attach(shared)
    attempts.ask("a", pool="db")
    attempts.ask("b", pool="db")
    shared.names.clear()
    attempts.gate.reconsider()
    assert attempts.heard() == ["a"]
    assert shared.given_back == [ticket("a"), ticket("b")]
    attempts.gate.release(ticket("a"))
    await sweep()
    assert attempts.heard() == ["b"]


async def test_a_closed_gate_grants_nothing(make: Callable[[str], Attempts], clock: VirtualClock) -> None:
    attempts = make("db=1")
    attempts.ask("a", pool="db", rate="1/s")
    attempts.ask("b", pool="db", rate="1/s")
    attempts.heard()
    attempts.gate.close()
    attempts.ask("c")
    attempts.gate.release(ticket("a"))
    await sweep()
    assert attempts.heard() == []
    assert clock.next_wake is None
