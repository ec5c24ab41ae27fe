"""Counts HTTP requests by method and status: an ASGI layer around the REST interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from orchestrator.monitor.monitor import Monitor

__all__ = ["CountRequests"]

_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class CountRequests:
    """Wraps an ASGI application: `app.add_middleware(CountRequests, monitor=monitor)`, outermost."""

    def __init__(self, app: ASGIApp, *, monitor: Monitor) -> None:
        self._app = app
        self._monitor = monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count the answer when it begins, or a 500 when there is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "other"
        counted = False

        async def watched(message: Message) -> None:
            nonlocal counted
            if message["type"] == "http.response.start":
                counted = True
                self._monitor.request_answered(method, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if not counted:
                self._monitor.request_answered(method, 500)
            raise
