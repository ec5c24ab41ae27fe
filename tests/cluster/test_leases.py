"""Candidates for a Lease at an API server, over the real client. Faults are injected, and time is each one's own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from lease_candidates import DURATION, NAME, SECOND, Candidate

from dagengine.testing import START, VirtualClock
from orchestrator.dispatcher.membership import Member
from orchestrator.kubernetes.access import Kubeconfig
from orchestrator.kubernetes.client import KubernetesCluster
from orchestrator.kubernetes.lease import LeaseElection
from orchestrator.store import opening
from orchestrator.store.base import Store

ROLE = [
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "leader"},
        "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": [NAME],
                "verbs": ["get", "update"],
            },
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "leader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "leader"},
        "subjects": [{"kind": "User", "name": name} for name in ("one", "two")],
    },
]


Join = Callable[..., Awaitable[Candidate]]


@pytest.fixture
async def join(api: Any, tmp_path: Path) -> AsyncIterator[Join]:
    """`await join("one")`: a candidate that has looked at the Lease once. `skew` is by how many seconds it is off."""
    joined: list[Candidate] = []

    async def make(name: str, *, skew: int = 0) -> Candidate:
        client = KubernetesCluster(Kubeconfig(paths=str(api.kubeconfig(tmp_path / name, user=name))))
        await client.open()
        joined.append(Candidate(name, client, skew=skew))
        await joined[-1].asleep()
        return joined[-1]

    yield make
    for candidate in joined:
        await candidate.stop()
        await candidate.client.close()


def spec(api: Any) -> dict[str, Any]:
    found: dict[str, Any] = api.get("leases.coordination.k8s.io", NAME)["spec"]
    return found


async def test_one_is_elected_with_no_more_rights_than_these(api: Any, join: Join) -> None:
    api.authorize(ROLE)
    one = await join("one")
    two = await join("two")
    for _ in range(3):
        await one.turn()
        await two.turn()
    await one.stop()
    await one.election.release()
    await two.passes(DURATION)
    assert (one.terms, two.terms) == ([1], [2])
    assert {(verb, resource) for _, verb, _, resource, _ in api.calls} == {
        ("get", "leases"),
        ("create", "leases"),
        ("update", "leases"),
    }
    assert all(call.status < 300 or call.status == 404 for call in api.requests)


async def test_without_rights_it_says_which_ones_are_missing(api: Any, join: Join) -> None:
    api.authorize([])
    one = await join("one")
    assert one.terms == []
    assert "give our role the verb 'get' on resource 'leases'" in one.election.trouble


async def test_the_lease_says_who_leads_since_when_and_for_which_time(api: Any, join: Join) -> None:
    one = await join("one")
    await one.turn()
    said = spec(api)
    assert said == {
        "holderIdentity": one.election.identity,
        "leaseDurationSeconds": DURATION,
        "leaseTransitions": 1,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:20.000000Z",
    }


async def test_a_conflict_with_somebody_who_has_no_business_there_changes_nothing(api: Any, join: Join) -> None:
    one = await join("one")
    api.patch("leases", NAME, {"metadata": {"labels": {"watched": "yes"}}})
    await one.turn()
    api.faults.conflict("update leases")
    await one.turn()
    assert (one.terms, one.election.trouble) == ([1], "")
    assert api.get("leases", NAME)["metadata"]["labels"] == {"watched": "yes"}


async def test_clocks_that_are_hours_apart_do_not_matter(api: Any, join: Join) -> None:
    one, two = await join("one", skew=-5 * 3_600), await join("two", skew=5 * 3_600)
    for _ in range(6):
        await one.passes(DURATION / 2)
        await two.passes(DURATION / 2)
    assert (one.terms, two.terms) == ([1], [])
    await one.stop()  # it is killed: it releases nothing
    await two.passes(DURATION / 2)
    assert two.terms == []
    await two.passes(DURATION)
    assert (two.terms, spec(api)["leaseTransitions"]) == ([2], 2)


async def test_a_lease_that_is_deleted_while_it_is_held_is_made_again(api: Any, join: Join) -> None:
    one, two = await join("one"), await join("two")
    one.election.outbid(6)
    await one.asleep()
    await one.turn()
    assert one.election.term == 7
    api.delete("leases", NAME)
    await one.turn()
    assert (one.terms[-1], spec(api)["leaseTransitions"]) == (7, 7)
    await two.turn()
    assert two.terms == []


async def test_while_the_api_is_away_the_holder_stays_and_nobody_else_comes(api: Any, join: Join) -> None:
    one, two = await join("one"), await join("two")
    api.faults.down()
    for _ in range(3):
        await one.passes(DURATION)
        await two.passes(DURATION)
    assert "cannot be reached" in one.election.trouble
    api.faults.up()
    await two.passes(DURATION * 0.9)  # whoever is first to be back takes nothing
    await one.passes(DURATION * 0.9)
    await two.passes(DURATION)
    assert (one.terms, two.terms, one.election.trouble) == ([1], [], "")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_api_that_is_not_well_is_asked_again(api: Any, join: Join, status: int) -> None:
    one = await join("one")
    api.faults.fail("update leases", status=status, times=2)
    await one.turn()
    assert one.election.trouble
    await one.passes(DURATION)
    assert (one.terms, one.election.trouble) == ([1], "")


async def test_an_answer_that_never_comes_is_no_reason_to_step_down(api: Any, join: Join) -> None:
    one = await join("one")
    api.faults.cut("update leases", times=2)
    await one.turn()
    await one.passes(DURATION)
    assert one.terms == [1]


async def test_a_renewal_in_the_last_moment_is_in_time(api: Any, join: Join) -> None:
    one, two = await join("one"), await join("two")
    for _ in range(3):
        await two.passes(DURATION * 0.95)
        await one.turn()
        await two.turn()
    assert (one.terms, two.terms) == ([1], [])


async def test_it_is_released_in_time_though_the_api_has_stalled(api: Any, join: Join) -> None:
    one = await join("one")
    held = api.faults.hold("get leases")
    await one.stop()
    async with asyncio.timeout(20):
        await one.election.release()
    held.release()
    assert spec(api)["holderIdentity"] == one.election.identity


# --- with the store, which has the last word ---


class Replica:
    """A candidate that is a replica of a real store, and leads it when it may."""

    def __init__(self, number: int, store: Store, client: KubernetesCluster, reigns: list[tuple[int, str]]) -> None:
        self.store = store
        self.client = client
        self.clock = VirtualClock(at=START + number * 977 * SECOND)
        self.reigns = reigns
        self.election = LeaseElection(
            client,
            NAME,
            name=f"r{number}",
            duration=DURATION,
            clock=self.clock,
            wall=self.clock,
            chance=random.Random(number),
        )
        self.member = Member(
            store,
            self.clock,
            name=f"r{number}",
            lease=DURATION,
            changed=self._changed,
            forget=lambda: None,
            election=self.election,
        )
        self.tasks: list[asyncio.Task[None]] = []

    def _changed(self) -> None:
        if self.member.term is not None and (self.member.term, self.member.id) not in self.reigns:
            self.reigns.append((self.member.term, self.member.id))

    async def open(self) -> None:
        await self.store.open()
        await self.member.join()
        self.tasks = [asyncio.create_task(work()) for work in (self.member.run, self.member.stand)]

    async def die(self) -> None:
        """As a process that is killed: nothing is released, nobody is told."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.client.close()
        await self.store.close()


