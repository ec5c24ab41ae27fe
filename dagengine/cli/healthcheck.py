"""Ask the engine that runs here with these settings whether it is healthy: the health check of its image.

Called by `dag-engine --healthcheck`. Kubernetes asks by itself (gRPC probes), but for an engine with TLS: its probes
speak none.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dagengine.settings import EngineSettings

__all__ = ["fault"]

TIMEOUT: Final = 4.0
"""Seconds that it may take to answer."""


def fault(settings: EngineSettings) -> str | None:
    """What is wrong with the engine that listens here; None when nothing is.

    With TLS, only whether it listens and shows a certificate: what may ask more of it is the orchestrators' secret.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - not bound to here
    if settings.dagengine_tls_cert is not None:
        return _no_handshake(host, settings.port)
    target = f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"
    with grpc.insecure_channel(target, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        except grpc.RpcError as error:
            return f"the engine at {target} does not answer: {error.code().name}"
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        return f"the engine at {target} takes no work: it is shutting down"
    return None


def _no_handshake(host: str, port: int) -> str | None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host, port), TIMEOUT) as connection, context.wrap_socket(connection):
            return None
    except OSError as error:
        return f"the engine at {host}:{port} does not answer: {error}"
