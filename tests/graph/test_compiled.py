"""Compiling a document: positions, edges, ancestors, order; and what cannot be compiled is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagengine.errors import SpecError
from dagengine.graph import Graph, compiled

Compile = Callable[..., Graph]


def nodes(**dependencies: str) -> list[dict[str, Any]]:
    """`nodes(a="", b="a c")`: node `b` depends on `a` and `c`."""
    return [{"id": id, "dependencies": needed.split()} for id, needed in dependencies.items()]


def ids(graph: Graph, positions: Any) -> list[str]:
    return [graph.nodes[position].id for position in positions]


def test_positions_follow_the_document(graph: Compile) -> None:
    made = graph(nodes(c="a", a="", b="a c"))
    assert [node.id for node in made.nodes] == ["c", "a", "b"]
    assert [node.position for node in made.nodes] == [0, 1, 2]
    assert made.index == {"c": 0, "a": 1, "b": 2}
    assert len(made) == 3


def test_edges_lead_both_ways(graph: Compile) -> None:
    made = graph(nodes(a="", b="a", c="a b"))
    assert [node.dependencies for node in made.nodes] == [(), (0,), (0, 1)]
    assert [node.dependents for node in made.nodes] == [(1, 2), (2,), ()]
    assert (made.sources, made.sinks) == ((0,), (2,))


def test_a_dependency_that_is_named_twice_counts_once(graph: Compile) -> None:
    made = graph(nodes(a="", b="a a"))
    assert made.nodes[1].dependencies == (0,)
    assert made.nodes[0].dependents == (1,)


def test_a_node_alone_is_source_and_sink(graph: Compile) -> None:
    made = graph(nodes(a=""))
    assert (made.sources, made.sinks) == ((0,), (0,))


def test_a_plan_knows_what_must_be_evaluated_before_its_first_attempt(graph: Compile) -> None:
    python = {"type": "python", "function": "f"}
    made = graph(
        [
            {"id": "lua"},
            {"id": "when", "when": "true"},
            {"id": "foreach", "foreach": "{}"},
            {"id": "python", "executor": python},
            {"id": "args", "executor": python | {"args": {"x": 1}}},
        ]
    )
    assert [node.id for node in made.nodes if node.plain] == ["lua", "python"]
    assert [node.args for node in made.nodes] == [None, None, None, None, {"x": 1}]


def test_a_plan_knows_whether_its_node_is_pure(graph: Compile) -> None:
    python = {"type": "python", "function": "f"}
    made = graph(
        [{"id": "lua"}, {"id": "opaque", "executor": python}, {"id": "pure", "executor": python | {"pure": True}}]
    )
    assert [node.pure for node in made.nodes] == [True, False, True]


def test_the_digest_is_the_documents(graph: Compile) -> None:
    made = graph(nodes(a=""))
    assert made.digest == made.document.digest
    assert made.digest.startswith("sha256:")


class TestAncestors:
    def test_they_are_everything_further_up(self, graph: Compile) -> None:
        made = graph(nodes(d="b c", a="", b="a", c="a", other="", e="d"))
        assert ids(made, made.ancestors(made.index["e"])) == ["d", "a", "b", "c"]
        assert ids(made, made.ancestors(made.index["d"])) == ["a", "b", "c"]
        assert made.ancestors(made.index["other"]) == []

    def test_one_can_be_asked_about_alone(self, graph: Compile) -> None:
        made = graph(nodes(a="", b="a", c="b", other=""))
        assert made.is_ancestor(0, of=2)
        assert not made.is_ancestor(2, of=0)
        assert not made.is_ancestor(3, of=2)
        assert not made.is_ancestor(2, of=2)

    @given(size=st.integers(1, 60), seed=st.integers(0, 2**32))
    def test_they_are_what_a_plain_walk_finds_in_whatever_order_they_are_asked_for(
        self, graph: Compile, size: int, seed: int
    ) -> None:
        chance = random.Random(seed)
        listed = [
            {
                "id": f"n{at}",
                "dependencies": [f"n{up}" for up in chance.sample(range(at), min(at, chance.randrange(4)))],
            }
            for at in range(size)
        ]
        chance.shuffle(listed)
        made = graph(listed)

        def walk(position: int) -> set[int]:
            near = made.nodes[position].dependencies
            return set(near).union(*(walk(up) for up in near)) if near else set()

        asked = list(range(size))
        chance.shuffle(asked)
        for position in asked:
            assert made.ancestors(position) == sorted(walk(position))
            assert [up for up in range(size) if made.is_ancestor(up, of=position)] == sorted(walk(position))

    def test_those_of_a_long_chain_need_little_memory_and_no_recursion(self, graph: Compile) -> None:
        size = 20_000
        made = graph([{"id": f"n{at}", "dependencies": [f"n{at - 1}"] if at else []} for at in range(size)])
        assert all(made.is_ancestor(0, of=position) for position in range(1, size))
        assert sum(map(len, made._ancestors.values())) <= compiled._ANCESTORS_KEPT + size

    def test_what_is_kept_of_them_is_bounded(self, graph: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compiled, "_ANCESTORS_KEPT", 100)
        made = graph([{"id": f"n{at}", "dependencies": [f"n{at - 1}"] if at else []} for at in range(80)])
        for position in range(80):
            assert made.ancestors(position) == list(range(position))
            assert sum(map(len, made._ancestors.values())) <= 100 + 2 * 11


class TestOrder:
    def test_every_node_comes_after_all_it_depends_on(self, graph: Compile) -> None:
        made = graph(nodes(d="b c", c="a", b="a", a=""))
        assert ids(made, made.topological()) == ["a", "c", "b", "d"]

    def test_a_long_chain_needs_no_recursion(self, graph: Compile) -> None:
        size = 20_000
        made = graph([{"id": f"n{at}", "dependencies": [f"n{at + 1}"] if at + 1 < size else []} for at in range(size)])
        assert list(made.topological()) == list(range(size - 1, -1, -1))


class TestWhatCannotBeCompiled:
    def refused(self, graph: Compile, listed: list[dict[str, Any]]) -> str:
        with pytest.raises(SpecError) as caught:
            graph(listed, id="pipeline")
        return str(caught.value)

    def test_a_cycle_is_named_from_end_to_end(self, graph: Compile) -> None:
        message = self.refused(graph, nodes(start="", a="start c", b="a", c="b", end="c"))
        assert "cannot be ordered" in message
        assert "spec.nodes: the dependencies form a cycle: a → b → c → a" in message

    def test_a_node_that_depends_on_itself(self, graph: Compile) -> None:
        assert "cycle: a → a" in self.refused(graph, nodes(a="a"))

    def test_a_cycle_that_is_entered_from_a_long_tail_is_named_without_the_tail(self, graph: Compile) -> None:
        tail = {f"t{number}": f"t{number - 1}" if number else "y" for number in range(50)}
        assert self.refused(graph, nodes(**tail, x="y", y="x")).endswith("cycle: y → x → y")

    def test_a_cycle_through_every_node_of_a_large_workflow(self, graph: Compile) -> None:
        size = 5_000
        listed = [{"id": f"n{at}", "dependencies": [f"n{(at or size) - 1}"]} for at in range(size)]
        message = self.refused(graph, listed)
        assert message.endswith("n4998 → n4999 → n0")
        assert message.count(" → ") == size

    def test_unknown_dependencies(self, graph: Compile) -> None:
        message = self.refused(graph, nodes(a="", b="a nowhere lost"))
        assert message == "node 'b' depends on unknown nodes: nowhere, lost"

    def test_two_nodes_with_one_id(self, graph: Compile) -> None:
        assert "has two nodes with one id" in self.refused(graph, nodes(a="") * 2)
