"""Kinds that CRDs add: what the server asks of a definition, and of objects of its kinds. Patches and apply."""

from __future__ import annotations

import copy
import json
from typing import Any

import httpx
import pytest
from kubernetes_api import KubernetesAPI

THINGS = "/apis/example.com/v1/namespaces/default/things"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MERGE = {"Content-Type": "application/merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}

STEP = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}}
SPEC = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 9},
        "mode": {"type": "string", "default": "fast", "enum": ["fast", "slow"]},
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
        "steps": {
            "type": "array",
            "items": STEP,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["id"],
        },
        "tags": {"type": "array", "maxItems": 2, "items": {"type": "string"}},
        "any": {"x-kubernetes-preserve-unknown-fields": True},
        "more": {"type": "object", "additionalProperties": {"type": "integer"}},
        "either": {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
    },
}


def definition() -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["spec"],
        "properties": {"spec": SPEC, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
        },
    }
    names = {"kind": "Thing", "plural": "things", "shortNames": ["th"]}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    return copy.deepcopy(crd)


def thing(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"size": 3, **spec}}


@pytest.fixture
def things(api: KubernetesAPI) -> KubernetesAPI:
    """The double, with the kind `Thing`."""
    api.create(definition())
    return api


async def test_a_kind_is_served_while_its_definition_is_there(http: httpx.AsyncClient) -> None:
    assert (await http.get(THINGS)).status_code == 404
    made = (await http.post(CRDS, json=definition())).json()
    assert [one["type"] for one in made["status"]["conditions"]] == ["NamesAccepted", "Established"]
    assert (await http.get(THINGS)).json()["kind"] == "ThingList"
    assert (await http.post(THINGS, json=thing())).status_code == 201
    assert (await http.delete(f"{CRDS}/things.example.com")).status_code == 200
    assert (await http.get(THINGS)).status_code == 404
    await http.post(CRDS, json=definition())
    assert (await http.get(THINGS)).json()["items"] == [], "the objects went with it"


async def test_a_definition_waits_for_objects_that_something_holds(things: KubernetesAPI) -> None:
    held = thing()
    held["metadata"]["finalizers"] = ["example.com/x"]
    things.create(held)
    things.delete("customresourcedefinitions", "things.example.com")
    assert "deletionTimestamp" in things.get("things", "t")["metadata"]
    things.patch("things", "t", {"metadata": {"finalizers": []}})
    assert things.list("customresourcedefinitions") == []


async def test_watches_of_a_kind_end_when_its_definition_goes_or_changes(
    things: KubernetesAPI, http: httpx.AsyncClient
) -> None:
    crd = things.get("customresourcedefinitions", "things.example.com")
    async with http.stream("GET", THINGS, params={"watch": "true"}) as answer:
        crd["spec"]["names"]["shortNames"] = ["thg"]
        things.replace(crd)
        assert [line async for line in answer.aiter_lines()] == []
    async with http.stream("GET", THINGS, params={"watch": "true"}) as answer:
        things.create(thing())
        things.delete("customresourcedefinitions", "things.example.com")
        events = [json.loads(line) async for line in answer.aiter_lines()]
    assert [event["type"] for event in events] == ["ADDED", "DELETED"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"size": "big"}, 'spec.size: Invalid value: "big": spec.size in body must be of type integer: "string"'),
        ({"size": 0}, "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        ({"size": None}, 'spec.size: Invalid value: null: spec.size in body must be of type integer: "null"'),
        ({"mode": "x"}, 'spec.mode: Unsupported value: "x": supported values: "fast", "slow"'),
        ({"name": "A"}, "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'"),
        ({"name": "abcdef"}, "spec.name: Too long: may not be more than 5 bytes"),
        ({"tags": ["a", "b", "c"]}, "spec.tags: Too many: 3: must have at most 2 items"),
        ({"steps": [{"n": 1}]}, "spec.steps[0].id: Required value"),
        ({"steps": [{"id": "a"}, {"id": "a"}]}, 'spec.steps[1]: Duplicate value: {"id":"a"}'),
        (
            {"more": {"x": "y"}},
            'spec.more.x: Invalid value: "y": spec.more.x in body must be of type integer: "string"',
        ),
        ({"either": {"a": "1", "b": "2"}}, "must validate one and only one schema (oneOf). Found 2 valid alternatives"),
    ],
    ids=["type", "minimum", "null", "enum", "pattern", "long", "many", "required", "duplicate", "additional", "oneOf"],
)
async def test_objects_fit_their_schema(
    spec: dict[str, Any], message: str, things: KubernetesAPI, http: httpx.AsyncClient
) -> None:
    answer = await http.post(THINGS, json=thing(**spec))
    assert (answer.status_code, answer.json()["reason"]) == (422, "Invalid")
    assert answer.json()["message"].startswith('Thing.example.com "t" is invalid: ')
    assert message in answer.json()["message"]


