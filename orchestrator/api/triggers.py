"""HTTP triggers: paths that workflow documents claim, answered where no operation of the interface is.

The body's `inputs` start an execution. 200 with its outputs when it succeeds in time, 202 with its URL when it takes
longer. An execution that did not succeed is a 422 problem: 200 would hide it from whoever called, and a 5xx would
make senders of webhooks repeat, and monitors page people, for what the workflow itself decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator import problems
from orchestrator.api import examples
from orchestrator.api.bodies import Bodies
from orchestrator.api.executions import NO_INPUTS, START, idempotency_key, path_of
from orchestrator.api.operations import IDEMPOTENCY_KEY, Answer, Body, Operation, json_response
from orchestrator.api.waiting import Waiting
from orchestrator.errors import NotFound, RequestError
from orchestrator.store.base import TERMINAL
from orchestrator.verbs import ExecutionView, Verbs
from orchestrator.views import StartRequest, TriggerAnswer

__all__ = ["Triggers"]

_METHODS: Final = ("POST", "PUT")


class Triggers:
    """What answers where no route does. `table` gives the reference that a method and path start, or None."""

    def __init__(
        self,
        verbs: Verbs,
        bodies: Bodies,
        waiting: Waiting,
        *,
        table: Callable[[str, str], str | None],
        wait: float,
    ) -> None:
        self._verbs = verbs
        self._bodies = bodies
        self._waiting = waiting
        self._table = table
        self._wait = wait

    def operations(self) -> Sequence[Operation]:
        """For the description only: the real paths are those of the registered documents."""
        execution = examples.EXECUTION["id"]
        running = {"execution": execution, "url": path_of(execution), "status": "running"}
        succeeded = running | {"status": "succeeded", "outputs": examples.EXECUTION["outputs"]}
        return [
            Operation(
                name=f"trigger{method.capitalize()}",
                method=method,
                path="/{trigger}",
                tag="triggers",
                summary="Start an execution by the HTTP trigger of a workflow",
                description="`trigger` is the path (which may hold slashes) and the method the one that a registered "
                f"document names in `spec.triggers.http`. Waits up to {self._wait:g} s for the end.",
                endpoint=self.fire,
                headers=[IDEMPOTENCY_KEY],
                body=Body(schema=StartRequest, example={"inputs": {"name": "world"}}),
                answers={
                    200: Answer(
                        description="It has succeeded; these are its outputs.",
                        schema=TriggerAnswer,
                        example=succeeded,
                    ),
                    202: Answer(
                        description="It runs; ask for it at `url`.",
                        schema=TriggerAnswer,
                        example=running,
                        headers=["Location"],
                    ),
                },
                problems=[
                    "not-found",
                    "invalid-inputs",
                    "execution-failed",
                    "overloaded",
                    "conflict",
                    "body-too-large",
                    "unsupported-media-type",
                ],
            )
            for method in _METHODS
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that no route took."""
        request = Request(scope, receive)
        response = await self.fire(request, {})
        await response(scope, receive, send)

    async def fire(self, request: Request, _query: dict[str, Any]) -> Response:
        """Start what the table says, and wait for it."""
        path: str = request.scope["path"]
        reference = self._table(request.method, path)
        if reference is None:
            raise self._unknown(request.method, path)
        if request.scope["query_string"]:
            raise RequestError("HTTP triggers take no query parameters; put the inputs into the body")
        key = idempotency_key(request)
        body = await self._bodies.json(request, START, NO_INPUTS)
        view = await self._verbs.start(
            reference, body.inputs, idempotency_key=key, trigger="http", priority=body.priority
        )
        if view.status not in TERMINAL:
            view = await self._waiting.ended(view.id, self._wait)
        return _answer(view, path)

    def _unknown(self, method: str, path: str) -> Exception:
        offered = [other for other in _METHODS if self._table(other, path) is not None]
        if not offered:
            return NotFound(f"there is nothing at {path}; /openapi.json lists what is offered")
        return problems.Misdirected(
            f"{method} is not offered at {path}, but {', '.join(offered)}",
            kind="method-not-allowed",
            headers={"Allow": ", ".join(offered)},
        )


def _answer(view: ExecutionView, path: str) -> Response:
    url = path_of(view.id)
    if view.status in TERMINAL and view.status != "succeeded":
        ending = "was cancelled" if view.status == "cancelled" else "has failed"
        why = f": {view.error.message}" if view.error is not None else ""
        details = problems.problem(
            "execution-failed", f"execution {view.id} {ending}{why}", instance=path, execution=url
        )
        response = json_response(details, status=details.status)
        response.headers["content-type"] = problems.MEDIA_TYPE
        return response
    answer = TriggerAnswer(execution=view.id, url=url, status=view.status, outputs=view.outputs)
    if view.status == "succeeded":
        return json_response(answer)
    return json_response(answer, status=202, location=url)
