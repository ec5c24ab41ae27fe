"""The machine under random DAGs, outcomes, cancellations and crashes.

After every step of every example the world checks the invariants and that `fold(facts)` is the live state.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dagengine.events import facts
from dagengine.graph import Graph
from dagengine.machine.phases import Phase

RUN_IF = ["all_succeeded", "all_done", "any_succeeded", "any_failed", "none_failed", "always"]


def make_nodes(size: int, chance: random.Random, *, plain: bool) -> list[dict[str, Any]]:
    """A random DAG: edges lead from lower to higher positions, but the document lists nodes in any order."""
    nodes = []
    for position in range(size):
        count = min(position, chance.choice([0, 1, 1, 2, 3, 8]))
        node: dict[str, Any] = {
            "id": f"n{position}",
            "dependencies": [f"n{needed}" for needed in sorted(chance.sample(range(position), count))],
        }
        if not plain:
            node["run_if"] = chance.choice(RUN_IF + ["all_succeeded"] * 6)
            if chance.random() < 0.15:
                node["when"] = "inputs.go"
            if chance.random() < 0.1:
                node["foreach"] = "inputs.list"
            if chance.random() < 0.3:
                node["executor"] = {
                    "type": "python",
                    "function": "f",
                    "args": {"a": 1} if chance.random() < 0.5 else {},
                }
            node["retry"] = {"fail": {"max_attempts": chance.choice([1, 1, 2, 3])}, "error": {"max_attempts": 2}}
        nodes.append(node)
    chance.shuffle(nodes)
    return nodes


def scripted(chance: random.Random, failing: float) -> Callable[[str, int, int], str]:
    seed = chance.getrandbits(32)

    def verdict(node: str, index: int, attempt: int) -> str:
        draw = random.Random(f"{seed}/{node}/{index}/{attempt}").random()
        if draw < failing / 2:
            return "fail"
        return "error" if draw < failing else "success"

    return verdict


def values(chance: random.Random, nodes: list[dict[str, Any]]) -> dict[tuple[str, str], bytes]:
    found: dict[tuple[str, str], bytes] = {}
    for node in nodes:
        found["when", node["id"]] = chance.choice([b"true", b"true", b"1", b"false", b"null", b"!"])
        found["foreach", node["id"]] = chance.choice([b"[]", b"[1]", b"[1,2,3,4,5]", b'"no list"', b"!"])
        found["args", node["id"]] = chance.choice([b'{"a":1}', b'{"a":1}', b'{"a":1}', b"!"])
    return found


def dependencies_came_first(made: list[facts.Fact], graph: Graph) -> None:
    ended: set[str] = set()
    for fact in made:
        match fact:
            case facts.NodeStarted(node=node) | facts.NodeExpanded(node=node):
                plan = graph.nodes[graph.index[node]]
                missing = [
                    graph.nodes[needed].id for needed in plan.dependencies if graph.nodes[needed].id not in ended
                ]
                assert not missing, f"{node} started before {missing}"
            case facts.NodeSucceeded(index=None) | facts.NodeSkipped() | facts.NodeCancelled():
                ended.add(fact.node)
            case facts.NodeFailed(index=None, retry_at=None):
                ended.add(fact.node)


@settings(max_examples=60)
@given(size=st.integers(1, 300), seed=st.integers(0, 2**32), failing=st.sampled_from([0.0, 0.05, 0.3]))
@example(size=300, seed=1, failing=0.02)
def test_plain_dags_fold_to_their_live_state_and_respect_their_dependencies(
    size: int, seed: int, failing: float, graph: Callable[..., Graph], world: type
) -> None:
    chance = random.Random(seed)
    it = world(graph(make_nodes(size, chance, plain=True)), verdict=scripted(chance, failing), chance=chance)
    status = it.run()
    dependencies_came_first(it.facts, it.graph)
    failed = any(phase == Phase.FAILED for phase in it.machine.state.phase)
    assert status == ("failed" if failed else "succeeded")


@settings(max_examples=150)
@given(
    size=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    failing=st.sampled_from([0.0, 0.1, 0.5]),
    cancel_after=st.none() | st.integers(0, 60),
    crash_after=st.lists(st.integers(0, 80), max_size=3),
)
def test_everything_at_once_still_ends_and_folds(
    size: int,
    seed: int,
    failing: float,
    cancel_after: int | None,
    crash_after: list[int],
    graph: Callable[..., Graph],
    world: type,
) -> None:
    chance = random.Random(seed)
    nodes = make_nodes(size, chance, plain=False)
    it = world(graph(nodes), verdict=scripted(chance, failing), values=values(chance, nodes), chance=chance)
    it.begin()
    steps = 0
    while not it.machine.ended:
        if steps == cancel_after:
            it.cancel()
        if steps in crash_after:
            # Anything after a committed prefix may be lost; what was committed stays.
            it.crash(keep=chance.randint(0, len(it.facts)))
            if cancel_after is not None and steps > cancel_after:
                it.cancel()  # the inbox delivers again what no committed fact cites
        if it.machine.ended:
            break
        it.answer()
        steps += 1
        assert steps < 10_000, "the execution does not end"
    dependencies_came_first(it.facts, it.graph)
    assert isinstance(it.facts[-1], facts.TERMINAL)


@settings(max_examples=100)
@given(size=st.integers(1, 40), seed=st.integers(0, 2**32), failing=st.sampled_from([0.1, 0.5]))
def test_it_ends_as_a_plain_interpreter_says(
    size: int, seed: int, failing: float, graph: Callable[..., Graph], world: type
) -> None:
    chance = random.Random(seed)
    nodes = make_nodes(size, chance, plain=False)
    verdict, found = scripted(chance, failing), values(chance, nodes)
    it = world(graph(nodes), verdict=verdict, values=found, chance=chance)
    status = it.run()
    expected = interpret(nodes, verdict, found)
    live = {node.id: Phase(it.machine.state.phase[node.position]).name.lower() for node in it.graph.nodes}
    assert live == {node: word.removesuffix(" upstream") for node, word in expected.items()}
    assert status == ("failed" if "failed" in expected.values() else "succeeded")


def interpret(
    nodes: list[dict[str, Any]], verdict: Callable[[str, int, int], str], found: dict[tuple[str, str], bytes]
) -> dict[str, str]:
    """What becomes of each node, worked out in order, one after the other, without any notion of time."""
    outcome: dict[str, str] = {}

    def unit(node: dict[str, Any], index: int) -> str:
        if node["executor"].get("args") and found["args", node["id"]] == b"!":
            return "failed"
        allowed = {kind: policy["max_attempts"] for kind, policy in node["retry"].items()}
        attempt = 1
        while (ended := verdict(node["id"], index, attempt)) != "success":
            allowed[ended] -= 1
            if not allowed[ended]:
                return "failed"
            attempt += 1
        return "succeeded"

    def decide(node: dict[str, Any]) -> str:
        ups = [outcome[needed] for needed in node["dependencies"]]
        failed = any(up in ("failed", "skipped upstream") for up in ups)
        allowed = {
            "all_succeeded": all(up == "succeeded" for up in ups),
            "none_failed": not failed,
            "any_succeeded": not ups or "succeeded" in ups,
            "any_failed": failed,
            "all_done": True,
            "always": True,
        }
        if not allowed[node["run_if"]]:
            return "skipped upstream" if failed and node["run_if"] != "any_failed" else "skipped"
        if "when" in node:
            value = found["when", node["id"]]
            if value == b"!":
                return "failed"
            if value in (b"false", b"null"):
                return "skipped"
        if "foreach" not in node:
            return unit(node, -1)
        items = found["foreach", node["id"]]
        if not items.startswith(b"["):
            return "failed"
        count = 0 if items == b"[]" else items.count(b",") + 1
        return "failed" if "failed" in [unit(node, index) for index in range(count)] else "succeeded"

    for node in sorted(nodes, key=lambda node: int(node["id"][1:])):
        outcome[node["id"]] = decide({"executor": {}} | node)
    return outcome
