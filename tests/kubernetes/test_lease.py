"""Candidates for one Lease, each with a clock of its own, and an API that lets one writer at a time through."""

from __future__ import annotations

import asyncio
import copy
import random
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dagengine.testing import START, VirtualClock
from orchestrator.errors import (
    ClusterConflict,
    ClusterError,
    ClusterInvalid,
    ClusterNotFound,
    ClusterRefused,
    ClusterUnavailable,
)
from orchestrator.kubernetes.base import LEASES, Object, Resource
from orchestrator.kubernetes.lease import LeaseElection

NAME = "workflow-orchestrator"
SECOND = 1_000_000
MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class Leases:
    """What candidates use of the port `orchestrator.kubernetes.base.Cluster`, with the rules of an API server."""

    namespace = "default"

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.requests: list[str] = []
        self.fault: ClusterError | None = None
        self.losing = False
        """Writes are done, but their answers are lost."""
        self.before_write: Callable[[], None] = lambda: None
        self._version = 100

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.objects[NAME]["spec"]
        return spec

    @property
    def holder(self) -> str:
        return str(self.spec.get("holderIdentity", ""))

    async def get(self, resource: Resource, name: str) -> Object:
        await self._asked("get", resource)
        if name not in self.objects:
            raise ClusterNotFound(f"no lease {name}")
        return copy.deepcopy(self.objects[name])

    async def create(self, resource: Resource, body: Object) -> Object:
        await self._asked("create", resource)
        if (name := body["metadata"]["name"]) in self.objects:
            raise ClusterConflict(f"{name} is there")
        return await self._keep(name, body)

    async def replace(self, resource: Resource, name: str, body: Object) -> Object:
        await self._asked("update", resource)
        self.before_write()
        if name not in self.objects:
            raise ClusterNotFound(f"no lease {name}")
        if body["metadata"]["resourceVersion"] != self.objects[name]["metadata"]["resourceVersion"]:
            raise ClusterConflict(f"{name} was changed")
        return await self._keep(name, body)

    def change(self, **spec: Any) -> None:
        """Somebody else writes it; None takes a field away."""
        kept = {name: value for name, value in {**self.spec, **spec}.items() if value is not None}
        self._store(NAME, {**self.objects[NAME], "spec": kept})

    async def _asked(self, verb: str, resource: Resource) -> None:
        assert resource is LEASES
        self.requests.append(verb)
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault

    async def _keep(self, name: str, body: Object) -> Object:
        spec = body["spec"]
        if spec.get("holderIdentity") == "" or spec["leaseDurationSeconds"] < 1 or spec["leaseTransitions"] < 0:
            raise ClusterInvalid(f"an API server does not take {spec}")
        for time in ("renewTime", "acquireTime"):
            assert MICRO_TIME.fullmatch(spec[time])
        stored = self._store(name, body)
        await asyncio.sleep(0)
        if self.losing:
            raise ClusterUnavailable("the connection was lost")
        return stored

    def _store(self, name: str, body: Object) -> Object:
        self._version += 1
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        self.objects[name] = copy.deepcopy(body)
        return body


