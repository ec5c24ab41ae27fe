"""Which arguments a Python function of a workflow gets: from the names of its parameters to templates.

Called by `builder`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from dagengine.spec.lua_tokens import is_name

__all__ = ["arguments", "named_nodes"]

_SCOPE = ("inputs", "item", "index")
_CONTEXT = "context"
"""The engine gives it itself, at the call: who is asking, and where log lines go."""


def arguments(
    function: Callable[..., Any],
    *,
    given: Mapping[str, object],
    nodes: Collection[str],
    inputs: Iterable[str],
    extra: Collection[str] = (),
) -> tuple[dict[str, object], list[str]]:
    """The `args` of a python executor, and what is wrong between the function and what there is to give it.

    `nodes` are those whose results the node may read, `extra` the names that are in scope at this node only.
    """
    inputs = frozenset(inputs)
    bound: dict[str, object] = dict(given)
    wrong: list[str] = []
    open_ended = False
    parameters = _parameters(function)
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            open_ended = open_ended or parameter.kind is parameter.VAR_KEYWORD
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            wrong.append(f"parameter {name!r} is positional-only; arguments are given by name")
        elif name in bound or name == _CONTEXT:
            continue
        elif (source := _source(name, nodes, inputs, extra)) is not None:
            bound[name] = source
        elif parameter.default is parameter.empty:
            wrong.append(
                f"nothing is bound to parameter {name!r}: name it like a dependency, an input, `inputs`, `nodes`, "
                "`item`, `index` or `context`, give it a default, or give it a value with args="
            )
    if not open_ended:
        wrong.extend(f"the function has no parameter {name!r}" for name in given if name not in parameters)
    return bound, wrong


def named_nodes(function: Callable[..., Any], nodes: Collection[str], *, given: Collection[str]) -> list[str]:
    """The nodes that parameters of the function, other than those in `given`, are named like."""
    found = (_node(name, nodes) for name in _parameters(function) if name not in given)
    return list(dict.fromkeys(node for node in found if node is not None))


def _source(name: str, nodes: Collection[str], inputs: Collection[str], extra: Collection[str]) -> object:
    """The template whose value a parameter gets, or None."""
    node = _node(name, nodes)
    if node is not None:
        return _read("nodes", node)
    if name == "nodes":
        return {node: _read("nodes", node) for node in nodes}
    if name in _SCOPE:
        return f"{{{{ {name} }}}}"
    if name in inputs:
        return _read("inputs", name)
    return f"{{{{ {name} }}}}" if name in extra else None


def _node(name: str, nodes: Collection[str]) -> str | None:
    if name in nodes:
        return name
    return next((node for node in nodes if node.replace("-", "_") == name), None)


def _read(root: str, name: str) -> str:
    return f"{{{{ {root}.{name} }}}}" if is_name(name) else f'{{{{ {root}["{name}"] }}}}'


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters
