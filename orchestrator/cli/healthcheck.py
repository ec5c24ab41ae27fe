"""Ask the orchestrator that runs here with these settings whether it is healthy: the health check of its image.

Called by `dag-orchestrator --healthcheck`.
"""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final

from orchestrator.settings import OrchestratorSettings

__all__ = ["fault"]

TIMEOUT: Final = 4.0
"""Seconds that it may take to answer."""


def fault(settings: OrchestratorSettings) -> str | None:
    """What is wrong with the orchestrator that listens here; None when nothing is.

    With mutual TLS, only whether it listens and shows a certificate: only its clients may ask more of it.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - not bound to here
    where = f"the orchestrator at {host}:{settings.http_port}"
    try:
        if settings.http_tls_client_ca is not None:
            with socket.create_connection((host, settings.http_port), TIMEOUT) as connection:
                _blind().wrap_socket(connection).close()
            return None
        status, body = _ask(settings, host)
    except (OSError, HTTPException) as error:
        return f"{where} does not answer: {error}"
    return None if status == 200 else f"{where} is not well: {body}"


def _ask(settings: OrchestratorSettings, host: str) -> tuple[int, str]:
    connection = (
        HTTPConnection(host, settings.http_port, timeout=TIMEOUT)
        if settings.http_tls_cert is None
        else HTTPSConnection(host, settings.http_port, timeout=TIMEOUT, context=_blind())
    )
    try:
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        answer = connection.getresponse()
        return answer.status, answer.read(4096).decode(errors="replace")
    finally:
        connection.close()


def _blind() -> ssl.SSLContext:
    """TLS with whoever listens on this machine: nothing is told there that is not told to everybody."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
