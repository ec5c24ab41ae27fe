"""What can be asked of an execution: pause, resume, retry, skip, signal, decide, edit, cancel, terminate.

Each is durable when it is answered with 202; what became of it, a fact tells that cites its `command`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from dagengine.machine import operations
from dagengine.spec.duration import parse_duration
from orchestrator import views
from orchestrator.api import examples
from orchestrator.api.bodies import Bodies
from orchestrator.api.operations import Answer, Body, Operation, json_response
from orchestrator.errors import RequestError
from orchestrator.verbs import Receipt, Verbs

__all__ = ["Operating"]

_RECEIPT: Final = Answer(
    description="Durable. The fact that cites `command` tells what became of it.",
    schema=Receipt,
    example=examples.RECEIPT,
    headers=["Location"],
)
_PROBLEMS: Final = ("not-found", "conflict", "body-too-large", "unsupported-media-type")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One operation: its path, its body, and what that means. `default` is what no body means."""

    name: str
    path: str
    summary: str
    description: str
    body: type
    example: Any
    meant: Callable[[Any], operations.Operation]
    default: bool = True
    problems: Sequence[str] = ()


class Operating:
    """The operations under `/api/v1/executions/{id}/…`."""

    def __init__(self, verbs: Verbs, bodies: Bodies) -> None:
        self._verbs = verbs
        self._bodies = bodies

    def operations(self) -> Sequence[Operation]:
        """What this part of the interface offers."""
        return tuple(self._operation(kind) for kind in _KINDS)

    def _operation(self, kind: _Kind) -> Operation:
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind.body)

        async def ask(request: Request, _query: dict[str, Any]) -> Response:
            execution: str = request.path_params["id"]
            body = await self._bodies.json(request, decoder, kind.body() if kind.default else None)
            if body is None:
                raise RequestError(f"{kind.path} needs a body, such as {msgspec.json.encode(kind.example).decode()}")
            receipt = await self._verbs.operate(execution, kind.meant(body))
            return json_response(receipt, status=202, location=f"/api/v1/executions/{execution}")

        return Operation(
            name=kind.name,
            method="POST",
            path=f"/api/v1/executions/{{id}}/{kind.path}",
            tag="executions",
            summary=kind.summary,
            description=kind.description,
            endpoint=ask,
            body=Body(schema=kind.body, required=not kind.default, example=kind.example),
            answers={202: _RECEIPT},
            problems=[*_PROBLEMS, *kind.problems],
        )


def _cancel(body: views.CancelRequest) -> operations.Operation:
    try:
        grace = parse_duration(body.grace)
    except ValueError as exc:
        raise RequestError(f"`grace`: {exc}") from exc
    return operations.Cancel(grace=grace, author=body.author, reason=body.reason)


def _terminate(body: views.TerminateRequest) -> operations.Operation:
    return operations.Cancel(terminate=True, author=body.author, reason=body.reason)


def _pause(body: views.PauseRequest) -> operations.Operation:
    return operations.Pause(node=body.node, author=body.author, reason=body.reason)


def _resume(body: views.ResumeRequest) -> operations.Operation:
    return operations.Unpause(node=body.node, author=body.author, reason=body.reason)


def _retry(body: views.RetryRequest) -> operations.Operation:
    return operations.Rerun(nodes=tuple(body.nodes), author=body.author, reason=body.reason)


def _skip(body: views.SkipRequest) -> operations.Operation:
    return operations.Skip(node=body.node, result=body.result, author=body.author, reason=body.reason)


def _signal(body: views.SignalRequest) -> operations.Operation:
    payload = msgspec.Raw(b"null") if body.payload is msgspec.UNSET else body.payload
    return operations.Signal(name=body.name, payload=payload, author=body.author, reason=body.reason)


def _decide(body: views.DecideRequest) -> operations.Operation:
    return operations.Decide(
        node=body.node, index=body.index, approved=body.approved, author=body.author, reason=body.reason
    )


def _edit(body: views.EditRequest) -> operations.Operation:
    return operations.EditInputs(node=body.node, inputs=body.inputs, author=body.author, reason=body.reason)


_KINDS: Final = (
    _Kind(
        name="cancelExecution",
        path="cancel",
        summary="Stop an execution",
        description="Nodes without effects stop at once, those with effects have `grace` (a duration such as `10s`, or "
        "seconds) to end by themselves. `on_exit` still runs.",
        body=views.CancelRequest,
        example={"reason": "wrong day", "author": "ada", "grace": "10s"},
        meant=_cancel,
    ),
    _Kind(
        name="terminateExecution",
        path="terminate",
        summary="End everything of an execution at once",
        description="Nothing more runs, `on_exit` neither. Also after a cancel.",
        body=views.TerminateRequest,
        example={"reason": "it hangs", "author": "ada"},
        meant=_terminate,
    ),
    _Kind(
        name="pauseExecution",
        path="pause",
        summary="Pause an execution, or a node",
        description="Nothing new begins, and no clock runs. What runs may end.",
        body=views.PauseRequest,
        example={"node": "load", "reason": "the database is down", "author": "ada"},
        meant=_pause,
    ),
    _Kind(
        name="resumeExecution",
        path="resume",
        summary="Let what was paused go on",
        description="The whole execution, or the node that was paused. Clocks go on from where they stood.",
        body=views.ResumeRequest,
        example={"node": "load", "author": "ada"},
        meant=_resume,
    ),
    _Kind(
        name="retryExecution",
        path="retry",
        summary="Run parts of an execution again",
        description="`nodes` and all that depends on them; without any, what has not succeeded. Also when the "
        "execution has ended: it is queued and goes on.",
        body=views.RetryRequest,
        example={"nodes": ["load"], "author": "ada"},
        meant=_retry,
        problems=["overloaded"],
    ),
    _Kind(
        name="skipNode",
        path="skip",
        summary="Do not run a node",
        description="With `result` it counts as succeeded, without as skipped. One that runs is stopped.",
        body=views.SkipRequest,
        example={"node": "load", "result": {"rows": 0}, "author": "ada"},
        meant=_skip,
        default=False,
    ),
    _Kind(
        name="signalExecution",
        path="signal",
        summary="Send a signal to an execution",
        description="The node that has waited for `name` longest takes it. One that nobody waits for yet is kept. "
        "`payload` must fit the schema that a node which waits for it declares.",
        body=views.SignalRequest,
        example={"name": "paid", "payload": {"amount": 12}, "author": "shop"},
        meant=_signal,
        default=False,
        problems=["invalid-inputs"],
    ),
    _Kind(
        name="decideNode",
        path="decide",
        summary="Approve or reject what a node waits for",
        description="`author` is who decides: where the node names who may, one of those. `index` is the item of a "
        "`foreach`, counted from 0.",
        body=views.DecideRequest,
        example={"node": "release", "approved": True, "author": "ada", "reason": "looks good"},
        meant=_decide,
        default=False,
        problems=["forbidden"],
    ),
    _Kind(
        name="editInputs",
        path="edit",
        summary="Let a node see other inputs",
        description="`inputs` replaces members of the execution's inputs, for one node that has not run.",
        body=views.EditRequest,
        example={"node": "load", "inputs": {"limit": 10}, "author": "ada"},
        meant=_edit,
        default=False,
        problems=["invalid-inputs"],
    ),
)
