"""The client of the Kubernetes API, against a server that behaves like one, and misbehaves when told to."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_api import KubernetesAPI

from dagengine.errors import SettingsError
from orchestrator.errors import (
    ClusterConflict,
    ClusterExpired,
    ClusterInvalid,
    ClusterNotFound,
    ClusterRefused,
    ClusterUnavailable,
)
from orchestrator.kubernetes.access import Access, InPod, Kubeconfig
from orchestrator.kubernetes.base import DEPLOYMENTS, LEASES, PODS, SECRETS, WORKFLOWS, Event
from orchestrator.kubernetes.client import KubernetesCluster

Opened = Callable[..., Awaitable[KubernetesCluster]]

LABELS = "app=workflow-engine"


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """`await opened(access, …)`: a client that is closed after the test."""
    clients: list[KubernetesCluster] = []

    async def make(access: Access, **options: Any) -> KubernetesCluster:
        clients.append(KubernetesCluster(access, **options))
        await clients[-1].open()
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
def account(api: KubernetesAPI) -> InPod:
    return InPod(directory=api.service_account("orchestrator"), environment=api.in_cluster)


@pytest.fixture
async def client(opened: Opened, account: InPod) -> KubernetesCluster:
    return await opened(account)


def lease(name: str = "leader", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}


async def read(client: KubernetesCluster, since: str, *, seconds: float = 20, count: int = 1) -> list[Event]:
    """The first events after `since`, bookmarks apart."""
    events: list[Event] = []
    async with aclosing(client.watch(PODS, since=since, labels=LABELS, seconds=seconds)) as watch:
        async for event in watch:
            if event.type != "BOOKMARK":
                events.append(event)
                if len(events) == count:
                    break
    return events


# --- objects ---


async def test_objects_are_created_read_replaced_patched_and_deleted(client: KubernetesCluster) -> None:
    made = await client.create(LEASES, lease(holderIdentity="a"))
    assert made["metadata"]["managedFields"][0]["manager"] == "dag-orchestrator"
    assert await client.get(LEASES, "leader") == made
    made["spec"]["holderIdentity"] = "b"
    replaced = await client.replace(LEASES, "leader", made)
    assert replaced["spec"]["holderIdentity"] == "b"
    patched = await client.patch(LEASES, "leader", {"spec": {"holderIdentity": None, "leaseTransitions": 3}})
    assert patched["spec"] == {"leaseTransitions": 3}
    await client.delete(LEASES, "leader")
    with pytest.raises(ClusterNotFound):
        await client.get(LEASES, "leader")


async def test_apply_creates_what_is_not_there_and_takes_over_what_others_manage(
    api: KubernetesAPI, client: KubernetesCluster
) -> None:
    await client.patch(LEASES, "leader", lease(holderIdentity="a"), kind="apply")
    api.patch("leases", "leader", {"spec": {"holderIdentity": "somebody"}})
    applied = await client.patch(LEASES, "leader", lease(holderIdentity="b"), kind="apply")
    assert applied["spec"]["holderIdentity"] == "b"


async def test_subresources_are_read_and_changed(api: KubernetesAPI, client: KubernetesCluster) -> None:
    template = {"metadata": {"labels": {"app": "e"}}, "spec": {"containers": [{"name": "e", "image": "e"}]}}
    api.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "engines"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "e"}}, "template": template},
        }
    )
    scale = await client.get(DEPLOYMENTS, "engines", subresource="scale")
    assert scale["spec"]["replicas"] == 1
    await client.patch(DEPLOYMENTS, "engines", {"spec": {"replicas": 3}}, subresource="scale")
    assert api.get("deployments", "engines")["spec"]["replicas"] == 3


async def test_what_was_changed_meanwhile_is_a_conflict(client: KubernetesCluster) -> None:
    made = await client.create(LEASES, lease(leaseTransitions=1))
    await client.patch(LEASES, "leader", {"spec": {"leaseTransitions": 2}})
    with pytest.raises(ClusterConflict):
        await client.replace(LEASES, "leader", made)
    with pytest.raises(ClusterConflict):
        await client.create(LEASES, lease())
    with pytest.raises(ClusterConflict):
        await client.delete(LEASES, "leader", uid="another")
    old = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "spec": {"leaseTransitions": 9}}
    with pytest.raises(ClusterConflict):
        await client.patch(LEASES, "leader", old)


async def test_a_wrong_object_is_invalid_and_a_kind_that_is_not_there_is_not_found(client: KubernetesCluster) -> None:
    with pytest.raises(ClusterInvalid):
        await client.create(LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {}})
    with pytest.raises(ClusterNotFound):
        await client.list(WORKFLOWS)


async def test_a_list_of_many_pages_is_one_list(api: KubernetesAPI, client: KubernetesCluster) -> None:
    for number in range(1_001):
        api.create(lease(f"l{number}"))
    page = await client.list(LEASES)
    assert {item["metadata"]["name"] for item in page.items} == {f"l{number}" for number in range(1_001)}
    assert len(api.asked("list leases")) == 3


async def test_a_list_that_expires_between_two_pages_is_made_at_once(
    api: KubernetesAPI, client: KubernetesCluster
) -> None:
    for number in range(501):
        api.create(lease(f"l{number}"))
    held = api.faults.hold("list leases")
    listing = asyncio.create_task(client.list(LEASES))
    await held.arrived.wait()
    held.release()
    second = api.faults.hold("list leases")
    await second.arrived.wait()
    api.create(lease("later"))
    api.faults.expire()
    second.release()
    assert len((await listing).items) == 502


# --- watches ---


async def test_a_watch_tells_what_changes_after_a_version(api: KubernetesAPI, client: KubernetesCluster) -> None:
    api.run_pod("before")
    since = (await client.list(PODS, labels=LABELS)).resource_version
    watching = asyncio.create_task(read(client, since, count=3))
    await api.seen("watch pods")
    api.create(lease("another-kind"))
    api.run_pod("other", labels={"app": "other"})
    api.run_pod("engine-1", phase="")
    api.patch("pods", "engine-1", {"metadata": {"annotations": {"a": "b"}}})
    api.delete("pods", "engine-1", grace=0)
    told = [(event.type, event.object["metadata"]["name"]) for event in await watching]
    assert told == [("ADDED", "engine-1"), ("MODIFIED", "engine-1"), ("DELETED", "engine-1")]


async def test_an_event_larger_than_any_buffer_is_read(api: KubernetesAPI, client: KubernetesCluster) -> None:
    since = (await client.list(PODS)).resource_version
    watching = asyncio.create_task(read(client, since))
    await api.seen("watch pods")
    huge = "ä" * 3_000_000
    pod = {"name": "huge", "labels": {"app": "workflow-engine"}}
    container = {"name": "c", "image": "i", "args": [huge]}
    api.create({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": {"containers": [container]}})
    (event,) = await watching
    assert event.object["spec"]["containers"][0]["args"] == [huge]


async def test_a_watch_ends_in_good_order_when_its_time_is_over(client: KubernetesCluster) -> None:
    since = (await client.list(PODS)).resource_version
    assert await read(client, since, seconds=0.5) == []


@pytest.mark.parametrize("as_status", [False, True], ids=["in-stream", "as-status"])
async def test_a_version_that_is_forgotten_is_expired(
    api: KubernetesAPI, client: KubernetesCluster, as_status: bool
) -> None:
    since = (await client.list(PODS)).resource_version
    api.run_pod("engine-1")
    api.faults.expire(as_status=as_status)
    with pytest.raises(ClusterExpired):
        await read(client, since)


async def test_a_watch_that_is_broken_off_is_unavailable(api: KubernetesAPI, client: KubernetesCluster) -> None:
    since = (await client.list(PODS)).resource_version
    watching = asyncio.create_task(read(client, since))
    await api.seen("watch pods")
    api.faults.cut_watches()
    with pytest.raises(ClusterUnavailable):
        await watching


async def test_a_watch_that_says_nothing_any_more_is_given_up_soon_after_its_end(
    api: KubernetesAPI, opened: Opened, account: InPod
) -> None:
    client = await opened(account, watch_grace=0.2)
    api.faults.stall_watches()
    with pytest.raises(ClusterUnavailable, match="nothing was heard"):
        await read(client, (await client.list(PODS)).resource_version, seconds=1)


# --- what goes wrong ---


async def test_an_api_that_is_away_is_unavailable_and_comes_back(api: KubernetesAPI, client: KubernetesCluster) -> None:
    api.faults.down()
    with pytest.raises(ClusterUnavailable, match="cannot list pods in namespace 'default'"):
        await client.list(PODS)
    api.faults.up()
    assert (await client.list(PODS)).items == []


async def test_an_answer_that_is_broken_off_is_unavailable(api: KubernetesAPI, client: KubernetesCluster) -> None:
    api.faults.cut("list pods", times=2)  # it is sent once more over a fresh connection
    with pytest.raises(ClusterUnavailable):
        await client.list(PODS)


async def test_an_api_that_takes_too_long_is_unavailable(api: KubernetesAPI, opened: Opened, account: InPod) -> None:
    client = await opened(account, timeout=0.3)
    held = api.faults.hold("list pods")
    with pytest.raises(ClusterUnavailable, match=r"within 0\.3 s|in time"):
        await client.list(PODS)
    held.release()


@pytest.mark.parametrize("status", [429, 500, 503, 504])
async def test_an_overloaded_api_is_unavailable_and_says_when_to_come_back(
    api: KubernetesAPI, client: KubernetesCluster, status: int
) -> None:
    api.faults.fail("list pods", status=status, retry_after=7 if status in (429, 503) else None)
    with pytest.raises(ClusterUnavailable) as caught:
        await client.list(PODS)
    assert caught.value.status == status
    assert caught.value.retry_after == (7 if status in (429, 503) else None)
    assert len(api.asked("list pods")) == 1, "a request is sent once"


async def test_a_missing_right_is_named(api: KubernetesAPI, client: KubernetesCluster) -> None:
    api.faults.forbid("patch deployments/scale")
    with pytest.raises(
        ClusterRefused, match="verb 'patch' on resource 'deployments/scale' of API group 'apps'"
    ) as caught:
        await client.patch(DEPLOYMENTS, "engines", {"spec": {"replicas": 3}}, subresource="scale")
    assert caught.value.status == 403


async def test_values_of_secrets_are_in_no_message(api: KubernetesAPI, client: KubernetesCluster) -> None:
    api.faults.fail("create secrets", status=422, message="Invalid value: 'hunter2'")
    with pytest.raises(ClusterInvalid) as caught:
        await client.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
    assert "hunter2" not in str(caught.value)


async def test_close_ends_what_is_under_way(api: KubernetesAPI, client: KubernetesCluster) -> None:
    since = (await client.list(PODS)).resource_version
    held = api.faults.hold("list pods")
    watching = asyncio.create_task(read(client, since))
    listing = asyncio.create_task(client.list(PODS))
    await asyncio.gather(api.seen("watch pods"), held.arrived.wait())
    await client.close()
    await client.close()
    for task in (watching, listing):
        with pytest.raises(ClusterUnavailable):
            await task
    with pytest.raises(ClusterUnavailable, match="closed"):
        await client.list(PODS)
    held.release()


# --- access ---


async def test_a_pod_uses_its_service_account_and_its_own_namespace(api: KubernetesAPI, opened: Opened) -> None:
    directory = api.service_account("orchestrator", "prod")
    client = await opened(InPod(directory=directory, environment=api.in_cluster))
    await client.list(PODS)
    assert client.namespace == "prod"
    assert api.calls == {("system:serviceaccount:prod:orchestrator", "list", "", "pods", "prod")}


async def test_a_token_may_end_with_a_line_break(api: KubernetesAPI, opened: Opened, account: InPod) -> None:
    token = account.directory / "token"
    token.write_text(f"{token.read_text()}\n")
    client = await opened(account)
    await client.list(PODS)
    token.write_text("")
    await client.list(PODS)  # it is not read before a minute is over
    assert len(api.requests) == 2


async def test_a_rotated_token_is_read_again_once_for_all_that_wait(
    api: KubernetesAPI, client: KubernetesCluster
) -> None:
    await client.list(PODS)
    api.rotate_token("orchestrator")
    pages = await asyncio.gather(*(client.list(PODS) for _ in range(5)))
    assert len(pages) == 5
    before = len(api.requests)
    await client.list(PODS)
    assert len(api.requests) == before + 1, "the new token is kept"


async def test_a_watch_begins_with_a_rotated_token(api: KubernetesAPI, client: KubernetesCluster) -> None:
    since = (await client.list(PODS)).resource_version
    api.rotate_token("orchestrator")
    watching = asyncio.create_task(read(client, since))
    await api.seen("watch pods")
    api.run_pod("engine-1")
    assert (await watching)[0].object["metadata"]["name"] == "engine-1"


async def test_a_token_that_stays_refused_is_refused(api: KubernetesAPI, opened: Opened, tmp_path: Path) -> None:
    path = api.kubeconfig(tmp_path / "config")
    config = yaml.safe_load(path.read_text())
    config["users"][0]["user"]["token"] = "s3cret"
    path.write_text(yaml.safe_dump(config))
    client = await opened(Kubeconfig(paths=str(path)))
    with pytest.raises(ClusterRefused, match="does not accept our credentials") as caught:
        await client.list(PODS)
    assert caught.value.status == 401
    assert "s3cret" not in str(caught.value)


async def test_a_kubeconfig_gives_server_user_and_namespace_by_context(
    api: KubernetesAPI, opened: Opened, tmp_path: Path
) -> None:
    path = api.kubeconfig(tmp_path / "config", user="ada")
    config = yaml.safe_load(path.read_text())
    context = {"cluster": "double", "user": "ada", "namespace": "staging"}
    config["contexts"].append({"name": "staging", "context": context})
    path.write_text(yaml.safe_dump(config))
    client = await opened(Kubeconfig(paths=str(path), context="staging"))
    await client.list(PODS)
    assert api.calls == {("ada", "list", "", "pods", "staging")}
    assert (await opened(Kubeconfig(paths=str(path)), namespace="mine")).namespace == "mine"


async def test_a_command_gives_the_credentials_and_is_run_again_when_they_are_refused(
    api: KubernetesAPI, opened: Opened, tmp_path: Path
) -> None:
    path = api.kubeconfig(tmp_path / "config")
    config = yaml.safe_load(path.read_text())
    tokens, script = tmp_path / "token", tmp_path / "login.py"
    tokens.write_text(config["users"][0]["user"]["token"])
    script.write_text(
        textwrap.dedent(f"""\
        import json, pathlib
        status = {{"token": pathlib.Path({str(tokens)!r}).read_text()}}
        version = "client.authentication.k8s.io/v1"
        print(json.dumps({{"apiVersion": version, "kind": "ExecCredential", "status": status}}))
        """)
    )
    command = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(script)],
        "interactiveMode": "Never",
    }
    config["users"][0]["user"] = {"exec": command}
    path.write_text(yaml.safe_dump(config))
    client = await opened(Kubeconfig(paths=str(path)))
    await client.list(PODS)
    tokens.write_text(api.token("somebody-else"))
    api.faults.fail("list pods", status=401)
    await client.list(PODS)
    assert api.requests[-1].user == "somebody-else"
    asked = len(api.requests)
    tokens.unlink()
    api.faults.fail("list pods", status=401)
    with pytest.raises(ClusterUnavailable, match="run it by hand"):
        await client.list(PODS)
    assert [request.user for request in api.requests[asked:]] == ["somebody-else"], "and never as nobody"
    tokens.write_text(api.token("somebody-else"))
    api.faults.fail("list pods", status=401)
    await client.list(PODS)


async def test_a_server_that_the_ca_has_not_signed_is_not_spoken_to(
    api: KubernetesAPI, opened: Opened, tmp_path: Path
) -> None:
    path = api.kubeconfig(tmp_path / "config")
    config = yaml.safe_load(path.read_text())
    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    path.write_text(yaml.safe_dump(config))
    client = await opened(Kubeconfig(paths=str(path)))
    with pytest.raises(ClusterUnavailable, match="certificate"):
        await client.list(PODS)
    assert api.requests == []


async def test_elsewhere_than_in_a_pod_the_settings_are_wrong(api: KubernetesAPI, tmp_path: Path) -> None:
    for access in (
        InPod(directory=tmp_path, environment={}),
        InPod(directory=tmp_path, environment=api.in_cluster),
    ):
        with pytest.raises(SettingsError, match="IN_CLUSTER_CONFIG=false"):
            await KubernetesCluster(access).open()


async def test_a_kubeconfig_that_cannot_be_used_is_told_without_quoting_it(api: KubernetesAPI, tmp_path: Path) -> None:
    path = api.kubeconfig(tmp_path / "config")
    token = yaml.safe_load(path.read_text())["users"][0]["user"]["token"]
    with pytest.raises(SettingsError, match="context 'nowhere'"):
        await KubernetesCluster(Kubeconfig(paths=str(path), context="nowhere")).open()
    with pytest.raises(SettingsError, match="there is no kubeconfig"):
        await KubernetesCluster(Kubeconfig(paths=str(tmp_path / "nothing"))).open()
    for text in (f"token: [{token}", "just text", path.read_text().replace("server:", "sever:")):
        path.write_text(text)
        with pytest.raises(SettingsError) as caught:
            await KubernetesCluster(Kubeconfig(paths=str(path))).open()
        assert token not in str(caught.value)


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.aio", None)
    for access in (InPod(), Kubeconfig()):
        with pytest.raises(SettingsError, match=r"pip install 'dagengine\[kubernetes\]'"):
            await access.connect()
