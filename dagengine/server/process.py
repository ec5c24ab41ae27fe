"""The engine as a process: from settings to a listening server, and back to nothing on SIGTERM. Called by the CLI."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Final

import structlog

from dagengine import configuration
from dagengine.app import DAGEngine
from dagengine.executors.secrets import EngineSecrets
from dagengine.server import functions, lifetime
from dagengine.server.host import Host
from dagengine.server.security import Identity, check_exposure
from dagengine.server.service import EngineServer
from dagengine.settings import EngineSettings

__all__ = ["leave", "serve"]

log = structlog.get_logger(__name__)

LAST_MOMENT_SECONDS: Final = 0.5
"""How long threads may take to end after everything else has."""


async def serve(settings: EngineSettings, *, ready: Callable[[str], None]) -> None:
    """Run an engine until SIGTERM or SIGINT, then drain. A second signal ends the process at once.

    `ready(address)` is called once it accepts connections. Raises SettingsError when it cannot begin.
    """
    secret = settings.token()
    configuration.warn_of_short_token(secret)
    token = secret.get_secret_value() if secret is not None else None
    identity = Identity.read(
        certificate=settings.dagengine_tls_cert, key=settings.dagengine_tls_key, ca=settings.dagengine_tls_ca
    )
    check_exposure(settings.host, token=token, identity=identity)
    engine = DAGEngine(
        functions=functions.load(settings.engine_python_modules),
        python_allow=settings.engine_python_allow,
        python_workers=settings.engine_python_workers,
        lua=settings.lua_isolation,
        lua_memory=settings.lua_memory << 20,
        lua_workers=settings.lua_workers,
        lua_cpu=settings.lua_cpu,
        shell=settings.shell_limits() or False,
        shell_env=settings.engine_shell_env,
        http=settings.http_policy() or False,
        secrets=EngineSecrets(settings.engine_secrets_dir),
        pools=settings.engine_pools,
    )
    host = Host(
        engine,
        engine_id=settings.engine_id,
        version=version("dagengine"),
        capacity=settings.capacity,
        labels=settings.labels(),
        token=token,
        budget=settings.budget(),
    )
    server = EngineServer(
        host,
        bind=settings.host,
        port=settings.port,
        token=token,
        identity=identity,
        reflection=settings.engine_reflection,
    )
    stopping = lifetime.catch_signals(patience=settings.drain_timeout)
    try:
        engine.warm()
        await server.start()
        ready(server.address)
        await stopping.wait()
        await server.drain(settings.drain_timeout)
    finally:
        await server.stop()
        await engine.close()


def leave() -> None:
    """End the process, after `serve`, even when a Python function of a user does not return.

    Its execution was handed back already. No thread can be stopped from outside, and the interpreter would wait for it.
    """
    until = time.monotonic() + LAST_MOMENT_SECONDS
    others = [
        thread for thread in threading.enumerate() if thread is not threading.current_thread() and not thread.daemon
    ]
    for thread in others:
        thread.join(max(0.0, until - time.monotonic()))
    left = [thread.name for thread in others if thread.is_alive()]
    if left:
        log.warning("threads_left_behind", threads=left)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
