"""The ASGI application: operations, guard and description put together over any implementation of the verbs.

`orchestrator.app` calls `create_app` with the embedded orchestrator; tests call it with a double.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from fastapi import FastAPI
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from orchestrator import defaults, errors
from orchestrator.api import events, openapi
from orchestrator.api.bodies import Bodies
from orchestrator.api.executions import Executions
from orchestrator.api.guard import Guard
from orchestrator.api.keeping import Keeping
from orchestrator.api.operating import Operating
from orchestrator.api.operations import Operation, routes
from orchestrator.api.system import System
from orchestrator.api.triggers import Triggers
from orchestrator.api.waiting import Waiting
from orchestrator.api.workflows import Workflows
from orchestrator.problems import Misdirected
from orchestrator.verbs import Verbs

__all__ = ["create_app"]


def create_app(
    verbs: Verbs,
    *,
    metrics: Callable[[], bytes],
    readiness: Callable[[bool], list[str]],
    health: Callable[[], list[str]],
    warnings: Callable[[], list[str]] = list,
    http_triggers: Callable[[str, str], str | None],
    token: SecretStr | None = None,
    allowed_hosts: Collection[str] = (),
    max_body: int = defaults.MAX_BODY,
    trigger_wait: float = defaults.TRIGGER_WAIT,
    heartbeat: float = events.HEARTBEAT,
) -> FastAPI:
    """The REST interface over `verbs`.

    `metrics` gives the Prometheus text; `readiness(needs_engine)` the reasons why executions cannot run now (empty:
    ready), `health` those why the process should be started anew (empty: it is well), `warnings` what else there is to
    know; `http_triggers` the reference that a method and path start, or None. With `token`, all but health and
    readiness need it. `allowed_hosts` are names (without port) beyond loopback names and IP addresses. `max_body` is in
    bytes; `trigger_wait` (longest wait of an HTTP trigger) and `heartbeat` (of event streams) are in seconds.

    `server.start` serves it. Elsewhere, call `app.state.waiting.release()` before the server stops: it ends waiting
    requests and event streams.
    """
    bodies = Bodies(max_body)
    waiting = Waiting(verbs)
    triggers = Triggers(verbs, bodies, waiting, table=http_triggers, wait=trigger_wait)
    operations: Sequence[Operation] = (
        *Executions(verbs, bodies, waiting).operations(),
        *Operating(verbs, bodies).operations(),
        *events.Events(verbs, waiting, heartbeat=heartbeat).operations(),
        *Keeping(verbs, bodies).operations(),
        *Workflows(verbs, bodies).operations(),
        *System(verbs, metrics=metrics, readiness=readiness, health=health, warnings=warnings).operations(),
    )
    # The pages that FastAPI would offer load scripts from elsewhere; the description itself is at /openapi.json.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    description = openapi.describe([*operations, *triggers.operations()], secured=token is not None)
    app.openapi = lambda: description  # type: ignore[method-assign]  # the way FastAPI documents to replace it
    app.router.routes[:0] = routes(operations)
    app.router.redirect_slashes = False
    app.router.default = triggers
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_middleware(Guard, token=token, allowed_hosts=allowed_hosts)
    app.state.waiting = waiting
    return app


async def _unrouted(request: Request, exc: Exception) -> Response:
    """Starlette's own refusals, as ours: raised again for the guard to answer."""
    if not isinstance(exc, HTTPException):
        raise exc
    path = request.scope["path"]
    if exc.status_code == 405:
        headers = dict(exc.headers or {})
        raise Misdirected(
            f"{request.method} is not offered at {path}, but {headers.get('Allow', '')}",
            kind="method-not-allowed",
            headers=headers,
        ) from exc
    if exc.status_code == 404:
        raise errors.NotFound(f"there is nothing at {path}; /openapi.json lists what is offered") from exc
    raise errors.RequestError(exc.detail) from exc
