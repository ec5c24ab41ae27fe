"""References to the nodes of a workflow under construction: what `>>` and `depends_on` of the builder connect.

Made by `node_group`, used by people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

__all__ = ["Dependencies", "NodeRef", "PythonNodeRef", "ids"]

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N", bound="NodeRef")
S = TypeVar("S", bound="Iterable[NodeRef]")

Dependencies: TypeAlias = "str | NodeRef | Iterable[str | NodeRef]"
"""One node or several, by id or by reference."""


class _Group(Protocol):
    """What a node belongs to: the nodes of a workflow, or those of its `on_exit`."""

    @property
    def title(self) -> str: ...

    def connect(self, before: Iterable[str | NodeRef], after: NodeRef) -> None: ...


class NodeRef:
    """A node of a workflow under construction."""

    def __init__(self, group: _Group, id_: str) -> None:
        self.group = group
        self.id = id_

    def depends_on(self, *nodes: str | NodeRef) -> NodeRef:
        """Let this node wait for `nodes`; gives this node back."""
        self.group.connect(nodes, self)
        return self

    @overload
    def __rshift__(self, after: N) -> N: ...
    @overload
    def __rshift__(self, after: S) -> S: ...
    def __rshift__(self, after: NodeRef | Iterable[NodeRef]) -> NodeRef | Iterable[NodeRef]:
        """`a >> b`, `a >> [b, c]`: what is on the right waits for this node. Gives the right side back."""
        for node in [after] if isinstance(after, NodeRef) else after:
            node.depends_on(self)
        return after

    def __rrshift__(self, before: Iterable[NodeRef]) -> NodeRef:
        """`[a, b] >> c`: this node waits for all of `before`."""
        return self.depends_on(*before)

    def __repr__(self) -> str:
        return f"<node {self.id!r} of {self.group.title}>"


class PythonNodeRef(NodeRef, Generic[P, R]):
    """A node that calls a Python function. Calling it calls the function, so that it can be tested as usual."""

    def __init__(self, group: _Group, id_: str, function: Callable[P, R]) -> None:
        super().__init__(group, id_)
        self.function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)


def ids(nodes: Dependencies) -> list[str]:
    """The ids of one node or several."""
    several = [nodes] if isinstance(nodes, str | NodeRef) else nodes
    return [node.id if isinstance(node, NodeRef) else node for node in several]
