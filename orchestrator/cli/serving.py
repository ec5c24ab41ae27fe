"""The orchestrator as a process: from settings to a listening server, and back to nothing on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

import structlog

from dagengine import configuration
from dagengine.server import lifetime
from orchestrator.api import server as rest
from orchestrator.app import Options, Orchestrator
from orchestrator.errors import OrchestratorError
from orchestrator.kubernetes.access import InPod, Kubeconfig
from orchestrator.options import Kubernetes
from orchestrator.settings import OrchestratorSettings
from orchestrator.transport import grpc_link

__all__ = ["run"]

log = structlog.get_logger(__name__)


def run(settings: OrchestratorSettings, *, announce: bool) -> None:
    """Serve until SIGTERM or SIGINT. With `announce`, print where, as one line of JSON on standard output.

    Raises SettingsError when the address or a file cannot be used, StoreError when the store cannot be.
    """
    lifetime.run(_serve(settings, announce=announce))


async def _serve(settings: OrchestratorSettings, *, announce: bool) -> None:
    configuration.warn_of_short_token(settings.token())
    stopping = lifetime.catch_signals(patience=settings.shutdown_timeout)
    # A port in use is found out before other replicas hear of this one, which may even be about to lead.
    listener = rest.bind(settings.host, settings.http_port)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(listener.close)
        running = await stack.enter_async_context(orchestrator(settings))
        served = await running.serve(
            settings.host,
            settings.http_port,
            tls=_https(settings),
            grace=settings.shutdown_timeout,
            listener=listener,
        )
        try:
            log.info("listening", url=served.url, engines=list(settings.engines), discovery=settings.discovery)
            if announce:
                sys.stdout.write(json.dumps({"orchestrator": settings.orchestrator_id, "url": served.url}) + "\n")
                sys.stdout.flush()
            await _any(stopping, served, running)
        finally:
            await served.stop()
    log.info("stopped")


def orchestrator(settings: OrchestratorSettings) -> Orchestrator:
    """The orchestrator that settings describe; not yet open."""
    return Orchestrator(
        settings.database_url,
        engines=settings.engines,
        options=Options(
            name=settings.orchestrator_id,
            strategy=settings.load_balancer_type,
            queue_limit=settings.max_queued,
            engine_lost_after=settings.engine_lost_timeout,
            replica_lease=settings.replica_lease,
            pools=settings.pools,
            cron_catch_up=settings.cron_catch_up,
            retention_ttl=settings.retention_ttl,
            retention_keep=settings.retention_keep,
            retention_log_ttl=settings.retention_log_ttl,
            trigger_wait=settings.http_trigger_wait,
            max_body=settings.max_body_bytes,
            token=settings.token(),
            tls=_session_tls(settings),
            allowed_hosts=settings.allowed_hosts,
            kubernetes=_kubernetes(settings),
            dns=f"{settings.k8s_service_name}:{settings.grpc_port}" if settings.discovery == "dns" else "",
            grpc_port=settings.grpc_port,
            discovery_interval=settings.engine_discovery_interval,
            health_check_interval=settings.engine_health_check_interval,
        ),
    )


def _kubernetes(settings: OrchestratorSettings) -> Kubernetes | None:
    """What is to be done with a cluster; None when nothing is."""
    found = settings.discovery if settings.discovery in ("pods", "endpointslices") else None
    if found is None and not settings.lease and not settings.objects:
        return None
    return Kubernetes(
        access=InPod()
        if settings.in_cluster_config
        else Kubeconfig(paths=settings.kubeconfig, context=settings.k8s_context),
        namespace=settings.namespace,
        discovery=found,
        label_selector=settings.k8s_label_selector,
        service_name=settings.k8s_service_name,
        lease=settings.lease,
        workflows=settings.k8s_workflows,
        autoscaling=settings.engine_autoscaling,
        workload=settings.engine_workload,
    )


def _https(settings: OrchestratorSettings) -> rest.TLS | None:
    if settings.http_tls_cert is None or settings.http_tls_key is None:
        return None
    return rest.TLS(
        certificate=settings.http_tls_cert, key=settings.http_tls_key, client_ca=settings.http_tls_client_ca
    )


def _session_tls(settings: OrchestratorSettings) -> grpc_link.TLS | None:
    if not settings.session_tls:
        return None
    return grpc_link.TLS.read(
        ca=settings.dagengine_tls_ca, certificate=settings.dagengine_tls_cert, key=settings.dagengine_tls_key
    )


async def _any(stopping: asyncio.Event, served: rest.Serving, running: Orchestrator) -> None:
    """Wait for a signal, or for the server or the orchestrator to break down by a fault of its own, which is raised."""
    signalled, ended = asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(served.wait())
    broken = asyncio.ensure_future(running.broken())
    waiting = (signalled, ended, broken)
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            ended.result()
        if broken.done():
            raise OrchestratorError("; ".join(running.health()))
    finally:
        for future in waiting:
            future.cancel()
