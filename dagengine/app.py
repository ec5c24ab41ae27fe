"""`DAGEngine`: an engine to embed. It puts the adapters together; nobody below knows more than their ports.

Alone it runs workflows in this process, with a journal in memory. Given to an orchestrator (or served by `dag-engine`)
it runs what it is told to, with a journal that ends in the orchestrator's store.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson

from dagengine.clock import Clock, SystemClock
from dagengine.driver.driver import Driver
from dagengine.errors import DAGEngineError, ExecutionFailed, ExecutorError
from dagengine.events.facts import Fact
from dagengine.executors.base import LogLine, LogSink
from dagengine.executors.lua.aside import EvaluatorAside
from dagengine.executors.lua.check import check as check_lua
from dagengine.executors.lua.evaluator import LuaEvaluator
from dagengine.executors.lua.inline import InlineLua
from dagengine.executors.lua.process.executor import DEFAULT_CPU, LuaProcesses
from dagengine.executors.lua.runtime import DEFAULT_MAX_MEMORY
from dagengine.executors.python.executor import PythonFunctions
from dagengine.graph.compiled import Graph, compile_document
from dagengine.journal.base import Journal
from dagengine.journal.memory import MemoryJournal
from dagengine.machine.phases import Phase
from dagengine.machine.state import State
from dagengine.spec import document as documents
from dagengine.spec.builder import Workflow
from dagengine.spec.inputs import check_inputs
from dagengine.spec.model import Document, PythonExecutor

__all__ = ["DAGEngine", "LuaIsolation", "read_workflow", "run_sync"]

Source = Document | Workflow | Mapping[str, Any] | Path | str | bytes
"""What a workflow can be given as: parsed, built, plain values, a file, or a document's text."""

LuaIsolation = Literal["inline", "thread", "process"]
"""Where Lua nodes run: on the event loop's thread, on a thread of their own, or in processes that can be killed."""

T = TypeVar("T")

_GRAPHS_KEPT = 64


def read_workflow(source: Source, *, name: str = "") -> Document:
    """The document that `source` holds, Lua syntax included. Raises SpecError with every error at once.

    `name` says where a text came from, for messages. A `Path` is read; a `str` is the document's text.
    """
    match source:
        case Document():
            return source
        case Workflow():
            return source.build(checks=(check_lua,))
        case Path():
            return documents.read(source.read_bytes(), source=name or str(source), checks=(check_lua,))
        case str() | bytes():
            return documents.read(source, source=name, checks=(check_lua,))
    return documents.from_dict(source, checks=(check_lua,))


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from code that is not asynchronous. Raises RuntimeError inside a running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise RuntimeError("this thread runs an event loop already: await the asynchronous method instead of run_sync")


