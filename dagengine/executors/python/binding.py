"""How a function's parameters get their values: by name, decided once when the function is registered.

A parameter receives the argument of its name from the node's `args`; without one, `inputs`, `nodes`, `item`, `index`
(counted from 1, as in Lua) and `context` receive what they say, and any other the result of the upstream node of that
name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import orjson

from dagengine.executors.base import Job, LogLine, Scope

__all__ = ["BindingError", "Binding", "Context"]

_SCOPE = frozenset({"inputs", "nodes", "item", "index", "context"})


class BindingError(Exception):
    """A parameter of a function has no value in this node."""


class Context:
    """Who is asking, for functions with a parameter `context`, and where their log lines go."""

    __slots__ = ("_lines", "_now", "_sink", "attempt", "execution", "index", "node")

    def __init__(self, job: Job, sink: Callable[[LogLine], None] | None, now: Callable[[], int]) -> None:
        self.execution = job.scope.execution
        self.node = job.node
        self.index = job.index
        """Position of the `foreach` item, counted from 0, or None."""
        self.attempt = job.attempt
        self._sink = sink
        self._now = now
        self._lines = 0

    def log(self, text: str) -> None:
        """Put one line into the node's log stream. May be called from any thread."""
        if self._sink is None:
            return
        self._lines += 1
        self._sink(
            LogLine(
                execution=self.execution,
                node=self.node,
                index=self.index,
                attempt=self.attempt,
                line=self._lines,
                at=self._now(),
                text=str(text),
            )
        )


class Binding:
    """A registered function and what it wants. TypeError or ValueError when its parameters cannot be given by name."""

    __slots__ = ("function", "is_async", "optional", "parameters", "takes_any")

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object whose `__call__` is asynchronous
        )
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
                raise TypeError(f"its parameter '{parameter.name}' is positional-only; arguments are given by name")
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self.parameters = tuple(parameter.name for parameter in parameters if parameter.kind in kinds)
        self.optional = frozenset(
            parameter.name for parameter in parameters if parameter.default is not inspect.Parameter.empty
        )
        self.takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)

    def arguments(self, job: Job, context: Context) -> dict[str, Any]:
        """The keyword arguments of one call. Raises BindingError naming the parameter that has no value."""
        given: dict[str, Any] = orjson.loads(job.args) if job.args is not None else {}
        unknown = [name for name in given if name not in self.parameters]
        if unknown and not self.takes_any:
            raise BindingError(f"the function has no parameter '{unknown[0]}' (it has: {', '.join(self.parameters)})")
        arguments = dict(given) if self.takes_any else {}
        for name in self.parameters:
            if name in given:
                arguments[name] = given[name]
            elif name in _SCOPE:
                arguments[name] = _from_scope(name, job.scope, context)
            elif (result := job.scope.nodes.get(name)) is not None:
                arguments[name] = orjson.loads(result)
            elif name not in self.optional:
                raise BindingError(f"parameter '{name}' is neither in `args` nor an upstream node that succeeded")
        return arguments


def _from_scope(name: str, scope: Scope, context: Context) -> Any:
    match name:
        case "inputs":
            return orjson.loads(scope.inputs)
        case "nodes":
            return {node: orjson.loads(result) for node, result in scope.nodes.items()}
        case "item":
            return None if scope.item is None else orjson.loads(scope.item)
        case "index":
            return None if scope.index is None else scope.index + 1
    return context
