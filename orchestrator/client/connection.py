"""One pool of HTTP connections to one orchestrator: requests, retries, and errors turned back into exceptions.

Only what may safely be sent twice is: reads, and starts that carry an idempotency key. A refused connection is always
tried again, for nothing was sent. httpx is imported with the first request: it is slow to import, and `dagctl --help`
needs none of it. Used by `client` and `stream`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from dagengine.errors import SettingsError
from orchestrator import errors, problems

if TYPE_CHECKING:
    import httpx

__all__ = ["Connection", "PAUSES"]

T = TypeVar("T")

_log = logging.getLogger(__name__)  # not structlog, which would print to standard output where nobody has set it up

PAUSES: Final = (0.05, 0.2, 0.5)
"""Seconds between attempts at one request."""

_KEEP_ALIVE: Final = 30.0
_MAX_CONNECTIONS: Final = 100


class Connection:
    """Requests to the orchestrator at `url`. Opens its pool by itself; `close` gives it back."""

    def __init__(
        self, url: str, *, token: str | None = None, timeout: float = 30.0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.url = _checked(url)
        if token is not None and not (token.isascii() and token.isprintable() and token):
            raise SettingsError("the token must be printable ASCII characters")
        if token is not None and self.url.startswith("http:") and not _stays_here(self.url):
            _log.warning("the token goes to %s unencrypted, for everybody on the way to read: use https", self.url)
        self.timeout = timeout
        self._token = token
        self._tls = tls
        self._pool: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close all connections. A later request opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()

    async def get(
        self, path: str, answer: type[T], *, query: Mapping[str, Any] | None = None, patience: float = 0.0
    ) -> T:
        """What is at `path`. `patience` is how long the server itself may wait, in seconds."""
        body = await self.request("GET", path, query=query, patience=patience, repeatable=True)
        return self.decode(body, answer)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float = 0.0,
        repeatable: bool = False,
    ) -> bytes:
        """The body of the answer. Raises what the problem details stand for, or TransportError."""
        import httpx

        request = self._build(method, path, query, body, headers, timeout=self.timeout + patience)
        for pause in (*PAUSES, None):
            try:
                response = await self._open().send(request)
            except httpx.TransportError as exc:
                if pause is None or not _safe(exc, repeatable):
                    raise self.unreachable(exc) from exc
                await asyncio.sleep(pause)
            else:
                return response.content if response.is_success else self.refused(response)
        raise AssertionError("the last attempt returns or raises")

    @asynccontextmanager
    async def stream(
        self, path: str, *, headers: Mapping[str, str], silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The chunks of the body at `path`, one attempt. `silence` is the longest gap between chunks, in seconds.

        httpx's own errors pass through: the caller decides whether to go on.
        """
        request = self._build("GET", path, None, None, headers, timeout=self.timeout)
        request.extensions["timeout"]["read"] = silence
        response = await self._open().send(request, stream=True)
        try:
            if not response.is_success:
                await response.aread()
                self.refused(response)
            yield response.aiter_raw()
        finally:
            await response.aclose()

    def decode(self, body: bytes, answer: type[T]) -> T:
        """`body` as `answer`. Raises TransportError when it is something else."""
        try:
            return msgspec.json.decode(body, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise errors.TransportError(
                f"{self.url} did not answer as this version of the client expects ({exc}); is it an orchestrator, and "
                "of the same version?"
            ) from exc

    def unreachable(self, exc: Exception) -> errors.TransportError:
        """What to tell about a failed connection."""
        import httpx

        if isinstance(exc, httpx.ReadTimeout | httpx.PoolTimeout):
            return errors.TransportError(
                f"the orchestrator at {self.url} did not answer in time (timeout of {self.timeout:g} s); "
                "try again, or allow more time"
            )
        if (distrust := _distrust(exc)) is not None:
            return errors.TransportError(
                f"the certificate of the orchestrator at {self.url} is not trusted: {distrust}; name the CA that "
                "signed it (dagctl: --tls-ca or DAGCTL_TLS_CA, Python: tls=), and the host as the certificate does"
            )
        reason = (str(exc) or type(exc).__name__).rstrip(".")
        # With TLS 1.3 a client learns only after it has connected that it should have shown a certificate.
        cut = isinstance(exc, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError)
        if cut and self.url.startswith("https:"):
            return errors.TransportError(
                f"the orchestrator at {self.url} broke the connection off: {reason}; does it ask for a certificate? "
                "(dagctl: --tls-cert and --tls-key, or DAGCTL_TLS_CERT and DAGCTL_TLS_KEY; Python: tls=)"
            )
        return errors.TransportError(
            f"cannot reach the orchestrator at {self.url}: {reason}; is it running, and is the URL right? "
            "(`dagctl dev` starts one)"
        )

    def refused(self, response: httpx.Response) -> bytes:
        """Raises what a response that is no success stands for; returns never."""
        if response.headers.get("content-type", "").startswith(problems.MEDIA_TYPE):
            raise problems.restore(self.decode(response.content, problems.ProblemDetails))
        raise errors.TransportError(
            f"{response.request.method} {response.request.url} was answered with status {response.status_code}, and "
            "not by an orchestrator; is the URL right, or is a proxy in between?"
        )

    def _build(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        *,
        timeout: float,
    ) -> httpx.Request:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        if given:
            path = f"{path}?{urlencode(given)}"  # three times as fast as leaving it to httpx
        return self._open().build_request(method, path, content=body, headers=headers, timeout=timeout)

    def _open(self) -> httpx.AsyncClient:
        if self._pool is None:
            self._pool = self._new_pool()
        return self._pool

    def _new_pool(self) -> httpx.AsyncClient:
        import httpx

        headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "dagengine-client"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        return httpx.AsyncClient(
            base_url=self.url,
            headers=headers,
            verify=self._tls if self._tls is not None else self.url.startswith("https:"),
            trust_env=False,  # proxies of the environment are for the world outside, not for the orchestrator
            limits=httpx.Limits(
                max_connections=_MAX_CONNECTIONS,
                max_keepalive_connections=_MAX_CONNECTIONS,
                keepalive_expiry=_KEEP_ALIVE,
            ),
        )


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username is not None:
        raise SettingsError(f"{url!r} is not the URL of an orchestrator; it is like http://127.0.0.1:8080")
    return url.rstrip("/")


def _distrust(exc: BaseException | None) -> str | None:
    """Why the other side's certificate was not taken, if that is what happened."""
    while exc is not None:
        if isinstance(exc, ssl.SSLCertVerificationError):
            return exc.verify_message
        exc = exc.__cause__ or exc.__context__
    return None


def _stays_here(url: str) -> bool:
    """Whether what is sent to `url` does not leave this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _safe(exc: Exception, repeatable: bool) -> bool:
    import httpx

    if isinstance(exc, httpx.UnsupportedProtocol | httpx.ReadTimeout | httpx.PoolTimeout):
        return False
    return repeatable or isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout)
