"""Every adapter of the executor port, for the one suite that all of them must pass.

An adapter that joins adds a `Kind` and its name to `KINDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pytest

from dagengine.clock import SystemClock
from dagengine.executors import base
from dagengine.executors.http import HTTPRequests, Policy
from dagengine.executors.lua.evaluator import LuaEvaluator
from dagengine.executors.lua.inline import InlineLua
from dagengine.executors.python import Context, PythonFunctions
from dagengine.executors.shell import Limits, Programs
from dagengine.spec.executors import HTTPExecutor
from dagengine.spec.model import LuaExecutor, PythonExecutor, ShellExecutor


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One adapter, and what its nodes have to be to do what the suite wants.

    `answer` results in 42; `fail` ends as `fail`; `log` prints `lines`; `endless`
    prints a line and ends only when it is made to.
    """

    make: Callable[[base.LogSink], base.Executor]
    answer: object
    fail: object
    log: object
    endless: object
    lines: tuple[str, str] = ("one", "two")


def _lua(log: base.LogSink, *, thread: bool) -> InlineLua:
    return InlineLua(log=log, clock=SystemClock(), thread=thread)


def _lua_kind(*, thread: bool) -> Kind:
    return Kind(
        make=lambda log: _lua(log, thread=thread),
        answer=LuaExecutor(code="return 42"),
        fail=LuaExecutor(code="error('no')"),
        log=LuaExecutor(code="print('one') print('two')"),
        endless=LuaExecutor(code="print('ready') while true do end"),
    )


async def _never(context: Context) -> None:
    context.log("ready")
    await asyncio.get_running_loop().create_future()


def _two_lines(context: Context) -> None:
    context.log("one")
    context.log("two")


def _no() -> None:
    raise ValueError("no")


def _python(log: base.LogSink) -> PythonFunctions:
    functions = {"answer": lambda: 42, "fail": _no, "log": _two_lines, "endless": _never}
    return PythonFunctions(functions, clock=SystemClock(), log=log)


def _in_process(function: str) -> PythonExecutor:
    return PythonExecutor(function=f"work_of_contracts:{function}", isolation="process")


WORK: Final = """
import time

def answer(): return 42

def fail(): raise ValueError("no")

def log():
    print("one")
    print("two")

def endless():
    print("ready")
    time.sleep(600)
"""


@pytest.fixture(autouse=True, scope="session")
def _work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The module whose functions run in worker processes, which import it."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "work_of_contracts.py").write_text(WORK)
    sys.path.append(str(folder))
    yield
    sys.path.remove(str(folder))


