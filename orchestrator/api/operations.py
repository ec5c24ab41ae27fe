"""One declaration per REST operation: its route, what it takes, what it answers.

The routes of the application and its OpenAPI description are both made from these declarations, so neither can
promise what the other does not keep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.api import parameters
from orchestrator.errors import Unavailable

__all__ = ["Answer", "Body", "IDEMPOTENCY_KEY", "LAST_EVENT_ID", "Operation", "json_response", "routes"]

Endpoint = Callable[[Request, dict[str, Any]], Awaitable[ASGIApp]]
"""Takes the request and the values of its query parameters; gives what sends the response."""

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
LAST_EVENT_ID: Final = "Last-Event-ID"

_COMMON_HEADERS: Final = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One kind of response. `schema` is the type of its JSON, or None for the other media types."""

    description: str
    schema: type | None = None
    media_type: str = "application/json"
    example: Any = None
    headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The request body. `schema` is a type, or the name of a component."""

    schema: type | str
    media_types: Sequence[str] = ("application/json",)
    required: bool = False
    example: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method on one path. `problems` names the kinds it answers with besides those that any operation has."""

    name: str
    method: str
    path: str
    tag: str
    summary: str
    endpoint: Endpoint
    answers: Mapping[int, Answer]
    description: str = ""
    query: Sequence[parameters.Parameter] = ()
    headers: Sequence[str] = ()
    body: Body | None = None
    problems: Sequence[str] = field(default=())
    public: bool = False


def json_response(view: object, *, status: int = 200, location: str | None = None) -> Response:
    """`view` as JSON. `location` is a path on this server."""
    response = Response(msgspec.json.encode(view), status_code=status)
    response.raw_headers.extend(_COMMON_HEADERS)
    if location is not None:
        response.headers["location"] = location
    return response


class _Door:
    """All operations of one path, as an ASGI application."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._by_method = {operation.method: operation for operation in operations}
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self._by_method[scope["method"]]
        request = Request(scope, receive)
        try:
            response = await operation.endpoint(request, parameters.read(request, operation.query))
        except asyncio.CancelledError as cut:  # by the server, which stops, and has given this all the time it had
            raise Unavailable("this orchestrator is stopping: try again, or ask another one") from cut
        await response(scope, receive, send)


def routes(operations: Sequence[Operation]) -> list[Route]:
    """One route per path, so that a method which is not offered is answered with those that are."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    return [
        Route(path, _Door(group), methods=[operation.method for operation in group]) for path, group in by_path.items()
    ]
