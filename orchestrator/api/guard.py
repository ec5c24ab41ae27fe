"""The outermost door: who may ask at all, and in which form every error leaves.

Checked before anything is routed or read:

- `Host` must be a loopback name, an IP address or a configured name. A page that makes its own name resolve to this
  machine (DNS rebinding) is stopped here; an IP address cannot be rebound, and probes and Prometheus use one.
- `Origin`, when a browser sends it, must be this server's own.
- `Authorization: Bearer <token>`, when a token is configured, but for health and readiness.

An exception becomes problem details; one that is our fault becomes a 500 with the number under which it is logged,
and nothing else of it. A pure ASGI middleware: it adds microseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import math
import secrets
from collections.abc import Collection
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog
from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator import problems
from orchestrator.errors import RequestError, StoreError, Unauthorized, ValuesMissing
from orchestrator.problems import Misdirected

__all__ = ["Guard", "PUBLIC_PATHS"]

PUBLIC_PATHS: Final = frozenset({"/healthz", "/readyz"})

_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_MAX_HOSTS_KEPT: Final = 256
_LINGER: Final = 5.0
"""Seconds for which the rest of a refused body is thrown away, so that its sender gets to read the refusal."""

_log = structlog.get_logger(__name__)


class Guard:
    """Wraps the application. `allowed_hosts` are names without port; `*` allows any, `*.example.org` subdomains."""

    def __init__(self, app: ASGIApp, *, token: SecretStr | None, allowed_hosts: Collection[str]) -> None:
        self._app = app
        self._expected = None if token is None else f"bearer {token.get_secret_value()}".encode()
        self._names = frozenset(name.lower().rstrip(".") for name in allowed_hosts)
        self._hosts: dict[bytes, bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, pass on, and turn what comes back as an exception into problem details."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, watched)
        except Exception as exc:
            if started:
                _log.exception("response_cut", method=scope["method"], path=scope["path"])
                raise
            await _refuse(exc, scope, receive, send)

    def _check(self, scope: Scope) -> None:
        path = scope["path"]
        if path in PUBLIC_PATHS:
            return
        if "\x00" in path or b"%00" in scope["query_string"]:
            raise RequestError("the URL has a NUL in it: nothing here is named so")
        host = origin = authorization = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"authorization":
                authorization = value
        known = self._hosts.get(host)
        if not (self._remember(host) if known is None else known):
            raise Misdirected(
                f"this server does not answer for the host {host.decode('latin-1')[:200]!r}; it answers for loopback "
                "names, IP addresses and the names in its list of allowed hosts",
                kind="unknown-host",
            )
        if origin and not _same_origin(origin, host, scope["scheme"]):
            raise Misdirected(
                f"requests from pages of {origin.decode('latin-1')[:200]!r} are refused", kind="foreign-origin"
            )
        if self._expected is not None:
            _authorize(authorization, self._expected)

    def _remember(self, host: bytes) -> bool:
        allowed = self._allows(host.decode("latin-1"))
        if len(self._hosts) < _MAX_HOSTS_KEPT:
            self._hosts[host] = allowed
        return allowed

    def _allows(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if not name:
            return False
        if name == "localhost" or name.endswith(".localhost") or name in self._names or "*" in self._names:
            return True
        if any(entry.startswith("*.") and name.endswith(entry[1:]) for entry in self._names):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _authorize(authorization: bytes, expected: bytes) -> None:
    scheme, _, token = authorization.partition(b" ")
    if not hmac.compare_digest(scheme.lower() + b" " + token.strip(), expected):
        if not authorization:
            raise Unauthorized("a token is needed: send it as `Authorization: Bearer <token>`")
        raise Unauthorized("the token is wrong")


def _same_origin(origin: bytes, host: bytes, scheme: str) -> bool:
    # The scheme is not compared: behind a proxy that ends TLS ours is http and the page's is https.
    its_scheme, separator, netloc = origin.decode("latin-1").lower().partition("://")
    if not separator:
        return False  # "null", the origin of sandboxed pages and files
    ours = host.decode("latin-1").lower()
    ports = {_DEFAULT_PORTS.get(its_scheme, ""), _DEFAULT_PORTS.get(scheme, "")}
    return netloc == ours or any(port and f"{netloc}:{port}" == ours for port in ports)


async def _refuse(exc: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    details = problems.describe(exc, instance=scope["path"])
    if details is None:
        number = secrets.token_hex(8)
        about = {"incident": number, "method": scope["method"], "path": scope["path"]}
        # A database that is away, a disk that is full: no fault of ours, and it passes. Values that are gone stay so.
        if isinstance(exc, StoreError) and not isinstance(exc, ValuesMissing):
            _log.error("store_failed", error=str(exc), **about)
            details = problems.outage(number, instance=scope["path"])
        else:
            _log.error("request_failed", exc_info=exc, **about)
            details = problems.incident(number, instance=scope["path"])
    body = msgspec.json.encode(details)
    headers = _headers(exc, details, len(body))
    await send({"type": "http.response.start", "status": details.status, "headers": headers})
    if details.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await _linger(receive)
        body = b""
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _headers(exc: Exception, details: problems.ProblemDetails, length: int) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"content-length", str(length).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if isinstance(exc, Misdirected):
        headers += [(name.lower().encode(), value.encode()) for name, value in exc.headers.items()]
    if isinstance(exc, Unauthorized):
        headers.append((b"www-authenticate", b'Bearer realm="dagengine"'))
    if details.retry_after is not None:
        headers.append((b"retry-after", str(math.ceil(details.retry_after)).encode()))
    if details.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        headers.append((b"connection", b"close"))
    return headers


async def _linger(receive: Receive) -> None:
    """Throw away what is still being sent: closing at once would reset the connection under the answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass
