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
    "executors.yaml",
    "identifiers.yaml",
    "kinds-of-values.yaml",
    "misspelt-fields.yaml",
    "no-nodes.yaml",
    "nodes-is-a-mapping.yaml",
    "not-a-mapping.yaml",
    "nothing-but-a-kind.yaml",
    "older-spelling.yaml",
    "other-api-version.yaml",
    "reserved-configuration.yaml",
    "retries-out-of-bounds.yaml",
    "run-if.yaml",
    "triggers.yaml",
    "versions.yaml",
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
