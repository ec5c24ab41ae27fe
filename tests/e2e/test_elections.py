"""Two orchestrators over one PostgreSQL, of which a Lease of Kubernetes elects one: it may die, go, or lose the API."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes_api import KubernetesAPI

pytestmark = pytest.mark.e2e

LEASE = "workflow-orchestrator"
TAKEOVER = 12.0
"""Seconds in which another one leads after a leader was killed: two thirds of them is what it takes by default."""

TICK = {
    "metadata": {"id": "tick", "version": "1.0.0"},
    "spec": {
        "nodes": [{"id": "a", "executor": {"type": "lua", "code": "return 1"}}],
        "triggers": {"cron": {"schedule": "* * * * * *"}},
    },
}


@dataclass(slots=True, kw_only=True)
class Elected:
    """Replicas by name, whose leader a Lease at `api` elects, over the database at `url`."""

    site: Any
    server: Any
    url: str
    api: KubernetesAPI
    engine: Any
    soon: Any
    replicas: dict[str, Any]

    async def start(self, name: str) -> None:
        config = self.api.kubeconfig(self.site.folder / f"{name}.kubeconfig", user=name)
        self.replicas[name] = await self.site.orchestrator(
            [self.engine.address],
            name=name,
            LEADER_ELECTION="kubernetes",
            IN_CLUSTER_CONFIG="false",
            KUBECONFIG=str(config),
        )

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What the database itself says."""
        rows: list[tuple[Any, ...]] = await asyncio.to_thread(self.server.sql, self.url, statement)
        return rows

    async def leader(self) -> str:
        """Who leads, once the store and the Lease agree about it."""

        async def agreed() -> str:
            rows = await self.rows("SELECT replicas.name FROM leases JOIN replicas ON replicas.id = leases.holder")
            holder = str(self.lease.get("holderIdentity", "")).partition("_")[0]
            return holder if rows == [(holder,)] else ""

        name: str = await self.soon(agreed)
        return name

    async def ticks(self, more: int) -> None:
        """Wait for so many more executions that cron starts."""
        statement = "SELECT count(*) FROM executions WHERE \"trigger\" = 'cron'"
        before = (await self.rows(statement))[0][0]

        async def enough() -> bool:
            return bool((await self.rows(statement))[0][0] >= before + more)

        await self.soon(enough)

    @property
    def lease(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get("leases", LEASE)["spec"]
        return found


@pytest.fixture
async def elected(site: Any, soon: Any, postgres_server: Any) -> AsyncIterator[Elected]:
    url = await asyncio.to_thread(postgres_server.url)
    site.database = url
    async with KubernetesAPI() as api:
        found = Elected(
            site=site,
            server=postgres_server,
            url=url,
            api=api,
            engine=await site.engine("engine-1"),
            soon=soon,
            replicas={},
        )
        for name in ("left", "right"):
            await found.start(name)
        yield found
        await site.close()
    await asyncio.to_thread(postgres_server.drop, url)


async def test_occurrences_fire_once_each_while_leaders_are_killed(elected: Elected) -> None:
    first = await elected.leader()
    await elected.site.client(elected.replicas[first]).apply(TICK)
    await elected.ticks(2)
    terms, leader = [elected.lease["leaseTransitions"]], first
    for _ in range(2):
        await elected.replicas[leader].kill()
        loop = asyncio.get_running_loop()
        killed, dead = loop.time(), leader

        async def replaced() -> bool:
            return await elected.leader() != dead  # noqa: B023 - asked before the next round

        await elected.soon(replaced)
        assert loop.time() - killed < TAKEOVER
        leader = await elected.leader()
        terms.append(elected.lease["leaseTransitions"])
        await elected.start(dead)
        await elected.ticks(2)
    assert terms == sorted(set(terms))
    assert await elected.rows("SELECT term FROM leases") == [(terms[-1],)]
    occurrences = [one for (one,) in await elected.rows("SELECT occurrence FROM executions WHERE \"trigger\" = 'cron'")]
    assert len(occurrences) > 6
    assert len(set(occurrences)) == len(occurrences)
    replicas = await elected.site.client(elected.replicas[leader]).replicas()
    assert [replica.name for replica in replicas if replica.leads] == [leader]


async def test_one_that_is_told_to_go_is_replaced_at_once(elected: Elected, metric: Any) -> None:
    leader = await elected.leader()
    (other,) = set(elected.replicas) - {leader}
    assert await metric(elected.replicas[leader], "dagengine_leader") == 1
    assert await metric(elected.replicas[other], "dagengine_leader") == 0
    assert await elected.replicas[leader].end(signal.SIGTERM) == 0
    loop = asyncio.get_running_loop()
    gone = loop.time()
    assert await elected.leader() == other
    assert loop.time() - gone < 3.0  # without the release, it would be more than the Lease's six seconds

    async def leads() -> bool:
        return bool(await metric(elected.replicas[other], "dagengine_leader") == 1)

    await elected.soon(leads)
    assert await metric(elected.replicas[other], "dagengine_leaderships_total") == 1


async def test_while_the_api_is_away_the_leader_leads_on(elected: Elected, metric: Any) -> None:
    leader = await elected.leader()
    (other,) = set(elected.replicas) - {leader}
    await elected.site.client(elected.replicas[leader]).apply(TICK)
    await elected.ticks(1)
    elected.api.faults.down()
    await elected.ticks(9)  # for longer than the Lease says that it is good for
    assert await metric(elected.replicas[leader], "dagengine_leader") == 1
    elected.api.faults.up()
    await elected.ticks(9)
    assert await elected.leader() == leader
    assert await metric(elected.replicas[other], "dagengine_leaderships_total") == 0
    assert elected.lease["leaseTransitions"] == 1
