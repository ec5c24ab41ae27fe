"""What can be made to go wrong with the double, who it lets in, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes.aio import client, config
from kubernetes_api import KubernetesAPI

PODS = "/api/v1/namespaces/default/pods"
WATCH = {"watch": "true"}


async def test_down_is_refused_and_cut_and_up_is_the_same_again(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    api.run_pod("a")
    async with http.stream("GET", PODS, params=WATCH) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        url = api.url
        api.faults.down()
        with pytest.raises(httpx.TransportError):
            await anext(lines)
    with pytest.raises(httpx.ConnectError):
        await http.get(PODS)
    api.faults.down()
    api.run_pod("b")
    api.faults.up()
    api.faults.up()
    assert (api.url, len((await http.get(PODS)).json()["items"])) == (url, 2)


async def test_down_and_up_at_once(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    for _ in range(3):
        api.faults.down()
        api.faults.up()
    assert (await http.get(PODS)).status_code == 200


async def test_requests_fail_as_often_as_told(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    api.faults.fail("list pods", status=429, times=2, retry_after=7)
    other = await http.get("/api/v1/namespaces/default/secrets")
    answers = [await http.get(PODS) for _ in range(3)]
    assert [other.status_code, *(one.status_code for one in answers)] == [200, 429, 429, 200]
    assert (answers[0].headers["Retry-After"], answers[0].json()["details"]) == ("7", {"retryAfterSeconds": 7})
    assert answers[0].json()["reason"] == "TooManyRequests"
    api.faults.fail(status=503, times=None)
    assert [(await http.get(path)).status_code for path in (PODS, "/apis", "/version")] == [503, 503, 503]
    api.faults.clear()
    assert (await http.get(PODS)).status_code == 200


@pytest.mark.parametrize(
    ("match", "code"),
    [("", 500), ("pods", 500), ("get", 500), ("get pods", 500), ("user:somebody", 500), ("a", 500), ("list pods", 404),
     ("get secrets", 404), ("user:another", 404), ("b", 404)],
)  # fmt: skip
async def test_a_match_says_which(match: str, code: int, api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    api.faults.fail(match)
    assert (await http.get(f"{PODS}/a")).status_code == code


async def test_conflicts_and_refusals_look_like_real_ones(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    api.run_pod("a")
    api.faults.conflict("patch pods")
    patch: dict[str, Any] = {"json": {"metadata": {}}, "headers": {"Content-Type": "application/merge-patch+json"}}
    conflict = await http.patch(f"{PODS}/a", **patch)
    assert (conflict.status_code, conflict.json()["reason"]) == (409, "Conflict")
    assert (await http.patch(f"{PODS}/a", **patch)).status_code == 200
    api.faults.forbid("pods")
    forbidden = await http.get(PODS)
    assert forbidden.status_code == 403
    assert (
        'pods is forbidden: User "somebody" cannot list resource "pods" in API group ""' in forbidden.json()["message"]
    )


async def test_a_request_is_cut_and_does_nothing(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    api.faults.cut("create pods")
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    with pytest.raises(httpx.TransportError):
        await http.post(PODS, json=pod)
    assert api.list("pods") == []
    assert (await http.post(PODS, json=pod)).status_code == 201


async def test_answers_wait_until_they_are_released(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    held = api.faults.hold("list pods")
    asking = asyncio.create_task(http.get(PODS))
    await held.arrived.wait()
    assert not asking.done()
    held.release()
    assert (await asking).status_code == 200
    api.faults.delay(0.05)
    start = asyncio.get_running_loop().time()
    await http.get(PODS)
    assert asyncio.get_running_loop().time() - start >= 0.05


async def test_watches_are_cut_ended_and_stalled(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    since = {"resourceVersion": str(api.storage.revision), **WATCH}
    async with http.stream("GET", PODS, params=since) as answer:
        assert api.faults.end_watches("secrets") == 0
        assert api.faults.end_watches("pods") == 1
        assert [line async for line in answer.aiter_lines()] == []
    async with http.stream("GET", PODS, params=since) as answer:
        assert api.faults.cut_watches() == 1
        with pytest.raises(httpx.TransportError):
            await anext(answer.aiter_lines())
    async with http.stream("GET", PODS, params=since) as answer:
        api.faults.stall_watches()
        api.run_pod("a")
        line = asyncio.create_task(anext(answer.aiter_lines()))
        assert (await http.get(PODS)).status_code == 200, "other requests are answered"
        assert not line.done()
        api.faults.resume_watches()
        assert '"ADDED"' in await line


async def test_strangers_and_old_tokens_are_not_let_in(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    directory = api.service_account("worker")
    first = (directory / "token").read_text()
    headers = {"Authorization": f"Bearer {first}"}
    assert (directory / "namespace").read_text() == "default"
    assert (await http.get(PODS, headers=headers)).status_code == 200
    assert ("system:serviceaccount:default:worker", "list", "", "pods", "default") in api.calls
    second = api.rotate_token("worker")
    assert second == (directory / "token").read_text() != first
    refused = await http.get(PODS, headers=headers)
    assert (refused.status_code, refused.json()["reason"]) == (401, "Unauthorized")
    assert (await http.get(PODS, headers={"Authorization": f"Bearer {second}"})).status_code == 200
    for nobody in ("", "Bearer x", "Basic abc"):
        assert (await http.get(PODS, headers={"Authorization": nobody})).status_code == 401
    assert (await http.get("/readyz", headers={"Authorization": ""})).text == "ok"


RULES = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: worker}
rules:
- {apiGroups: [""], resources: [pods], verbs: [get, list]}
- {apiGroups: [apps], resources: [deployments/scale], resourceNames: [web], verbs: [patch]}
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [mine], verbs: [get, list, create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: worker}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: worker}
subjects: [{kind: ServiceAccount, name: worker, namespace: default}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: ["*"], resources: ["*"], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{kind: Group, name: readers}, {kind: User, name: guest}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: passed-over}
"""


