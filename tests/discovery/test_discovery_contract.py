"""What every discovery promises, over every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from kubernetes_api import KubernetesAPI

from dagengine.clock import SystemClock
from orchestrator.discovery.base import Address, Discovery
from orchestrator.discovery.dns import DnsDiscovery
from orchestrator.discovery.endpoint_slices import EndpointSliceDiscovery
from orchestrator.discovery.in_process import InProcessDiscovery
from orchestrator.discovery.pods import PodDiscovery
from orchestrator.discovery.static import StaticDiscovery
from orchestrator.kubernetes.access import InPod
from orchestrator.kubernetes.client import KubernetesCluster

TWO = frozenset({Address("in-process", "a"), Address("in-process", "b")})
FOUND = frozenset({Address("grpc", "10.0.0.1:50051"), Address("grpc", "10.0.0.2:50051")})


@dataclass(frozen=True)
class Subject:
    """A discovery, and the set that it should name."""

    discovery: Discovery
    expected: frozenset[Address]


async def _static(api: KubernetesAPI, cluster: KubernetesCluster) -> Subject:
    return Subject(StaticDiscovery(TWO), TWO)


async def _in_process(api: KubernetesAPI, cluster: KubernetesCluster) -> Subject:
    discovery = InProcessDiscovery()
    for address in TWO:
        discovery.register(address.target)
    return Subject(discovery, TWO)


async def _dns(api: KubernetesAPI, cluster: KubernetesCluster) -> Subject:
    async def resolve(host: str) -> list[str]:
        return ["10.0.0.1", "10.0.0.2"]

    return Subject(DnsDiscovery("engines", 50051, SystemClock(), interval=30, resolver=resolve), FOUND)


async def _pods(api: KubernetesAPI, cluster: KubernetesCluster) -> Subject:
    made = [api.run_pod(name, ip=ip) for name, ip in (("a", "10.0.0.1"), ("b", "10.0.0.2"))]
    expected = frozenset(Address("grpc", f"{pod['status']['podIP']}:50051", uid=pod["metadata"]["uid"]) for pod in made)
    labels = "app=workflow-engine"
    return Subject(PodDiscovery(cluster, SystemClock(), labels=labels, port=50051, interval=30), expected)


async def _endpoint_slices(api: KubernetesAPI, cluster: KubernetesCluster) -> Subject:
    api.create(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "engines-1", "labels": {"kubernetes.io/service-name": "engines"}},
            "addressType": "IPv4",
            "ports": [{"name": "grpc", "port": 50051}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}],
        }
    )
    return Subject(EndpointSliceDiscovery(cluster, SystemClock(), service="engines", port=50051, interval=30), FOUND)


ADAPTERS = {
    "static": _static,
    "in-process": _in_process,
    "dns": _dns,
    "pods": _pods,
    "endpointslices": _endpoint_slices,
}


@pytest.fixture(params=ADAPTERS.values(), ids=ADAPTERS.keys())
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """A discovery that is kept up to date, as whoever uses it has to see to."""
    async with KubernetesAPI() as api:
        cluster = KubernetesCluster(InPod(directory=api.service_account("o"), environment=api.in_cluster))
        await cluster.open()
        made: Subject = await request.param(api, cluster)
        running = asyncio.create_task(made.discovery.run())
        yield made
        await made.discovery.close()
        await running
        await cluster.close()


@pytest.fixture
def discovery(subject: Subject) -> Discovery:
    return subject.discovery


async def test_gives_the_whole_set_at_once(subject: Subject) -> None:
    assert await anext(subject.discovery.watch()) == subject.expected


async def test_nothing_is_wrong_with_what_is_up_to_date(subject: Subject) -> None:
    await anext(subject.discovery.watch())
    assert subject.discovery.trouble == ""


async def test_every_reader_gets_the_set(subject: Subject) -> None:
    assert [await anext(subject.discovery.watch()) for _ in range(3)] == [subject.expected] * 3


async def test_close_ends_a_watch_that_waits_for_a_change(subject: Subject) -> None:
    seen: list[frozenset[Address]] = []
    first = asyncio.Event()

    async def read() -> None:
        async for level in subject.discovery.watch():
            seen.append(level)
            first.set()

    reader = asyncio.create_task(read())
    await first.wait()
    await subject.discovery.close()
    await asyncio.wait_for(reader, timeout=5)
    assert seen == [subject.expected]


async def test_a_watch_after_close_is_empty_and_close_can_be_repeated(discovery: Discovery) -> None:
    await discovery.close()
    await discovery.close()
    assert [level async for level in discovery.watch()] == []


async def test_a_cancelled_reader_does_not_disturb_the_others(subject: Subject) -> None:
    discovery = subject.discovery

    async def read(gone: asyncio.Event) -> list[frozenset[Address]]:
        seen = []
        async for level in discovery.watch():
            seen.append(level)
            gone.set()
        return seen

    first, second = asyncio.Event(), asyncio.Event()
    cancelled, stays = asyncio.create_task(read(first)), asyncio.create_task(read(second))
    await asyncio.gather(first.wait(), second.wait())
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await discovery.close()
    assert await asyncio.wait_for(stays, timeout=5) == [subject.expected]