class Candidate:
    """One replica that stands for election. `terms` are those that it was elected for, and None when it was no more."""

    def __init__(self, name: str, leases: Leases, *, skew: int = 0, pace: float = 1.0) -> None:
        self.clock = VirtualClock(at=START + skew)
        self.pace = pace
        self.terms: list[int | None] = []
        self.fit = True
        self.wall = VirtualClock(at=START + skew)
        self.election = LeaseElection(
            leases,  # type: ignore[arg-type]  # it has all that is used
            NAME,
            name=name,
            duration=6.0,
            clock=self.clock,
            wall=self.wall,
            chance=random.Random(name),
        )
        self.task = asyncio.create_task(
            self.election.run(lambda: self.terms.append(self.election.term), fit=lambda: self.fit)
        )

    @property
    def term(self) -> int | None:
        return self.election.term

    def advance(self, seconds: float) -> None:
        for clock in (self.clock, self.wall):
            clock.advance(round(seconds * SECOND))

    async def die(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Bench:
    """The API, and whoever is a candidate."""

    def __init__(self) -> None:
        self.leases = Leases()
        self.candidates: list[Candidate] = []

    async def join(self, name: str, **options: Any) -> Candidate:
        self.candidates.append(Candidate(name, self.leases, **options))
        await self.settle()
        return self.candidates[-1]

    async def settle(self) -> None:
        for _ in range(60):
            await asyncio.sleep(0)

    async def passes(self, seconds: float, *, step: float = 0.25) -> None:
        """Time goes by, for each at its own pace."""
        for _ in range(round(seconds / step)):
            for candidate in self.candidates:
                candidate.advance(step * candidate.pace)
            await self.settle()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    for candidate in bench.candidates:
        await candidate.die()


async def test_the_first_candidate_makes_the_lease_and_is_elected(bench: Bench) -> None:
    one = await bench.join("one")
    assert one.term == 1
    assert bench.leases.spec == {
        "holderIdentity": one.election.identity,
        "leaseDurationSeconds": 6,
        "leaseTransitions": 1,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:00.000000Z",
    }
    assert one.election.identity.startswith("one_")
    assert bench.leases.requests == ["get", "create"]


async def test_the_holder_renews_with_one_request_every_third_of_the_duration(bench: Bench) -> None:
    one = await bench.join("one")
    bench.leases.requests.clear()
    await bench.passes(60)
    assert bench.leases.requests == ["update"] * 30
    assert one.terms == [1]


async def test_whoever_comes_later_waits(bench: Bench) -> None:
    one, two = await bench.join("one"), await bench.join("two")
    await bench.passes(120)
    assert (one.term, two.term, two.terms) == (1, None, [])


@pytest.mark.parametrize("skew", [-7 * 3_600, 7 * 3_600], ids=["behind", "ahead"])
async def test_clocks_that_are_hours_off_elect_nobody(bench: Bench, skew: int) -> None:
    one, two = await bench.join("one", skew=skew * SECOND), await bench.join("two")
    await bench.passes(60)
    assert (one.terms, two.terms) == ([1], [])
    await one.die()
    await bench.passes(10)
    assert two.terms == [2]


async def test_a_holder_that_dies_is_replaced_when_its_lease_has_run_out(bench: Bench) -> None:
    one, two = await bench.join("one"), await bench.join("two")
    await bench.passes(5)
    await one.die()
    await bench.passes(4)
    assert two.terms == []
    await bench.passes(5)
    assert two.terms == [2]
    assert bench.leases.spec["leaseTransitions"] == 2


async def test_a_renewal_just_in_time_keeps_the_lease(bench: Bench) -> None:
    one, two = await bench.join("one"), await bench.join("two")
    one.pace = 0.0
    for _ in range(10):  # it wakes only when most of its time is over
        await bench.passes(5.5)
        one.advance(2)
        await bench.settle()
    assert (one.terms, two.terms) == ([1], [])


async def test_a_lease_that_was_released_is_taken_at_the_next_look(bench: Bench) -> None:
    one, two = await bench.join("one"), await bench.join("two")
    await one.die()
    await one.election.release()
    assert "holderIdentity" not in bench.leases.spec
    assert (one.term, bench.leases.spec["leaseTransitions"]) == (None, 1)
    two.election.look()
    two.advance(0.1)
    await bench.settle()
    assert two.terms == [2]


async def test_only_the_holder_releases(bench: Bench) -> None:
    one, two = await bench.join("one"), await bench.join("two")
    await two.die()
    await two.election.release()
    assert bench.leases.holder == one.election.identity


async def test_what_was_not_released_is_left_to_the_duration(bench: Bench) -> None:
    one, two = await bench.join("one"), await bench.join("two")
    await one.die()
    bench.leases.fault = ClusterUnavailable("connection refused")
    await one.election.release()
    bench.leases.fault = None
    await bench.passes(10)
    assert two.terms == [2]


async def test_who_never_stood_asks_nothing_at_the_end() -> None:
    leases, clock = Leases(), VirtualClock()
    election: Any = LeaseElection(leases, NAME, name="", duration=6.0, clock=clock, wall=clock)  # type: ignore[arg-type]  # it has all that is used
    await election.release()
    assert leases.requests == []


async def test_a_conflict_makes_it_look_again(bench: Bench) -> None:
    one = await bench.join("one")

    def touch() -> None:
        bench.leases.before_write = lambda: None
        bench.leases.change(preferredHolder="somebody")

    bench.leases.before_write = touch
    await bench.passes(2)
    assert one.terms == [1]
    assert bench.leases.spec["preferredHolder"] == "somebody"
    assert bench.leases.requests[-3:] == ["update", "get", "update"]


async def test_conflicts_without_end_are_told_and_change_nothing(bench: Bench) -> None:
    one = await bench.join("one")
    bench.leases.before_write = lambda: bench.leases.change(preferredHolder=str(random.random()))
    await bench.passes(6)
    assert (one.terms, "was changed" in one.election.trouble) == ([1], True)
    bench.leases.before_write = lambda: None
    await bench.passes(3)
    assert (one.terms, one.election.trouble) == ([1], "")


async def test_somebody_else_in_the_lease_ends_it_at_once(bench: Bench) -> None:
    one = await bench.join("one")
    bench.leases.change(holderIdentity="stranger", leaseTransitions=2, renewTime="2026-01-01T00:00:01.000000Z")
    await bench.passes(2.5)
    assert one.terms == [1, None]
    await bench.passes(8.5)
    assert one.terms == [1, None, 3]


async def test_a_lease_that_was_deleted_is_made_again_by_its_holder_under_the_same_term(bench: Bench) -> None:
    one, two = await bench.join("one"), await bench.join("two")
    await bench.passes(20)
    bench.leases.change(leaseTransitions=5)
    await bench.passes(3)
    assert one.terms == [1, 5]
    del bench.leases.objects[NAME]
    one.advance(2)
    await bench.settle()
    await bench.passes(20)
    assert (one.terms, two.terms) == ([1, 5], [])
    assert bench.leases.spec["leaseTransitions"] == 5


async def test_a_lease_that_somebody_else_has_made_again_is_theirs(bench: Bench) -> None:
    one, two = await bench.join("one"), await bench.join("two")
    two.election.outbid(1)  # as the store says
    del bench.leases.objects[NAME]
    two.advance(3)
    await bench.settle()
    assert two.terms == [2]
    await bench.passes(3)
    assert one.terms == [1, None]


async def test_a_term_is_above_all_that_the_store_knows(bench: Bench) -> None:
    one = await bench.join("one")
    one.election.outbid(41)
    assert one.term is None
    await bench.settle()
    await bench.passes(0.25)
    assert one.terms == [1, None, 42]
    assert bench.leases.spec["leaseTransitions"] == 42
    one.election.outbid(41)
    one.election.outbid(7)
    await bench.passes(5)
    assert one.terms == [1, None, 42]


async def test_while_the_api_is_away_the_holder_stays_elected_and_says_what_is_wrong(bench: Bench) -> None:
    one, two = await bench.join("one"), await bench.join("two")
    bench.leases.fault = ClusterUnavailable("connection refused")
    await bench.passes(3_600, step=2)
    assert (one.terms, two.terms) == ([1], [])
    assert "connection refused" in one.election.trouble
    bench.leases.fault = None
    await bench.passes(30)
    assert (one.terms, two.terms) == ([1], [])
    assert (one.election.trouble, two.election.trouble) == ("", "")


async def test_an_outage_counts_for_nobody(bench: Bench) -> None:
    """Else every restart of an API server would change the leader: whoever looks first afterwards would take it."""
    one, two = await bench.join("one"), await bench.join("two")
    bench.leases.fault = ClusterUnavailable("connection refused")
    await bench.passes(60)
    bench.leases.fault = None
    one.pace = 0.0
    await bench.passes(5)  # the holder is not as quick to come back
    assert two.terms == []
    await bench.passes(5)  # but it did not come back
    assert two.terms == [2]


async def test_an_answer_that_was_lost_is_found_out(bench: Bench) -> None:
    bench.leases.losing = True
    one = await bench.join("one")
    assert one.terms == []
    assert bench.leases.holder == one.election.identity
    bench.leases.losing = False
    await bench.passes(3)
    assert one.terms == [1]


async def test_an_overloaded_api_is_given_the_time_that_it_asks_for(bench: Bench) -> None:
    bench.leases.fault = ClusterUnavailable("too many requests", status=429, retry_after=5.0)
    await bench.join("one")
    await bench.passes(4.5)
    assert bench.leases.requests == ["get"]
    await bench.passes(1)
    assert bench.leases.requests == ["get", "get"]


async def test_without_the_right_to_leases_nobody_is_elected_and_it_is_told(bench: Bench) -> None:
    bench.leases.fault = ClusterRefused("give our role the verb 'get' on resource 'leases'", status=403)
    one = await bench.join("one")
    await bench.passes(30)
    assert (one.terms, "give our role the verb" in one.election.trouble) == ([], True)


async def test_who_is_out_of_touch_with_the_store_lets_the_lease_run_out(bench: Bench) -> None:
    one, two = await bench.join("one"), await bench.join("two")
    one.fit = False
    await bench.passes(12)
    assert two.terms == [2]
    two.fit = False
    await bench.passes(60)
    assert bench.leases.spec["leaseTransitions"] == 2
    two.fit = True  # nobody else was fit: it goes on
    await bench.passes(6)
    assert two.terms == [2]
    assert one.term == 1  # it has not looked
    one.fit = True
    await bench.passes(3)
    assert one.terms == [1, None]


async def test_many_questions_are_one_look(bench: Bench) -> None:
    await bench.join("one")
    two = await bench.join("two")
    bench.leases.requests.clear()
    for _ in range(100):
        two.election.look()
        await asyncio.sleep(0)
    await bench.settle()
    assert bench.leases.requests == []
    two.advance(0.1)
    await bench.settle()
    assert bench.leases.requests == ["get"]


async def test_what_a_lease_says_that_is_nonsense_is_taken_for_nothing(bench: Bench) -> None:
    metadata = {"name": NAME, "resourceVersion": "1"}
    bench.leases.objects[NAME] = {"metadata": metadata, "spec": {"holderIdentity": "x", "leaseTransitions": "many"}}
    one = await bench.join("one")
    await bench.passes(5)
    assert one.terms == []
    await bench.passes(3)
    assert one.terms == [1]
    bench.leases.objects[NAME] = {"metadata": metadata}
    two = await bench.join("two")
    assert two.terms == [1]


async def test_a_term_that_nobody_can_outbid_is_taken_for_nothing(bench: Bench) -> None:
    """An API server counts to 2^31 - 1, and the store keeps the highest term for ever."""
    one = await bench.join("one")
    for _ in range(2):
        bench.leases.change(leaseTransitions=2**31 - 1)
        await bench.passes(7)
    assert one.terms == [1], "it leads on"
    assert bench.leases.spec["leaseTransitions"] == 1
    bench.leases.change(leaseTransitions=2**31 - 1, holderIdentity=None)
    two = await bench.join("two")
    two.election.outbid(1)
    await bench.passes(5)
    assert two.term == 2


async def test_a_lease_that_says_it_lasts_for_years_lasts_for_an_hour(bench: Bench) -> None:
    metadata = {"name": NAME, "resourceVersion": "1"}
    spec = {"holderIdentity": "x", "leaseDurationSeconds": 2**31 - 1}
    bench.leases.objects[NAME] = {"metadata": metadata, "spec": spec}
    one = await bench.join("one")
    await bench.passes(3_595, step=2.5)
    assert one.terms == []
    await bench.passes(10, step=2.5)
    assert one.terms == [1]


class Judge:
    """The store: it takes a term that is higher than all before, from one leader."""

    def __init__(self) -> None:
        self.term = 0
        self.leader: Candidate | None = None
        self.reigns: list[tuple[int, str]] = []

    def hear(self, candidate: Candidate) -> None:
        term = candidate.term
        if term is None:
            return
        if term > self.term:
            self.term, self.leader = term, candidate
            self.reigns.append((term, candidate.election.identity))
        elif candidate is not self.leader:
            candidate.election.outbid(self.term)


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_no_two_lead_under_one_term(bench: Bench, seed: int) -> None:
    chance, judge, leases = random.Random(seed), Judge(), bench.leases
    for number in range(3):
        await bench.join(
            f"{number}", skew=chance.randrange(-(10**11), 10**11), pace=chance.choice([0.5, 0.9, 1.0, 1.1])
        )
    for _ in range(150):
        match chance.randrange(9):
            case 0:
                leases.fault = chance.choice([ClusterUnavailable("away"), ClusterRefused("no"), None])
            case 1:
                leases.losing = not leases.losing
            case 2:
                leases.objects.pop(NAME, None)
            case 3 if NAME in leases.objects:
                leases.change(leaseTransitions=chance.choice([0, judge.term, None]))  # as from a backup
            case 4:
                dead = chance.choice(bench.candidates)
                await dead.die()
                bench.candidates.remove(dead)
                await bench.join(f"n{len(judge.reigns)}")
            case 5:
                chance.choice(bench.candidates).pace = chance.choice([0.0, 0.5, 1.0, 2.0])
            case 6 if NAME in leases.objects:
                leases.before_write = chance.choice([lambda: None, lambda: leases.change(renewTime="x")])
        for _ in range(chance.randrange(1, 12)):
            await bench.passes(0.5, step=0.5)
            for candidate in chance.sample(bench.candidates, chance.randrange(4)):
                judge.hear(candidate)  # the others are slow to tell
        terms = [term for term, _ in judge.reigns]
        assert terms == sorted(set(terms))

    leases.fault, leases.losing, leases.before_write = None, False, lambda: None
    for candidate in bench.candidates:
        candidate.pace = 1.0
    for _ in range(120):
        await bench.passes(0.5, step=0.5)
        for candidate in bench.candidates:
            judge.hear(candidate)
    elected = [candidate for candidate in bench.candidates if candidate.term is not None]
    assert elected == [judge.leader]
    assert elected[0].term == judge.term
