"""An orchestrator and its engines as real processes on this machine's loopback: `dagctl dev`, `make run`, examples.

    async with Cluster(engines=2) as cluster:
        async with Client(cluster.url, token=cluster.token) as client: ...

Engines take free ports and announce them; the orchestrator is told where they are. All share one token, made for the
occasion and handed over by environment variable. Every process is a session of its own, so that Ctrl-C in the terminal
reaches the parent alone, which then stops the engines first, since the orchestrator has to commit what they finish, and
the orchestrator after them. Where the parent is killed without a chance to do so, they end by themselves (`child`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dagengine.errors import SettingsError
from orchestrator import errors

__all__ = ["Cluster", "Engine"]

_CHILD: Final = (sys.executable, "-P", "-m", "orchestrator.cli.child")
"""`-P`: nothing in the directory where it is started may take the place of a module of ours, or of Python's own."""
_START_LIMIT: Final = 30.0
_DRAIN_TIMEOUT: Final = "15"
"""Seconds that executions get to end when engines are stopped, unless the environment says otherwise."""
_LAST_WORDS: Final = 10.0
"""Seconds beyond that in which processes hand back what is left, and end by themselves."""
_KEPT_LINES: Final = 20

LineSink = Callable[[str, str], None]
"""Takes `(process name, line)` of what the processes write on standard error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine process: its id and where it listens, `127.0.0.1:port`."""

    id: str
    address: str
    pid: int


@dataclass(slots=True)
class _Child:
    """A process, what it announced, and the last lines it wrote."""

    name: str
    process: asyncio.subprocess.Process
    announced: dict[str, Any] = field(default_factory=dict)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    readers: list[asyncio.Task[None]] = field(default_factory=list)


class Cluster:
    """Starts on `async with`, and stops everything when the block is left.

    `port` 0 takes a free one. With `data`, the store is kept in that directory; with `database_url`, it is that one;
    without either it goes with the cluster. Without `orchestrator` there are engines only, for one in this process.
    `environment` is added to that of the processes. Raises SettingsError when `data` cannot be such a directory,
    TransportError when a process does not start.
    """

    def __init__(
        self,
        *,
        engines: int = 2,
        port: int = 0,
        data: Path | None = None,
        database_url: str | None = None,
        orchestrator: bool = True,
        token: str | None = None,
        environment: Mapping[str, str] | None = None,
        on_line: LineSink | None = None,
    ) -> None:
        self.token = token or secrets.token_urlsafe(32)
        self.url = ""
        self.engines: list[Engine] = []
        self._wanted = engines
        self._port = port
        self._data = data
        self._database_url = database_url
        self._with_orchestrator = orchestrator
        self._on_line = on_line or (lambda _name, _line: None)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DAGENGINE_")}
        self._environment = {
            "DRAIN_TIMEOUT": _DRAIN_TIMEOUT,
            **inherited,
            **(environment or {}),
            "DAGENGINE_TOKEN": self.token,
        }
        self._children: list[_Child] = []
        self._cleanup = contextlib.ExitStack()

    def __repr__(self) -> str:
        return f"Cluster(url={self.url!r}, engines={self.engines!r})"

    async def __aenter__(self) -> Cluster:
        directory = self._directory()
        try:
            names = [f"engine-{number}" for number in range(1, self._wanted + 1)]
            children = await asyncio.gather(*map(self._start_engine, names))
            self.engines = [
                Engine(
                    id=str(child.announced["engine"]), address=str(child.announced["address"]), pid=child.process.pid
                )
                for child in children
            ]
            if self._with_orchestrator:
                orchestrator = await self._start_orchestrator(directory)
                self.url = str(orchestrator.announced["url"])
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stop()

    @property
    def drain_timeout(self) -> float:
        """Seconds that executions get to end when engines are stopped."""
        try:
            return float(self._environment["DRAIN_TIMEOUT"])
        except ValueError:  # the engines refuse it, and say so
            return float(_DRAIN_TIMEOUT)

    def kill(self) -> None:
        """End every process at once. What `async with` still has to clean up takes no time then."""
        for child in self._children:
            _kill(child)

    async def broken(self) -> str:
        """Wait until a process ends that nobody told to; what happened, in words."""
        waits = {asyncio.ensure_future(child.process.wait()): child for child in self._children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        child = waits[done.pop()]
        return f"{child.name} {_ending(child.process.returncode)}"

    async def _start_engine(self, name: str) -> _Child:
        return await self._start(name, ["dag-engine", f"--id={name}", "--host=127.0.0.1", "--port=0"])

    def _directory(self) -> Path:
        """Where the store goes, made if it is not there."""
        if self._data is None:
            return Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="dagengine-")))
        try:
            self._data.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            why = "it is a file" if self._data.is_file() else exc.strerror
            raise SettingsError(f"{self._data} cannot be the directory of the store: {why}") from exc
        return self._data

    async def _start_orchestrator(self, directory: Path) -> _Child:
        addresses = ",".join(engine.address for engine in self.engines)
        command = [
            "dag-orchestrator",
            "--host=127.0.0.1",
            f"--port={self._port}",
            f"--engines={addresses}",
        ]
        url = self._database_url or f"sqlite:///{(directory / 'orchestrator.db').resolve()}"
        # By environment: the URL of a database may hold a password, and a command line is seen by everybody.
        return await self._start("orchestrator", command, environment={"DATABASE_URL": url})

    async def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> _Child:
        process = await asyncio.create_subprocess_exec(
            *_CHILD,
            str(os.getpid()),
            *command,
            "--announce",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**self._environment, **(environment or {})},
            start_new_session=True,
        )
        child = _Child(name, process)
        self._children.append(child)
        assert process.stdout is not None  # noqa: S101 - asked for above
        assert process.stderr is not None  # noqa: S101 - asked for above
        child.readers.append(asyncio.create_task(self._read(child, process.stderr)))
        try:
            line = await asyncio.wait_for(process.stdout.readline(), _START_LIMIT)
            child.announced = json.loads(line)
        except (TimeoutError, ValueError) as exc:
            raise errors.TransportError(await self._why_not_started(child)) from exc
        child.readers.append(asyncio.create_task(self._read(child, process.stdout)))
        return child

    async def _why_not_started(self, child: _Child) -> str:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*child.readers, child.process.wait()), 2.0)
        said = "".join(f"\n  {line}" for line in child.tail)
        if child.process.returncode is None:
            return f"{child.name} did not say where it listens within {_START_LIMIT:.0f} s{said}"
        return f"{child.name} did not start: it {_ending(child.process.returncode)}{said}"

    async def _read(self, child: _Child, stream: asyncio.StreamReader) -> None:
        while line := await _line(stream):
            child.tail.append(line)
            self._on_line(child.name, line)

    async def _stop(self) -> None:
        """Stop the engines, and then the orchestrator: until its end it commits what engines finish."""
        for group in (self._children[: self._wanted], self._children[self._wanted :]):
            await asyncio.gather(*(_stop(child, self.drain_timeout + _LAST_WORDS) for child in group))
        self._children.clear()
        self._cleanup.close()


async def _line(stream: asyncio.StreamReader) -> str:
    """The next line that is not empty, cut where it is longer than the stream's limit; empty at the end."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue  # longer than the limit: what was buffered of it is gone
        if not line:
            return ""
        if text := line.decode(errors="replace").rstrip():
            return text


async def _stop(child: _Child, limit: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(child.process.wait(), limit)
    except TimeoutError:
        _kill(child)
        await child.process.wait()
    await asyncio.gather(*child.readers)


def _kill(child: _Child) -> None:
    """End a process and those that it started."""
    if child.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
