"""Cycles and who is upstream of whom, against slow and obvious ways to find them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dagengine.spec import topology
from dagengine.spec.outline import outline
from dagengine.spec.topology import Upstream

GRAPHS = (
    st.integers(1, 9)
    .flatmap(
        lambda size: st.lists(st.lists(st.integers(0, size - 1), max_size=3, unique=True), min_size=size, max_size=size)
    )
    .map(lambda edges: [[other for other in others if other != node] for node, others in enumerate(edges)])
)


def _reachable(edges: list[list[int]], start: int) -> set[int]:
    seen: set[int] = set()
    stack = list(edges[start])
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(edges[node])
    return seen


@given(GRAPHS)
def test_each_group_of_nodes_that_wait_for_each_other_gives_one_true_cycle(edges: list[list[int]]) -> None:
    reachable = [_reachable(edges, node) for node in range(len(edges))]
    groups = {
        frozenset(other for other in range(len(edges)) if other in reachable[node] and node in reachable[other])
        for node in range(len(edges))
        if node in reachable[node]
    }
    cycles = topology.find_cycles(edges)
    assert len(cycles) == len(groups)
    for cycle in cycles:
        assert any(group.issuperset(cycle) for group in groups)
        assert len(set(cycle)) == len(cycle)
        assert cycle[0] == min(cycle) or any(min(group) == cycle[0] for group in groups)
        for before, after in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
            assert before in edges[after]


@given(GRAPHS, st.data())
def test_upstream_is_what_dependencies_lead_to(edges: list[list[int]], data: st.DataObject) -> None:
    ordered = [[other for other in others if other < node] for node, others in enumerate(edges)]
    nodes = [
        {"id": f"n{node}", "dependencies": [f"n{other}" for other in others]} for node, others in enumerate(ordered)
    ]
    upstream = Upstream(outline({"spec": {"nodes": nodes}}))
    places = st.integers(0, len(edges) - 1)
    questions = data.draw(st.lists(st.tuples(places, places)))
    expected = {(node, other) for node, other in questions if other not in _reachable(ordered, node)}
    assert upstream.missing(questions) == expected


def test_more_questions_than_bits_at_a_time() -> None:
    size = 10_000
    nodes = [{"id": f"n{node}", "dependencies": [f"n{node - 1}"] if node else []} for node in range(size)]
    upstream = Upstream(outline({"spec": {"nodes": nodes}}))
    questions = [(size - 1, other) for other in range(size - 1)] + [
        (other, size - 1) for other in range(0, size - 1, 7)
    ]
    assert upstream.missing(questions) == {(other, size - 1) for other in range(0, size - 1, 7)}
