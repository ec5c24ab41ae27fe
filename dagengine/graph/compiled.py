"""Compile a document into an integer-indexed graph: what the machine walks and the driver reads.

Positions count from 0 in the order of the document. A graph is immutable and belongs to one digest, so engines keep
one per version and share it between executions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from dagengine.errors import Problem, SpecError
from dagengine.spec.model import AnyExecutor, Cache, Document, Node, Retry, RunIf, WaitExecutor
from dagengine.spec.rate import Rate

__all__ = ["Graph", "NodePlan", "compile_document"]

_ANCESTORS_KEPT: Final = 32 * 1024 * 1024
"""Bytes that the ancestors kept by one graph may take."""


class NodePlan(msgspec.Struct, frozen=True, gc=False, kw_only=True, eq=False):
    """One node, ready to be run. `dependencies` and `dependents` are positions; times are in microseconds.

    The garbage collector does not look at plans, however many there are: nothing that they hold refers back to them.
    """

    position: int
    id: str
    executor: AnyExecutor
    dependencies: tuple[int, ...]
    dependents: tuple[int, ...]
    run_if: RunIf
    when: str | None
    foreach: str | None
    max_parallel: int | None
    fail_after: int | None
    args: Mapping[str, object] | None
    """The templates of its executor."""
    pure: bool
    cut_off: bool
    """Whether its attempts are given up when their engine has lost contact: they have effects, and may not go on."""
    timeout: int | None
    total_timeout: int | None
    retry: Retry
    wait: WaitExecutor | None
    """What it waits for, when that is all it does."""
    cache: Cache | None
    pool: str | None
    weight: int
    rate: Rate | None
    exit: bool
    """Whether it is one of `on_exit`."""
    gated: bool
    """Whether an attempt needs to be admitted: it has a pool or a rate."""
    plain: bool
    """Its first attempt begins as soon as it may run: nothing is evaluated, looked up, asked for or waited for."""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A workflow version as the machine sees it."""

    document: Document
    nodes: tuple[NodePlan, ...]
    index: Mapping[str, int]
    """Position of each node id."""
    sources: tuple[int, ...]
    """Nodes without dependencies, but for those of `on_exit`."""
    sinks: tuple[int, ...]
    """Nodes that nothing depends on, but for those of `on_exit`."""
    main: int
    """How many nodes there are without those of `on_exit`, whose positions begin here."""
    caches: bool
    """Whether any node has a `cache`."""
    signals: frozenset[str]
    """Names of the signals that nodes wait for, as the document has them: some may be templates."""
    _ancestors: dict[int, bytes] = field(default_factory=dict)
    """Ancestors of those nodes that were asked about, as bits: a set of numbers would be a hundred times as large."""

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def digest(self) -> str:
        return self.document.digest

    @property
    def fail_fast(self) -> bool:
        """Whether the first failure stops everything."""
        return self.document.spec.failure_policy == "fail_fast"

    def ancestors(self, position: int) -> list[int]:
        """Every node that must have ended before the one at `position` may begin, in the order of the document.

        A node of `on_exit` comes after all others.
        """
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
            own = bytearray(size)
            inherited = (1 << self.main) - 1 if position >= self.main else 0
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

    def downstream(self, positions: Iterable[int]) -> list[int]:
        """`positions` and every node that depends on one of them, also over others; in the order of the document."""
        found = set(positions)
        frontier = list(found)
        while frontier:
            for dependent in self.nodes[frontier.pop()].dependents:
                if dependent not in found:
                    found.add(dependent)
                    frontier.append(dependent)
        return sorted(found)

    def topological(self) -> Iterator[int]:
        """Positions, each after all it depends on (Kahn 1962)."""
        waiting = [len(node.dependencies) for node in self.nodes]
        ready = [position for position, count in enumerate(waiting) if not count]
        for position in ready:
            yield position
            for dependent in self.nodes[position].dependents:
                waiting[dependent] -= 1
                if not waiting[dependent]:
                    ready.append(dependent)


def compile_document(document: Document) -> Graph:
    """The graph of `document`. Raises SpecError when an id is unknown or doubled, or when there is a cycle."""
    main = len(document.spec.nodes)
    nodes = (*document.spec.nodes, *document.spec.on_exit)
    index = {node.id: position for position, node in enumerate(nodes)}
    if len(index) != len(nodes):
        raise SpecError(f"workflow {document.reference} has two nodes with one id")
    dependencies = [_positions(node, index) for node in nodes]
    dependents: list[list[int]] = [[] for _ in nodes]
    positions = tuple(index.values())  # the very numbers that the index holds: one object for each
    for position, needed in zip(positions, dependencies, strict=True):
        for dependency in needed:
            if (dependency < main) != (position < main):
                raise SpecError(f"nodes of `on_exit` depend only on each other; see '{nodes[position].id}'")
            dependents[dependency].append(position)
    plans = tuple(
        _plan(position, node, dependencies[position], tuple(dependents[position]), exit=position >= main)
        for position, node in zip(positions, nodes, strict=True)
    )
    graph = Graph(
        document,
        plans,
        index,
        tuple(plan.position for plan in plans[:main] if not plan.dependencies),
        tuple(plan.position for plan in plans[:main] if not plan.dependents),
        main,
        any(plan.cache is not None for plan in plans),
        frozenset(plan.wait.signal.name for plan in plans if plan.wait is not None and plan.wait.signal is not None),
    )
    if sum(1 for _ in graph.topological()) != len(plans):
        cycle = " → ".join(plans[position].id for position in _cycle(dependencies))
        raise SpecError(
            f"workflow {document.reference} cannot be ordered",
            [Problem(path="spec.nodes", message=f"the dependencies form a cycle: {cycle}")],
        )
    return graph


def _positions(node: Node, index: Mapping[str, int]) -> tuple[int, ...]:
    try:
        return tuple({index[dependency]: None for dependency in node.dependencies})
    except KeyError:
        unknown = [dependency for dependency in node.dependencies if dependency not in index]
        raise SpecError(f"node '{node.id}' depends on unknown nodes: {', '.join(unknown)}") from None


def _plan(
    position: int, node: Node, dependencies: tuple[int, ...], dependents: tuple[int, ...], *, exit: bool
) -> NodePlan:
    executor = node.executor
    args = executor.templates
    wait = executor if isinstance(executor, WaitExecutor) else None
    gated = node.pool is not None or node.rate is not None
    evaluated = node.when is not None or node.foreach is not None or args is not None or node.cache is not None
    return NodePlan(
        position=position,
        id=node.id,
        executor=executor,
        dependencies=dependencies,
        dependents=dependents,
        run_if=node.run_if,
        when=node.when,
        foreach=node.foreach,
        max_parallel=node.max_parallel,
        fail_after=node.fail_after,
        args=args,
        pure=executor.pure,
        cut_off=not executor.pure and node.on_partition == "cancel",
        timeout=node.timeout,
        total_timeout=node.total_timeout,
        retry=node.retry,
        wait=wait,
        cache=node.cache,
        pool=node.pool,
        weight=node.weight,
        rate=node.rate,
        exit=exit,
        gated=gated,
        plain=not (evaluated or gated or wait is not None),
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
