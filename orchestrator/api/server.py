"""Serves the REST interface from inside this process, on a socket of its own.

uvicorn does the HTTP; process signals stay with whoever embeds it. `start` returns once requests are taken, `stop`
once they are answered: waiting requests and event streams are released first, so that stopping takes no longer than
the answers under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from dagengine import pem
from dagengine.errors import SettingsError
from orchestrator import defaults
from orchestrator.api.waiting import Waiting

__all__ = ["Serving", "TLS", "bind", "start"]

_KEEP_ALIVE: Final = 75
"""Seconds for which an idle connection stays open: longer than clients keep theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """Certificate chain and key (PEM). With `client_ca`, clients must show a certificate signed by it."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Serving:
    """A server that takes requests at `host`:`port`, `url` in short."""

    def __init__(self, server: _Server, task: asyncio.Task[None], waiting: Waiting, listener: socket.socket) -> None:
        self._server = server
        self._task = task
        self._waiting = waiting
        self.host, self.port = listener.getsockname()[:2]

    @property
    def url(self) -> str:
        """Where to reach it from this machine, for example `http://127.0.0.1:8080`."""
        scheme = "https" if self._server.config.is_ssl else "http"
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to
        host = anywhere.get(self.host, self.host)
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    async def wait(self) -> None:
        """Until the server has stopped, also by a fault of its own, which is raised."""
        await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Take no more connections, answer what is under way, then return. Idempotent."""
        self._waiting.release()
        self._server.should_exit = True
        await asyncio.shield(self._task)


def bind(host: str, port: int) -> socket.socket:
    """A socket that has the address, and does not listen yet. Port 0 takes a free one.

    Raises SettingsError when the address cannot be had.
    """
    if not 0 <= port <= 65_535:  # getaddrinfo would take another one without a word
        raise _unusable(host, port, "there is no such port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as exc:
        raise _unusable(host, port, str(exc)) from exc
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError as exc:
        bound.close()
        raise _unusable(host, port, os.strerror(exc.errno or 0)) from exc
    return bound


def _unusable(host: str, port: int, reason: str) -> SettingsError:
    return SettingsError(
        f"cannot listen on {host}:{port}: {reason}; choose another host or port (port 0 takes a free one)"
    )


async def start(
    app: FastAPI,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    listener: socket.socket | None = None,
    tls: TLS | None = None,
    grace: float = defaults.GRACE,
) -> Serving:
    """Serve `app` (made by `create_app`) on `listener`, or else on `host`:`port`; returns once it takes requests.

    `listener` is from `bind`. `stop` waits up to `grace` seconds for requests under way. Raises SettingsError when the
    address or the TLS files cannot be used.
    """
    if tls is not None:
        files = pem.Files(
            certificate=tls.certificate,
            key=tls.key,
            ca=tls.client_ca,
            prefix="HTTP_TLS",
            ca_setting="HTTP_TLS_CLIENT_CA",
        )
        await asyncio.to_thread(files.check)
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(grace),
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
        ssl_ca_certs=str(tls.client_ca) if tls and tls.client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls and tls.client_ca else ssl.CERT_NONE,
    )
    config.load()
    listener = listener or bind(host, port)
    try:
        listener.listen(config.backlog)
    except OSError as exc:  # somebody else, who had bound it too, was sooner
        listener.close()
        raise _unusable(host, port, os.strerror(exc.errno or 0)) from exc
    # Inherited by the connections; without it, asyncio's answers of two writes wait 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="rest-server")
    serving = Serving(server, task, app.state.waiting, listener)
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        ready.cancel()
        await task  # raises what kept it from starting
    return serving
