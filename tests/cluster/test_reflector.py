"""All objects of a kind, kept at hand while the API does what APIs do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import kubernetes_pods as pods
import pytest
from kubernetes_api import KubernetesAPI

from dagengine.clock import Clock, SystemClock
from dagengine.testing import VirtualClock
from orchestrator.kubernetes.access import InPod
from orchestrator.kubernetes.base import PODS, Resource
from orchestrator.kubernetes.client import KubernetesCluster
from orchestrator.kubernetes.reflector import Reflector

SECOND = 1_000_000
LABELS = "app=workflow-engine"
Follow = Callable[..., Awaitable["Followed"]]


class Followed:
    """A reflector that runs, and what it has told."""

    def __init__(self, cluster: KubernetesCluster, clock: Clock, *, resource: Resource = PODS, **options: Any) -> None:
        self.changes: list[frozenset[str]] = []
        self.told: list[str] = []
        self._look = asyncio.Event()
        self.reflector = Reflector(
            cluster,
            resource,
            clock=clock,
            labels=LABELS,
            changed=lambda names: self._note(self.changes, names),
            told=lambda trouble: self._note(self.told, trouble),
            chance=random.Random(1),
            **options,
        )

    def _note(self, notes: list[Any], note: Any) -> None:
        notes.append(note)
        self._look.set()

    @property
    def names(self) -> set[str]:
        return set(self.reflector.objects)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self._look.clear()
                await self._look.wait()


@pytest.fixture
async def client(api: KubernetesAPI) -> AsyncIterator[KubernetesCluster]:
    access = InPod(directory=api.service_account("orchestrator"), environment=api.in_cluster)
    client = KubernetesCluster(access, watch_grace=0.2)
    await client.open()
    yield client
    await client.close()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@asynccontextmanager
async def following(client: KubernetesCluster, clock: Clock, **options: Any) -> AsyncIterator[Followed]:
    followed = Followed(client, clock, **options)
    task = asyncio.create_task(followed.reflector.run())
    try:
        yield followed
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def wait_on(clock: VirtualClock) -> float:
    """The seconds for which it waits; they pass."""
    async with asyncio.timeout(20):
        await clock.asleep()
    assert clock.next_wake is not None
    left = clock.next_wake - clock.now()
    clock.advance(left)
    await asyncio.sleep(0)  # whoever slept is awake now
    return left / SECOND


async def test_it_has_what_is_there_and_follows_what_changes(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    api.run_pod("one")
    api.run_pod("another-app", labels={"app": "web"})
    async with following(client, clock) as followed:
        await followed.reflector.synced.wait()
        assert followed.names == {"one"}
        api.run_pod("two")
        await followed.until(lambda: followed.names == {"one", "two"})
        pods.set_pod(api, "two", ready=False)
        await followed.until(lambda: "False" in str(followed.reflector.objects["two"].get("status")))
        api.delete("pods", "one", grace=0)
        await followed.until(lambda: followed.names == {"two"})
        assert followed.changes[0] == {"one"}
        assert set(followed.changes[1:-1]) == {frozenset({"two"}), frozenset({"one"})} - {frozenset({"one"})}
        assert followed.changes[-1] == {"one"}
        assert followed.reflector.relists == 1
        assert followed.told == []


async def test_everything_is_listed_again_when_it_is_time(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    api.run_pod("one")
    async with following(client, clock, resync=30) as followed:
        (first,) = await api.seen("watch pods")
        assert first.query["timeoutSeconds"] == "30"
        clock.advance(20 * SECOND)
        api.faults.end_watches()
        _, second = await api.seen("watch pods", 2)
        assert second.query["timeoutSeconds"] == "10"
        assert len(api.asked("list pods")) == 1
        clock.advance(10 * SECOND)
        api.faults.end_watches()
        await api.seen("watch pods", 3)
        assert len(api.asked("list pods")) == 2
        assert followed.changes == [{"one"}, {"one"}], "whoever looks at names looks at all of them again"


async def test_bookmarks_bring_the_next_watch_forward(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    async with following(client, clock) as followed:
        await api.seen("watch pods")
        api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "else"}})
        api.faults.bookmark()
        clock.advance(2 * SECOND)
        api.faults.end_watches()
        first, second = await api.seen("watch pods", 2)
        assert int(second.query["resourceVersion"]) > int(first.query["resourceVersion"])
        assert followed.changes == [frozenset()]


@pytest.mark.parametrize("as_status", [False, True], ids=["in-stream", "as-status"])
async def test_what_is_too_far_behind_is_listed_again_at_once(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock, as_status: bool
) -> None:
    async with following(client, clock) as followed:
        await api.seen("watch pods")
        api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "else"}})
        api.faults.expire(as_status=as_status, open_watches=False)
        clock.advance(2 * SECOND)
        api.faults.end_watches()
        await api.seen("list pods", 2)
        await api.seen("watch pods", 3)
        api.run_pod("one")
        await followed.until(lambda: followed.names == {"one"})
        assert followed.told == []


async def test_an_open_watch_that_is_told_to_begin_anew_does_at_once(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    async with following(client, clock):
        await api.seen("watch pods")
        api.faults.expire()
        await api.seen("list pods", 2)


async def test_a_watch_that_is_broken_off_is_followed_by_a_list(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    api.run_pod("one")
    async with following(client, clock) as followed:
        await api.seen("watch pods")
        api.faults.stall_watches()
        api.run_pod("two")
        api.delete("pods", "one", grace=0)
        api.faults.cut_watches()
        api.faults.resume_watches()
        assert await wait_on(clock) <= 0.1
        await followed.until(lambda: followed.names == {"two"})
        assert followed.changes[-1] == {"one", "two"}
        assert followed.told == []


async def test_a_watch_that_says_nothing_any_more_is_noticed_by_the_next_resync(
    api: KubernetesAPI, client: KubernetesCluster
) -> None:
    async with following(client, SystemClock(), resync=1) as followed:
        await api.seen("watch pods")
        api.faults.stall_watches()
        api.run_pod("one")
        await followed.until(lambda: followed.names == {"one"})
        assert len(api.asked("list pods")) >= 2


async def test_an_api_that_is_away_at_the_start_is_told_of_and_waited_for(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    api.run_pod("one")
    api.faults.down()
    async with following(client, clock) as followed:
        waits = [await wait_on(clock) for _ in range(12)]
        assert waits[0] <= 0.1
        assert sum(waits[:4]) < 2
        assert max(waits) <= 30
        assert min(waits[-2:]) >= 15
        assert "cannot list pods" in followed.reflector.trouble
        assert not followed.reflector.synced.is_set()
        await clock.asleep()
        api.faults.up()
        await wait_on(clock)
        await followed.reflector.synced.wait()
        assert followed.names == {"one"}
        assert followed.reflector.trouble == ""
        assert followed.told[-1] == ""


async def test_an_outage_changes_nothing_and_says_so(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    api.run_pod("one")
    async with following(client, clock) as followed:
        await api.seen("watch pods")
        api.faults.down()
        for _ in range(5):
            await wait_on(clock)
        assert followed.names == {"one"}
        assert followed.changes == [{"one"}]
        assert "cannot list pods" in followed.reflector.trouble
        api.run_pod("two")
        await clock.asleep()
        api.faults.up()
        await wait_on(clock)
        await followed.until(lambda: followed.names == {"one", "two"})
        assert followed.reflector.trouble == ""


async def test_after_an_outage_the_first_stumble_costs_no_long_wait(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    api.faults.down()
    async with following(client, clock):
        for _ in range(12):
            await wait_on(clock)
        await clock.asleep()
        api.faults.up()
        await wait_on(clock)
        await api.seen("watch pods")
        api.faults.cut_watches()
        assert await wait_on(clock) <= 0.1


async def test_an_api_that_asks_for_patience_gets_it(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    api.faults.fail("list pods", status=429, retry_after=7)
    async with following(client, clock) as followed:
        assert await wait_on(clock) == 7
        await followed.reflector.synced.wait()


async def test_without_the_right_to_watch_it_lists_and_says_what_is_missing(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    refused = api.faults.forbid("watch pods")
    async with following(client, clock) as followed:
        await wait_on(clock)
        api.run_pod("one")
        for _ in range(3):
            await wait_on(clock)
        await followed.until(lambda: followed.names == {"one"})
        assert "the verb 'watch' on resource 'pods'" in followed.reflector.trouble
        assert len(followed.told) == 1, "it is said once"
        await clock.asleep()
        refused.release()
        await wait_on(clock)
        await api.until(lambda: api.asked("watch pods")[-1].status == 200)
        api.faults.bookmark()
        await followed.until(lambda: followed.reflector.trouble == "")


async def test_watches_that_break_off_time_and_again_are_told_of(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    async with following(client, clock) as followed:
        for number in range(1, 4):
            await api.seen("watch pods", number)
            api.faults.cut_watches()
            await wait_on(clock)
        assert "watch pods" in followed.reflector.trouble
        await api.seen("watch pods", 4)
        api.faults.bookmark()
        await followed.until(lambda: followed.reflector.trouble == "")


async def test_a_watch_that_ends_as_soon_as_it_has_begun_is_not_begun_again_at_once(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    async with following(client, clock):
        await api.seen("watch pods")
        api.faults.end_watches()
        assert 0 < await wait_on(clock) <= 0.1


async def test_a_kind_that_is_not_installed_is_looked_for_now_and_then(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    boats = Resource("example.org", "v1", "boats", "Boat")
    async with following(client, clock, resource=boats) as followed:
        for _ in range(2):
            assert await wait_on(clock) <= 0.2, "a load balancer may not find the API for a moment"
            assert followed.reflector.missing
        await clock.asleep()
        schema = {"openAPIV3Schema": {"type": "object"}}
        api.create(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": "boats.example.org"},
                "spec": {
                    "group": "example.org",
                    "scope": "Namespaced",
                    "names": {"plural": "boats", "singular": "boat", "kind": "Boat"},
                    "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
                },
            }
        )
        assert await wait_on(clock) == 120
        await followed.reflector.synced.wait()
        assert not followed.reflector.missing
        assert followed.reflector.trouble == ""


async def test_who_changed_which_field_is_not_kept(
    api: KubernetesAPI, client: KubernetesCluster, clock: VirtualClock
) -> None:
    """It is most of the memory of an object, and nobody asks for it."""
    api.run_pod("one")
    assert api.get("pods", "one")["metadata"]["managedFields"]
    async with following(client, clock) as followed:
        await followed.reflector.synced.wait()
        api.run_pod("two")
        await followed.until(lambda: followed.names == {"one", "two"})
        assert not any("managedFields" in each["metadata"] for each in followed.reflector.objects.values())
