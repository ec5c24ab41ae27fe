"""Whether the nodes of a document form a DAG: ids, dependencies, cycles, and who is upstream of whom.

The nodes of `spec.on_exit` are a DAG of their own, which runs after that of `spec.nodes`; ids are unique over both.
Linear in nodes and dependencies, and without recursion, however deep the DAG. Called by `document` and `scope`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from dagengine.spec.outline import NodeOutline, Outline
from dagengine.spec.path import Finding, Path
from dagengine.spec.suggestion import Suggestions

__all__ = ["Upstream", "findings", "find_cycles"]

_LONGEST_SHOWN: Final = 12
_CHUNK: Final = 4096


def findings(outline: Outline, where: Callable[[Path], str]) -> Iterator[Finding]:
    """What is wrong between the nodes. `where(path)` says in words where something else is (`on line 3`)."""
    yield from _duplicate_ids(outline, where)
    yield from _dependencies(outline)
    for cycle in find_cycles(dependencies(outline)):
        names = [outline.nodes[index].id or "?" for index in cycle]
        first = outline.nodes[cycle[0]]
        yield Finding((*first.path, "dependencies"), f"the nodes wait for each other: {_show_cycle(names)}")


def dependencies(outline: Outline) -> list[list[int]]:
    """For each node the positions of those it waits for; unknown ones, itself and the other group's left out."""
    positions, nodes = outline.positions, outline.nodes
    return [
        [
            positions[name]
            for _, name in node.dependencies
            if name in positions and positions[name] != node.index and nodes[positions[name]].group == node.group
        ]
        for node in nodes
    ]


def find_cycles(dependencies: Sequence[Sequence[int]]) -> list[list[int]]:
    """One shortest cycle of each group of nodes that wait for each other, in the order in which data would flow.

    `dependencies[i]` are the positions that `i` waits for. Each cycle begins with its lowest position.
    """
    cycles = []
    for group in _StrongComponents(dependencies).groups:
        members = set(group)
        cycles.append(_shortest_cycle(dependencies, min(members), members))
    return sorted(cycles)