class DAGEngine:
    """Runs workflows in this process::

        async with DAGEngine() as engine:
            outputs = await engine.run(Path("workflow.yaml"), {"name": "Ada"})

    `functions` are the Python functions that `python` nodes may call, by name; those of a `Workflow` builder are
    registered by themselves. `log` receives the lines that nodes print.

    `lua` says where Lua runs. `inline` costs least; a long script holds up the event loop. On a `thread` it does not.
    In `process`es scripts run side by side, and any script can be stopped, a hostile one, too: choose that for code
    that you have not written. `lua_memory` is the bytes that scripts may use: all of them, or those of one process.
    `lua_workers` is how many processes there are at most (one for each processor), `lua_cpu` the seconds of processor
    time that an attempt may use in one (an hour; 0: no limit). Raises ValueError when these make no sense.
    """

    def __init__(
        self,
        *,
        functions: Mapping[str, Callable[..., object]] | None = None,
        clock: Clock | None = None,
        lua: LuaIsolation = "inline",
        lua_memory: int = DEFAULT_MAX_MEMORY,
        lua_workers: int | None = None,
        lua_cpu: int | None = None,
        log: LogSink | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._log = log
        self._logs: dict[str, LogSink] = {}
        self._lua: InlineLua | LuaProcesses
        if lua == "process":
            self._lua = LuaProcesses(
                log=self._route_log,
                clock=self._clock,
                workers=lua_workers,
                max_memory=lua_memory,
                cpu=DEFAULT_CPU if lua_cpu is None else lua_cpu,
            )
        elif lua_workers is None and lua_cpu is None:
            self._lua = InlineLua(log=self._route_log, clock=self._clock, thread=lua == "thread", max_memory=lua_memory)
        else:
            raise ValueError(f"lua_workers and lua_cpu are for Lua in processes, not for lua={lua!r}")
        self._python = PythonFunctions(functions, clock=self._clock, log=self._route_log)
        expressions = LuaEvaluator()
        self._evaluator = expressions if lua == "inline" else EvaluatorAside(expressions)
        self._graphs: OrderedDict[str, Graph] = OrderedDict()
        self._drivers: dict[str, Driver] = {}
        self._closed = False

    @property
    def executors(self) -> list[str]:
        """The executor types it can perform."""
        return ["lua", "python"]

    def warm(self) -> None:
        """Begin to start what the first node would wait for. Needed by nobody; call it on the event loop."""
        if isinstance(self._lua, LuaProcesses):
            self._lua.warm()

    def register(self, name: str, function: Callable[..., object]) -> None:
        """Let `python` nodes call `function` as `name`. Raises ExecutorError when another one has that name."""
        self._python.register(name, function)

    def missing(self, document: Document) -> list[str]:
        """Why this engine cannot run a workflow, in words; empty when it can."""
        return [
            f"node '{node.id}' needs the Python function '{node.executor.function}', which is not registered here"
            for node in document.spec.nodes
            if isinstance(node.executor, PythonExecutor) and node.executor.function not in self._python
        ]

    def open(self, graph: Graph, *, execution: str, journal: Journal, seed: int, log: LogSink | None = None) -> Driver:
        """A driver for one execution. The caller starts or resumes it, awaits it, and then calls `release`.

        Raises ExecutorError when the engine is closed.
        """
        if self._closed:
            raise ExecutorError("this engine is closed: make another DAGEngine to run more")
        if log is not None:
            self._logs[execution] = log
        driver = self._drivers[execution] = Driver(
            graph,
            execution=execution,
            seed=seed,
            executors={"lua": self._lua, "python": self._python},
            evaluator=self._evaluator,
            journal=journal,
            clock=self._clock,
        )
        return driver

    def release(self, execution: str) -> None:
        """Forget what `open` kept for an execution."""
        self._logs.pop(execution, None)
        self._drivers.pop(execution, None)

    async def run(
        self,
        workflow: Source,
        inputs: Mapping[str, Any] | None = None,
        *,
        execution: str | None = None,
        on_fact: Callable[[int, Fact], None] | None = None,
        on_log: LogSink | None = None,
        cancel: asyncio.Event | None = None,
    ) -> dict[str, Any]:
        """Run a workflow here and return its outputs.

        `on_fact(position, fact)` sees the facts as they are made; `on_log(line)` the lines that nodes print. Setting
        `cancel` asks the execution to stop. `execution` names it; two that run at once must not share a name. Raises
        SpecError, InputError, ExecutorError when the workflow needs what this engine does not have or the engine is
        closed, and ExecutionFailed when it did not succeed.
        """
        document = read_workflow(workflow)
        if isinstance(workflow, Workflow):
            for name, function in workflow.functions.items():
                self.register(name, function)
        checked = check_inputs(document, inputs or {})
        if missing := self.missing(document):
            raise ExecutorError(f"this engine cannot run {document.reference}: {'; '.join(missing)}")
        identity = execution or str(uuid.uuid4())
        if identity in self._drivers:
            raise ExecutorError(f"an execution named {identity} is running here already")
        driver = self.open(
            self._graph(document),
            execution=identity,
            journal=MemoryJournal(observe=on_fact),
            seed=random.getrandbits(63),  # spreads retries, protects nothing
            log=on_log,
        )
        watcher = None if cancel is None else asyncio.ensure_future(_cancel_when(cancel, driver))
        try:
            driver.start(_encode_inputs(checked))
            await driver.wait()
        finally:
            if watcher is not None:
                watcher.cancel()
            driver.stop()
            self.release(identity)
        if not driver.state.ended:
            raise ExecutorError(f"execution {identity} was given up: the engine was closed while it ran")
        return _outputs(driver.state)

    def run_sync(self, workflow: Source, inputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`run` for code that is not asynchronous; the engine is closed afterwards."""

        async def run_and_close() -> dict[str, Any]:
            async with self:
                return await self.run(workflow, inputs)

        return run_sync(run_and_close())

    async def close(self) -> None:
        """Give up what runs, stop the executors and give their resources back. Afterwards nothing can be run."""
        self._closed = True
        for driver in list(self._drivers.values()):
            driver.stop()
        await self._evaluator.close()
        await self._lua.close()
        await self._python.close()

    async def __aenter__(self) -> DAGEngine:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _graph(self, document: Document) -> Graph:
        """The compiled form of a document; that of the last few is kept."""
        graph = self._graphs.pop(document.digest, None) or compile_document(document)
        self._graphs[document.digest] = graph
        if len(self._graphs) > _GRAPHS_KEPT:
            self._graphs.popitem(last=False)
        return graph

    def _route_log(self, line: LogLine) -> None:
        sink = self._logs.get(line.execution, self._log)
        if sink is not None:
            sink(line)


async def _cancel_when(event: asyncio.Event, driver: Driver) -> None:
    await event.wait()
    driver.cancel(author="caller", reason="the caller asked for it")


def _encode_inputs(inputs: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(inputs)
    except TypeError as error:
        raise DAGEngineError(f"the inputs are not JSON: {error}") from error


def _outputs(state: State) -> dict[str, Any]:
    if state.status == "succeeded":
        outputs: dict[str, Any] = orjson.loads(state.outputs or b"{}")
        return outputs
    failed = {
        node.id: state.errors[node.position, -1].message
        for node in state.graph.nodes
        if state.phase[node.position] == Phase.FAILED
    }
    if state.error is not None:
        message = state.error.message
    else:
        reason = state.cancel.reason if state.cancel is not None else ""
        message = f"the execution was cancelled: {reason}" if reason else "the execution was cancelled"
    raise ExecutionFailed(message, execution=state.execution, status=state.status, nodes=failed)
