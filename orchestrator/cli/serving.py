"""The orchestrator as a process: from settings to a listening server, and back to nothing on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import structlog

from orchestrator.api import server as rest
from orchestrator.app import Options, Orchestrator
from orchestrator.settings import OrchestratorSettings
from orchestrator.transport import grpc_link

__all__ = ["run"]

log = structlog.get_logger(__name__)


def run(settings: OrchestratorSettings, *, announce: bool) -> None:
    """Serve until SIGTERM or SIGINT. With `announce`, print where, as one line of JSON on standard output.

    Raises SettingsError when the address or a file cannot be used, StoreError when the store cannot be.
    """
    main = _serve(settings, announce=announce)
    try:
        import uvloop
    except ImportError:  # not made for this platform: the standard loop is slower, and does the same
        asyncio.run(main)
    else:
        uvloop.run(main)


async def _serve(settings: OrchestratorSettings, *, announce: bool) -> None:
    stopping = _catch_signals()
    async with orchestrator(settings) as running:
        served = await running.serve(
            settings.host, settings.http_port, tls=_https(settings), grace=settings.shutdown_timeout
        )
        try:
            log.info("listening", url=served.url, engines=list(settings.engines))
            if announce:
                sys.stdout.write(json.dumps({"orchestrator": settings.orchestrator_id, "url": served.url}) + "\n")
                sys.stdout.flush()
            await _either(stopping, served)
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
            cron_catch_up=settings.cron_catch_up,
            trigger_wait=settings.http_trigger_wait,
            max_body=settings.max_body_bytes,
            token=settings.token(),
            tls=_session_tls(settings),
            allowed_hosts=settings.allowed_hosts,
        ),
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


async def _either(stopping: asyncio.Event, served: rest.Serving) -> None:
    """Wait for a signal, or for the server to end by a fault of its own, which is raised."""
    signalled, ended = asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(served.wait())
    await asyncio.wait((signalled, ended), return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if ended.done():
        ended.result()
    else:
        ended.cancel()


def _catch_signals() -> asyncio.Event:
    """Set at the first SIGTERM or SIGINT; the second ends the process at once."""
    stopping = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        if stopping.is_set():
            log.warning("stopped_at_once", signal=number.name)
            sys.stderr.flush()
            os._exit(128 + number)
        log.info("stop_requested", signal=number.name)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return stopping
