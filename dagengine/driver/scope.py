"""What the code of a node can read, straight from the machine's state, without copying it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from dagengine.executors.base import Scope, Value
from dagengine.machine.state import State

__all__ = ["Results", "ScopeFactory"]

_SCANNED: Final = 8


class Results(msgspec.Struct, frozen=True, gc=False):
    """The results of those ancestors of a node that succeeded, by node id (of all nodes, for the outputs).

    A node sees its ancestors and nothing else: what else has ended by now depends on timing.
    """

    state: State
    position: int

    def __getitem__(self, node: str) -> Value:
        result = self.get(node)
        if result is None:
            raise KeyError(node)
        return result

    def get(self, node: str) -> Value | None:
        """The JSON result of a node, or None when it is absent."""
        graph, position = self.state.graph, self.position
        wanted = graph.index.get(node, -1)
        if wanted < 0:
            return None
        if position >= 0:
            near = graph.nodes[position].dependencies
            # A short scan first: most nodes read what they depend on directly, and few have many ancestors computed.
            if not (len(near) <= _SCANNED and wanted in near) and not graph.is_ancestor(wanted, of=position):
                return None
        return self.state.result(wanted)

    def __iter__(self) -> Iterator[str]:
        return (node for node, _ in self.items())

    def __len__(self) -> int:
        return sum(1 for _ in self.items())

    def items(self) -> Iterator[tuple[str, Value]]:
        """Ids and results, in the order of the document."""
        graph, result = self.state.graph, self.state.result
        for position in range(len(graph)) if self.position < 0 else graph.ancestors(self.position):
            value = result(position)
            if value is not None:
                yield graph.nodes[position].id, value


class ScopeFactory:
    """Makes the scopes of one execution."""

    __slots__ = ("_env", "_state", "_version", "_workflow")

    def __init__(self, state: State) -> None:
        document = state.graph.document
        self._state = state
        self._workflow = document.id
        self._version = document.version
        self._env = document.spec.configuration.env

    def scope(self, position: int, index: int) -> Scope:
        """The scope of a unit; `position` -1 is the execution as a whole, which sees every result."""
        state = self._state
        return Scope(
            execution=state.execution,
            workflow=self._workflow,
            version=self._version,
            digest=state.graph.digest,
            inputs=state.inputs,
            nodes=Results(state, position),
            env=self._env,
            item=bytes(state.items[position].values[index]) if index >= 0 else None,
            index=index if index >= 0 else None,
        )
