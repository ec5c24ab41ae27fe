"""What the code of a node can read, straight from the machine's state, without copying it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dagengine.executors.base import Scope, Value
from dagengine.machine.state import State

__all__ = ["Results", "ScopeFactory"]


class Results(Mapping[str, Value]):
    """The results of those ancestors of a node that succeeded, by node id (of all nodes, for the outputs).

    A node sees its ancestors and nothing else: what else has ended by now depends on timing.
    """

    __slots__ = ("_position", "_state")

    def __init__(self, state: State, position: int) -> None:
        self._state = state
        self._position = position

    def __getitem__(self, node: str) -> Value:
        state, position = self._state, self._position
        wanted = state.graph.index[node]
        if (
            position >= 0
            and wanted not in state.graph.nodes[position].dependencies
            and wanted not in state.graph.ancestors(position)
        ):
            raise KeyError(node)
        result = state.result(wanted)
        if result is None:
            raise KeyError(node)
        return result

    def __iter__(self) -> Iterator[str]:
        graph = self._state.graph
        seen = range(len(graph)) if self._position < 0 else sorted(graph.ancestors(self._position))
        for position in seen:
            if self._state.result(position) is not None:
                yield graph.nodes[position].id

    def __len__(self) -> int:
        return sum(1 for _ in self)


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
