"""How a function's parameters get their values: by name, decided once when the function is registered or imported.

A parameter receives the argument of its name from the node's `args`; without one, `inputs`, `nodes`, `item`, `index`
(counted from 1, as in Lua), `context`, and where there is one `key` and `execution`, receive what they say, and any
other the result of the upstream node of that name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import orjson

from dagengine.context import Context
from dagengine.executors.base import Scope

__all__ = ["BindingError", "Binding", "from_scope"]

_CONTEXT: Final = "context"


class BindingError(Exception):
    """A parameter of a function has no value in this node."""


class Binding:
    """A function and what it wants. TypeError or ValueError when its parameters cannot be given by name."""

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

    def wanted(self, given: Collection[str]) -> list[str]:
        """The parameters that get their value from the scope, given these arguments."""
        return [name for name in self.parameters if name not in given and name != _CONTEXT]

    def arguments(
        self, given: Mapping[str, Any], find: Callable[[str], bytes | None], context: Context
    ) -> dict[str, Any]:
        """The keyword arguments of one call: `given`, and for the `wanted` what `find` tells, as JSON, if it does.

        Raises BindingError naming the parameter that has no value.
        """
        unknown = [name for name in given if name not in self.parameters]
        if unknown and not self.takes_any:
            raise BindingError(f"the function has no parameter '{unknown[0]}' (it has: {', '.join(self.parameters)})")
        arguments = dict(given) if self.takes_any else {}
        for name in self.parameters:
            if name in given:
                arguments[name] = given[name]
            elif name == _CONTEXT:
                arguments[name] = context
            elif (value := find(name)) is not None:
                arguments[name] = orjson.loads(value)
            elif name not in self.optional:
                raise BindingError(f"parameter '{name}' is neither in `args` nor an upstream node that succeeded")
        return arguments


def from_scope(scope: Scope, name: str) -> bytes | None:
    """The JSON value that a parameter called `name` gets from what a job may read, or None."""
    match name:
        case "inputs":
            return scope.inputs
        case "nodes":
            members = (orjson.dumps(node) + b":" + result for node, result in scope.nodes.items())
            return b"{" + b",".join(members) + b"}"
        case "item":
            return b"null" if scope.item is None else scope.item
        case "index":
            return b"null" if scope.index is None else b"%d" % (scope.index + 1)
        case "key" if scope.key is not None:
            return orjson.dumps(scope.key)
        case "execution" if scope.conclusion is not None:
            return scope.conclusion
    return scope.nodes.get(name)
