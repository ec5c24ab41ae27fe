"""What the tests of `http` nodes share: servers on loopback, honest and nasty, jobs, and an executor's outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dagengine.clock import SystemClock
from dagengine.executors import base
from dagengine.executors.http import HTTPRequests, Policy
from dagengine.executors.secrets import SecretMissing
from dagengine.spec.executors import HTTPExecutor

OPEN = Policy(allow=("127.0.0.1", "localhost"))
"""Lets tests reach their servers; everything else is as it is by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request as a server saw it. Header names are in small letters."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


Answer = bytes | Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def reply(
    body: bytes | str | object = b"", *, status: int = 200, kind: str = "application/json", **headers: str
) -> bytes:
    """A whole response. A body that is neither bytes nor text is written as JSON; `_` in header names is `-`."""
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else msgspec.json.encode(body)
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}", f"Content-Type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass(slots=True)
class Server:
    """A server on loopback that answers by path: bytes as they are, or what a function writes."""

    answers: dict[str, Answer] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    most_open: int = 0
    port: int = 0
    scheme: str = "http"
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def busy(self, count: int = 1) -> None:
        """Return when so many requests wait for their answers."""
        async with asyncio.timeout(30):
            while self.open < count:
                self.arrived.clear()
                await self.arrived.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while (request := await read_request(reader)) is not None:
                self.received.append(request)
                self.open += 1
                self.arrived.set()
                self.most_open = max(self.most_open, self.open)
                try:
                    answer = self.answers.get(request.target.partition("?")[0], reply(status=404, body={}))
                    if isinstance(answer, bytes):
                        writer.write(answer)
                        await writer.drain()
                    else:
                        await answer(request, writer)
                finally:
                    self.open -= 1
                if writer.is_closing():
                    break
        writer.close()


async def read_request(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(method=method, target=target, headers=headers, body=body)


@contextlib.asynccontextmanager
async def serving(server: Server, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await server.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    server.scheme = "https" if tls else "http"
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(Server()) as running:
        yield running


@pytest.fixture
async def other() -> AsyncIterator[Server]:
    """Another server, at another port."""
    async with serving(Server()) as running:
        yield running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a key and a certificate for localhost and 127.0.0.1 that signed itself."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "the tests of TLS need openssl"
    folder = tmp_path_factory.mktemp("tls")
    key, made = folder / "key.pem", folder / "cert.pem"
    request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([openssl, *request.split(), *names, "-keyout", key, "-out", made], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + made.read_bytes())
    return both


@pytest.fixture
async def secure(certificate: Path) -> AsyncIterator[Server]:
    """A server with TLS, whose certificate nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with serving(Server(), tls=context) as running:
        yield running


class Vault:
    """Secrets by name."""

    def __init__(self, **values: str) -> None:
        self.values = values

    def value(self, name: str) -> str:
        if name not in self.values:
            raise SecretMissing(f"this engine has no secret '{name}'")
        return self.values[name]


class Selecting:
    """An evaluator that notes what it is asked and says what it is told to."""

    def __init__(self) -> None:
        self.asked: list[base.Question] = []
        self.answer = base.Evaluation(value=b'"selected"')

    def ask(self, question: base.Question, answer: base.Answer) -> None:
        self.asked.append(question)
        asyncio.get_running_loop().call_soon(answer, self.answer)

    def forget(self, execution: str) -> None:
        """Nothing waits here."""

    async def close(self) -> None:
        """There is nothing to give back."""


def make_job(
    url: str,
    *,
    node: str = "n",
    index: int | None = None,
    attempt: int = 1,
    timeout: int | None = 20_000_000,
    key: str = "e-1/n/1",
    args: Mapping[str, object] | None = None,
    **spec: Any,
) -> base.Job:
    """One attempt. What the document says is what its templates come to, unless `args` says otherwise."""
    executor = HTTPExecutor.model_validate({"type": "http", "url": url, **spec})
    scope = base.Scope(
        execution="e-1", workflow="w", version="1.0.0", digest="sha256:0", inputs=b"{}", nodes={}, env={}, index=index
    )
    values = msgspec.json.encode({**(executor.templates or {}), **(args or {})})
    return base.Job(
        position=0,
        node=node,
        index=index,
        attempt=attempt,
        spec=executor,
        scope=scope,
        timeout=timeout,
        args=values,
        key=key,
    )


class Requests:
    """An executor and the outcomes that it gave."""

    def __init__(self, policy: Policy = OPEN, *, secrets: Mapping[str, str] | None = None, **options: Any) -> None:
        self.evaluator = Selecting()
        self.lines: list[base.LogLine] = []
        settings: dict[str, Any] = {
            "evaluator": self.evaluator,
            "clock": SystemClock(),
            "secrets": Vault(**(secrets or {})),
            "policy": policy,
            "log": self.lines.append,
            **options,
        }
        self.executor = HTTPRequests(**settings)
        self.outcomes: list[tuple[base.Job, base.Outcome]] = []
        self._changed = asyncio.Event()

    def submit(self, *jobs: base.Job) -> None:
        self.executor.submit(jobs, self._done)

    def begin(self, url: str, **options: Any) -> base.Job:
        job = make_job(url, **options)
        self.submit(job)
        return job

    def cancel(self, job: base.Job, *, grace: int = 0) -> None:
        self.executor.cancel(job.scope.execution, job.node, job.index, job.attempt, grace=grace)

    async def wait(self, count: int = 1) -> list[base.Outcome]:
        async with asyncio.timeout(30):
            while len(self.outcomes) < count:
                self._changed.clear()
                await self._changed.wait()
        return [outcome for _, outcome in self.outcomes]

    async def send(self, url: str, **options: Any) -> base.Outcome:
        """The outcome of one request."""
        self.begin(url, **options)
        return (await self.wait(len(self.outcomes) + 1))[-1]

    async def value(self, url: str, **options: Any) -> Any:
        outcome = await self.send(url, **options)
        assert outcome.conclusion == "success", outcome.error
        return msgspec.json.decode(outcome.result)

    async def fails(self, url: str, **options: Any) -> tuple[str, str, str]:
        """Conclusion, type and message of a request that does not succeed."""
        outcome = await self.send(url, **options)
        assert outcome.error is not None, outcome
        return outcome.conclusion, outcome.error.type, outcome.error.message

    def _done(self, job: base.Job, outcome: base.Outcome) -> None:
        self.outcomes.append((job, outcome))
        self._changed.set()


Make = Callable[..., Requests]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """`make(policy, secrets={…}, resolve=…)`: an executor that is closed after the test."""
    made: list[Requests] = []

    def requests(policy: Policy = OPEN, **options: Any) -> Requests:
        made.append(Requests(policy, **options))
        return made[-1]

    yield requests
    for one in made:
        await one.executor.close()


@pytest.fixture
def requests(make: Make) -> Requests:
    return make()


@pytest.fixture(scope="session")
def replies() -> Callable[..., bytes]:
    """`replies(body, status=…, kind=…, Header_Name=…)`: the bytes of a response."""
    return reply


@pytest.fixture(scope="session")
def job() -> Callable[..., base.Job]:
    """`job(url, node=…, index=…, **spec)`: one attempt."""
    return make_job
