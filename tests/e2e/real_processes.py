"""Real processes: orchestrators and engines on loopback, lines between them that break, effects that leave traces.

Used by the tests here and by those of `tests/chaos`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from orchestrator.client import Client

__all__ = ["Line", "Process", "Site"]

ENGINE = (sys.executable, "-c", "import sys; from dagengine.cli import main; sys.exit(main())")
ORCHESTRATOR = (sys.executable, "-m", "orchestrator.cli.server")

EFFECTS = '''
"""A function with an effect: a line in a file for each time that it is called."""
import asyncio, os

async def work(seconds, context):
    line = f"{context.execution} {context.node} {context.attempt}\\n"
    with open(os.environ["EFFECTS_LOG"], "a", buffering=1) as log:
        log.write(line)
    await asyncio.sleep(seconds)
    while os.path.exists(os.environ["EFFECTS_LOG"] + ".held"):
        await asyncio.sleep(0.02)
    return f"{context.node} is done"
'''


class Process:
    """A process that has announced itself. Its standard error goes into a file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.announced: dict[str, str] = {}

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> str:
        """Where an engine listens."""
        return self.announced["address"]

    @property
    def url(self) -> str:
        """Where an orchestrator listens."""
        return self.announced["url"]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()

    async def kill(self) -> None:
        """It dies on the spot."""
        await self.end(signal.SIGKILL)

    def freeze(self) -> None:
        """It stands still, and notices nothing of that."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on as if nothing had happened."""
        self.process.send_signal(signal.SIGCONT)


class Site:
    """Starts processes that share a token, and ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(32)
        self.effects = folder / "effects.log"
        self.database = f"sqlite:///{folder / 'orchestrator.db'}"
        self._processes: list[Process] = []
        self._clients: list[Client] = []
        self.effects.touch()
        (folder / "effects.py").write_text(EFFECTS)

    async def engine(self, name: str, *, port: str = "0", token: str | None = None, **environment: str) -> Process:
        settings = {
            "ENGINE_PYTHON_MODULES": "effects:work",
            "PYTHONPATH": str(self.folder),
            "EFFECTS_LOG": str(self.effects),
            "DAGENGINE_TOKEN": token or self.token,
        }
        command = [*ENGINE, "--announce", f"--id={name}", f"--port={port}"]
        return await self._start(name, command, settings | environment)

    async def orchestrator(
        self, engines: Iterable[str], *, name: str = "orchestrator", port: str = "0", **environment: str
    ) -> Process:
        settings = {
            "ENGINES": ",".join(engines),
            "DATABASE_URL": self.database,
            "DAGENGINE_TOKEN": self.token,
        }
        command = [*ORCHESTRATOR, "--announce", f"--port={port}"]
        return await self._start(name, command, settings | {"ORCHESTRATOR_ID": name} | environment)

    def client(self, orchestrator: Process, *, token: str | None = None) -> Client:
        client = Client(orchestrator.url, token=token or self.token)
        self._clients.append(client)
        return client

    def performed(self) -> Counter[tuple[str, str]]:
        """How often the effect of each node of each execution was performed."""
        lines = (line.split() for line in self.effects.read_text().splitlines())
        return Counter((execution, node) for execution, node, _ in lines)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No effect ends meanwhile, however long that takes on a busy machine."""
        hold = Path(f"{self.effects}.held")
        hold.touch()
        try:
            yield
        finally:
            hold.unlink()

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        living = [process for process in self._processes if process.process.returncode is None]
        await asyncio.gather(*(process.end(signal.SIGKILL) for process in living))
        for process in self._processes:
            # Nothing of ours may have gone wrong in passing, whatever the test looked at.
            text = process.log.read_text()
            assert "Traceback" not in text, f"{process.name}:\n{text}"

    async def _start(self, name: str, command: list[str], environment: dict[str, str]) -> Process:
        log = self.folder / f"{name}-{len(self._processes)}.log"
        inherited = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
        with log.open("wb") as errors:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=inherited | {"LOG_FORMAT": "json"} | environment,
                cwd=self.folder,
            )
        process = Process(name, child, log)
        self._processes.append(process)
        assert child.stdout is not None
        async with asyncio.timeout(30):
            line = await child.stdout.readline()
        assert line, f"{name} did not start:\n{log.read_text()}"
        process.announced = json.loads(line)
        return process


class Line:
    """A TCP proxy before an engine."""

    def __init__(self, target: str) -> None:
        self.address = ""
        self.dials = 0
        self._target = target
        self._down = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    def cut(self) -> None:
        """Break every connection without a word. The next ones are fine."""
        for writer in self._writers:
            writer.transport.abort()

    def down(self) -> None:
        """Break every connection, and each new one at once, until it is up again."""
        self._down = True
        self.cut()

    def up(self) -> None:
        """Let connections through again."""
        self._down = False

    def stall(self) -> None:
        """From now on nothing comes through, and no connection breaks."""
        self._flows.clear()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.dials += 1
        host, _, port = self._target.rpartition(":")
        try:
            upstream = await asyncio.open_connection(host, int(port))
        except OSError:  # whoever should be there is dead
            writer.transport.abort()
            return
        if self._down:
            writer.transport.abort()
            upstream[1].transport.abort()
            return
        self._writers |= {writer, upstream[1]}
        for source, sink in ((reader, upstream[1]), (upstream[0], writer)):
            task = asyncio.create_task(self._pump(source, sink, (writer, upstream[1])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, both: tuple[asyncio.StreamWriter, ...]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        for writer in both:
            writer.transport.abort()
            self._writers.discard(writer)
