"""What `dagctl dev` does: a cluster on loopback, made known to the other commands, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from orchestrator.cli import cluster, failures, printing, profile

__all__ = ["run"]


def run(*, engines: int, port: int, data: Path | None, log_level: str) -> int:
    """Serve until Ctrl-C or until a process dies; the exit code."""
    return asyncio.run(_run(engines=engines, port=port, data=data, log_level=log_level))


async def _run(*, engines: int, port: int, data: Path | None, log_level: str) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    local = cluster.Cluster(
        engines=engines,
        port=port,
        data=data,
        token=os.environ.get("DAGENGINE_TOKEN"),
        environment={"LOG_LEVEL": log_level, "LOG_FORMAT": "console"},
        on_line=_show,
    )
    starting = asyncio.ensure_future(local.__aenter__())
    if not await _first(starting, stop):
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return failures.INTERRUPTED
    await starting
    known = profile.Profile(server=local.url, token=local.token)
    try:
        profile.save(known)
        _announce(local, data)
        broken = asyncio.ensure_future(local.broken())
        if await _first(broken, stop):
            failures.complain(f"{await broken}; stopping the others")
            return failures.FAILURE
        broken.cancel()
        sys.stderr.write("stopping\n")
        return 0
    finally:
        profile.forget(known)
        await local.__aexit__(None, None, None)


async def _first(work: asyncio.Future[object] | asyncio.Task[object], stop: asyncio.Event) -> bool:
    """Wait for `work` or for `stop`; whether it was `work`."""
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    return work.done()


def _announce(local: cluster.Cluster, data: Path | None) -> None:
    lines = [f"orchestrator  {local.url}  (OpenAPI at {local.url}/openapi.json)"]
    lines += [f"{engine.id:<12}  {engine.address}  (pid {engine.pid})" for engine in local.engines]
    lines.append(f"store         {data.resolve() if data else 'temporary: gone at the end; keep it with --data DIR'}")
    lines.append(f"token         in {profile.path()}, where the other dagctl commands find it")
    lines.append("Ctrl-C stops everything. In another terminal: dagctl get engines")
    printing.write("\n".join(lines))
    sys.stdout.flush()


def _show(name: str, line: str) -> None:
    sys.stderr.write(f"{name} | {line}\n")
