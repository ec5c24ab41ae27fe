"""What an engine can do: its executors, made from its options. The adapters of `dagengine.executors` meet here.

Those that take long to load (HTTP, programs) are made when the first node needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, get_args

from dagengine.clock import Clock
from dagengine.executors.base import Evaluator, Executor, LogSink
from dagengine.executors.lua.inline import InlineLua
from dagengine.executors.lua.process.executor import DEFAULT_CPU, LuaProcesses
from dagengine.executors.lua.runtime import DEFAULT_MAX_MEMORY
from dagengine.executors.python.executor import PythonFunctions
from dagengine.spec.model import Document, Node, PythonExecutor

if TYPE_CHECKING:
    from dagengine.executors.http.policy import Policy
    from dagengine.executors.secrets import Secrets
    from dagengine.executors.shell.limits import Limits

__all__ = ["Equipment", "LuaIsolation", "LuaOptions", "PythonOptions"]

LuaIsolation = Literal["inline", "thread", "process"]
"""Where Lua nodes run: on the event loop's thread, on a thread of their own, or in processes that can be killed."""

_SHOWN: Final = 4
"""Nodes that a message names, of those that lack the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LuaOptions:
    """Where Lua runs and what it may use. `memory` is in bytes, `cpu` in seconds (0: no limit).

    `workers` and `cpu` are for processes. Raises ValueError where they make no sense.
    """

    isolation: LuaIsolation = "inline"
    memory: int = DEFAULT_MAX_MEMORY
    workers: int | None = None
    cpu: int | None = None

    def __post_init__(self) -> None:
        if self.isolation not in (known := get_args(LuaIsolation)):
            raise ValueError(f"lua={self.isolation!r} is none of the ways to run Lua: {', '.join(known)}")
        if self.isolation != "process" and not (self.workers is None and self.cpu is None):
            raise ValueError(f"lua_workers and lua_cpu are for Lua in processes, not for lua={self.isolation!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonOptions:
    """The functions that nodes may call: by name, and `allow`, patterns of those that are imported by path.

    `workers` is how many processes there are at most for functions that run isolated.
    """

    functions: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    allow: Iterable[str] = ()
    workers: int | None = None


class Equipment:
    """The executors of one engine, by type.

    `shell` and `http` are the limits of such nodes, True for the default ones, or False: then it does not run them.
    `shell_env` names the variables of the engine's environment that programs see.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        log: LogSink,
        evaluator: Evaluator,
        lua: LuaOptions,
        python: PythonOptions,
        shell: Limits | bool,
        shell_env: Collection[str],
        http: Policy | bool,
        secrets: Secrets,
    ) -> None:
        self._clock = clock
        self._log = log
        self._evaluator = evaluator
        self._shell = shell
        self._shell_env = tuple(shell_env)
        self._http = http
        self._secrets = secrets
        self.lua = _lua(lua, clock, log)
        self.python = PythonFunctions(
            python.functions, clock=clock, log=log, allow=python.allow, workers=python.workers
        )
        self._made: dict[str, Executor] = {"lua": self.lua, "python": self.python}

    @property
    def types(self) -> list[str]:
        """The types of the nodes that it can perform. `wait` is performed by the machine itself."""
        optional = {"shell": self._shell, "http": self._http}
        return ["lua", "python", "wait", *(kind for kind, options in optional.items() if options)]

    def get(self, kind: str) -> Executor | None:
        """The executor of a type, made if need be; None when there is none."""
        made = self._made.get(kind)
        if made is None and (made := self._make(kind)) is not None:
            self._made[kind] = made
        return made

    def missing(self, document: Document) -> list[str]:
        """Why the nodes of a document cannot be performed here, in words; empty when they can."""
        lacking: dict[tuple[str, str], list[str]] = {}
        for node in document.demanding:
            if (words := self._missing(node)) is not None:
                lacking.setdefault(words, []).append(node.id)
        return [f"{_named(nodes)} {one if len(nodes) == 1 else several}" for (one, several), nodes in lacking.items()]

    async def close(self) -> None:
        """Stop everything and give its resources back."""
        for executor in self._made.values():
            await executor.close()

    def _missing(self, node: Node) -> tuple[str, str] | None:
        """What to say of one node, and of several, that cannot be performed for the same reason."""
        if isinstance(node.executor, PythonExecutor):
            function = node.executor.function
            words = self.python.missing(function, isolation=node.executor.isolation)
            if words is None:
                return None
            lacks = f"the Python function '{function}', which {words}"
            return f"needs {lacks}", f"need {lacks}"
        kind = node.executor.type
        if kind in self.types:
            return None
        if kind == "shell":
            from dagengine.executors.shell import executor

            return f"runs a program, {executor.REFUSAL}", f"run programs, {executor.REFUSAL}"
        refusal = "HTTP requests, which this engine does not: allow it with ENGINE_HTTP=true"
        return f"sends {refusal}", f"send {refusal}"

    def _make(self, kind: str) -> Executor | None:
        if kind == "shell" and self._shell:
            from dagengine.executors.shell.executor import Programs

            limits = None if self._shell is True else self._shell
            return Programs(
                log=self._log,
                clock=self._clock,
                secrets=self._secrets,
                limits=limits,
                passed=self._shell_env,
            )
        if kind == "http" and self._http:
            from dagengine.executors.http.executor import HTTPRequests

            return HTTPRequests(
                evaluator=self._evaluator,
                clock=self._clock,
                secrets=self._secrets,
                policy=None if self._http is True else self._http,
                log=self._log,
            )
        return None


def _named(nodes: Sequence[str]) -> str:
    """Nodes by their ids, not more of them than one cares to read."""
    shown = [f"'{node}'" for node in nodes[:_SHOWN]]
    if len(nodes) == 1:
        return f"node {shown[0]}"
    if len(nodes) > _SHOWN:
        return f"{len(nodes)} nodes ({', '.join(shown)}, …)"
    return f"nodes {', '.join(shown[:-1])} and {shown[-1]}"


def _lua(options: LuaOptions, clock: Clock, log: LogSink) -> InlineLua | LuaProcesses:
    if options.isolation == "process":
        return LuaProcesses(
            log=log,
            clock=clock,
            workers=options.workers,
            max_memory=options.memory,
            cpu=DEFAULT_CPU if options.cpu is None else options.cpu,
        )
    return InlineLua(log=log, clock=clock, thread=options.isolation == "thread", max_memory=options.memory)
