"""The machine under everything at once: random DAGs with waits, limits, caches and `on_exit`, random outcomes, random
operations, crashes at random points.

After every step the world checks the invariants, that everything that has not ended waits for something that comes,
and that `fold(facts)` is the live state. What the operations below
leave alone is decided as `interpret` decides it: one node after the other, without time, commands or facts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from dagengine.events import facts
from dagengine.graph import Graph
from dagengine.machine.commands import Run
from dagengine.machine.operations import Cancel, Decide, EditInputs, Operation, Pause, Rerun, Signal, Skip, Unpause
from dagengine.machine.phases import Phase
from dagengine.machine.stimuli import ContactLost

RUN_IF = ["all_succeeded"] * 8 + ["all_done", "any_succeeded", "any_failed", "none_failed", "always"]
WAITS: list[dict[str, Any]] = [
    {"duration": "1ms"},
    {"until": "1970-01-01T00:00:01Z"},
    {"signal": {"name": "go"}},
    {"signal": {"name": "{{ inputs.name }}"}},
    {"signal": {"name": "late", "timeout": "2ms", "default": 7}},
    {"approval": {"quorum": 2}},
    {"approval": {"who": ["ada"], "timeout": "3ms", "default": "approve"}},
]

LISTS = [b"[]", b"[1]", b"[1,2,3,4]", b'{"k":1,"j":2}', b"7", b"[1,2,3,4,5,6,7,8,9,10,11,12]"]
Verdict = Callable[[str, int, int], str]


HASTE: list[dict[str, Any]] = [
    {"approval": {"timeout": "2ms", "default": "reject"}},
    {"signal": {"name": "late", "timeout": "1ms"}},
    {"signal": {"name": "late"}},
]
"""Waits whose end depends on what comes first."""


def make_document(size: int, chance: random.Random, *, hasty: bool = False) -> dict[str, Any]:
    """`nodes` and the rest of a random `spec`. Edges lead from lower to higher numbers. What becomes of a `hasty` one
    depends on how things happen to follow each other."""
    main = [_node(f"n{at}", [f"n{lower}" for lower in range(at)], chance) for at in range(size)]
    count = chance.choice([0, 0, 1, 3])
    last = [_node(f"x{at}", [f"x{lower}" for lower in range(at)], chance) for at in range(count)]
    for node in (*main, *last) if hasty else ():
        _hurry(node, chance)
    spec: dict[str, Any] = {"nodes": main, "on_exit": last}
    spec["failure_policy"] = chance.choice(["continue", "continue", "fail_fast"])
    if chance.random() < 0.3:
        spec["outputs"] = {"done": "{{ true }}"}
    return spec


def _node(name: str, lower: list[str], chance: random.Random) -> dict[str, Any]:
    needed = chance.sample(lower, min(len(lower), chance.choice([0, 1, 1, 2, 3])))
    node: dict[str, Any] = {"id": name, "dependencies": sorted(needed), "run_if": chance.choice(RUN_IF)}
    if chance.random() < 0.1:
        node["when"] = "inputs.go"
    if chance.random() < 0.2:
        node["foreach"] = "inputs.list"
        if chance.random() < 0.5:
            node["max_parallel"] = chance.choice([1, 2])
        if chance.random() < 0.3:
            node["fail_after"] = chance.choice([0, 1, 2])
    if chance.random() < 0.2:
        node["executor"] = {"type": "wait", **chance.choice(WAITS)}
        return node
    node["executor"] = {"type": "lua", "code": "return 1"}
    if chance.random() < 0.4:
        args = {"a": "{{ inputs.a }}"} if chance.random() < 0.5 else {}
        node["executor"] = {"type": "python", "function": "f", "args": args}
        node["on_partition"] = chance.choice(["cancel", "cancel", "continue"])
    if chance.random() < 0.2:
        node["pool"] = "db"
    if chance.random() < 0.1:
        node["cache"] = {"key": "k", "ttl": "1h"}
    if chance.random() < 0.1:
        node["total_timeout"] = "4ms"
    node["retry"] = {"fail": {"max_attempts": chance.choice([1, 1, 2])}, "error": {"max_attempts": 2}}
    return node


def _hurry(node: dict[str, Any], chance: random.Random) -> None:
    if chance.random() < 0.15:
        node["total_timeout"] = chance.choice(["1ms", "3ms", "1s"])
    if node["executor"]["type"] == "wait":
        if chance.random() < 0.3:
            node["executor"] = {"type": "wait", **chance.choice(HASTE)}
        node["retry"] = {"fail": {"max_attempts": chance.choice([1, 3]), "backoff": {"initial": "1ms"}}}
    elif chance.random() < 0.2:
        node["rate"] = "10/s"
    if "foreach" in node and chance.random() < 0.5:
        node["max_parallel"] = chance.choice([1, 3, 7])


def values_of(spec: dict[str, Any], chance: random.Random) -> dict[tuple[str, str], bytes]:
    found: dict[tuple[str, str], bytes] = {}
    for node in (*spec["nodes"], *spec["on_exit"]):
        found["when", node["id"]] = chance.choice([b"true", b"true", b"true", b"false", b"!"])
        found["foreach", node["id"]] = chance.choice(LISTS)
        found["args", node["id"]] = chance.choice([b'{"a":1}'] * 5 + [b"!"])
        if node["executor"]["type"] == "wait":
            found["args", node["id"]] = b'{"signal":"go"}'
    return found


def scripted(seed: int, failing: float) -> Verdict:
    def verdict(node: str, index: int, attempt: int) -> str:
        draw = random.Random(f"{seed}/{node}/{index}/{attempt}").random()
        return "fail" if draw < failing / 2 else "error" if draw < failing else "success"

    return verdict


def random_operation(it: Any, chance: random.Random) -> Operation:
    node = chance.choice(it.graph.nodes).id
    return chance.choice(
        [
            Pause(author="ada"),
            Pause(author="ada", node=node),
            Unpause(author="ada"),
            Unpause(author="ada", node=node),
            Signal(name=chance.choice(["go", "late"]), payload=Raw(b"1")),
            Decide(author=chance.choice(["ada", "bob", "cy"]), node=node, approved=chance.random() < 0.8),
            EditInputs(node=node, inputs=Raw(b'{"a":2}')),
            Skip(node=node, result=chance.choice([UNSET, Raw(b"5")])),
            Rerun(nodes=(node,)),
            Rerun(),
            Cancel(grace=chance.choice([0, 0, 500, 50_000])),
            Cancel(terminate=True),
        ]
    )


def go_on(it: Any, chance: random.Random) -> None:
    """One more step of an execution that has not ended: if nothing else is left, do what it waits for."""
    state = it.machine.state
    if it.open or it.machine.wake_at is not None:
        it.answer()
    elif state.paused:
        position = next(iter(state.paused))
        it.operate(Unpause(node="" if position < 0 else it.graph.nodes[position].id))
    else:
        (position, index), wait = next(iter(state.waits.items()))
        if wait.kind == "signal":
            it.operate(Signal(name=wait.name, payload=Raw(b"1")))
        else:
            who = "ada" if (position, index) not in state.decisions else f"p{chance.random()}"
            it.operate(Decide(author=who, node=wait.node, index=wait.index, approved=True))


def nothing_began_twice_without_a_reason(made: list[facts.Fact]) -> None:
    """Every attempt after the first follows one that is to be retried, or somebody's wish."""
    allowed: dict[tuple[str, int | None], int] = {}
    begun: set[tuple[str, int | None, int]] = set()
    for fact in made:
        match fact:
            case (
                facts.NodeStarted(node=node, index=index, attempt=attempt)
                | facts.NodeWaiting(node=node, index=index, attempt=attempt)
            ):
                assert (node, index, attempt) not in begun, f"attempt {attempt} of {node}[{index}] began twice"
                begun.add((node, index, attempt))
                assert allowed.get((node, index), 1) > 0, f"{node}[{index}] began again without a reason"
                allowed[node, index] = 0
            case facts.NodeFailed(retry_at=int()):
                allowed[fact.node, fact.index] = 1
            case facts.RerunRequested():
                again = {*fact.nodes, *fact.items}
                for unit in [unit for unit in allowed if unit[0] in again]:
                    allowed[unit] = 1


def dependencies_came_first(made: list[facts.Fact], graph: Graph) -> None:
    ended: set[str] = set()
    for fact in made:
        match fact:
            case facts.NodeStarted(node=node) | facts.NodeExpanded(node=node) | facts.NodeWaiting(node=node):
                plan = graph.nodes[graph.index[node]]
                missing = {graph.nodes[needed].id for needed in plan.dependencies} - ended
                assert not missing, f"{node} began before {missing}"
                if plan.exit:
                    assert {other.id for other in graph.nodes[: graph.main]} <= ended, f"{node} did not come last"
            case facts.NodeSucceeded(index=None) | facts.NodeSkipped() | facts.NodeCancelled():
                ended.add(fact.node)
            case facts.NodeFailed(index=None, retry_at=None) | facts.NodeOverridden():
                ended.add(fact.node)
            case facts.RerunRequested():
                ended -= {*fact.nodes, *fact.items}


def keys_of_effects_follow_their_rules(it: Any) -> None:
    """No attempt has a key that another one has, unless that one ended as `error`: then it has the very same."""
    generation: dict[tuple[str, int], int] = {}
    last: dict[tuple[str, int], tuple[int, str]] = {}
    """The generation of the last attempt of each unit, and how it ended."""
    for fact in it.facts:
        unit = (getattr(fact, "node", ""), -1 if (index := getattr(fact, "index", None)) is None else index)
        match fact:
            case facts.NodeStarted():
                before, end = last.get(unit, (-1, ""))
                now = generation.get(unit, 0)
                assert (now == before) is (end == "error"), f"{unit}: generation {now} after {before} ended as {end!r}"
                last[unit] = (now, "")
            case facts.NodeFailed() if unit in last:
                last[unit] = (last[unit][0], fact.conclusion)
                generation[unit] = generation.get(unit, 0) + (fact.conclusion == "fail")
            case facts.RerunRequested():
                again = {*fact.nodes, *fact.items}
                units = {(node, index) for node in again for index in range(-1, 12)}
                for unit in units | {unit for unit in last if unit[0] in again}:
                    generation[unit] = generation.get(unit, 0) + 1
                    last[unit] = (last.get(unit, (-1, ""))[0], "")
    for (node, index), expected in generation.items():
        position = it.graph.index[node]
        if (node, index) in last and last[node, index][0] >= 0:
            assert it.machine.state.generation_of(position, index) == expected