@contextlib.asynccontextmanager
async def _http() -> AsyncIterator[Kind]:
    """Requests, and a server that they are for."""
    tasks: set[asyncio.Task[None]] = set()
    answers = {
        "/answer": "200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n42",
        "/fail": "404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "/log": "302 Found\r\nLocation: /answer\r\nContent-Length: 0\r\n\r\n",
        "/endless": "200 OK\r\nContent-Length: 2\r\n\r\n",
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(task := asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(f"HTTP/1.1 {answers[head.split()[1].decode()]}".encode())
        writer.close()
        tasks.discard(task)

    def make(log: base.LogSink) -> HTTPRequests:
        policy = Policy(allow=("127.0.0.1",), connections=8)
        return HTTPRequests(evaluator=LuaEvaluator(), clock=SystemClock(), policy=policy, log=log)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    place = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield Kind(
        make=make,
        answer=HTTPExecutor(url=f"{place}/answer"),
        fail=HTTPExecutor(url=f"{place}/fail"),
        log=HTTPExecutor(url=f"{place}/log", redirects=1),
        endless=HTTPExecutor(url=f"{place}/endless"),
        lines=(f"GET {place}/log 302", f"GET {place}/answer 200"),
    )
    server.close()
    await asyncio.gather(*tasks)


KINDS: Final[dict[str, Kind | Callable[[], contextlib.AbstractAsyncContextManager[Kind]]]] = {
    "lua-inline": _lua_kind(thread=False),
    "lua-thread": _lua_kind(thread=True),
    "python": Kind(
        make=_python,
        answer=PythonExecutor(function="answer"),
        fail=PythonExecutor(function="fail"),
        log=PythonExecutor(function="log"),
        endless=PythonExecutor(function="endless"),
    ),
    "python-process": Kind(
        make=lambda log: PythonFunctions(clock=SystemClock(), log=log, allow=["work_of_contracts:*"], workers=2),
        answer=_in_process("answer"),
        fail=_in_process("fail"),
        log=_in_process("log"),
        endless=_in_process("endless"),
    ),
    "shell": Kind(
        make=lambda log: Programs(log=log, clock=SystemClock(), limits=Limits(programs=4)),
        answer=ShellExecutor(script="echo 42"),
        fail=ShellExecutor(script="exit 1"),
        log=ShellExecutor(script="echo one; echo two"),
        endless=ShellExecutor(script="echo ready; sleep 600"),
    ),
    "http": _http,
}


class Performance:
    """An executor, and everything that it has told."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.lines: list[base.LogLine] = []
        self.outcomes: list[tuple[base.Job, base.Outcome]] = []
        self.executor = kind.make(self._line)
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def job(self, spec: object, *, node: str = "n", index: int | None = None, **options: Any) -> base.Job:
        scope = base.Scope(
            execution=options.pop("execution", "e-1"),
            workflow="w",
            version="1.0.0",
            digest="sha256:0",
            inputs=b"{}",
            nodes={},
            env={},
            item=None if index is None else msgspec.json.encode(index),
            index=index,
        )
        attempt = options.pop("attempt", 1)
        templates = getattr(spec, "templates", None)
        args = None if templates is None else msgspec.json.encode(templates)
        return base.Job(
            position=0, node=node, index=index, attempt=attempt, spec=spec, scope=scope, args=args, **options
        )

    def jobs(self, spec: object, count: int) -> list[base.Job]:
        return [self.job(spec, index=index) for index in range(count)]

    def submit(self, *jobs: base.Job) -> None:
        self.executor.submit(jobs, self._done)

    def cancel(self, job: base.Job, *, grace: int = 0) -> None:
        self.executor.cancel(job.scope.execution, job.node, job.index, job.attempt, grace=grace)

    async def until(self, reached: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    async def ended(self, count: int) -> list[base.Outcome]:
        """The outcomes, as soon as there are `count`; it fails when there are more soon after."""
        await self.until(lambda: len(self.outcomes) >= count)
        for _ in itertools.repeat(None, 20):
            await asyncio.sleep(0)
        assert len(self.outcomes) == count
        return [outcome for _, outcome in self.outcomes]

    def _line(self, line: base.LogLine) -> None:
        self.lines.append(line)
        self._loop.call_soon_threadsafe(self._changed.set)

    def _done(self, job: base.Job, outcome: base.Outcome) -> None:
        assert asyncio.get_running_loop() is self._loop
        self.outcomes.append((job, outcome))
        self._changed.set()


@contextlib.asynccontextmanager
async def performing(name: str) -> AsyncIterator[Performance]:
    kind = KINDS[name]
    async with contextlib.nullcontext(kind) if isinstance(kind, Kind) else kind() as ready:
        made = Performance(ready)
        yield made
        await made.executor.close()


@pytest.fixture(params=KINDS)
async def performance(request: pytest.FixtureRequest) -> AsyncIterator[Performance]:
    async with performing(request.param) as made:
        yield made


@pytest.fixture(params=[name for name in KINDS if name != "lua-inline"])
async def beside(request: pytest.FixtureRequest) -> AsyncIterator[Performance]:
    """Only those that perform beside the loop: while the others do, nobody can ask anything of them."""
    async with performing(request.param) as made:
        yield made
