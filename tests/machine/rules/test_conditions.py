"""`run_if` and `when`: which nodes run, and which reason those have that do not."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from dagengine.events import facts

UPSTREAM = {
    "ok": {"succeed": 1},
    "failed": {"fail": 1},
    "skipped": {"skip": 1},
    "below a failure": {"below": 1},
    "ok + failed": {"succeed": 1, "fail": 1},
    "ok + skipped": {"succeed": 1, "skip": 1},
    "failed + skipped": {"fail": 1, "skip": 1},
    "none": {},
}

# What becomes of a node with this `run_if` when its dependencies end so: `runs`, or the reason why it is skipped.
EXPECTED = {
    "all_succeeded": {
        "ok": "runs",
        "failed": "upstream_failed",
        "skipped": "upstream_skipped",
        "below a failure": "upstream_failed",
        "ok + failed": "upstream_failed",
        "ok + skipped": "upstream_skipped",
        "failed + skipped": "upstream_failed",
        "none": "runs",
    },
    "none_failed": {
        "ok": "runs",
        "failed": "upstream_failed",
        "skipped": "runs",
        "below a failure": "upstream_failed",
        "ok + failed": "upstream_failed",
        "ok + skipped": "runs",
        "failed + skipped": "upstream_failed",
        "none": "runs",
    },
    "any_succeeded": {
        "ok": "runs",
        "failed": "upstream_failed",
        "skipped": "run_if",
        "below a failure": "upstream_failed",
        "ok + failed": "runs",
        "ok + skipped": "runs",
        "failed + skipped": "upstream_failed",
        "none": "runs",
    },
    "any_failed": {
        "ok": "run_if",
        "failed": "runs",
        "skipped": "run_if",
        "below a failure": "runs",
        "ok + failed": "runs",
        "ok + skipped": "run_if",
        "failed + skipped": "runs",
        "none": "run_if",
    },
    "all_done": dict.fromkeys(UPSTREAM, "runs"),
    "always": dict.fromkeys(UPSTREAM, "runs"),
}


@pytest.mark.parametrize("upstream", list(UPSTREAM))
@pytest.mark.parametrize("run_if", list(EXPECTED))
def test_run_if(hand, run_if: str, upstream: str) -> None:
    kinds = UPSTREAM[upstream]
    nodes: dict[str, dict[str, Any]] = {
        "succeed": {"id": "succeed"},
        "fail": {"id": "fail"},
        "skip": {"id": "skip", "when": "inputs.no"},
        "below": {"id": "below", "dependencies": ["broken"]},
    }
    chosen = [nodes[kind] for kind in kinds]
    broken = [{"id": "broken"}] if "below" in kinds else []
    last = {"id": "last", "run_if": run_if, "dependencies": [node["id"] for node in chosen]}
    it = hand([*broken, *chosen, last])
    made = it.begin()
    if broken:
        made += it.end("broken", "fail")
    if "succeed" in kinds:
        made += it.end("succeed")
    if "skip" in kinds:
        made += it.evaluated("when", "skip", b"false")
    if "fail" in kinds:
        made += it.end("fail", "fail")
    (verdict,) = [fact for fact in made if getattr(fact, "node", "") == "last"]
    found = "runs" if isinstance(verdict, facts.NodeStarted) else verdict.reason
    assert found == EXPECTED[run_if][upstream]


def skipped(made: list[Any], node: str) -> facts.NodeSkipped:
    (fact,) = [fact for fact in made if isinstance(fact, facts.NodeSkipped) and fact.node == node]
    return fact


def test_a_skip_names_the_dependencies_that_decided_it(hand) -> None:
    it = hand([{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "last", "dependencies": ["a", "b", "c"]}])
    it.begin()
    it.end("a", "fail")
    it.end("b")
    fact = skipped(it.end("c", "fail"), "last")
    assert (fact.reason, fact.because) == ("upstream_failed", ("a", "c"))


def test_a_skip_names_five_dependencies_at_most(hand) -> None:
    names = [f"n{number}" for number in range(8)]
    it = hand([*({"id": name} for name in names), {"id": "last", "dependencies": names}])
    it.begin()
    made = [fact for name in names for fact in it.end(name, "fail")]
    assert skipped(made, "last").because == ("n0", "n1", "n2", "n3", "n4")


def test_a_failure_is_passed_down_a_chain_in_one_step(hand, kinds) -> None:
    it = hand([{"id": "a"}, *({"id": f"n{i}", "dependencies": [f"n{i - 1}" if i else "a"]} for i in range(50))])
    it.begin()
    made = it.end("a", "fail")
    assert kinds(made) == ["NodeFailed a", *(f"NodeSkipped n{i}" for i in range(50)), "ExecutionFailed"]
    assert {fact.reason for fact in made[1:-1]} == {"upstream_failed"}


def test_a_node_that_waits_for_a_failure_is_skipped_when_all_went_well(hand) -> None:
    it = hand([{"id": "a"}, {"id": "alarm", "dependencies": ["a"], "run_if": "any_failed"}])
    it.begin()
    fact = skipped(it.end("a"), "alarm")
    assert (fact.reason, fact.because) == ("run_if", ())
    assert it.state.status == "succeeded"


def test_a_failure_that_was_dealt_with_further_down_fails_the_execution_all_the_same(hand) -> None:
    it = hand([{"id": "a"}, {"id": "alarm", "dependencies": ["a"], "run_if": "any_failed"}])
    it.begin()
    it.end("a", "fail")
    (_, last) = it.end("alarm")
    assert last.error.message == "node 'a' failed: a says fail"


class TestWhen:
    @pytest.fixture
    def it(self, hand):
        it = hand([{"id": "a", "when": "inputs.go"}, {"id": "b", "dependencies": ["a"]}])
        it.begin()
        return it

    def test_it_is_evaluated_before_anything_else(self, it, kinds) -> None:
        assert it.commands == ["evaluate when a"]
        assert it.phases["a"] == "pending"

    @pytest.mark.parametrize("value", [b"false", b"null"])
    def test_false_and_nil_skip_the_node(self, it, value: bytes) -> None:
        made = it.evaluated("when", "a", value)
        assert skipped(made, "a").reason == "when_false"
        assert (skipped(made, "b").reason, skipped(made, "b").because) == ("upstream_skipped", ("a",))
        assert it.state.status == "succeeded"

    @pytest.mark.parametrize("value", [b"true", b"0", b'""', b"{}", b"[]", b'"false"'])
    def test_everything_else_is_true_as_in_lua(self, it, value: bytes) -> None:
        it.evaluated("when", "a", value)
        assert it.commands == ["run a 1"]

    def test_an_expression_that_cannot_be_evaluated_fails_the_node_before_its_first_attempt(self, it) -> None:
        (failed, *_) = it.evaluated("when", "a", b"!")
        assert (failed.attempt, failed.conclusion, failed.retry_at) == (0, "fail", None)
        assert failed.error.message == "attempt to index nil"

    def test_an_answer_nobody_asked_for_changes_nothing(self, it) -> None:
        assert it.evaluated("when", "b", b"true") == []
        it.evaluated("when", "a", b"true")
        assert it.evaluated("when", "a", b"false") == []

    def test_it_is_not_evaluated_for_a_node_that_will_not_run(self, hand) -> None:
        it = hand([{"id": "a"}, {"id": "b", "dependencies": ["a"], "when": "nodes.a.x.y"}])
        it.begin()
        it.end("a", "fail")
        assert it.commands == []
        assert it.phases["b"] == "skipped"

    def test_it_is_evaluated_once_for_all_attempts(self, hand) -> None:
        it = hand([{"id": "a", "when": "inputs.go", "retry": {"fail": {"max_attempts": 2}}}])
        it.begin()
        it.evaluated("when", "a", b"true")
        (failed,) = it.end("a", "fail")
        it.pass_time(failed.retry_at - it.now)
        assert it.commands == ["run a 2"]


class TestArguments:
    NODE: ClassVar = {"id": "a", "executor": {"type": "python", "function": "f", "args": {"x": "{{ inputs.x }}"}}}

    def test_they_are_evaluated_before_the_start_and_kept_in_it(self, hand) -> None:
        it = hand([self.NODE])
        it.begin()
        assert it.commands == ["evaluate args a"]
        (started,) = it.evaluated("args", "a", b'{"x":1}')
        assert bytes(started.args) == b'{"x":1}'
        assert it.commands == ["run a 1"]

    def test_they_stay_the_same_for_all_attempts(self, hand) -> None:
        it = hand([self.NODE | {"retry": {"fail": {"max_attempts": 2}}}])
        it.begin()
        it.evaluated("args", "a", b'{"x":1}')
        (failed,) = it.end("a", "fail")
        (started,) = it.pass_time(failed.retry_at - it.now)
        assert bytes(started.args) == b'{"x":1}'

    def test_when_comes_first(self, hand) -> None:
        it = hand([self.NODE | {"when": "inputs.go"}])
        it.begin()
        assert it.commands == ["evaluate when a"]
        it.evaluated("when", "a", b"true")
        assert it.commands == ["evaluate args a"]

    def test_when_they_cannot_be_evaluated_the_node_fails(self, hand) -> None:
        it = hand([self.NODE | {"retry": {"fail": {"max_attempts": 5}}}])
        it.begin()
        (failed, _) = it.evaluated("args", "a", b"!")
        assert (failed.attempt, failed.retry_at) == (0, None)