def lose_contact(it: Any, chance: random.Random) -> None:
    """The lease is over. Some attempts with effects wait still for their start to be committed."""
    runs = [(run.node, run.index, run.attempt) for run in it.open if isinstance(run, Run)]
    unbegun = frozenset(run for run in runs if chance.random() < 0.2)
    made = it.handle(ContactLost(at=it.now, unbegun=unbegun)).facts
    for node, index, attempt in (run for run in runs if run not in unbegun and not it.machine.ended):
        runs_on = it.machine.state.phase_of(node, index) == Phase.RUNNING
        assert not (runs_on and it.graph.nodes[node].cut_off and it.machine.state.attempt_of(node, index) == attempt)
    for fact in made:
        if isinstance(fact, facts.NodeFailed) and fact.error.type == "Orphaned":
            assert it.graph.nodes[it.graph.index[fact.node]].cut_off


@settings(max_examples=300)
@given(
    size=st.integers(1, 25),
    seed=st.integers(0, 2**32),
    failing=st.sampled_from([0.0, 0.1, 0.5]),
    operating=st.sampled_from([0.0, 0.05, 0.3]),
    crashing=st.sampled_from([0.0, 0.02, 0.1]),
    parting=st.sampled_from([0.0, 0.02, 0.2]),
)
@example(size=25, seed=1, failing=0.5, operating=0.3, crashing=0.1, parting=0.0)
@example(size=25, seed=2, failing=0.1, operating=0.05, crashing=0.02, parting=0.2)
def test_every_execution_ends_and_nothing_runs_without_a_reason(
    size: int,
    seed: int,
    failing: float,
    operating: float,
    crashing: float,
    parting: float,
    graph: Callable[..., Graph],
    world: Callable[..., Any],
) -> None:
    chance = random.Random(seed)
    spec = make_document(size, chance, hasty=True)
    spec["timeout"] = chance.choice([None, None, None, "5ms"])
    found = values_of(spec, chance)
    it = world(graph(**spec), verdict=scripted(seed, failing), values=found, chance=chance, hits=0.3)
    it.begin()
    inbox: dict[str, Operation] = {}
    for step in range(20_000):
        if it.machine.ended and chance.random() > operating:
            break
        if step < 400 and chance.random() < operating:
            inbox[f"c-{step}"] = random_operation(it, chance)
            it.operate(inbox[f"c-{step}"], f"c-{step}")
        if step < 400 and chance.random() < crashing:
            # Anything after a committed prefix may be lost. The inbox delivers again what no committed fact cites.
            it.crash(keep=chance.randint(0, len(it.facts)))
            for command, operation in inbox.items():
                it.operate(operation, command)
        if step < 400 and not it.machine.ended and chance.random() < operating / 10:
            it.give_up()
            it.operate(Rerun(nodes=chance.choice([(), (chance.choice(it.graph.nodes).id,)])), f"again-{step}")
        if step < 400 and chance.random() < parting:
            lose_contact(it, chance)
        if not it.machine.ended:
            go_on(it, chance)
    assert it.machine.ended, "the execution does not end"
    assert isinstance(it.facts[-1], (*facts.TERMINAL, facts.CommandRefused))
    nothing_began_twice_without_a_reason(it.facts)
    keys_of_effects_follow_their_rules(it)
    dependencies_came_first(it.facts, it.graph)
    cited = [fact.command for fact in it.facts if isinstance(fact, facts.Operation) and fact.command]
    assert len(cited) == len(set(cited)), "a command was carried out twice"


@settings(max_examples=150)
@given(
    size=st.integers(1, 30),
    seed=st.integers(0, 2**32),
    failing=st.sampled_from([0.0, 0.1, 0.5]),
    pausing=st.sampled_from([0.0, 0.2]),
    crashing=st.sampled_from([0.0, 0.05]),
)
def test_it_ends_as_a_plain_interpreter_says_however_often_it_is_paused_or_crashes(
    size: int,
    seed: int,
    failing: float,
    pausing: float,
    crashing: float,
    graph: Callable[..., Graph],
    world: Callable[..., Any],
) -> None:
    chance = random.Random(seed)
    spec = make_document(size, chance)
    spec["failure_policy"] = "continue"  # failing fast depends on what happens to come first
    for node in (*spec["nodes"], *spec["on_exit"]):
        node.pop("fail_after", None)
        node.pop("total_timeout", None)
        if node["executor"]["type"] == "python":
            node["executor"]["pure"] = True  # a crash would cost other ones an attempt
    found, verdict = values_of(spec, chance), scripted(seed, failing)
    it = world(graph(**spec), verdict=verdict, values=found, chance=chance)
    skipped = {chance.choice(spec["nodes"])["id"]: Raw(b"1") for _ in range(chance.choice([0, 0, 1]))}
    it.begin()
    skipped = {node: result for node, result in skipped.items() if _skip(it, node, result)}
    for step in range(20_000):
        if it.machine.ended:
            break
        if chance.random() < pausing:
            node = chance.choice(it.graph.nodes).id
            it.operate(chance.choice([Pause(), Pause(node=node), Unpause(), Unpause(node=node)]), f"c-{step}")
        if step and chance.random() < crashing:
            it.crash()
        if not it.machine.ended:
            go_on(it, chance)
    expected = interpret(spec, verdict, found, skipped)
    live = {node.id: Phase(it.machine.state.phase[node.position]).name.lower() for node in it.graph.nodes}
    assert live == {node: word.removesuffix(" upstream") for node, word in expected.items()}
    assert it.machine.state.status == ("failed" if "failed" in expected.values() else "succeeded")


def _skip(it: Any, node: str, result: Raw) -> bool:
    made = it.operate(Skip(node=node, result=result), "skip").facts
    return bool(made) and isinstance(made[0], facts.NodeOverridden)


@settings(max_examples=100)
@given(size=st.integers(1, 25), seed=st.integers(0, 2**32), crashing=st.booleans())
def test_after_a_retry_with_better_luck_it_is_as_if_it_had_had_it_at_first(
    size: int, seed: int, crashing: bool, graph: Callable[..., Graph], world: Callable[..., Any]
) -> None:
    chance = random.Random(seed)
    spec = make_document(size, chance)
    for node in (*spec["nodes"], *spec["on_exit"]):
        node.pop("when", None)
        node.pop("total_timeout", None)
        node["run_if"] = chance.choice(["all_succeeded", "all_succeeded", "any_failed"])
    found = {key: value for key, value in values_of(spec, chance).items() if key[0] == "foreach" and value != b"7"}
    luck = {"better": False}
    bad = scripted(seed, 0.5)
    it = world(
        graph(**spec),
        verdict=lambda *unit: "success" if luck["better"] else bad(*unit),
        values=found,
        chance=chance,
    )
    it.begin()
    while not it.machine.ended:
        go_on(it, chance)
    succeeded = {fact.node for fact in it.facts if isinstance(fact, facts.NodeSucceeded) and fact.index is None}
    kept = len(it.facts)
    luck["better"] = True
    it.operate(Rerun(author="ada", reason="the disk is back"), "again")
    if it.machine.state.status == "succeeded":
        assert isinstance(it.facts[-1], facts.CommandRefused)
        return
    if crashing:
        it.crash()
    while not it.machine.ended:
        go_on(it, chance)
    expected = interpret(spec, lambda *_: "success", found, {})
    live = {node.id: Phase(it.machine.state.phase[node.position]).name.lower() for node in it.graph.nodes}
    assert live == {node: word.removesuffix(" upstream") for node, word in expected.items()}
    assert it.machine.state.status == "succeeded"
    again = {fact.node for fact in it.facts[kept:] if isinstance(fact, facts.NodeStarted | facts.NodeWaiting)}
    for node in again & succeeded:  # only what something upstream of it has changed for, or what comes last
        plan = it.graph.nodes[it.graph.index[node]]
        upstream = {it.graph.nodes[other].id for other in it.graph.ancestors(plan.position)}
        assert plan.exit or upstream - succeeded, f"{node} had succeeded, and ran again"


def interpret(
    spec: dict[str, Any], verdict: Verdict, found: dict[tuple[str, str], bytes], given_results: dict[str, Raw]
) -> dict[str, str]:
    """What becomes of each node, worked out in order, one after the other. Waits get what they wait for."""
    outcome: dict[str, str] = {}

    def unit(node: dict[str, Any], index: int) -> bool:
        executor = node.get("executor", {})
        if executor.get("type") == "wait":
            return True
        if executor.get("args") and found.get(("args", node["id"])) == b"!":
            return False
        allowed = {kind: policy["max_attempts"] for kind, policy in node["retry"].items()}
        attempt = 1
        while (ended := verdict(node["id"], index, attempt)) != "success":
            allowed[ended] -= 1
            if not allowed[ended]:
                return False
            attempt += 1
        return True

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
            if value in (b"!", b"false"):
                return "failed" if value == b"!" else "skipped"
        if "foreach" not in node:
            return "succeeded" if unit(node, -1) else "failed"
        items = found.get(("foreach", node["id"]), b"[1,2]")
        if items == b"7":
            return "failed"
        count = 0 if items == b"[]" else items.count(b",") + 1
        return "succeeded" if all(unit(node, index) for index in range(count)) else "failed"

    for node in (*spec["nodes"], *spec["on_exit"]):
        outcome[node["id"]] = "succeeded" if node["id"] in given_results else decide(node)
    return outcome