@pytest.mark.parametrize("seed", range(3))
async def test_in_a_storm_no_two_lead_under_one_term_and_after_it_one_does(
    api: Any, postgres_server: Any, tmp_path: Path, seed: int
) -> None:
    chance, reigns, replicas = random.Random(seed), list[tuple[int, str]](), list[Replica]()
    url = postgres_server.emptied()
    born = 0

    async def join() -> None:
        nonlocal born
        born += 1
        config = api.kubeconfig(tmp_path / str(born), user=f"r{born}")
        client = KubernetesCluster(Kubeconfig(paths=str(config)))
        await client.open()
        replicas.append(Replica(born, opening.make(url), client, reigns))
        await replicas[-1].open()

    async def later(most: float) -> None:
        for replica in replicas:
            replica.clock.advance(round(chance.uniform(0, most) * SECOND))
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)
        await replicas[0].store.position()  # some real time, too

    for _ in range(3):
        await join()
    for _ in range(120):
        match chance.randrange(8):
            case 0:
                api.faults.down()
            case 1 | 2:
                api.faults.clear()
                api.faults.up()
            case 3:
                api.faults.conflict("update leases", times=chance.randrange(1, 4))
            case 4:
                api.faults.cut("leases", times=chance.randrange(1, 4))
            case 5 if api.list("leases"):
                api.delete("leases", NAME)
            case 6:
                dying = replicas.pop(chance.randrange(len(replicas)))
                await dying.die()
                await join()
        await later(DURATION / 2)
    api.faults.clear()
    api.faults.up()

    async with asyncio.timeout(60):
        while not any(replica.member.term is not None and replica.member.owns for replica in replicas):
            await asyncio.gather(*(replica.clock.asleep(2) for replica in replicas))  # else time outruns them
            await later(DURATION / 6)
    terms = [term for term, _ in reigns]
    assert len(set(terms)) == len(terms), reigns
    assert len(terms) > 1
    [leader] = [one for one in await replicas[0].store.replicas() if one.leads]
    assert (max(terms), leader.id) in reigns
    for replica in replicas:
        await replica.die()
