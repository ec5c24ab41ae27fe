"""The CustomResourceDefinitions: as generated, structural, and never stricter than the reader of documents."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes_schemas
import pytest
import re2
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dagengine.errors import SpecError
from dagengine.spec import document, manifest, text
from orchestrator.kubernetes.base import EXECUTIONS, WORKFLOWS

ROOT = Path(__file__).parents[2]
SPEC_TESTS = ROOT / "tests" / "spec"
DEFINITIONS = {
    path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "deployments/crds").glob("*.yaml"))
}
SHIPPED = [*sorted(ROOT.glob("examples/*/*.yaml")), *sorted((SPEC_TESTS / "valid").iterdir())]
WRONG = sorted(path for path in (SPEC_TESTS / "wrong").iterdir() if path.suffix in (".yaml", ".json"))

KEYWORDS = {
    "type", "format", "description", "properties", "additionalProperties", "items", "required", "nullable", "enum",
    "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems",
    "maxItems", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
}  # fmt: skip
"""Those of `JSONSchemaProps` (apiextensions.k8s.io/v1) that are used here; $ref, definitions and the like are not."""


def schema(name: str) -> dict[str, Any]:
    (version,) = DEFINITIONS[name]["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def violations(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """The rules of structural schemas, after `ValidateStructural` of apiextensions-apiserver."""
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") is True
    int_or_string = schema.get("x-kubernetes-int-or-string") is True
    for keyword in schema.keys() - KEYWORDS:
        yield f"{path}: {keyword} is not used in these schemas"
    if not (schema.get("type") or open_ended or int_or_string):
        yield f"{path}: type must not be empty"
    if open_ended and int_or_string:
        yield f"{path}: x-kubernetes-preserve-unknown-fields must be false if x-kubernetes-int-or-string is true"
    if int_or_string and "type" in schema:
        yield f"{path}: type must be empty if x-kubernetes-int-or-string is true"
    if "properties" in schema and "additionalProperties" in schema:
        yield f"{path}: additionalProperties and properties are mutually exclusive"
    if schema.get("type") == "array" and "items" not in schema:
        yield f"{path}: items must be specified"
    if schema.get("nullable") and "enum" in schema and None not in schema["enum"]:
        yield f"{path}: null is refused by its enum, although it is nullable"
    if missing := set(schema.get("required", ())) - set(schema.get("properties", ())):
        yield f"{path}: required, but no property: {missing}"
    if "pattern" in schema:
        re2.compile(schema["pattern"])
    for name, field in schema.get("properties", {}).items():
        yield from violations(field, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if part in schema:
            yield from violations(schema[part], f"{path}.{part}")


def refusals(kind: str, body: dict[str, Any]) -> list[str]:
    """What an API server says to an object whose unknown fields it has taken out."""
    place = kubernetes_schemas.Place({**schema(f"{kind}s.yaml")}, True)
    value = copy.deepcopy(body)
    list(kubernetes_schemas.prune(place, value))
    return [cause.message for cause in kubernetes_schemas.validate(place, value)]


def as_object(value: dict[str, Any]) -> dict[str, Any]:
    """Plain values of a document, right or wrong, with metadata that an API server takes."""
    return {"apiVersion": manifest.API_VERSION, "kind": "Workflow", "metadata": {"name": "x"}, "spec": value["spec"]}


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_crds", ROOT / "scripts" / "generate_crds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_files_are_those_that_are_generated(generator: ModuleType) -> None:
    assert generator.definitions() == DEFINITIONS, "run `make docs`"


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_schema_is_structural(name: str) -> None:
    assert list(violations(schema(name))) == []
    root = schema(name)
    assert root["type"] == "object"
    assert root["properties"]["metadata"] == {"type": "object"}
    assert "additionalProperties" not in root


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_definition_is_small_enough_for_kubectl_apply(name: str) -> None:
    assert len(json.dumps(DEFINITIONS[name])) < 200 * 1024


@pytest.mark.parametrize(("name", "resource"), [("workflows.yaml", WORKFLOWS), ("executions.yaml", EXECUTIONS)])
def test_a_definition_serves_what_the_controllers_ask_for(name: str, resource: Any) -> None:
    spec = DEFINITIONS[name]["spec"]
    assert DEFINITIONS[name]["metadata"]["name"] == f"{resource.plural}.{resource.group}"
    assert (spec["group"], spec["names"]["plural"], spec["names"]["kind"]) == (
        resource.group,
        resource.plural,
        resource.kind,
    )
    (version,) = spec["versions"]
    assert version["name"] == resource.version
    assert version["subresources"] == {"status": {}}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shipped_documents_fit_and_lose_nothing(path: Path) -> None:
    if "kind: Execution" in path.read_text():
        assert refusals("execution", yaml.safe_load(path.read_text())) == []
        return
    written = manifest.written(document.read(path.read_bytes()))
    assert refusals("workflow", written) == []
    place = kubernetes_schemas.Place(schema("workflows.yaml")["properties"]["spec"], True)
    pruned = copy.deepcopy(written["spec"])
    assert list(kubernetes_schemas.prune(place, pruned)) == []
    assert pruned == written["spec"]


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.name)
def test_what_is_refused_is_refused_by_the_reader_too(path: Path) -> None:
    try:
        value = text.parse(path.read_bytes()).value
    except Exception:  # not even YAML
        return
    if not isinstance(value, dict) or not isinstance(value.get("spec"), dict):
        return
    body = as_object(value)
    if is_read({**value, "metadata": {"id": "x", "version": "1.0.0"}, "apiVersion": "workflows/v1"}):
        assert refusals("workflow", body) == []


EVERYTHING = document.read((SPEC_TESTS / "valid" / "everything.yaml").read_bytes()).to_dict()
STRANGE = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        7,
        0.5,
        1.0,
        100_001,
        2**62,
        "",
        "x",
        "a b",
        "5s",
        " 1h30m ",
        "0s",
        "64KiB",
        " 4 MiB ",
        "2xx",
        "10/s",
        "POST",
        "lua",
        "{{ inputs.a }}",
        "x" * 200,
        [],
        {},
        [1],
        ["a"],
        {"a": None},
        {"type": "wait"},
        {"a": {"b": [None]}},
        [{"id": "x"}],
    ]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside of a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in inside:
        yield (*path, step)
        yield from places(item, (*path, step))


PLACES = list(places(EVERYTHING["spec"]))


def is_read(value: dict[str, Any]) -> bool:
    """Whether the reader takes a document."""
    try:
        document.from_dict(value)
    except SpecError:
        return False
    return True


@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), STRANGE), min_size=1, max_size=2))
@settings(max_examples=400)
def test_whatever_is_refused_is_refused_by_the_reader_too(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    value = copy.deepcopy(EVERYTHING)
    for path, strange in changes:
        inside: Any = value["spec"]
        try:
            for step in path[:-1]:
                inside = inside[step]
            inside[path[-1]] = copy.deepcopy(strange)
        except (TypeError, KeyError, IndexError):  # an earlier change has taken that away
            continue
    if refused := refusals("workflow", as_object(value)):
        assert not is_read(value), f"only the definition refuses {changes}: {refused}"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "Required value"),
        ({"workflow": ""}, "should be at least 1 chars long"),
        ({"workflow": "a", "priority": 1001}, "should be less than or equal to 1000"),
        ({"workflow": "a", "inputs": [1]}, "must be of type object"),
        ({"workflow": "a", "ttl": "soon"}, "should match"),
    ],
)
def test_an_execution_that_is_wrong_is_refused_at_once(spec: dict[str, Any], words: str) -> None:
    body = {"apiVersion": EXECUTIONS.api_version, "kind": "Execution", "metadata": {"name": "x"}, "spec": spec}
    (refusal,) = refusals("execution", body)
    assert words in refusal
    assert refusals("execution", {**body, "spec": {"workflow": "a", "ttl": 0.5, "inputs": {"x": [None, {}]}}}) == []


def test_what_the_page_shows_is_taken() -> None:
    blocks = re.findall(
        r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "kubernetes.md").read_text(), re.MULTILINE | re.DOTALL
    )
    shown = [one for block in blocks for one in yaml.safe_load_all(block) if one.get("kind") == "Execution"]
    assert [refusals("execution", one) for one in shown] == [[]]
