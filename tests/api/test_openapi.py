"""The OpenAPI description is complete and true. (The `http` fixture holds every response of all tests against it.)"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from starlette.routing import Route

from dagengine.events import facts

WORKFLOWS = "/api/v1/workflows"
EXECUTIONS = "/api/v1/executions"


def operations(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_route_is_described_and_nothing_else(make_app, described) -> None:
    offered = {
        (route.path, method)
        for route in make_app().routes
        if isinstance(route, Route) and route.path != "/openapi.json"
        for method in route.methods or ()
        if method != "HEAD"
    }
    written = {(path, method) for path, method, _ in operations(described.description)}
    assert written - offered == {("/{trigger}", "POST"), ("/{trigger}", "PUT")}
    assert offered <= written


async def test_it_is_served(http, make_app) -> None:
    response = await http.get("/openapi.json")
    assert response.json() == json.loads(json.dumps(make_app().openapi()))


def test_its_names_are_unique_and_its_references_lead_somewhere(described) -> None:
    description = described.description
    names = [operation["operationId"] for _, _, operation in operations(description)]
    assert len(names) == len(set(names))
    schemas = description["components"]["schemas"]
    found = set(references(description))
    assert {reference.removeprefix("#/components/schemas/") for reference in found} <= schemas.keys()
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_its_parameters_fit_its_paths(described) -> None:
    for path, _, operation in operations(described.description):
        named = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))
        for parameter in operation["parameters"]:
            assert parameter["description"]
            if "default" in parameter["schema"]:
                described.validate(parameter["schema"]["default"], parameter["schema"])


def test_its_examples_fit_its_schemas(described) -> None:
    checked = 0
    for _, _, operation in operations(described.description):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in (*bodies, *operation["responses"].values()):
            for media_type, content in body["content"].items():
                if media_type == "application/problem+json":
                    continue
                described.validate(content["example"], content["schema"])
                checked += 1
    assert checked > 25


def test_the_token_is_asked_for_only_where_there_is_one(make_app, described) -> None:
    for path, _, operation in operations(described.description):
        public = path in ("/healthz", "/readyz")
        assert ("security" not in operation) == public
        assert ("401" not in operation["responses"]) == public
    assert "securitySchemes" not in make_app().openapi()["components"]


async def test_every_success_it_promises_is_kept(http, registered, described, new_document, reasons) -> None:
    headers = {"content-type": "application/json"}
    await http.post(WORKFLOWS, json=new_document("fresh"))
    await http.post(WORKFLOWS, json=new_document("fresh"))
    await http.put(f"{WORKFLOWS}/other", json=new_document("other"))
    await http.put(f"{WORKFLOWS}/other", json=new_document("other"))
    await http.get(WORKFLOWS)
    await http.get(f"{WORKFLOWS}/greeting")
    await http.post(f"{WORKFLOWS}/greeting/executions?wait=true", content=b"", headers=headers)
    await http.post(f"{WORKFLOWS}/slow/executions")
    await registered.record("x1", facts.NodeStarted(at=1, node="a"))
    for path in ("", "/x1", "/x1/facts", "/x1/logs", "/x1/events"):
        await http.get(EXECUTIONS + path)
    for path in ("/x1/why", "/x1/nodes", "/x1/nodes/greet/attempts", "/x1/journal"):
        await http.get(EXECUTIONS + path)
    for path, body in (
        ("cancel", {}),
        ("terminate", {}),
        ("pause", {}),
        ("resume", {}),
        ("retry", {}),
        ("skip", {"node": "greet"}),
        ("signal", {"name": "s"}),
        ("decide", {"node": "greet", "approved": True}),
        ("edit", {"node": "greet", "inputs": {}}),
    ):
        await http.post(f"{EXECUTIONS}/x2/{path}", json=body)
    await http.post("/trigger/greeting")
    await http.put("/hooks/slow")
    await http.delete(f"{WORKFLOWS}/fresh")
    await http.post("/api/v1/purge", json={"dry_run": True})
    for path in ("/api/v1/engines", "/api/v1/pools", "/api/v1/replicas", "/healthz", "/readyz", "/metrics"):
        await http.get(path)
    reasons.append("no engine is connected")
    await http.get("/readyz")
    promised = {
        (operation["operationId"], status)
        for _, _, operation in operations(described.description)
        for status in operation["responses"]
        if status.startswith("2")
    }
    # the same answers come from either method of a trigger
    assert promised - described.seen == {("triggerPost", "202"), ("triggerPut", "200")}
    assert ("getReadiness", "503") in described.seen


@pytest.mark.parametrize("fact", facts.Fact.__args__)
def test_every_fact_is_described(described, fact: type) -> None:
    schema = described.description["components"]["schemas"]["Fact"]
    assert {"$ref": f"#/components/schemas/{fact.__name__}"} in schema["anyOf"]
