"""What the double does with objects, as the real API server does: versions, names, finalizers, subresources."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from kubernetes_api import KubernetesAPI, Refusal

PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
MERGE = {"Content-Type": "application/merge-patch+json"}


def pod(name: str = "a", **meta: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **meta}, "spec": spec}


def deployment(replicas: int = 1) -> dict[str, Any]:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def config(name: str = "c", **rest: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **rest}


async def test_what_is_created_has_a_uid_a_version_and_a_birthday(http: httpx.AsyncClient) -> None:
    answer = await http.post(DEPLOYMENTS, json={**deployment(), "status": {"replicas": 7}})
    meta = answer.json()["metadata"]
    assert (answer.status_code, meta["generation"], meta["namespace"]) == (201, 1, "default")
    assert len(meta["uid"]) == 36
    assert meta["creationTimestamp"].endswith("Z")
    assert "status" not in answer.json(), "status is another's to write"
    again = (await http.get(f"{DEPLOYMENTS}/web")).json()
    assert again == answer.json()


async def test_refusals_are_status_objects_that_say_what_and_why(http: httpx.AsyncClient) -> None:
    await http.post(PODS, json=pod())
    missing = await http.get(f"{PODS}/b")
    assert missing.status_code == 404
    assert missing.json() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'pods "b" not found',
        "reason": "NotFound",
        "details": {"name": "b", "kind": "pods"},
        "code": 404,
    }
    taken = await http.post(PODS, json=pod())
    assert (taken.status_code, taken.json()["reason"]) == (409, "AlreadyExists")
    assert taken.json()["message"] == 'pods "a" already exists'
    elsewhere = await http.post("/api/v1/namespaces/nowhere/pods", json=pod())
    assert (elsewhere.status_code, elsewhere.json()["message"]) == (404, 'namespaces "nowhere" not found')
    unknown = await http.get("/apis/example.com/v1/things")
    assert (unknown.status_code, unknown.text) == (404, "404 page not found\n")
    broken = await http.post(PODS, content=b"{")
    assert (broken.status_code, broken.json()["reason"]) == (400, "BadRequest")


async def test_only_the_present_version_is_replaced(http: httpx.AsyncClient) -> None:
    first = (await http.post(DEPLOYMENTS, json=deployment())).json()
    first["spec"]["replicas"] = 2
    second = (await http.put(f"{DEPLOYMENTS}/web", json=first)).json()
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    stale = await http.put(f"{DEPLOYMENTS}/web", json=first)
    assert (stale.status_code, stale.json()["reason"]) == (409, "Conflict")
    assert "the object has been modified" in stale.json()["message"]
    without = {**first, "metadata": {"name": "web"}}
    assert (await http.put(f"{DEPLOYMENTS}/web", json=without)).status_code == 200
    patch = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "spec": {"replicas": 5}}
    assert (await http.patch(f"{DEPLOYMENTS}/web", json=patch, headers=MERGE)).status_code == 409


async def test_a_write_that_changes_nothing_makes_no_version(http: httpx.AsyncClient) -> None:
    first = (await http.post(DEPLOYMENTS, json=deployment())).json()
    same = await http.patch(f"{DEPLOYMENTS}/web", json={"spec": {"replicas": 1}}, headers=MERGE)
    assert same.json()["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_the_generation_counts_changes_of_what_is_wanted(http: httpx.AsyncClient) -> None:
    await http.post(DEPLOYMENTS, json=deployment())

    async def generation(path: str, body: Any) -> int:
        answer = await http.patch(f"{DEPLOYMENTS}/web{path}", json=body, headers=MERGE)
        return int(answer.json()["metadata"]["generation"])

    assert await generation("", {"metadata": {"labels": {"a": "b"}}}) == 1
    assert await generation("", {"spec": {"replicas": 3}}) == 2
    assert await generation("/status", {"status": {"replicas": 3}}) == 2


async def test_status_is_written_through_its_subresource_alone(http: httpx.AsyncClient) -> None:
    await http.post(DEPLOYMENTS, json=deployment())
    both = {"spec": {"replicas": 4}, "status": {"replicas": 4}}
    answer = (await http.patch(f"{DEPLOYMENTS}/web", json=both, headers=MERGE)).json()
    assert (answer["spec"]["replicas"], answer.get("status")) == (4, None)
    both = {"spec": {"replicas": 9}, "status": {"replicas": 9}, "metadata": {"labels": {"x": "y"}}}
    answer = (await http.patch(f"{DEPLOYMENTS}/web/status", json=both, headers=MERGE)).json()
    assert (answer["spec"]["replicas"], answer["status"], answer["metadata"].get("labels")) == (
        4,
        {"replicas": 9},
        None,
    )


async def test_the_scale_subresource_shows_and_changes_replicas(http: httpx.AsyncClient) -> None:
    await http.post(DEPLOYMENTS, json=deployment(2))
    scale = (await http.get(f"{DEPLOYMENTS}/web/scale")).json()
    assert (scale["kind"], scale["apiVersion"], scale["spec"]) == ("Scale", "autoscaling/v1", {"replicas": 2})
    assert scale["status"] == {"replicas": 0, "selector": "app=web"}
    scale["spec"]["replicas"] = 5
    assert (await http.put(f"{DEPLOYMENTS}/web/scale", json=scale)).json()["spec"] == {"replicas": 5}
    assert (await http.put(f"{DEPLOYMENTS}/web/scale", json=scale)).status_code == 409, "that version is gone"
    assert (await http.get(f"{DEPLOYMENTS}/web")).json()["spec"]["replicas"] == 5
    patched = await http.patch(f"{DEPLOYMENTS}/web/scale", json={"spec": {"replicas": 1}}, headers=MERGE)
    assert patched.json()["spec"] == {"replicas": 1}
    negative = await http.patch(f"{DEPLOYMENTS}/web/scale", json={"spec": {"replicas": -1}}, headers=MERGE)
    assert (negative.status_code, negative.json()["reason"]) == (422, "Invalid")


async def test_who_has_finalizers_is_deleted_when_the_last_is_gone(http: httpx.AsyncClient) -> None:
    obj = config("c", data={"k": "v"})
    obj["metadata"]["finalizers"] = ["example.com/wait"]
    await http.post("/api/v1/namespaces/default/configmaps", json=obj)
    path = "/api/v1/namespaces/default/configmaps/c"
    waiting = (await http.delete(path)).json()
    assert waiting["kind"] == "ConfigMap"
    assert waiting["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["example.com/wait", "example.com/another"]}}
    refused = await http.patch(path, json=more, headers=MERGE)
    assert refused.status_code == 422
    assert "no new finalizers can be added if the object is being deleted" in refused.json()["message"]
    assert (await http.delete(path)).status_code == 200, "asking again changes nothing"
    assert (await http.patch(path, json={"metadata": {"finalizers": None}}, headers=MERGE)).status_code == 200
    assert (await http.get(path)).status_code == 404


async def test_a_pod_on_a_node_is_terminating_until_the_node_says_that_it_ended(
    api: KubernetesAPI, http: httpx.AsyncClient
) -> None:
    api.run_pod("a", ip="10.0.0.7", port=7000, capacity=3)
    running = (await http.get(f"{PODS}/a")).json()
    assert running["metadata"]["annotations"] == {"workflow-engine/port": "7000", "workflow-engine/capacity": "3"}
    assert (running["status"]["phase"], running["status"]["podIP"]) == ("Running", "10.0.0.7")
    ending = (await http.delete(f"{PODS}/a")).json()
    assert ending["metadata"]["deletionGracePeriodSeconds"] == 30
    assert (await http.get(f"{PODS}/a")).json()["metadata"]["deletionTimestamp"]
    gone = (await http.delete(f"{PODS}/a", params={"gracePeriodSeconds": 0})).json()
    assert (gone["status"], gone["details"]["uid"]) == ("Success", running["metadata"]["uid"])
    api.create(pod("unscheduled"))
    assert (await http.delete(f"{PODS}/unscheduled")).json()["status"] == "Success", "nobody is waited for"


async def test_preconditions_of_a_deletion_hold(http: httpx.AsyncClient) -> None:
    made = (await http.post(PODS, json=pod())).json()["metadata"]
    for wrong in ({"uid": "another"}, {"resourceVersion": "1"}):
        answer = await http.request("DELETE", f"{PODS}/a", json={"preconditions": wrong})
        assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
        assert "Precondition failed" in answer.json()["message"]
    right = {"preconditions": {"uid": made["uid"]}}
    assert (await http.request("DELETE", f"{PODS}/a", json=right)).status_code == 200


@pytest.mark.parametrize(("policy", "left"), [("Background", 0), ("Orphan", 1), ("Foreground", 0)])
async def test_what_belongs_to_an_owner_goes_with_it(
    policy: str, left: int, api: KubernetesAPI, http: httpx.AsyncClient
) -> None:
    owner = api.create(deployment())
    api.run_pod("a", owner=owner)
    await http.delete(f"{DEPLOYMENTS}/web", params={"propagationPolicy": policy})
    alive = [one for one in api.list("pods") if "deletionTimestamp" not in one["metadata"]]
    assert len(alive) == left
    waits = policy == "Foreground"
    assert bool(api.list("deployments")) is waits
    api.delete("pods", "a", grace=0)
    assert api.list("deployments") == []


async def test_a_namespace_takes_everything_in_it_along(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    api.create(config("plain") | {"metadata": {"name": "plain", "namespace": "shop"}})
    api.create(config("held") | {"metadata": {"name": "held", "namespace": "shop", "finalizers": ["example.com/x"]}})
    await http.delete("/api/v1/namespaces/shop")
    assert [one["metadata"]["name"] for one in api.list("configmaps", namespace="shop")] == ["held"]
    assert (await http.get("/api/v1/namespaces/shop")).json()["status"]["phase"] == "Terminating"
    late = await http.post("/api/v1/namespaces/shop/pods", json=pod())
    assert (late.status_code, late.json()["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
    api.patch("configmaps", "held", {"metadata": {"finalizers": None}}, namespace="shop")
    assert (await http.get("/api/v1/namespaces/shop")).status_code == 404


async def test_leases_are_made_by_replacing_and_take_times_of_microseconds_only(http: httpx.AsyncClient) -> None:
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "l"},
        "spec": {"holderIdentity": "one", "renewTime": "2026-01-02T03:04:05.000000Z"},
    }
    assert (await http.put(f"{LEASES}/l", json=lease)).status_code == 200
    again = await http.put(f"{LEASES}/l", json=lease)
    assert (again.status_code, again.json()["message"][-34:]) == (422, "0x0: must be specified for an update"[-34:])
    lease["spec"] = {"renewTime": "2026-01-02T03:04:05Z"}
    assert (await http.patch(f"{LEASES}/l", json=lease, headers=MERGE)).status_code == 400
    assert (await http.delete(f"{LEASES}/l")).status_code == 200
    lease["metadata"] |= {"resourceVersion": "101"}
    assert (await http.put(f"{LEASES}/l", json=lease)).status_code == 404, "a version of what is not there"


async def test_secrets_hold_base64(http: httpx.AsyncClient) -> None:
    path = "/api/v1/namespaces/default/secrets"
    secret = {"metadata": {"name": "s"}, "stringData": {"token": "abc"}}
    made = (await http.post(path, json=secret)).json()
    assert (made["data"], made["type"]) == ({"token": base64.b64encode(b"abc").decode()}, "Opaque")
    assert "stringData" not in made
    wrong = await http.post(path, json={"metadata": {"name": "t"}, "data": {"token": "not base64"}})
    assert wrong.status_code == 422


@pytest.mark.parametrize(
    ("meta", "field"),
    [
        ({"name": "Upper"}, "metadata.name"),
        ({}, "metadata.name"),
        ({"name": "a", "labels": {"k": "-"}}, "metadata.labels"),
        ({"name": "a", "labels": {"/": "v"}}, "metadata.labels"),
        ({"name": "a", "annotations": {"big": "x" * 300_000}}, "metadata.annotations"),
    ],
    ids=["upper-case", "no-name", "label-value", "label-key", "large-annotations"],
)
async def test_metadata_has_rules(meta: dict[str, Any], field: str, http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/v1/namespaces/default/configmaps", json={"metadata": meta})
    assert (answer.status_code, answer.json()["details"]["causes"][0]["field"]) == (422, field)


async def test_a_name_can_be_left_to_the_server(http: httpx.AsyncClient) -> None:
    made = (await http.post("/api/v1/namespaces/default/configmaps", json={"metadata": {"generateName": "c-"}})).json()
    assert made["metadata"]["name"].startswith("c-")
    assert len(made["metadata"]["name"]) == 7


async def test_unknown_fields_are_dropped_warned_of_or_refused(http: httpx.AsyncClient) -> None:
    odd = pod()
    odd["metadata"]["id"] = "x"
    odd["spec"]["containers"][0]["imag"] = "y"
    strict = await http.post(PODS, json=odd, params={"fieldValidation": "Strict"})
    assert strict.status_code == 400
    assert 'strict decoding error: unknown field "metadata.id"' in strict.json()["message"]
    assert 'unknown field "spec.containers[0].imag"' in strict.json()["message"]
    warned = await http.post(PODS, json=odd)
    assert warned.headers.get_list("Warning") == [
        '299 - "unknown field \\"metadata.id\\""',
        '299 - "unknown field \\"spec.containers[0].imag\\""',
    ]
    assert ("id" in warned.json()["metadata"], "imag" in warned.json()["spec"]["containers"][0]) == (False, False)
    ignored = await http.patch(
        f"{PODS}/a", json={"spec": {"x": 1}}, params={"fieldValidation": "Ignore"}, headers=MERGE
    )
    assert "Warning" not in ignored.headers


async def test_what_does_not_fit_a_built_in_kind_is_refused(http: httpx.AsyncClient) -> None:
    wrong = deployment()
    wrong["spec"]["replicas"] = "two"
    assert (await http.post(DEPLOYMENTS, json=wrong)).status_code == 400
    del wrong["spec"]["replicas"], wrong["spec"]["selector"]
    missing = await http.post(DEPLOYMENTS, json=wrong)
    assert (missing.status_code, missing.json()["details"]["causes"][0]["field"]) == (422, "spec.selector")
    lost = deployment()
    lost["spec"]["selector"] = {"matchLabels": {"app": "another"}}
    assert "`selector` does not match template `labels`" in (await http.post(DEPLOYMENTS, json=lost)).text
    await http.post(DEPLOYMENTS, json=deployment())
    labels = {"app": "another"}
    other = {"spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}}
    immutable = await http.patch(f"{DEPLOYMENTS}/web", json=other, headers=MERGE)
    assert (immutable.status_code, "field is immutable" in immutable.text) == (422, True)


async def test_a_dry_run_changes_nothing(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    before = api.storage.revision
    assert (await http.post(PODS, json=pod(), params={"dryRun": "All"})).status_code == 201
    assert (api.list("pods"), api.storage.revision) == ([], before)


async def test_many_are_deleted_by_selector(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    for number in range(3):
        api.create(pod(f"p{number}", labels={"odd": str(number % 2)}))
    assert (await http.delete(PODS, params={"labelSelector": "odd=0"})).status_code == 200
    assert [one["metadata"]["name"] for one in api.list("pods")] == ["p1"]


def test_tests_reach_objects_directly_by_the_same_rules(api: KubernetesAPI) -> None:
    made = api.create(pod() | {"status": {"phase": "Failed"}})
    assert made["status"] == {"phase": "Failed"}, "nobody else would write it"
    with pytest.raises(Refusal, match='pods "a" already exists'):
        api.create(pod())
    with pytest.raises(Refusal, match=r'strict decoding error: unknown field "spec\.x"'):
        api.patch("pods", "a", {"spec": {"x": 1}})
    with pytest.raises(LookupError, match=r"does not serve example.com/v1 Thing; is its CRD created\?"):
        api.create({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}})
    assert api.create_all("kind: ConfigMap\napiVersion: v1\nmetadata: {name: c}\n---\n")[0]["kind"] == "ConfigMap"
    assert api.delete("pods", "a")["metadata"]["name"] == "a"
