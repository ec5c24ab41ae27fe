"""The JSON Schema that editors get, against the documents that `document.read` knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dagengine.spec import schema, text

FOLDER = Path(__file__).parent
# What is wrong with these shows in their shape; the others need eyes for the whole document.
MISSHAPEN = [
    "caches.yaml",
    "concurrency-is-a-number.yaml",
    "engine-is-a-text.yaml",
    "engine.yaml",
    "executors-to-come.yaml",
    "executors.yaml",
    "foreach-fields.yaml",
    "http-auth.yaml",
    "http-requests.yaml",
    "http-responses.yaml",
    "identifiers.yaml",
    "kinds-of-values.yaml",
    "misspelt-fields.yaml",
    "modules-is-a-list.yaml",
    "modules.yaml",
    "no-nodes.yaml",
    "nodes-is-a-mapping.yaml",
    "not-a-mapping.yaml",
    "nothing-but-a-kind.yaml",
    "older-spelling.yaml",
    "on-exit-is-one-node.yaml",
    "on-exit-nodes.yaml",
    "other-api-version.yaml",
    "pools-and-rates.yaml",
    "reserved-configuration.yaml",
    "retention.yaml",
    "retries-out-of-bounds.yaml",
    "run-if.yaml",
    "secrets-is-a-mapping.yaml",
    "shell-command-or-script.yaml",
    "shell-environment.yaml",
    "triggers.yaml",
    "versions.yaml",
    "wait-approvals.yaml",
    "wait-for-one-thing.yaml",
    "wait-payloads.yaml",
    "wait-signals.yaml",
]


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    made = schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def _node(**fields: Any) -> dict[str, Any]:
    node = {"id": "a", "executor": {"type": "lua", "code": "return 1"}, **fields}
    return {"metadata": {"id": "w", "version": "1.0.0"}, "spec": {"nodes": [node]}}


@pytest.mark.parametrize("path", sorted((FOLDER / "valid").iterdir()), ids=lambda path: path.name)
def test_right_documents_fit(validator: jsonschema.Draft202012Validator, path: Path) -> None:
    validator.validate(text.parse(path.read_text()).value)


@pytest.mark.parametrize("name", MISSHAPEN)
def test_misshapen_documents_do_not_fit(validator: jsonschema.Draft202012Validator, name: str) -> None:
    assert not validator.is_valid(text.parse((FOLDER / "wrong" / name).read_text()).value)


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"timeout": "1h30m"}, True),
        ({"timeout": 300}, True),
        ({"timeout": "soon"}, False),
        ({"metadata": {"timeout": 300, "retries": 3}}, True),
        ({"metadata": {"retries": 3}, "timeout": "5m"}, True),
        ({"metadata": {"timeout": 300}, "timeout": "5m"}, False),
        ({"metadata": {"retries": 3}, "retry": {}}, False),
        ({"metadata": {"owner": "x"}}, False),
        ({"executor": {"code": "return 1"}}, False),
        ({"executor": {"type": "python", "function": "f", "args": {"x": [1, {"y": None}]}}}, True),
        ({"rate": "10/s", "pool": "db", "weight": 2, "cache": {"key": "x", "ttl": "1h"}}, True),
        ({"rate": "10 a second"}, False),
        ({"executor": {"type": "lua", "code": "return 1", "memory": "64MiB", "output": 4096}}, True),
        ({"executor": {"type": "lua", "code": "return 1", "memory": "much"}}, False),
        ({"executor": {"type": "shell", "command": ["ls"]}}, True),
        ({"executor": {"type": "shell", "command": ["ls"], "script": "ls"}}, False),
        ({"executor": {"type": "http", "url": "https://example.com", "expect": [200, "4xx"], "json": [1]}}, True),
        ({"executor": {"type": "http", "url": "https://example.com", "json_body": [1]}}, False),
        ({"executor": {"type": "http", "url": "https://example.com", "auth": {"type": "bearer"}}}, False),
        ({"executor": {"type": "wait", "duration": "1h"}}, True),
        ({"executor": {"type": "wait", "duration": "1h", "until": 5}}, False),
        ({"executor": {"type": "wait", "signal": {"name": "go", "payload": {"type": "text"}}}}, False),
        ({"executor": {"type": "wait", "approval": {}}}, True),
    ],
)
def test_nodes(validator: jsonschema.Draft202012Validator, fields: dict[str, Any], fits: bool) -> None:
    assert validator.is_valid(_node(**fields)) is fits


def test_schemas_of_inputs_are_schemas(validator: jsonschema.Draft202012Validator) -> None:
    document = _node()
    document["spec"]["inputs"] = {"a": {"type": "integer", "default": 1}}
    assert validator.is_valid(document)
    document["spec"]["inputs"] = {"a": {"type": "intger"}}
    assert not validator.is_valid(document)


def test_it_is_plain_json_that_explains_itself() -> None:
    made = schema.json_schema()
    assert json.loads(json.dumps(made)) == made
    assert (made["$schema"], made["title"]) == ("https://json-schema.org/draft/2020-12/schema", "Workflow")
    assert made["$defs"]["Node"]["properties"]["timeout"]["anyOf"][0] == {"$ref": "#/$defs/Duration"} or (
        "#/$defs/Duration" in json.dumps(made["$defs"]["Node"]["properties"]["timeout"])
    )
    assert made["$defs"]["Backoff"]["properties"]["initial"]["default"] == "1s"
    for name, part in made["$defs"].items():
        assert part.get("description") or name == "JsonValue", name


def test_every_field_of_a_node_and_of_its_executor_is_described() -> None:
    parts = schema.json_schema()["$defs"]
    told = {name for name, part in parts.items() if name.endswith("Executor")} | {"Node", "Spec", "Signal", "Approval"}
    silent = {
        f"{name}.{field}"
        for name in told
        for field, described in parts[name]["properties"].items()
        if not described.get("description") and "$ref" not in described
    }
    assert {field.partition(".")[2] for field in silent} <= {"type", "id", "name", "description"}
