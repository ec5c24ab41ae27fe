"""Compile a document into an integer-indexed graph: what the machine walks and the driver reads.

Positions count from 0 in the order of the document. A graph is immutable and belongs to one digest, so engines keep
one per version and share it between executions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dagengine.errors import Problem, SpecError
from dagengine.spec.model import AnyExecutor, Document, Node, PythonExecutor, Retry, RunIf

__all__ = ["Graph", "NodePlan", "compile_document"]

_ANCESTORS_KEPT: Final = 32 * 1024 * 1024
"""Bytes that the ancestors kept by one graph may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """One node, ready to be run. `dependencies` and `dependents` are positions; `timeout` is in microseconds."""

    position: int
    id: str
    executor: AnyExecutor
    dependencies: tuple[int, ...]
    dependents: tuple[int, ...]
    run_if: RunIf
    when: str | None
    foreach: str | None
    args: Mapping[str, object] | None
    pure: bool
    timeout: int | None
    retry: Retry
    plain: bool
    """Nothing of it is evaluated before its first attempt: no `when`, no `foreach`, no arguments."""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A workflow version as the machine sees it."""

    document: Document
    nodes: tuple[NodePlan, ...]
    index: Mapping[str, int]
    """Position of each node id."""
    sources: tuple[int, ...]
    """Nodes without dependencies."""
    sinks: tuple[int, ...]
    """Nodes that nothing depends on."""
    _ancestors: dict[int, bytes] = field(default_factory=dict)
    """Ancestors of those nodes that were asked about, as bits: a set of numbers would be a hundred times as large."""

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def digest(self) -> str:
        return self.document.digest

    def ancestors(self, position: int) -> list[int]:
        """Every node that must have ended before the one at `position` may begin, in the order of the document."""
        bits = self._ancestor_bits(position)
        return [at * 8 + bit for at, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1]

    def is_ancestor(self, position: int, of: int) -> bool:
        """Whether the node at `position` must have ended before the one at `of` may begin."""
        return bool(self._ancestor_bits(of)[position >> 3] >> (position & 7) & 1)

    def _ancestor_bits(self, position: int) -> bytes:
        """Bit n of the answer (bit n % 8 of byte n // 8) tells whether node n is an ancestor. Kept once computed."""
        kept = self._ancestors
        known = kept.get(position)
        if known is None:
            size = len(self.nodes) // 8 + 1
            own, inherited = bytearray(size), 0
            frontier = list(self.nodes[position].dependencies)
            while frontier:
                current = frontier.pop()
                if own[current >> 3] >> (current & 7) & 1:
                    continue
                own[current >> 3] |= 1 << (current & 7)
                further = kept.get(current)
                if further is None:
                    frontier.extend(self.nodes[current].dependencies)
                else:
                    inherited |= int.from_bytes(further, "little")
            known = (inherited | int.from_bytes(own, "little")).to_bytes(size, "little")
            if len(kept) * size > _ANCESTORS_KEPT:
                kept.clear()
            kept[position] = known
        return known

    def topological(self) -> Iterator[int]:
        """Positions, each after all it depends on (Kahn 1962)."""
        waiting = [len(node.dependencies) for node in self.nodes]
        ready = list(self.sources)
        for position in ready:
            yield position
            for dependent in self.nodes[position].dependents:
                waiting[dependent] -= 1
                if not waiting[dependent]:
                    ready.append(dependent)


def compile_document(document: Document) -> Graph:
    """The graph of `document`. Raises SpecError when an id is unknown or doubled, or when there is a cycle."""
    nodes = document.spec.nodes
    index = {node.id: position for position, node in enumerate(nodes)}
    if len(index) != len(nodes):
        raise SpecError(f"workflow {document.reference} has two nodes with one id")
    dependencies = [_positions(node, index) for node in nodes]
    dependents: list[list[int]] = [[] for _ in nodes]
    for position, needed in enumerate(dependencies):
        for dependency in needed:
            dependents[dependency].append(position)
    plans = tuple(
        _plan(position, node, dependencies[position], tuple(dependents[position]))
        for position, node in enumerate(nodes)
    )
    graph = Graph(
        document,
        plans,
        index,
        tuple(plan.position for plan in plans if not plan.dependencies),
        tuple(plan.position for plan in plans if not plan.dependents),
    )
    if sum(1 for _ in graph.topological()) != len(plans):
        cycle = " → ".join(plans[position].id for position in _cycle(dependencies))
        raise SpecError(
            f"workflow {document.reference} cannot be ordered",
            [Problem(path="spec.nodes", message=f"the dependencies form a cycle: {cycle}")],
        )
    return graph


def _positions(node: Node, index: Mapping[str, int]) -> tuple[int, ...]:
    unknown = [dependency for dependency in node.dependencies if dependency not in index]
    if unknown:
        raise SpecError(f"node '{node.id}' depends on unknown nodes: {', '.join(unknown)}")
    return tuple(dict.fromkeys(index[dependency] for dependency in node.dependencies))


def _plan(position: int, node: Node, dependencies: tuple[int, ...], dependents: tuple[int, ...]) -> NodePlan:
    args = node.executor.args or None if isinstance(node.executor, PythonExecutor) else None
    return NodePlan(
        position=position,
        id=node.id,
        executor=node.executor,
        dependencies=dependencies,
        dependents=dependents,
        run_if=node.run_if,
        when=node.when,
        foreach=node.foreach,
        args=args,
        pure=node.executor.pure,
        timeout=node.timeout,
        retry=node.retry,
        plain=node.when is None and node.foreach is None and args is None,
    )


def _cycle(dependencies: Sequence[Sequence[int]]) -> list[int]:
    """One cycle, its first node repeated at the end. There must be one."""
    waiting = [len(needed) for needed in dependencies]
    dependents: list[list[int]] = [[] for _ in dependencies]
    for position, needed in enumerate(dependencies):
        for dependency in needed:
            dependents[dependency].append(position)
    ready = [position for position, count in enumerate(waiting) if not count]
    for position in ready:
        for dependent in dependents[position]:
            waiting[dependent] -= 1
            if not waiting[dependent]:
                ready.append(dependent)
    stuck = {position for position, count in enumerate(waiting) if count}
    # Every stuck node has a stuck dependency, so walking back must come to a node twice.
    path: list[int] = []
    seen: dict[int, int] = {}
    current = min(stuck)
    while current not in seen:
        seen[current] = len(path)
        path.append(current)
        current = next(dependency for dependency in dependencies[current] if dependency in stuck)
    return [current, *reversed(path[seen[current] :])]
