"""Operations on workflows: register, list, read, replace by a new version, remove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.api import examples
from orchestrator.api.bodies import DOCUMENT_TYPES, Bodies
from orchestrator.api.operations import Answer, Body, Operation, json_response
from orchestrator.api.parameters import flag, text
from orchestrator.errors import RequestError
from orchestrator.verbs import Registration, Verbs, WorkflowView
from orchestrator.views import Removal, WorkflowList

__all__ = ["Workflows", "referred"]

_VERSION = text("version", "A version (`1.2.0`), a range (`^1`, `~1.2`, `>=1 <3`) or `latest`.", example="^1")
_REGISTERED = Answer(
    description="Registered.", schema=Registration, example=examples.REGISTRATION, headers=["Location"]
)
_KNOWN = Answer(
    description="The same content was registered before; nothing changed.",
    schema=Registration,
    example=examples.REGISTRATION | {"created": False},
    headers=["Location"],
)
_DOCUMENT = Body(schema="Document", media_types=DOCUMENT_TYPES, required=True, example=examples.DOCUMENT)


def referred(request: Request, version: str | None) -> str:
    """The reference that a path (`id` or `id@range`) and `?version=` come to."""
    reference: str = request.path_params["id"]
    if version is None:
        return reference
    if "@" in reference:
        raise RequestError(f"the path says {reference!r} and the query version={version!r}; name the version only once")
    return f"{reference}@{version}"


class Workflows:
    """The operations under `/api/v1/workflows`, but for those that start executions."""

    def __init__(self, verbs: Verbs, bodies: Bodies) -> None:
        self._verbs = verbs
        self._bodies = bodies

    def operations(self) -> Sequence[Operation]:
        """What this part of the interface offers."""
        return (*self._collection(), *self._single())

    def _collection(self) -> Sequence[Operation]:
        return (
            Operation(
                name="registerWorkflow",
                method="POST",
                path="/api/v1/workflows",
                tag="workflows",
                summary="Register a workflow version",
                description="A version is immutable: the same content again changes nothing, another is refused.",
                endpoint=self.register,
                body=_DOCUMENT,
                answers={201: _REGISTERED, 200: _KNOWN},
                problems=["invalid-document", "version-conflict", "body-too-large", "unsupported-media-type"],
            ),
            Operation(
                name="listWorkflows",
                method="GET",
                path="/api/v1/workflows",
                tag="workflows",
                summary="List workflows",
                description="The latest version of every workflow.",
                endpoint=self.list,
                query=[
                    text("filter", "Label selector: `team=data,tier!=gold,owner`.", example="team=data"),
                ],
                answers={
                    200: Answer(
                        description="The workflows.",
                        schema=WorkflowList,
                        example={"items": [examples.WORKFLOW]},
                    )
                },
            ),
        )

    def _single(self) -> Sequence[Operation]:
        path = "/api/v1/workflows/{id}"
        return (
            Operation(
                name="getWorkflow",
                method="GET",
                path=path,
                tag="workflows",
                summary="Read a workflow version",
                description="Without a version, the latest.",
                endpoint=self.read,
                query=[_VERSION],
                answers={200: Answer(description="The version.", schema=WorkflowView, example=examples.WORKFLOW)},
                problems=["not-found"],
            ),
            Operation(
                name="putWorkflow",
                method="PUT",
                path=path,
                tag="workflows",
                summary="Register a version of this workflow",
                description="As `registerWorkflow`, but the document's id must be that of the path (and its version "
                "that of the query, when one is given).",
                endpoint=self.put,
                query=[text("version", "The version that the document must have.", example="1.0.0")],
                body=_DOCUMENT,
                answers={201: _REGISTERED, 200: _KNOWN},
                problems=["invalid-document", "version-conflict", "body-too-large", "unsupported-media-type"],
            ),
            Operation(
                name="deleteWorkflow",
                method="DELETE",
                path=path,
                tag="workflows",
                summary="Remove a workflow, or one version of it",
                description="Its executions stay readable.",
                endpoint=self.delete,
                query=[
                    text("version", "The version to remove; all of them without it.", example="1.0.0"),
                    flag("force", "Remove it although executions of it have not ended."),
                ],
                answers={200: Answer(description="Removed.", schema=Removal, example={"removed": 1})},
                problems=["not-found", "in-use"],
            ),
        )

    async def register(self, request: Request, _query: dict[str, Any]) -> Response:
        """Register the document in the body."""
        return _registered(await self._verbs.apply(await self._bodies.document(request)))

    async def list(self, _request: Request, query: dict[str, Any]) -> Response:
        """The latest version of every workflow that the filter lets through."""
        return json_response(WorkflowList(items=await self._verbs.workflows(labels=query["filter"] or "")))

    async def read(self, request: Request, query: dict[str, Any]) -> Response:
        """One version."""
        return json_response(await self._verbs.workflow(referred(request, query["version"])))

    async def put(self, request: Request, query: dict[str, Any]) -> Response:
        """Register the document in the body if it is the one that the path names."""
        expected = referred(request, query["version"])
        return _registered(await self._verbs.apply(await self._bodies.document(request), expected=expected))

    async def delete(self, request: Request, query: dict[str, Any]) -> Response:
        """Remove one version or all."""
        workflow, _, version = referred(request, query["version"]).partition("@")
        removed = await self._verbs.delete_workflow(workflow, version=version or None, force=query["force"])
        return json_response(Removal(removed=removed))


def _registered(registration: Registration) -> Response:
    location = f"/api/v1/workflows/{quote(registration.id)}?version={quote(registration.version)}"
    return json_response(registration, status=201 if registration.created else 200, location=location)