async def test_rules_are_enforced_once_they_are_given(
    api: KubernetesAPI, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    assert (await http.get(PODS)).status_code == 200
    api.authorize(tmp_path / "rules.yaml")
    token = (api.service_account("worker") / "token").read_text()
    lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    scale = "/apis/apps/v1/namespaces/default/deployments/{}/scale"

    async def asked(method: str, path: str, token: str = token, **query: str) -> int:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"}
        content = b'{"metadata": {"name": "mine"}}' if method != "GET" else None
        answer = await http.request(method, path, headers=headers, params=query, content=content)
        return answer.status_code

    assert [await asked("GET", PODS), await asked("GET", f"{PODS}/a")] == [200, 404]
    assert await asked("GET", PODS, watch="true") == 403, "list is not watch"
    assert await asked("GET", "/api/v1/pods") == 403, "a role holds in its namespace"
    assert await asked("GET", "/api/v1/namespaces/kube-system/pods") == 403
    assert [await asked("PATCH", scale.format(name)) for name in ("web", "other")] == [404, 403]
    assert await asked("PATCH", scale.format("web").removesuffix("/scale")) == 403
    assert [await asked("GET", f"{lease}/{name}") for name in ("mine", "yours")] == [404, 403]
    assert await asked("GET", lease, fieldSelector="metadata.name=mine") == 200, "a list of one name"
    assert await asked("POST", lease) == 403, "creating is about no name"
    assert [await asked("GET", "/apis"), await asked("GET", "/version")] == [200, 200]
    for reader in (api.token("x", groups=["readers"]), api.token("guest"), api.token("x", groups=["system:masters"])):
        assert await asked("GET", "/api/v1/pods", reader) == 200
    assert await asked("POST", lease, api.token("guest")) == 403
    refused = await http.get("/api/v1/pods")
    assert refused.json()["message"] == (
        'pods is forbidden: User "somebody" cannot list resource "pods" in API group "" at the cluster scope'
    )


async def test_what_was_asked_for_is_kept(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    asking = asyncio.create_task(api.seen("list pods", 2))
    await http.get(PODS, params={"labelSelector": "a=b"})
    await http.get(PODS)
    first, _ = await asking
    assert (first.query, first.status, first.user, first.user_agent) == (
        {"labelSelector": "a=b"},
        200,
        "somebody",
        "curl/8",
    )
    with pytest.raises(TimeoutError, match=r"1 times 'watch' did not come; what came at last: \['list pods 200'"):
        await api.seen("watch", seconds=0.01)
    pod = asyncio.create_task(api.until(lambda: api.list("pods")))
    api.run_pod("a")
    assert [one["metadata"]["name"] for one in await pod] == ["a"]


async def test_a_controller_makes_the_pods_of_a_deployment(api: KubernetesAPI) -> None:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template}
    ports = iter(range(7000, 8000))
    api.deployments(address=lambda name: ("10.0.0.1", next(ports)))
    api.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})

    def names() -> list[str]:
        return [one["metadata"]["name"] for one in api.list("pods", labels="app=web")]

    await api.until(lambda: len(names()) == 3)
    first = names()
    cheap = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1000"}}}
    api.patch("pods", first[1], cheap)
    api.patch("deployments", "web", {"spec": {"replicas": 2}}, subresource="scale")
    await api.until(lambda: names() == [first[0], first[2]])
    await api.until(lambda: api.get("deployments", "web")["status"]["readyReplicas"] == 2)
    api.delete("pods", first[0])
    await api.until(lambda: len(names()) == 2 and first[0] not in names())
    api.delete("deployments", "web")
    await api.until(lambda: names() == [])


