"""The OpenAPI 3.1 description, made from the declared operations and from the types they answer with.

Schemas of views come from msgspec, the one of the workflow document from pydantic; nothing is written twice.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any, Final

import msgspec

from dagengine.events import facts
from dagengine.events.logs import LogLine
from dagengine.spec.model import Document
from orchestrator import problems, verbs, views
from orchestrator.api.executions import MAX_IDEMPOTENCY_KEY
from orchestrator.api.operations import IDEMPOTENCY_KEY, LAST_EVENT_ID, Answer, Body, Operation

__all__ = ["describe"]

_REF: Final = "#/components/schemas/{name}"

_TYPES: Final = (
    verbs.EngineView,
    verbs.ExecutionPage,
    verbs.ExecutionView,
    verbs.Explanation,
    verbs.JournalHeader,
    verbs.PoolView,
    verbs.PurgeReport,
    verbs.Receipt,
    verbs.Registration,
    verbs.ReplicaView,
    verbs.WorkflowView,
    views.AttemptList,
    views.CancelRequest,
    views.DecideRequest,
    views.EditRequest,
    views.EngineList,
    views.FactList,
    views.Health,
    views.LogList,
    views.NodeList,
    views.PauseRequest,
    views.PoolList,
    views.PurgeRequest,
    views.Readiness,
    views.Removal,
    views.ReplicaList,
    views.ResumeRequest,
    views.RetryRequest,
    views.SignalRequest,
    views.SkipRequest,
    views.StartRequest,
    views.TerminateRequest,
    views.TriggerAnswer,
    views.WorkflowList,
    problems.ProblemDetails,
    LogLine,
    facts.Fact,
)

_RAW: Final = {
    ("FactView", "fact"): {"$ref": _REF.format(name="Fact")},
    ("LogView", "line"): {"$ref": _REF.format(name="LogLine")},
    ("WorkflowView", "document"): {"$ref": _REF.format(name="Document")},
    ("AttemptView", "args"): {"description": "JSON: the evaluated templates of the node's executor."},
    ("AttemptView", "result"): {"description": "JSON."},
    ("EditRequest", "inputs"): {"type": "object"},
    ("JournalHeader", "document"): {"$ref": _REF.format(name="Document")},
    ("JournalHeader", "inputs"): {"type": "object"},
}
"""What the JSON is that views carry as raw bytes."""

_HEADERS: Final[dict[str, dict[str, Any]]] = {
    IDEMPOTENCY_KEY: {
        "description": "Names the request: the same key starts the same workflow only once.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY},
    },
    LAST_EVENT_ID: {
        "description": "The `id` of the last event that was read.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Location": {
        "description": "Path of what was made.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
}

_PATH_PARAMETERS: Final = {
    "trigger": "Path of the trigger.",
    "workflows": "Id of the workflow; `id@range` names a version.",
    "executions": "Id of the execution.",
    "node": "Id of the node.",
}

_ALWAYS: Final = ("bad-request", "unknown-host", "foreign-origin", "internal", "unavailable")

_TAGS: Final = (
    {"name": "workflows", "description": "Versioned workflow definitions."},
    {"name": "executions", "description": "Runs of workflow versions."},
    {"name": "triggers", "description": "Paths that workflow documents claim."},
    {"name": "system", "description": "Engines, health, metrics."},
)


def describe(operations: Sequence[Operation], *, secured: bool) -> dict[str, Any]:
    """The OpenAPI document of `operations`. `secured` tells that a token is needed."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, secured)
    components: dict[str, Any] = {"schemas": _schemas()}
    if secured:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dagengine orchestrator",
            "version": metadata.version("dagengine"),
            "description": "Register versioned workflows, start executions and follow them. Times are microseconds "
            "since the Unix epoch. Errors are problem details (RFC 9457); `type` is "
            f"`{problems.PREFIX}<kind>`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": list(_TAGS),
        "paths": paths,
        "components": components,
    }


def _operation(operation: Operation, secured: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": list(_parameters(operation)),
        "responses": _responses(operation, secured),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body is not None:
        described["requestBody"] = _body(operation.body)
    if secured and not operation.public:
        described["security"] = [{"token": []}]
    return described


def _parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", operation.path):
        before = name if name != "id" else operation.path.split("/{id}")[0].rsplit("/", 1)[-1]
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[before],
            "schema": {"type": "string"},
        }
    for parameter in operation.query:
        yield {
            "name": parameter.name,
            "in": "query",
            "required": False,
            "description": parameter.description,
            "schema": parameter.schema,
        }
    for header in operation.headers:
        yield {"name": header, "in": "header", "required": False, **_HEADERS[header]}


def _body(body: Body) -> dict[str, Any]:
    name = body.schema if isinstance(body.schema, str) else body.schema.__name__
    content = {"schema": {"$ref": _REF.format(name=name)}, "example": body.example}
    return {"required": body.required, "content": dict.fromkeys(body.media_types, content)}


def _responses(operation: Operation, secured: bool) -> dict[str, Any]:
    responses = {str(status): _answer(answer) for status, answer in operation.answers.items()}
    kinds = ["internal"] if operation.public else [*operation.problems, *_ALWAYS]
    if operation.public:
        kinds.append("bad-request")
    elif secured:
        kinds.append("unauthorized")
    by_status: dict[int, list[str]] = {}
    for kind in kinds:
        by_status.setdefault(problems.KINDS[kind].status, []).append(kind)
    for status, names in sorted(by_status.items()):
        responses.setdefault(str(status), _refusal(names))
    return responses


def _answer(answer: Answer) -> dict[str, Any]:
    schema = {"type": "string"} if answer.schema is None else {"$ref": _REF.format(name=answer.schema.__name__)}
    described: dict[str, Any] = {
        "description": answer.description,
        "content": {answer.media_type: {"schema": schema, "example": answer.example}},
    }
    if answer.headers:
        described["headers"] = {name: _HEADERS[name] for name in answer.headers}
    return described


def _refusal(kinds: Sequence[str]) -> dict[str, Any]:
    lines = [f"{problems.KINDS[kind].title} (`{kind}`)" for kind in kinds]
    return {
        "description": "; ".join(lines) + ".",
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="ProblemDetails")}}},
    }


def _schema_of(kind: type) -> dict[str, Any]:
    """The schema of a type that msgspec has none for: raw JSON may be any value."""
    if kind is msgspec.Raw:
        return {}
    raise NotImplementedError(kind)


@functools.cache
def _schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(_TYPES, schema_hook=_schema_of, ref_template=_REF)
    (union,), _ = msgspec.json.schema_components((facts.Fact,), schema_hook=_schema_of, ref_template=_REF)
    schemas["Fact"] = union
    for described in schemas.values():
        if "description" in described:
            described["description"] = inspect.cleandoc(described["description"])
    for (view, member), schema in _RAW.items():
        schemas[view]["properties"][member] = schema
    document = Document.model_json_schema(ref_template=_REF.replace("{name}", "{model}"), by_alias=True)
    schemas.update(document.pop("$defs"))
    schemas["Document"] = document
    return dict(sorted(schemas.items()))
