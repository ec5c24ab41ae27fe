"""Connections: looked up once, judged, and made to the very address that was judged.

httpcore (what httpx stands on) takes a backend that opens its connections. Ours looks the name up, asks the guard about
every address that came back, and connects to one that it lets pass. The client never looks a name up by itself, so a
name that answers differently the second time (DNS rebinding) gains nothing; `Host` and the name in TLS stay those of
the URL. A kept connection was judged when it was made, and is used for the same host and port only.

Behind a proxy it is the proxy that connects: the guard sees names, literal addresses, and what the name means here.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import httpcore
import httpx

from dagengine.executors.http import addresses
from dagengine.executors.http.failure import Failure
from dagengine.executors.http.guard import Guard
from dagengine.executors.http.kept import Connections, Sender
from dagengine.executors.http.policy import FROM_ENVIRONMENT, Policy
from dagengine.executors.http.request import Request

__all__ = ["CONNECT_TIMEOUT", "Network", "Resolve", "look_up"]

CONNECT_TIMEOUT: Final = 10.0
"""Seconds to look a name up and connect; and again as many for TLS."""

_TRIED: Final = 8

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the addresses of a name, for a port. Raises OSError."""


async def look_up(host: str, port: int) -> Sequence[str]:
    """What the system's resolver says."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Network:
    """The connections of one engine. For one event loop."""

    def __init__(self, policy: Policy, *, resolve: Resolve = look_up) -> None:
        self._policy = policy
        self._guard = Guard(allow=policy.allow, deny=policy.deny, only_allowed=policy.only_allowed)
        self._resolve = resolve
        self._senders: dict[tuple[bool, str], Sender] = {}
        self._contexts: dict[bool, ssl.SSLContext] = {}

    async def sender(self, request: Request, *, verify: bool) -> Sender:
        """Where `request` is sent through. Raises Failure (`Forbidden`) when it must not go where it wants to."""
        if not verify and not self._policy.insecure:
            raise Failure("Forbidden", "`verify: false` is not allowed here: ENGINE_HTTP_INSECURE is not set")
        proxy = self._proxy(request.url)
        if proxy:
            await self._judge_beforehand(request.url.raw_host.decode("ascii"), request.port)
        sender = self._senders.get((verify, proxy))
        if sender is None:
            context, of_the_proxy = await self._context(verify), await self._context(True)
            sender = self._senders.setdefault((verify, proxy), self._open(context, proxy, of_the_proxy))
        return sender

    async def close(self) -> None:
        """Close all connections."""
        senders, self._senders = list(self._senders.values()), {}
        for sender in senders:
            await sender.aclose()

    async def connect(self, host: str, port: int, timeout: float | None) -> httpcore.AsyncNetworkStream:
        """A connection to an address of `host` that the guard lets pass. Raises Failure and httpcore's ConnectError."""
        backend = httpcore.AnyIOBackend()
        permitted = await self._permitted(host, port, timeout)
        share = None if timeout is None else timeout / len(permitted)
        for address in permitted[:-1]:
            try:
                return await backend.connect_tcp(address, port, timeout=share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await backend.connect_tcp(permitted[-1], port, timeout=share)

    async def _permitted(self, host: str, port: int, timeout: float | None) -> list[str]:
        found = [host] if addresses.read(host) else await self._addresses(host, port, timeout)
        refused: Failure | None = None
        permitted = []
        for text in found[:_TRIED]:
            try:
                self._judge(host, port, addresses.read(text))
                permitted.append(text)
            except Failure as failure:
                refused = refused or failure
        if not permitted:
            raise refused or Failure("DNSError", f"{host} has no address", conclusion="error")
        return permitted

    async def _addresses(self, host: str, port: int, timeout: float | None) -> Sequence[str]:
        try:
            async with asyncio.timeout(timeout):
                return await self._resolve(host, port)
        except TimeoutError as exc:
            raise Failure("DNSError", f"the name {host} was not found in time", conclusion="error") from exc
        except OSError as exc:
            reason = exc.strerror or "the lookup failed"
            raise Failure("DNSError", f"the name {host} was not found: {reason}", conclusion="error") from exc
        except UnicodeError as exc:  # the resolver wants names whose parts have at most 63 characters
            raise Failure("DNSError", f"{host} cannot be the name of a host", conclusion="error") from exc

    def _judge(self, host: str, port: int, address: addresses.Address | None) -> None:
        if reason := self._guard.refusal(host, port, address):
            raise Failure("Forbidden", f"this engine does not let requests go there: {reason}")

    async def _judge_beforehand(self, host: str, port: int) -> None:
        """Judge what a proxy will look up by itself; a name that only the proxy knows is its business."""
        try:
            await self._permitted(host, port, CONNECT_TIMEOUT)
        except Failure as failure:
            if failure.type != "DNSError":
                raise
            self._judge(host, port, None)

    def _proxy(self, url: httpx.URL) -> str:
        if self._policy.proxy != FROM_ENVIRONMENT:
            return self._policy.proxy
        # typeshed leaves it out; `proxy_bypass` would ask the settings of a desktop, too
        if urllib.request.proxy_bypass_environment(url.host):  # type: ignore[attr-defined]
            return ""
        named = urllib.request.getproxies_environment()
        return named.get(url.scheme) or named.get("all") or ""

    async def _context(self, verify: bool) -> ssl.SSLContext:
        if verify not in self._contexts:
            # On a thread: reading the system's authorities takes tens of milliseconds.
            made = await asyncio.to_thread(_context, verify=verify, ca=self._policy.ca)
            self._contexts.setdefault(verify, made)
        return self._contexts[verify]

    def _open(self, context: ssl.SSLContext, proxy: str, of_the_proxy: ssl.SSLContext) -> Sender:
        limit = self._policy.connections
        if not proxy:
            return Connections(limit=limit, context=context, backend=_Guarded(self))
        try:
            url = httpx.URL(proxy if "://" in proxy else f"http://{proxy}")
            if url.scheme not in ("http", "https") or not url.host:
                raise httpx.InvalidURL("not a proxy for HTTP")
        except httpx.InvalidURL:  # not chained: it quotes the URL, which may hold a password
            message = "the environment names a proxy that is not an http:// or https:// URL"
            raise Failure("ProxyError", message, conclusion="error") from None
        place = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/")
        place = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/")
        return httpcore.AsyncHTTPProxy(
            place,
            proxy_auth=(url.username.encode(), url.password.encode()) if url.userinfo else None,
            ssl_context=context,
            proxy_ssl_context=of_the_proxy if url.scheme == "https" else None,
            max_connections=limit,
            keepalive_expiry=0.0,  # its pool would take what a server sends beyond a response for the next one
            network_backend=httpcore.AnyIOBackend(),
        )


class _Guarded(httpcore.AsyncNetworkBackend):
    """Opens the connections of a pool, as far as the guard lets it."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - the pools are made without
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - the pools are made without
    ) -> httpcore.AsyncNetworkStream:
        return await self._network.connect(host, port, timeout)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _context(*, verify: bool, ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is not None:
        try:
            context.load_verify_locations(cafile=ca)
        except OSError as exc:
            reason = "no certificate in PEM form" if isinstance(exc, ssl.SSLError) else exc.strerror
            message = f"the authorities in {ca} (ENGINE_HTTP_CA) cannot be read: {reason}"
            raise Failure("TLSError", message, conclusion="error") from exc
    return context
