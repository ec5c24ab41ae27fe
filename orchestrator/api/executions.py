"""Executions: start, wait, list, read, and what there is to know of one: facts, logs, nodes, attempts, reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.api import examples
from orchestrator.api.bodies import Bodies
from orchestrator.api.operations import IDEMPOTENCY_KEY, Answer, Body, Operation, json_response
from orchestrator.api.parameters import flag, integer, seconds, text, words
from orchestrator.api.waiting import Waiting
from orchestrator.api.workflows import referred
from orchestrator.errors import RequestError
from orchestrator.store.base import PAGE_BYTES, TERMINAL, Status
from orchestrator.verbs import ExecutionPage, ExecutionView, Explanation, Verbs
from orchestrator.views import AttemptList, FactList, LogList, NodeList, StartRequest

__all__ = ["MAX_IDEMPOTENCY_KEY", "NO_INPUTS", "START", "Executions", "idempotency_key", "path_of"]

MAX_IDEMPOTENCY_KEY: Final = 255
MAX_WAIT: Final = 3_600.0
DEFAULT_WAIT: Final = 30.0
MAX_ITEMS: Final = 10_000

START: Final = msgspec.json.Decoder(StartRequest)
NO_INPUTS: Final = StartRequest()

_WAIT: Final = flag("wait", "Answer once the execution has ended, or after `timeout`.")
_TIMEOUT: Final = seconds("timeout", "Longest time to wait, in seconds.", high=MAX_WAIT, default=DEFAULT_WAIT)
_AFTER: Final = "Only those after this position."
_PAGES: Final = (
    f"A page ends at `limit`, or sooner: it holds no more than {PAGE_BYTES >> 20} MiB, unless its first item does. "
    "Go on after its last item until a page is empty."
)
_ENDED: Final = Answer(description="The execution.", schema=ExecutionView, example=examples.EXECUTION)


def path_of(execution: str) -> str:
    """Where an execution is read."""
    return f"/api/v1/executions/{execution}"


def idempotency_key(request: Request) -> str | None:
    """The key under which a start happens only once. Raises RequestError when it cannot be one."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is None:
        return None
    if not 0 < len(key) <= MAX_IDEMPOTENCY_KEY or not key.isascii() or not key.isprintable():
        raise RequestError(
            f"the {IDEMPOTENCY_KEY} header must be 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters"
        )
    return key