async def test_every_fault_is_told_at_once(things: KubernetesAPI, http: httpx.AsyncClient) -> None:
    answer = (await http.post(THINGS, json=thing(size=10, mode="x"))).json()
    assert [cause["field"] for cause in answer["details"]["causes"]] == ["spec.size", "spec.mode"]


async def test_what_the_schema_does_not_know_is_pruned_and_defaults_are_put_in(
    things: KubernetesAPI, http: httpx.AsyncClient
) -> None:
    odd = thing(bad=1, any={"x": [1, {"y": 2}]}, steps=[{"id": "a", "bad": 2}])
    odd["metadata"]["id"] = "t"
    made = await http.post(THINGS, json=odd, params={"fieldValidation": "Warn"})
    assert made.json()["spec"] == {"size": 3, "mode": "fast", "any": {"x": [1, {"y": 2}]}, "steps": [{"id": "a"}]}
    assert "id" not in made.json()["metadata"]
    assert len(made.headers.get_list("Warning")) == 3
    strict = await http.post(THINGS, json=odd, params={"fieldValidation": "Strict"})
    unknown = [f'unknown field "{name}"' for name in ("metadata.id", "spec.bad", "spec.steps[0].bad")]
    assert strict.status_code == 400
    assert all(words in strict.json()["message"] for words in unknown)


async def test_custom_objects_are_replaced_only_by_version(things: KubernetesAPI, http: httpx.AsyncClient) -> None:
    made = (await http.post(THINGS, json=thing())).json()
    blind = await http.put(f"{THINGS}/t", json=thing(size=4))
    assert (blind.status_code, "must be specified for an update" in blind.text) == (422, True)
    made["spec"]["size"] = 4
    changed = (await http.put(f"{THINGS}/t", json=made)).json()
    assert (changed["spec"]["size"], changed["metadata"]["generation"]) == (4, 2)
    scale = (await http.get(f"{THINGS}/t/scale")).json()
    assert scale["spec"]["replicas"] == 4
    status = await http.patch(f"{THINGS}/t/status", json={"status": {"size": 4}, "spec": {"size": 9}}, headers=MERGE)
    assert (status.json()["status"], status.json()["spec"]["size"]) == ({"size": 4}, 4)
    assert status.json()["metadata"]["generation"] == 2
    another = changed | {"metadata": changed["metadata"] | {"uid": "of-another"}}
    assert (await http.put(f"{THINGS}/t", json=another)).status_code == 409


FAULTS = {
    "no-type": ({"properties": {}}, "must not be empty for specified object fields"),
    "const": ({"type": "string", "const": "x"}, "strict decoding error"),
    "closed": ({"type": "object", "additionalProperties": False}, "must not be used"),
    "both": (
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}},
        "additionalProperties and properties are mutual exclusive",
    ),
    "reference": ({"type": "object", "$ref": "#/definitions/x"}, "$ref is not supported"),
    "unique": (
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "uniqueItems cannot be set to true",
    ),
    "junction": (
        {"type": "object", "oneOf": [{"properties": {"a": {"type": "string"}}}]},
        "must be empty to be structural",
    ),
    "pattern": ({"type": "string", "pattern": "(?=x)"}, "must be a valid regular expression"),
    "map-key": (
        {
            "type": "array",
            "items": {"type": "object", "properties": {"id": {"type": "string"}}},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["id"],
        },
        "must have a default or be required",
    ),
    "no-items": ({"type": "array"}, "must be specified"),
    "expression": ({"type": "string", "x-kubernetes-validations": [{"rule": "true"}]}, "evaluates no CEL rules"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=list(FAULTS))
async def test_definitions_are_structural(fault: str, http: httpx.AsyncClient) -> None:
    crd = definition()
    schema, message = FAULTS[fault]
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["x"] = schema
    answer = await http.post(CRDS, json=crd, params={"fieldValidation": "Strict"})
    assert (answer.status_code in {400, 422}, message in answer.json()["message"]) == (True, True), answer.text


async def test_definitions_are_named_by_what_they_define(http: httpx.AsyncClient) -> None:
    crd = definition()
    crd["metadata"]["name"] = "things"
    answer = await http.post(CRDS, json=crd)
    assert 'must be spec.names.plural+"."+spec.group' in answer.json()["message"]
    crd = definition()
    crd["spec"]["group"] = "things.k8s.io"
    crd["metadata"]["name"] = "things.things.k8s.io"
    assert "api-approved.kubernetes.io" in (await http.post(CRDS, json=crd)).json()["message"]


async def test_versions_of_a_kind_share_their_objects(http: httpx.AsyncClient) -> None:
    crd = definition()
    newer = copy.deepcopy(crd["spec"]["versions"][0]) | {"name": "v2", "storage": False}
    crd["spec"]["versions"].append(newer)
    await http.post(CRDS, json=crd)
    await http.post(THINGS, json=thing())
    other = (await http.get(THINGS.replace("/v1/", "/v2/") + "/t")).json()
    assert (other["apiVersion"], other["spec"]["size"]) == ("example.com/v2", 3)


