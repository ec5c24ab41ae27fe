"""The table of legal transitions: it is complete, the state obeys it, and what is illegal tells the node's story."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.machine.phases import FINAL, TRANSITIONS, Phase, column
from dagengine.machine.state import State

ERROR = ErrorInfo(type="Scripted", message="no such table")


def fact_of(kind: str, attempt: int) -> Any:
    """A fact of a row of the table, about node `n` after `attempt` attempts."""
    name = kind.partition(",")[0]
    failed = {"attempt": attempt, "conclusion": "fail", "error": ERROR}
    fields: dict[str, dict[str, Any]] = {
        "NodeExpanded": {"count": 1, "items": Raw(b"[1]")},
        "NodeQueued": {"pool": "db"},
        "NodeStarted": {"attempt": attempt + 1},
        "NodeWaiting": {"attempt": attempt + 1, "kind": "signal", "name": "go"},
        "NodeSucceeded": {"attempt": attempt, "result": Raw(b"1")},
        "NodeSucceeded, from the cache": {"attempt": attempt, "result": Raw(b"1"), "cached_from": "e-0"},
        "NodeOverridden, skipped": {},
        "NodeOverridden, with a result": {"result": Raw(b"1")},
        "NodeFailed, to be retried": failed | {"retry_at": 20},
        "NodeFailed": failed,
        "NodeSkipped": {"reason": "when_false"},
        "NodeCancelled": {"attempt": attempt},
    }
    return getattr(facts, name)(at=9, node="n", **fields[kind])


HISTORIES: dict[Phase, list[str]] = {
    Phase.PENDING: [],
    Phase.RUNNING: ["NodeStarted"],
    Phase.BACKOFF: ["NodeStarted", "NodeFailed, to be retried"],
    Phase.WAITING: ["NodeWaiting"],
    Phase.SUCCEEDED: ["NodeStarted", "NodeSucceeded"],
    Phase.FAILED: ["NodeStarted", "NodeFailed"],
    Phase.SKIPPED: ["NodeSkipped"],
    Phase.CANCELLED: ["NodeStarted", "NodeCancelled"],
}


@pytest.fixture
def state(graph):
    """A state that has begun; `n` has no dependencies, `after` waits for it, and `other` keeps the execution open."""
    made = State(graph([{"id": "n"}, {"id": "after", "dependencies": ["n"]}, {"id": "other"}]), "e-1")
    begin(made)
    return made


def begin(state: State, **changes: Any) -> None:
    fields = {"execution": "e-1", "digest": state.graph.digest} | changes
    state.apply(facts.ExecutionStarted(at=1, workflow="w", version="1.0.0", inputs=Raw(b"{}"), **fields))


def bring(state: State, phase: Phase) -> None:
    for kind in HISTORIES[phase]:
        state.apply(fact_of(kind, state.attempt[0]))
    assert state.phase[0] == phase


def refused(state: State, fact: Fact) -> str:
    with pytest.raises(MachineError) as caught:
        state.apply(fact)
    return str(caught.value)


def test_the_table_speaks_of_every_phase_and_of_every_fact_about_a_node() -> None:
    reached = {after for row in TRANSITIONS.values() for after in row.values()}
    assert reached | {Phase.PENDING} == set(Phase)
    operations = {facts.Paused, facts.Resumed, facts.Decided, facts.InputsEdited}
    about_nodes = {
        kind.__name__ for kind in facts.Fact.__args__ if "node" in kind.__struct_fields__ and kind not in operations
    }
    assert {kind.partition(",")[0] for kind in TRANSITIONS} == about_nodes


def test_nothing_follows_a_final_phase_and_something_every_other() -> None:
    before = {phase for row in TRANSITIONS.values() for phase in row}
    assert before == set(Phase) - FINAL


def test_every_phase_can_come_to_an_end() -> None:
    ends = set(FINAL)
    for _ in Phase:
        ends |= {before for row in TRANSITIONS.values() for before, after in row.items() if after in ends}
    assert ends == set(Phase)


@pytest.mark.parametrize("phase", list(Phase), ids=lambda phase: phase.name)
@pytest.mark.parametrize("kind", list(TRANSITIONS))
def test_the_state_obeys_the_table(state: State, kind: str, phase: Phase) -> None:
    bring(state, phase)
    fact = fact_of(kind, state.attempt[0])
    after = TRANSITIONS[kind].get(phase)
    if after is None:
        before = state.snapshot()
        message = refused(state, fact)
        assert f"{type(fact).__name__} " in message
        assert f"is illegal for n, which is {phase.name}" in message
        assert state.snapshot() == before
    else:
        state.apply(fact)
        assert state.phase[0] == after
        assert (after in FINAL) == (state.waiting[1] == 0)


def test_a_row_of_the_table_as_bytes() -> None:
    assert column("NodeStarted") == bytes([1, 255, 1, 255, 255, 255, 255, 255])


def test_an_illegal_fact_tells_the_execution_and_what_the_node_has_been_through(state: State) -> None:
    state.apply(fact_of("NodeStarted", 0))
    state.apply(fact_of("NodeFailed, to be retried", 1))
    assert refused(state, fact_of("NodeSucceeded", 1)) == (
        "execution e-1 (running, 3 facts): NodeSucceeded of attempt 1 is illegal for n, which is BACKOFF after "
        "attempt 1 (1 failed, 0 broke down; last: no such table)"
    )


def test_an_illegal_fact_tells_what_the_node_waits_for(state: State) -> None:
    assert refused(state, facts.NodeStarted(at=2, node="after")) == (
        "execution e-1 (running, 1 facts): NodeStarted of attempt 1 is illegal for after, "
        "which is PENDING (waits for n)"
    )


def test_a_story_names_a_few_of_many_open_dependencies(graph) -> None:
    many = [{"id": f"d{number}"} for number in range(9)]
    state = State(graph([*many, {"id": "last", "dependencies": [node["id"] for node in many]}]), "e-1")
    begin(state)
    assert refused(state, facts.NodeStarted(at=2, node="last")).endswith("(waits for d0, d1, d2, d3, d4, …)")


@pytest.mark.parametrize(
    "fact",
    [
        facts.NodeExpanded(at=2, node="after", count=0, items=Raw(b"[]")),
        facts.NodeFailed(at=2, node="after", conclusion="fail", error=ERROR),
        facts.NodeSkipped(at=2, node="after", reason="when_false"),
    ],
    ids=lambda fact: type(fact).__name__,
)
def test_nothing_is_decided_about_a_node_before_its_dependencies_have_ended(state: State, fact: Fact) -> None:
    assert "which is PENDING (waits for n)" in refused(state, fact)


def test_a_node_is_skipped_before_its_dependencies_have_ended_when_it_is_cancelled(state: State) -> None:
    state.apply(facts.NodeSkipped(at=2, node="after", reason="cancelled"))
    assert state.phase[1] == Phase.SKIPPED


@pytest.mark.parametrize("kind", ["NodeStarted", "NodeSucceeded", "NodeFailed", "NodeCancelled"])
def test_attempts_are_counted_without_gaps_and_ended_by_their_own_facts(state: State, kind: str) -> None:
    bring(state, Phase.PENDING if kind == "NodeStarted" else Phase.RUNNING)
    assert "of attempt 5 is illegal for n" in refused(state, fact_of(kind, 4 if kind == "NodeStarted" else 5))


def test_a_node_succeeds_with_a_result(state: State) -> None:
    bring(state, Phase.RUNNING)
    assert "which is RUNNING" in refused(state, facts.NodeSucceeded(at=9, node="n", attempt=1))


@pytest.mark.parametrize(
    "fact",
    [
        facts.NodeStarted(at=9, node="elsewhere"),
        facts.NodeSucceeded(at=9, node="elsewhere", result=Raw(b"1")),
        facts.NodeFailed(at=9, node="elsewhere", conclusion="fail", error=ERROR),
        facts.NodeSkipped(at=9, node="elsewhere", reason="run_if"),
        facts.NodeCancelled(at=9, node="elsewhere"),
        facts.NodeExpanded(at=9, node="elsewhere", count=0, items=Raw(b"[]")),
    ],
    ids=lambda fact: type(fact).__name__,
)
def test_a_fact_about_a_node_that_there_is_not_is_refused(state: State, fact: Fact) -> None:
    assert f"{type(fact).__name__} is about 'elsewhere', which the workflow does not have" in refused(state, fact)


@pytest.mark.parametrize("index", [0, 7, -1])
def test_a_fact_about_an_item_of_a_node_without_items_is_refused(state: State, index: int) -> None:
    bring(state, Phase.RUNNING)
    fact = facts.NodeSucceeded(at=9, node="n", index=index, result=Raw(b"1"))
    assert f"is illegal for n[{index}], an item that there is not (n has no items)" in refused(state, fact)


class TestItems:
    @pytest.fixture
    def state(self, state: State) -> State:
        state.apply(facts.NodeExpanded(at=2, node="n", count=2, items=Raw(b"[10,20]")))
        state.apply(facts.NodeStarted(at=3, node="n", index=0))
        return state

    @pytest.mark.parametrize("index", [2, -1])
    def test_one_that_there_is_not(self, state: State, index: int) -> None:
        message = refused(state, facts.NodeStarted(at=9, node="n", index=index))
        assert f"n[{index}], an item that there is not (n is RUNNING, 2 of its 2 items have not ended)" in message

    def test_one_that_has_not_started_cannot_succeed(self, state: State) -> None:
        fact = facts.NodeSucceeded(at=9, node="n", index=1, result=Raw(b"1"))
        assert "is illegal for n[1], which is PENDING (n is RUNNING, 2 of its 2" in refused(state, fact)

    def test_one_that_has_started_cannot_start(self, state: State) -> None:
        assert "for n[0], which is RUNNING after attempt 1" in refused(
            state, facts.NodeStarted(at=9, node="n", index=0)
        )

    def test_the_node_does_not_end_before_them(self, state: State) -> None:
        assert "is illegal for n, which is RUNNING" in refused(state, facts.NodeSucceeded(at=9, node="n"))
        failed = facts.NodeFailed(at=9, node="n", conclusion="fail", error=ERROR)
        assert "is illegal for n, which is RUNNING" in refused(state, failed)

    def test_the_node_does_not_succeed_when_one_failed(self, state: State) -> None:
        state.apply(facts.NodeSucceeded(at=4, node="n", index=0, result=Raw(b"1")))
        state.apply(facts.NodeFailed(at=4, node="n", index=1, conclusion="fail", error=ERROR))
        assert "is illegal for n, which is RUNNING" in refused(state, facts.NodeSucceeded(at=9, node="n"))
        state.apply(facts.NodeFailed(at=9, node="n", conclusion="fail", error=ERROR))
        assert state.phase[0] == Phase.FAILED

    def test_the_node_as_a_whole_is_not_retried(self, state: State) -> None:
        state.apply(facts.NodeSucceeded(at=4, node="n", index=0, result=Raw(b"1")))
        state.apply(facts.NodeFailed(at=4, node="n", index=1, conclusion="fail", error=ERROR))
        fact = facts.NodeFailed(at=9, node="n", conclusion="fail", error=ERROR, retry_at=20)
        assert "is illegal for n, which is RUNNING" in refused(state, fact)

    def test_nothing_happens_to_them_after_their_node_was_cancelled(self, state: State) -> None:
        state.apply(facts.NodeCancelled(at=4, node="n"))
        fact = facts.NodeSucceeded(at=9, node="n", index=0, result=Raw(b"1"))
        assert "for n[0], which is RUNNING after attempt 1 (n is CANCELLED" in refused(state, fact)

    @pytest.mark.parametrize("fact", [facts.NodeSkipped, facts.NodeCancelled], ids=lambda kind: kind.__name__)
    def test_they_are_neither_skipped_nor_cancelled_by_themselves(self, state: State, fact: Any) -> None:
        reason = {"reason": "run_if"} if fact is facts.NodeSkipped else {}
        assert "is illegal for n[1]" in refused(state, fact(at=9, node="n", index=1, **reason))


@pytest.mark.parametrize(
    ("count", "items", "message"),
    [
        (3, b"[1,2]", "NodeExpanded of n: its count is 3, but it holds 2 items"),
        (2, b'{"a":1}', "NodeExpanded of n: its count is 2, but it holds 1 items"),
        (1, b"7", "NodeExpanded of n: its items are neither a list nor an object: Expected `array`, got `int`"),
        (1, b"[1", "NodeExpanded of n: its items are neither a list nor an object: Input data was truncated"),
    ],
)
def test_an_expansion_that_is_not_of_its_count_is_refused(state: State, count: int, items: bytes, message: str) -> None:
    assert message in refused(state, facts.NodeExpanded(at=2, node="n", count=count, items=Raw(items)))


class TestTheExecution:
    def test_it_begins_with_its_start(self, graph) -> None:
        state = State(graph([{"id": "n"}]), "e-1")
        message = refused(state, facts.NodeStarted(at=1, node="n"))
        assert message == "execution e-1 (new, 0 facts): NodeStarted cannot follow"

    def test_it_starts_once(self, state: State) -> None:
        with pytest.raises(MachineError, match="it has started already"):
            begin(state)

    def test_a_journal_of_another_execution_is_refused(self, graph) -> None:
        with pytest.raises(MachineError, match=r"e-1 \(new, 0 facts\): the journal is of execution e-2"):
            begin(State(graph([{"id": "n"}]), "e-1"), execution="e-2")

    def test_a_journal_of_another_workflow_is_refused(self, graph) -> None:
        with pytest.raises(MachineError, match="the journal is of sha256:0, the graph of sha256:"):
            begin(State(graph([{"id": "n"}]), "e-1"), digest="sha256:0")

    def test_time_does_not_go_backwards(self, state: State) -> None:
        state.apply(facts.NodeStarted(at=9, node="n"))
        message = refused(state, facts.NodeStarted(at=8, node="other"))
        assert message == "execution e-1 (running, 2 facts): NodeStarted at 8 lies before 9"

    @pytest.mark.parametrize(
        "fact",
        [
            facts.ExecutionSucceeded(at=9, outputs=Raw(b"{}")),
            facts.ExecutionFailed(at=9, error=ERROR),
        ],
        ids=lambda fact: type(fact).__name__,
    )
    def test_it_does_not_end_before_its_nodes(self, state: State, fact: Fact) -> None:
        assert f"{type(fact).__name__} while 3 nodes have not ended" in refused(state, fact)

    def test_it_is_not_cancelled_unless_somebody_asked_for_it(self, state: State) -> None:
        assert "nobody asked for it" in refused(state, facts.ExecutionCancelled(at=9))

    def test_it_does_not_succeed_with_a_failed_node(self, state: State) -> None:
        bring(state, Phase.FAILED)
        for node in ("after", "other"):
            state.apply(facts.NodeSkipped(at=9, node=node, reason="run_if"))
        message = refused(state, facts.ExecutionSucceeded(at=9, outputs=Raw(b"{}")))
        assert "nodes failed, or it was cancelled" in message

    def test_nothing_follows_its_end(self, state: State) -> None:
        for node in ("n", "after", "other"):
            state.apply(facts.NodeSkipped(at=9, node=node, reason="run_if"))
        state.apply(facts.ExecutionSucceeded(at=9, outputs=Raw(b"{}")))
        message = refused(state, facts.CancelRequested(at=9))
        assert message == "execution e-1 (succeeded, 5 facts): CancelRequested cannot follow"