async def test_a_stateful_sets_pods_are_numbered_and_the_last_goes_first(api: KubernetesAPI) -> None:
    labels = {"app": "db"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "serviceName": "db", "template": template}
    api.deployments(linger=True)
    api.create({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": spec})

    def names(*, ending: bool = False) -> list[str]:
        return [
            one["metadata"]["name"] for one in api.list("pods") if ("deletionTimestamp" in one["metadata"]) is ending
        ]

    await api.until(lambda: names() == ["db-0", "db-1"])
    api.patch("statefulsets", "db", {"spec": {"replicas": 1}}, subresource="scale")
    await api.until(lambda: (names(), names(ending=True)) == (["db-0"], ["db-1"]))
    api.patch("statefulsets", "db", {"spec": {"replicas": 2}}, subresource="scale")
    api.delete("pods", "db-1", grace=0)
    await api.until(lambda: names() == ["db-0", "db-1"])


async def test_in_a_pod_it_is_found_by_environment_and_files(api: KubernetesAPI) -> None:
    settings = client.Configuration()
    directory = api.service_account("worker")
    loader = config.incluster_config.InClusterConfigLoader(
        token_filename=str(directory / "token"), cert_filename=str(directory / "ca.crt"), environ=api.in_cluster
    )
    loader.load_and_set(settings)
    async with client.ApiClient(settings) as connection:
        assert (await client.CoreV1Api(connection).list_namespaced_pod("default")).items == []
    assert {call[0] for call in api.calls} == {"system:serviceaccount:default:worker"}


async def test_it_can_speak_plain_http() -> None:
    async with KubernetesAPI(tls=False) as api, httpx.AsyncClient(base_url=api.url) as http:
        assert api.url.startswith("http://127.0.0.1:")
        assert (await http.get("/livez")).text == "ok"


async def test_processes_reach_it_too(api: KubernetesAPI) -> None:
    script = (
        "import os, ssl, urllib.request as r;"
        "q = r.Request(os.environ['URL'], headers={'Authorization': 'Bearer ' + os.environ['TOKEN']});"
        "print(r.urlopen(q, context=ssl.create_default_context(cadata=os.environ['CA'])).status)"
    )
    env = {**os.environ, "URL": api.url + PODS, "TOKEN": api.token("process"), "CA": api.ca}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert output == b"200\n"


async def test_it_ends_with_its_watches_open_and_faults_on() -> None:
    async with KubernetesAPI() as api:
        context = ssl.create_default_context(cadata=api.ca)
        headers = {"Authorization": f"Bearer {api.token('x')}"}
        async with (
            httpx.AsyncClient(base_url=api.url, headers=headers, verify=context) as http,
            http.stream("GET", PODS, params=WATCH) as answer,
        ):
            held = api.faults.hold("list")
            asking = asyncio.create_task(http.get(PODS))
            await held.arrived.wait()
            api.faults.stall_watches()
            api.deployments()
            await api.__aexit__(None, None, None)
            with pytest.raises(httpx.TransportError):
                await anext(answer.aiter_lines())
            await asyncio.wait([asking])
            assert isinstance(asking.exception(), httpx.TransportError)


async def test_connections_that_have_just_come_go_down_with_it(api: KubernetesAPI) -> None:
    context = ssl.create_default_context(cadata=api.ca)
    for turns in range(12):
        coming = [
            asyncio.create_task(asyncio.open_connection("127.0.0.1", api.port, ssl=tls))
            for tls in (context, context, None)
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        api.faults.down()
        for _, writer in [
            one for one in await asyncio.gather(*coming, return_exceptions=True) if isinstance(one, tuple)
        ]:
            writer.transport.abort()
        api.faults.up()
