"""`DAGEngine`: an engine to embed. It puts the adapters together; nobody below knows more than their ports.

Alone it runs workflows in this process, with a journal in memory. Given to an orchestrator (or served by `dag-engine`)
it runs what it is told to, with a journal that ends in the orchestrator's store.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from dagengine.admission import declaration
from dagengine.clock import Clock, SystemClock
from dagengine.driver.driver import Driver
from dagengine.driver.local_gate import LocalGate
from dagengine.driver.results import KnownResults, RememberedResults
from dagengine.equipment import Equipment, LuaIsolation, LuaOptions, PythonOptions
from dagengine.errors import DAGEngineError, ExecutionFailed, ExecutorError, InputError
from dagengine.events.facts import Fact
from dagengine.executors.base import LogLine, LogSink
from dagengine.executors.lua.aside import EvaluatorAside
from dagengine.executors.lua.check import check as check_lua
from dagengine.executors.lua.evaluator import LuaEvaluator
from dagengine.executors.lua.process.executor import LuaProcesses
from dagengine.executors.lua.runtime import DEFAULT_MAX_MEMORY
from dagengine.executors.secrets import EngineSecrets, Secrets
from dagengine.graph.compiled import Graph, compile_document
from dagengine.journal.base import Journal
from dagengine.journal.memory import MemoryJournal
from dagengine.machine.operations import Cancel, Operation, Signal
from dagengine.machine.phases import Phase
from dagengine.machine.state import State
from dagengine.spec import document as documents
from dagengine.spec.builder import Workflow
from dagengine.spec.inputs import check_inputs, check_payload
from dagengine.spec.model import Document

if TYPE_CHECKING:
    from dagengine.executors.http.policy import Policy
    from dagengine.executors.shell.limits import Limits

__all__ = ["DAGEngine", "LuaIsolation", "read_workflow", "run_sync"]

Source = Document | Workflow | Mapping[str, Any] | Path | str | bytes
"""What a workflow can be given as: parsed, built, plain values, a file, or a document's text."""

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
    registered by themselves. `python_allow` are patterns (`package.module:*`) of functions that may be imported by
    path, `python_workers` how many processes there are for functions that run isolated. `log` receives the lines that
    nodes print.

    `lua` says where Lua runs. `inline` costs least; a long script holds up the event loop. On a `thread` it does not.
    In `process`es scripts run side by side, and any script can be stopped, a hostile one, too: choose that for code
    that you have not written. `lua_memory` is the bytes that scripts may use: all of them, or those of one process.
    `lua_workers` is how many processes there are at most (one for each processor), `lua_cpu` the seconds of processor
    time that an attempt may use in one (an hour; 0: no limit).

    `shell` lets `shell` nodes run programs, with the limits given (True: the default ones); `shell_env` names the
    variables of this process's environment that they see. `http` is what requests of `http` nodes may do (True: what
    the default policy lets; False: nothing). `secrets` has the values that nodes use by name; by default the
    environment variables `DAG_SECRET_…`. `pools` are the pools of this engine: their sizes by name, or a text such as
    `db=4,api=2:10/s`. Raises ValueError when any of it makes no sense.
    """

    def __init__(
        self,
        *,
        functions: Mapping[str, Callable[..., object]] | None = None,
        python_allow: Iterable[str] = (),
        python_workers: int | None = None,
        clock: Clock | None = None,
        lua: LuaIsolation = "inline",
        lua_memory: int = DEFAULT_MAX_MEMORY,
        lua_workers: int | None = None,
        lua_cpu: int | None = None,
        shell: Limits | bool = False,
        shell_env: Collection[str] = (),
        http: Policy | bool = True,
        secrets: Secrets | None = None,
        pools: Mapping[str, int | str | declaration.Declared] | str = "",
        log: LogSink | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._log = log
        self._logs: dict[str, LogSink] = {}
        expressions = LuaEvaluator()
        self._evaluator = expressions if lua == "inline" else EvaluatorAside(expressions)
        self._equipment = Equipment(
            clock=self._clock,
            log=self._route_log,
            evaluator=self._evaluator,
            lua=LuaOptions(isolation=lua, memory=lua_memory, workers=lua_workers, cpu=lua_cpu),
            python=PythonOptions(functions=functions or {}, allow=python_allow, workers=python_workers),
            shell=shell,
            shell_env=shell_env,
            http=http,
            secrets=secrets if secrets is not None else EngineSecrets(),
        )
        self._gate = LocalGate(declaration.read(pools), self._clock)
        self._results = RememberedResults(self._clock)
        self._graphs: OrderedDict[str, Graph] = OrderedDict()
        self._drivers: dict[str, Driver] = {}
        self._closed = False

    @property
    def executors(self) -> list[str]:
        """The executor types it can perform."""
        return self._equipment.types

    @property
    def gate(self) -> LocalGate:
        """Where attempts ask for room in pools and for their turn."""
        return self._gate

    def warm(self) -> None:
        """Begin to start what the first node would wait for. Needed by nobody; call it on the event loop."""
        if isinstance(self._equipment.lua, LuaProcesses):
            self._equipment.lua.warm()

    def register(self, name: str, function: Callable[..., object]) -> None:
        """Let `python` nodes call `function` as `name`. Raises ExecutorError when another one has that name."""
        self._equipment.python.register(name, function)

    def missing(self, document: Document) -> list[str]:
        """Why this engine cannot run a workflow, in words; empty when it can."""
        undeclared = self._gate.missing(document.pools)
        return [
            *self._equipment.missing(document),
            *(
                f"it needs the pool '{pool}', which nobody has declared (ENGINE_POOLS, POOLS, DAGEngine(pools=…))"
                for pool in undeclared
            ),
        ]

    def open(
        self,
        graph: Graph,
        *,
        execution: str,
        journal: Journal,
        seed: int,
        log: LogSink | None = None,
        results: KnownResults | None = None,
        priority: int | None = None,
    ) -> Driver:
        """A driver for one execution. The caller starts or resumes it, awaits it, and then calls `release`.

        `results` is where nodes with `cache` look; by default in what this engine remembers. `priority` replaces that
        of the workflow. Raises ExecutorError when the engine is closed.
        """
        if self._closed:
            raise ExecutorError("this engine is closed: make another DAGEngine to run more")
        if log is not None:
            self._logs[execution] = log
        driver = self._drivers[execution] = Driver(
            graph,
            execution=execution,
            seed=seed,
            executors=self._equipment,
            evaluator=self._evaluator,
            gate=self._gate,
            results=results or self._results,
            journal=journal,
            clock=self._clock,
            priority=priority,
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

        graph = self._graph(document)

        def observe(position: int, fact: Fact) -> None:
            self._results.note(identity, fact)
            if on_fact is not None:
                on_fact(position, fact)

        driver = self.open(
            graph,
            execution=identity,
            journal=MemoryJournal(observe=observe if graph.caches else on_fact),
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

    def operate(self, execution: str, operation: Operation, *, command: str = "") -> None:
        """Ask something of an execution that runs here: pause it, send it a signal, approve of what it waits for, …

        A second call with the same `command` changes nothing. What cannot be done is told by a `CommandRefused` fact.
        Raises ExecutorError when no such execution runs here, and InputError when the payload of a signal does not fit.
        """
        driver = self._drivers.get(execution)
        if driver is None:
            raise ExecutorError(f"no execution named {execution} is running here")
        if isinstance(operation, Signal):
            _check_signal(operation, driver.state.graph)
        driver.operate(operation, command=command)

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
        self._gate.close()
        await self._evaluator.close()
        await self._equipment.close()

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


def _check_signal(operation: Signal, graph: Graph) -> None:
    """Raise InputError when the payload of a signal fits none of the nodes that could take it."""
    payload = orjson.loads(bytes(operation.payload))
    misfit: InputError | None = None
    for node in graph.nodes:
        signal = None if node.wait is None else node.wait.signal
        if signal is None or not (signal.name == operation.name or "{{" in signal.name):
            continue
        try:
            check_payload(signal.payload, payload)
        except InputError as error:
            misfit = error
        else:
            return
    if misfit is not None:
        raise misfit


async def _cancel_when(event: asyncio.Event, driver: Driver) -> None:
    await event.wait()
    driver.operate(Cancel(author="caller", reason="the caller asked for it"))


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
