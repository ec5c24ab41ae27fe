"""Lists and watches of the double: versions, pages, selectors, bookmarks, and what is too old."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from kubernetes.aio import client, config, watch
from kubernetes_api import KubernetesAPI

PODS = "/api/v1/namespaces/default/pods"


class Stream:
    """A watch over plain HTTP: `next()` is the next event, None at the end in good order."""

    def __init__(self, http: httpx.AsyncClient, path: str = PODS, **query: str) -> None:
        self._request = http.stream("GET", path, params={"watch": "true", **query}, timeout=30)

    async def __aenter__(self) -> Stream:
        self.answer = await self._request.__aenter__()
        self._lines: AsyncIterator[str] = self.answer.aiter_lines()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._request.__aexit__(*error)

    async def next(self) -> dict[str, Any] | None:
        line = await anext(self._lines, None)
        return None if line is None else json.loads(line)

    async def brief(self) -> str:
        event = await self.next()
        assert event is not None
        return f"{event['type']} {event['object']['metadata'].get('name', '')}".strip()


def version(api: KubernetesAPI) -> str:
    return str(api.storage.revision)


async def test_a_watch_goes_on_from_a_list(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    api.run_pod("a")
    listed = (await http.get(PODS)).json()
    assert (listed["kind"], [one["metadata"]["name"] for one in listed["items"]]) == ("PodList", ["a"])
    api.run_pod("b")
    async with Stream(http, resourceVersion=listed["metadata"]["resourceVersion"]) as stream:
        assert stream.answer.headers["Content-Type"] == "application/json"
        assert [await stream.brief() for _ in range(2)] == ["ADDED b", "MODIFIED b"], "from before it began"
        api.delete("pods", "a")
        api.delete("pods", "a", grace=0)
        assert await stream.brief() == "MODIFIED a"
        gone = await stream.next()
        assert gone is not None
        assert (gone["type"], gone["object"]["metadata"]["resourceVersion"]) == ("DELETED", version(api))


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}])
async def test_a_watch_without_a_version_begins_with_what_there_is(
    query: dict[str, str], api: KubernetesAPI, http: httpx.AsyncClient
) -> None:
    api.run_pod("b")
    api.run_pod("a")
    async with Stream(http, **query) as stream:
        assert [await stream.brief() for _ in range(2)] == ["ADDED a", "ADDED b"]


async def test_initial_events_end_with_a_bookmark(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    api.run_pod("a")
    asked = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with Stream(http, **asked) as stream:
        assert await stream.brief() == "ADDED a"
        end = await stream.next()
        assert end == {
            "type": "BOOKMARK",
            "object": {
                "kind": "Pod",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": version(api), "annotations": {"k8s.io/initial-events-end": "true"}},
            },
        }
    refused = await http.get(PODS, params={"watch": "true", "sendInitialEvents": "true"})
    assert (refused.status_code, "resourceVersionMatch" in refused.text) == (422, True)


async def test_bookmarks_come_to_whoever_wants_them(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    async with (
        Stream(http, resourceVersion=version(api), allowWatchBookmarks="true") as wants,
        Stream(http, resourceVersion=version(api)) as other,
    ):
        api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
        assert api.faults.bookmark("pods") == 2
        api.run_pod("a", phase="")
        event = await wants.next()
        assert event is not None
        assert (event["type"], int(event["object"]["metadata"]["resourceVersion"])) == (
            "BOOKMARK",
            api.storage.revision - 1,
        )
        assert await wants.brief() == "ADDED a"
        assert await other.brief() == "ADDED a"


async def test_selectors_turn_changes_into_coming_and_going(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    async with (
        Stream(http, labelSelector="app=workflow-engine,!old", resourceVersion=version(api)) as labelled,
        Stream(http, fieldSelector="status.phase=Running", resourceVersion=version(api)) as running,
    ):
        api.run_pod("a")
        assert [await labelled.brief() for _ in range(2)] == ["ADDED a", "MODIFIED a"]
        assert await running.brief() == "ADDED a"
        api.patch("pods", "a", {"metadata": {"labels": {"old": "yes"}}})
        assert await labelled.brief() == "DELETED a"
        api.patch("pods", "a", {"metadata": {"labels": {"old": None}}})
        assert await labelled.brief() == "ADDED a"
        api.patch("pods", "a", {"status": {"phase": "Failed"}}, subresource="status")
        assert [await running.brief() for _ in range(3)] == ["MODIFIED a", "MODIFIED a", "DELETED a"]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("tier=web", ["a"]),
        ("tier!=web", ["b", "c"]),
        ("tier in (web, db)", ["a", "b"]),
        ("tier notin (web)", ["b", "c"]),
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier==db,x=1", ["b"]),
    ],
)
async def test_label_selectors(selector: str, names: list[str], api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    for name, labels in (("a", {"tier": "web"}), ("b", {"tier": "db", "x": "1"}), ("c", {})):
        api.run_pod(name, labels=labels)
    found = await http.get(PODS, params={"labelSelector": selector})
    assert [one["metadata"]["name"] for one in found.json()["items"]] == names


async def test_selectors_that_cannot_be_read_are_refused(http: httpx.AsyncClient) -> None:
    assert (await http.get(PODS, params={"labelSelector": "a in b"})).status_code == 400
    unknown = await http.get(PODS, params={"fieldSelector": "spec.x=1"})
    assert (unknown.status_code, unknown.json()["message"]) == (400, "field label not supported: spec.x")


async def test_a_list_is_told_in_pages_as_it_was_when_it_began(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    for name in "abcde":
        api.run_pod(name)
    first = (await http.get(PODS, params={"limit": "2"})).json()
    assert first["metadata"]["remainingItemCount"] == 3
    api.delete("pods", "c", grace=0)
    api.run_pod("bb")
    names: list[str] = []
    page = first
    while True:
        names += [one["metadata"]["name"] for one in page["items"]]
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        if "continue" not in page["metadata"]:
            break
        page = (await http.get(PODS, params={"limit": "2", "continue": page["metadata"]["continue"]})).json()
    assert names == list("abcde")


async def test_a_list_that_takes_too_long_cannot_go_on(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    for name in "abc":
        api.run_pod(name)
    token = (await http.get(PODS, params={"limit": "1"})).json()["metadata"]["continue"]
    api.faults.expire()
    refused = (await http.get(PODS, params={"limit": "1", "continue": token})).json()
    assert (refused["code"], refused["reason"]) == (410, "Expired")
    inconsistent = await http.get(PODS, params={"continue": refused["metadata"]["continue"]})
    assert [one["metadata"]["name"] for one in inconsistent.json()["items"]] == ["b", "c"]


async def test_versions_that_are_too_old_or_not_yet(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    api.run_pod("a")
    old = version(api)
    api.run_pod("b")
    exact = {"resourceVersion": old, "resourceVersionMatch": "Exact"}
    assert len((await http.get(PODS, params=exact)).json()["items"]) == 1
    assert len((await http.get(PODS, params={"resourceVersion": old})).json()["items"]) == 2, "not older than"
    api.faults.expire()
    gone = await http.get(PODS, params=exact)
    assert (gone.status_code, gone.json()["reason"]) == (410, "Expired")
    early = await http.get(PODS, params={"resourceVersion": "99999"})
    assert (early.status_code, early.json()["details"]["retryAfterSeconds"]) == (504, 1)
    assert "Too large resource version: 99999" in early.json()["message"]
    assert (await http.get(PODS, params={"resourceVersion": "x"})).status_code == 422


async def test_a_watch_from_too_long_ago_is_told_so_in_its_stream(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    old = version(api)
    api.run_pod("a")
    async with Stream(http, resourceVersion=version(api)) as open_one:
        api.faults.expire()
        async with Stream(http, resourceVersion=old) as stream:
            for one in (stream, open_one):
                assert one.answer.status_code == 200
                event = await one.next()
                assert event is not None
                assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
                assert event["object"]["message"].startswith("too old resource version: ")
                assert await one.next() is None
    api.faults.expire(as_status=True)
    assert (await http.get(PODS, params={"watch": "true", "resourceVersion": old})).status_code == 410


async def test_open_watches_need_not_notice_a_compaction(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    async with Stream(http, resourceVersion=version(api)) as stream:
        api.faults.expire(open_watches=False)
        api.run_pod("a")
        assert await stream.brief() == "ADDED a"


async def test_a_watch_ends_when_its_time_is_over(http: httpx.AsyncClient) -> None:
    async with Stream(http, timeoutSeconds="1") as stream:
        assert await stream.next() is None


async def test_a_watch_of_one_object_by_its_name(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    api.run_pod("a")
    api.run_pod("b")
    async with Stream(http, f"{PODS}/b") as stream:
        assert await stream.brief() == "ADDED b"
    assert ("somebody", "watch", "", "pods", "default") in api.calls


async def test_nobody_is_fed_who_went_away(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    async with Stream(http):
        assert len(api.watches) == 1
    async with asyncio.timeout(20):
        while len(api.watches):  # noqa: ASYNC110 - the server's side of the connection has no event for tests
            await asyncio.sleep(0)


async def test_the_client_library_watches(api: KubernetesAPI, tmp_path: Any) -> None:
    await config.load_kube_config(str(api.kubeconfig(tmp_path / "kubeconfig")))
    async with client.ApiClient() as connection, watch.Watch() as watching:
        pods = client.CoreV1Api(connection)
        listed = await pods.list_namespaced_pod("default")
        events = watching.stream(
            pods.list_namespaced_pod, "default", resource_version=listed.metadata.resource_version, timeout_seconds=30
        )
        api.run_pod("a", ip="10.0.0.5")
        first, second = await anext(events), await anext(events)
        assert (first["type"], second["type"], second["object"].status.pod_ip) == ("ADDED", "MODIFIED", "10.0.0.5")
        watching.stop()
        api.run_pod("b")
        assert [event["type"] async for event in events] == []