class Upstream:
    """Answers which nodes are upstream of which, for many questions at once."""

    def __init__(self, outline: Outline) -> None:
        self._dependencies = dependencies(outline)
        self._order = _order(self._dependencies)

    def missing(self, questions: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        """The pairs `(node, other)` of `questions` in which `other` is not upstream of `node`.

        Nothing is said about nodes in a cycle or downstream of one.
        """
        ordered = set(self._order)
        direct = {node: frozenset(self._dependencies[node]) for node, _ in questions}
        open_ = [(node, other) for node, other in questions if node in ordered and other not in direct[node]]
        targets = sorted({other for _, other in open_})
        result: set[tuple[int, int]] = set()
        for start in range(0, len(targets), _CHUNK):
            bits = {other: 1 << position for position, other in enumerate(targets[start : start + _CHUNK])}
            reached = self._reached(bits)
            result.update((node, other) for node, other in open_ if other in bits and not reached[node] & bits[other])
        return result

    def _reached(self, bits: dict[int, int]) -> list[int]:
        """For each node, the bits of the nodes upstream of it. At most `_CHUNK` bits, so memory stays bounded."""
        reached = [0] * len(self._dependencies)
        for node in self._order:
            mask = 0
            for other in self._dependencies[node]:
                mask |= reached[other] | bits.get(other, 0)
            reached[node] = mask
        return reached


def _duplicate_ids(outline: Outline, where: Callable[[Path], str]) -> Iterator[Finding]:
    for node in outline.nodes:
        if node.id is not None and (first := outline.positions[node.id]) != node.index:
            path = (*outline.nodes[first].path, "id")
            yield Finding((*node.path, "id"), f"duplicate node id {node.id!r} (first used {where(path)})")


def _dependencies(outline: Outline) -> Iterator[Finding]:
    known = {
        group: Suggestions(node.id for node in outline.nodes if node.id is not None and node.group == group)
        for group in ("nodes", "on_exit")
    }
    for node in outline.nodes:
        seen: set[str] = set()
        for position, name in node.dependencies:
            path = (*node.path, "dependencies", position)
            if name in seen:
                yield Finding(path, f"{name!r} is listed twice")
            elif name == node.id:
                yield Finding(path, f"node {name!r} depends on itself")
            elif name not in outline.positions:
                yield Finding(path, f"unknown node {name!r}{known[node.group].hint(name)}")
            elif complaint := _of_another_group(node, name, outline):
                yield Finding(path, complaint)
            seen.add(name)


def _of_another_group(node: NodeOutline, name: str, outline: Outline) -> str:
    if outline.nodes[outline.positions[name]].group == node.group:
        return ""
    if node.group == "nodes":
        return f"{name!r} is one of spec.on_exit, which run after all of spec.nodes; nothing there can wait for it"
    return (
        f"{name!r} is one of spec.nodes: those of on_exit run after all of them, and see their results without "
        "depending on them; remove it"
    )


def _show_cycle(names: list[str]) -> str:
    if len(names) > _LONGEST_SHOWN:
        left = len(names) - _LONGEST_SHOWN + 1
        names = [*names[: _LONGEST_SHOWN - 2], f"({left} more)", names[-1]]
    return " → ".join([*names, names[0]])


def _order(dependencies: Sequence[Sequence[int]]) -> list[int]:
    """Positions in which every node comes after all it waits for; those in or behind a cycle are left out."""
    dependents: list[list[int]] = [[] for _ in dependencies]
    for node, others in enumerate(dependencies):
        for other in others:
            dependents[other].append(node)
    waiting = Counter({node: len(others) for node, others in enumerate(dependencies)})
    ready = [node for node, others in enumerate(dependencies) if not others]
    order = []
    while ready:
        node = ready.pop()
        order.append(node)
        for dependent in dependents[node]:
            waiting[dependent] -= 1
            if not waiting[dependent]:
                ready.append(dependent)
    return order


class _StrongComponents:
    """Groups of two or more nodes that all wait for each other (Tarjan 1972, with a stack of our own)."""

    def __init__(self, dependencies: Sequence[Sequence[int]]) -> None:
        self.groups: list[list[int]] = []
        self._dependencies = dependencies
        self._number: dict[int, int] = {}
        self._low: dict[int, int] = {}
        self._open: dict[int, None] = {}
        self._work: list[tuple[int, Iterator[int]]] = []
        for root in sorted(set(range(len(dependencies))).difference(_order(dependencies))):
            if root not in self._number:
                self._enter(root)
                while self._work:
                    self._advance()

    def _enter(self, node: int) -> None:
        self._number[node] = self._low[node] = len(self._number)
        self._open[node] = None
        self._work.append((node, iter(self._dependencies[node])))

    def _advance(self) -> None:
        node, others = self._work[-1]
        low = self._low
        for other in others:
            if other not in self._number:
                self._enter(other)
                return
            if other in self._open:
                low[node] = min(low[node], self._number[other])
        self._work.pop()
        if self._work:
            parent = self._work[-1][0]
            low[parent] = min(low[parent], low[node])
        if low[node] == self._number[node]:
            self._close(node)

    def _close(self, node: int) -> None:
        group: list[int] = []
        while not group or group[-1] != node:
            member, _ = self._open.popitem()
            group.append(member)
        if len(group) > 1:
            self.groups.append(group)


def _shortest_cycle(dependencies: Sequence[Sequence[int]], start: int, members: set[int]) -> list[int]:
    """The shortest way from `start` back to itself inside `members`, against the dependencies."""
    came_from: dict[int, int] = {}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for other in dependencies[node]:
            if other == start:
                way = [node]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return [start, *way[:-1]]
            if other in members and other not in came_from:
                came_from[other] = node
                queue.append(other)
    raise AssertionError("a group of nodes that wait for each other has a cycle")
