"""What the code of a node can read, straight from the machine's state, without copying it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

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

    __slots__ = ("_digest", "_env", "_main", "_modules", "_state", "_version", "_workflow")

    def __init__(self, state: State) -> None:
        document = state.graph.document
        self._state = state
        self._workflow = document.id
        self._version = document.version
        self._digest = document.digest
        self._main = state.graph.main
        self._env = document.spec.configuration.env
        self._modules = document.spec.modules

    def scope(self, position: int, index: int) -> Scope:
        """The scope of a unit; `position` -1 is the execution as a whole, which sees every result."""
        state = self._state
        if index < 0 and position < self._main:
            return Scope(
                execution=state.execution,
                workflow=self._workflow,
                version=self._version,
                digest=self._digest,
                inputs=self._inputs(position) if state.edits else state.inputs,
                nodes=Results(state, position),
                env=self._env,
                modules=self._modules,
            )
        items = state.items[position] if index >= 0 else None
        return Scope(
            execution=state.execution,
            workflow=self._workflow,
            version=self._version,
            digest=self._digest,
            inputs=self._inputs(position) if state.edits else state.inputs,
            nodes=Results(state, position),
            env=self._env,
            item=None if items is None else bytes(items.values[index]),
            index=None if items is None else index,
            key=None if items is None or items.keys is None else items.keys[index],
            modules=self._modules,
            conclusion=self._conclusion() if position >= self._main else None,
        )

    def _inputs(self, position: int) -> Value:
        """The inputs that a node sees: those of the execution, with what somebody has set for it."""
        edited = self._state.edits.get(position)
        if edited is None:
            return self._state.inputs
        merged: dict[str, msgspec.Raw] = _members.decode(self._state.inputs) | _members.decode(edited)
        return _encode(merged)

    def _conclusion(self) -> Value:
        """How the execution has ended, for the nodes of `on_exit`."""
        concluded = self._state.concluded
        if concluded is None:
            return b"null"
        told: dict[str, Any] = {"status": concluded.status}
        if concluded.error is not None:
            told["error"] = {"type": concluded.error.type, "message": concluded.error.message}
        return _encode(told)


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode
