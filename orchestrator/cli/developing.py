"""What `dagctl dev` does: a cluster on loopback, made known to the other commands, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dagengine.errors import SettingsError
from orchestrator import errors
from orchestrator.cli import cluster, failures, printing, profile
from orchestrator.client import Client

__all__ = ["run"]

_LEVELS: Final = ("debug", "info", "warning", "error")
_COUNT_LIMIT: Final = 2.0
"""Seconds to find out how many executions there are to wait for."""


def run(*, engines: int, port: int, data: Path | None, log_level: str) -> int:
    """Serve until Ctrl-C or until a process dies; the exit code. Raises SettingsError when it cannot be done so."""
    if log_level not in _LEVELS:
        raise SettingsError(f"--log-level {log_level}: expected {', '.join(_LEVELS[:-1])} or {_LEVELS[-1]}")
    local = cluster.Cluster(
        engines=engines,
        port=port,
        data=data,
        token=os.environ.get("DAGENGINE_TOKEN"),
        environment={"LOG_LEVEL": log_level, "LOG_FORMAT": "console"},
        on_line=_show,
    )
    return asyncio.run(_run(local, data))


async def _run(local: cluster.Cluster, data: Path | None) -> int:
    interrupts = _Interrupts(at_second=local.kill)
    starting = asyncio.ensure_future(local.__aenter__())
    if not await _first(starting, interrupts.first):
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return failures.INTERRUPTED
    await starting
    known = profile.Profile(server=local.url, token=local.token, pid=os.getpid())
    code = 0
    try:
        other = profile.claim(known)
        _announce(local, data, other)
        broken = asyncio.ensure_future(local.broken())
        if await _first(broken, interrupts.first):
            failures.complain(f"{await broken}; stopping the others")
            code = failures.FAILURE
        else:
            broken.cancel()
            saying = asyncio.ensure_future(_say_what_is_waited_for(local))
            await _first(saying, interrupts.second)
            saying.cancel()
    finally:
        profile.forget(known)
        await local.__aexit__(None, None, None)
    return failures.INTERRUPTED if interrupts.second.is_set() else code


class _Interrupts:
    """The first signal asks for an orderly end, the second calls `at_second`."""

    def __init__(self, *, at_second: Callable[[], None]) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._at_second = at_second
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._take)

    def _take(self) -> None:
        if self.first.is_set():
            self.second.set()
            self._at_second()
        self.first.set()


async def _say_what_is_waited_for(local: cluster.Cluster) -> None:
    count = 0
    try:
        async with asyncio.timeout(_COUNT_LIMIT), Client(local.url, token=local.token) as client:
            count = sum(engine.running for engine in await client.engines())
    except (TimeoutError, errors.OrchestratorError):
        pass  # stopped it will be in any case
    if count:
        what = "1 execution" if count == 1 else f"{count} executions"
        sys.stderr.write(f"waiting for {what} (up to {local.drain_timeout:g} s); Ctrl-C again stops at once\n")
    else:
        sys.stderr.write("stopping\n")
    sys.stderr.flush()


async def _first(work: asyncio.Future[object] | asyncio.Task[object], stop: asyncio.Event) -> bool:
    """Wait for `work` or for `stop`; whether it was `work`."""
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    return work.done()


def _announce(local: cluster.Cluster, data: Path | None, other: profile.Profile | None) -> None:
    lines = [f"orchestrator  {local.url}  (OpenAPI at {local.url}/openapi.json)"]
    lines += [f"{engine.id:<12}  {engine.address}  (pid {engine.pid})" for engine in local.engines]
    lines.append(f"store         {data.resolve() if data else 'temporary: gone at the end; keep it with --data DIR'}")
    if other is None:
        option = ""
        lines.append(f"token         in {profile.path()}, where the other dagctl commands find it")
    else:
        option = f" --server {local.url}"
        lines.append(f"token         saved; the other dagctl commands find it with{option}")
        sys.stderr.write(
            f"another `dagctl dev` (pid {other.pid}) runs at {other.server}, and that is the one which commands find "
            f"without --server; for this one give{option}\n"
        )
    lines.append(f"Ctrl-C stops everything. In another terminal: dagctl get engines{option}")
    printing.write("\n".join(lines))
    sys.stdout.flush()


def _show(name: str, line: str) -> None:
    sys.stderr.write(f"{name} | {line}\n")