class Executions:
    """The operations under `/api/v1/executions`, and the one that starts an execution."""

    def __init__(self, verbs: Verbs, bodies: Bodies, waiting: Waiting) -> None:
        self._verbs = verbs
        self._bodies = bodies
        self._waiting = waiting

    def operations(self) -> Sequence[Operation]:
        """What this part of the interface offers; the most frequent first, as routes are tried in order."""
        return (*self._starting(), *self._reading(), *self._details(), *self._nodes())

    def _starting(self) -> Sequence[Operation]:
        return (
            Operation(
                name="startExecution",
                method="POST",
                path="/api/v1/workflows/{id}/executions",
                tag="executions",
                summary="Start an execution",
                description="`id` may carry a version: `greeting@^1`. With `wait=true`, the finished execution comes "
                "back, whatever its status; when it takes longer than `timeout`, 202 with the execution as it is. "
                f"A request with the same `{IDEMPOTENCY_KEY}` for the same workflow gives the same execution.",
                endpoint=self.start,
                query=[
                    text("version", "A version, a range or `latest`.", example="^1"),
                    _WAIT,
                    _TIMEOUT,
                ],
                headers=[IDEMPOTENCY_KEY],
                body=Body(schema=StartRequest, example={"inputs": {"name": "world"}}),
                answers={
                    200: _ENDED,
                    202: Answer(
                        description="Recorded; it will run, or is running.",
                        schema=ExecutionView,
                        example=examples.QUEUED,
                        headers=["Location"],
                    ),
                },
                problems=[
                    "not-found",
                    "invalid-inputs",
                    "overloaded",
                    "conflict",
                    "body-too-large",
                    "unsupported-media-type",
                ],
            ),
        )

    def _reading(self) -> Sequence[Operation]:
        return (
            Operation(
                name="getExecution",
                method="GET",
                path="/api/v1/executions/{id}",
                tag="executions",
                summary="Read an execution",
                description="With `wait=true`, once it has ended, or as it is after `timeout`.",
                endpoint=self.read,
                query=[_WAIT, _TIMEOUT],
                answers={200: _ENDED},
                problems=["not-found"],
            ),
            Operation(
                name="listExecutions",
                method="GET",
                path="/api/v1/executions",
                tag="executions",
                summary="List executions",
                description="Newest first.",
                endpoint=self.list,
                query=[
                    text("workflow", "Only those of this workflow.", example="greeting"),
                    words("status", "Only those with one of these statuses.", get_args(Status)),
                    integer("limit", "At most this many.", low=1, high=1_000, default=50),
                    text("cursor", "`next` of the page before."),
                ],
                answers={
                    200: Answer(
                        description="One page.",
                        schema=ExecutionPage,
                        example={"items": [examples.EXECUTION], "next": None},
                    )
                },
            ),
        )

    def _details(self) -> Sequence[Operation]:
        limit = integer("limit", "At most this many.", low=1, high=MAX_ITEMS, default=1_000)
        return (
            Operation(
                name="listFacts",
                method="GET",
                path="/api/v1/executions/{id}/facts",
                tag="executions",
                summary="Read what happened in an execution",
                description=_PAGES,
                endpoint=self.facts,
                query=[integer("after", _AFTER), limit],
                answers={200: Answer(description="Facts.", schema=FactList, example={"items": [examples.FACT]})},
                problems=["not-found"],
            ),
            Operation(
                name="listLogs",
                method="GET",
                path="/api/v1/executions/{id}/logs",
                tag="executions",
                summary="Read what the nodes of an execution printed",
                description=_PAGES,
                endpoint=self.logs,
                query=[text("node", "Only lines of this node."), integer("after", _AFTER), limit],
                answers={200: Answer(description="Lines.", schema=LogList, example={"items": [examples.LOG]})},
                problems=["not-found"],
            ),
        )

    def _nodes(self) -> Sequence[Operation]:
        return (
            Operation(
                name="explainExecution",
                method="GET",
                path="/api/v1/executions/{id}/why",
                tag="executions",
                summary="Why an execution, and its nodes, are not running",
                description="One reason for each node that does not run, from what is committed; with `node`, those of "
                "its items as well. `waiting_on` tells why no engine has the execution.",
                endpoint=self.why,
                query=[text("node", "Only this node.")],
                answers={200: Answer(description="Reasons.", schema=Explanation, example=examples.EXPLANATION)},
                problems=["not-found"],
            ),
            Operation(
                name="listNodes",
                method="GET",
                path="/api/v1/executions/{id}/nodes",
                tag="executions",
                summary="How far each node of an execution is",
                description="In the order of the document, from what is committed.",
                endpoint=self.nodes,
                answers={200: Answer(description="Nodes.", schema=NodeList, example={"items": [examples.NODE]})},
                problems=["not-found"],
            ),
            Operation(
                name="listAttempts",
                method="GET",
                path="/api/v1/executions/{id}/nodes/{node}/attempts",
                tag="executions",
                summary="Every try at a node",
                description="Each with its times, inputs, and result or error. Of a node with `foreach`, those at its "
                f"items. {_PAGES}",
                endpoint=self.attempts,
                query=[
                    integer("index", "Only those at this item, counted from 0.", default=None),
                    integer("after", "How many to leave out: those that you have."),
                    integer("limit", "At most this many.", low=1, high=MAX_ITEMS, default=1_000),
                ],
                answers={
                    200: Answer(description="Attempts.", schema=AttemptList, example={"items": [examples.ATTEMPT]})
                },
                problems=["not-found"],
            ),
        )

    async def why(self, request: Request, query: dict[str, Any]) -> Response:
        """Why it is not running."""
        return json_response(await self._verbs.why(request.path_params["id"], query["node"]))

    async def nodes(self, request: Request, _query: dict[str, Any]) -> Response:
        """How far its nodes are."""
        return json_response(NodeList(items=await self._verbs.nodes(request.path_params["id"])))

    async def attempts(self, request: Request, query: dict[str, Any]) -> Response:
        """Every try at a node."""
        execution, node = request.path_params["id"], request.path_params["node"]
        return json_response(AttemptList(items=await self._verbs.attempts(execution, node, **query)))

    async def start(self, request: Request, query: dict[str, Any]) -> Response:
        """Start an execution and, when asked to, wait for its end."""
        reference = referred(request, query["version"])
        key = idempotency_key(request)
        body = await self._bodies.json(request, START, NO_INPUTS)
        view = await self._verbs.start(reference, body.inputs, idempotency_key=key, priority=body.priority)
        if query["wait"]:
            if view.status not in TERMINAL:
                view = await self._waiting.ended(view.id, query["timeout"])
            if view.status in TERMINAL:
                return json_response(view)
        return json_response(view, status=202, location=path_of(view.id))

    async def read(self, request: Request, query: dict[str, Any]) -> Response:
        """One execution, at once or when it has ended."""
        execution: str = request.path_params["id"]
        if query["wait"]:
            return json_response(await self._waiting.ended(execution, query["timeout"]))
        return json_response(await self._verbs.execution(execution))

    async def list(self, _request: Request, query: dict[str, Any]) -> Response:
        """One page of executions."""
        return json_response(await self._verbs.executions(**query))

    async def facts(self, request: Request, query: dict[str, Any]) -> Response:
        """Committed facts."""
        return json_response(FactList(items=await self._verbs.facts(request.path_params["id"], **query)))

    async def logs(self, request: Request, query: dict[str, Any]) -> Response:
        """Log lines."""
        return json_response(LogList(items=await self._verbs.logs(request.path_params["id"], **query)))