async def test_patches_of_each_kind(things: KubernetesAPI, http: httpx.AsyncClient) -> None:
    await http.post(THINGS, json=thing(tags=["a"], more={"x": 1}))
    merged = await http.patch(f"{THINGS}/t", json={"spec": {"tags": ["b"], "more": {"x": None, "y": 2}}}, headers=MERGE)
    assert (merged.json()["spec"]["tags"], merged.json()["spec"]["more"]) == (["b"], {"y": 2})
    steps = [
        {"op": "test", "path": "/spec/size", "value": 3},
        {"op": "add", "path": "/spec/tags/-", "value": "c"},
        {"op": "replace", "path": "/spec/size", "value": 4},
        {"op": "add", "path": "/metadata/annotations", "value": {"a/b": "c"}},
        {"op": "remove", "path": "/metadata/annotations/a~1b"},
    ]
    patched = (await http.patch(f"{THINGS}/t", json=steps, headers=JSON_PATCH)).json()
    assert (patched["spec"]["tags"], patched["spec"]["size"]) == (["b", "c"], 4)
    failed = await http.patch(f"{THINGS}/t", json=steps[:1], headers=JSON_PATCH)
    assert (failed.status_code, failed.json()["reason"]) == (422, "Invalid")
    refused = await http.patch(f"{THINGS}/t", json={}, headers=STRATEGIC)
    assert (refused.status_code, refused.json()["reason"]) == (415, "UnsupportedMediaType")
    renamed = await http.patch(f"{THINGS}/t", json={"metadata": {"name": "u"}}, headers=MERGE)
    assert (renamed.status_code, "field is immutable" in renamed.text) == (422, True)


async def test_a_strategic_patch_merges_lists_by_their_key(api: KubernetesAPI, http: httpx.AsyncClient) -> None:
    containers = [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]
    api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}})
    patch = {"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "a", "$patch": "delete"}]}}
    answer = await http.patch("/api/v1/namespaces/default/pods/p", json=patch, headers=STRATEGIC)
    assert answer.json()["spec"]["containers"] == [{"name": "b", "image": "2"}]


async def test_apply_makes_objects_and_takes_back_what_is_not_said_again(
    things: KubernetesAPI, http: httpx.AsyncClient
) -> None:
    def applied(manager: str, body: Any, **query: str) -> Any:
        return http.patch(f"{THINGS}/t", json=body, headers=APPLY, params={"fieldManager": manager, **query})

    made = await applied("one", thing(more={"x": 1}, steps=[{"id": "a", "n": 1}]))
    assert made.status_code == 201
    (entry,) = made.json()["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("one", "Apply")
    assert entry["fieldsV1"]["f:spec"]["f:steps"] == {'k:{"id":"a"}': {".": {}, "f:id": {}, "f:n": {}}}
    both = await applied("two", thing(steps=[{"id": "b"}]))
    assert both.status_code == 200
    assert [step["id"] for step in both.json()["spec"]["steps"]] == ["a", "b"]
    conflict = await applied("two", thing(more={"x": 2}))
    assert (conflict.status_code, conflict.json()["reason"]) == (409, "Conflict")
    assert conflict.json()["message"] == 'Apply failed with 1 conflict: conflict with "one": .spec.more.x'
    assert conflict.json()["details"]["causes"][0]["reason"] == "FieldManagerConflict"
    forced = await applied("two", thing(more={"x": 2}), force="true")
    assert forced.json()["spec"]["more"] == {"x": 2}
    assert [step["id"] for step in forced.json()["spec"]["steps"]] == ["a"], "two does not say b any more"
    less = await applied("two", thing())
    assert "more" not in less.json()["spec"], "nobody says it any more"
    nobody = await applied("", thing())
    assert (nobody.status_code, "fieldManager: Required value" in nobody.text) == (422, True)
    managed = thing() | {"metadata": {"name": "t", "managedFields": []}}
    assert (await applied("one", managed)).status_code == 400


async def test_who_updates_a_field_manages_it(things: KubernetesAPI, http: httpx.AsyncClient) -> None:
    headers = APPLY
    await http.patch(f"{THINGS}/t", json=thing(mode="slow"), headers=headers, params={"fieldManager": "one"})
    await http.patch(f"{THINGS}/t", json={"spec": {"mode": "fast"}}, headers=MERGE, params={"fieldManager": "editor"})
    again = await http.patch(f"{THINGS}/t", json=thing(mode="slow"), headers=headers, params={"fieldManager": "one"})
    assert 'conflict with "editor" using example.com/v1: .spec.mode' in again.json()["message"]
    status = {"apiVersion": "example.com/v1", "kind": "Thing", "status": {"size": 1}}
    written = await http.patch(f"{THINGS}/t/status", json=status, headers=headers, params={"fieldManager": "one"})
    entries = {
        (e["manager"], e["operation"], e.get("subresource")) for e in written.json()["metadata"]["managedFields"]
    }
    assert entries == {("one", "Apply", None), ("editor", "Update", None), ("one", "Apply", "status")}
