"""How an execution ends: its status, its outputs, its error. And: time comes as data and never goes backwards."""

from __future__ import annotations

import json

import pytest

from dagengine.events import facts
from dagengine.machine.operations import Cancel
from dagengine.machine.stimuli import AttemptEnded, Operate, TimePassed


def test_without_declared_outputs_they_are_the_results_of_the_last_nodes(hand) -> None:
    it = hand([{"id": "a"}, {"id": "b-1", "dependencies": ["a"]}, {"id": "c", "dependencies": ["a"]}])
    it.begin()
    it.end("a", result=b'"not mine"')
    it.end("c", result=b"[1]")
    (_, last) = it.end("b-1", result=b'{"x":null}')
    assert bytes(last.outputs) == b'{"b-1":{"x":null},"c":[1]}'


def test_a_last_node_that_was_skipped_is_absent_from_them(hand) -> None:
    it = hand([{"id": "a", "when": "inputs.go"}, {"id": "b"}])
    it.begin()
    it.evaluated("when", "a", b"false")
    (_, last) = it.end("b", result=b"2")
    assert bytes(last.outputs) == b'{"b":2}'


def test_without_any_result_they_are_an_empty_object(hand) -> None:
    it = hand([{"id": "a", "when": "inputs.go"}])
    it.begin()
    (_, last) = it.evaluated("when", "a", b"false")
    assert bytes(last.outputs) == b"{}"


def test_a_last_node_with_items_gives_their_list(hand) -> None:
    it = hand([{"id": "a", "foreach": "inputs.list"}])
    it.begin()
    it.evaluated("foreach", "a", b"[1,2]")
    it.end("a", index=1, result=b"20")
    (*_, last) = it.end("a", index=0, result=b"10")
    assert json.loads(bytes(last.outputs)) == {"a": [10, 20]}


class TestDeclaredOutputs:
    @pytest.fixture
    def it(self, hand):
        it = hand([{"id": "a"}], outputs={"x": "{{ nodes.a }}"})
        it.begin()
        return it

    def test_they_are_evaluated_when_all_nodes_have_ended(self, it, kinds) -> None:
        assert kinds(it.end("a")) == ["NodeSucceeded a"]
        assert it.commands == ["evaluate outputs"]
        assert it.state.status == "running"
        (last,) = it.evaluated("outputs", value=b'{"x":1}')
        assert bytes(last.outputs) == b'{"x":1}'
        assert it.state.status == "succeeded"

    def test_they_are_asked_for_once(self, it) -> None:
        it.end("a")
        it.handle(TimePassed(at=it.now))
        assert it.commands == []

    def test_the_execution_fails_when_they_cannot_be_evaluated(self, it) -> None:
        it.end("a")
        (last,) = it.evaluated("outputs", value=b"!")
        assert isinstance(last, facts.ExecutionFailed)
        assert last.error.message == "the outputs cannot be evaluated: attempt to index nil"
        assert (last.error.type, last.error.line) == ("LuaError", 1)
        assert it.state.status == "failed"

    def test_they_are_not_evaluated_when_a_node_failed(self, it, kinds) -> None:
        assert kinds(it.end("a", "fail")) == ["NodeFailed a", "ExecutionFailed"]
        assert it.commands == []


def test_the_error_of_an_execution_names_the_first_failed_node_of_the_document_and_counts_the_others(hand) -> None:
    it = hand([{"id": "a"}, {"id": "b"}, {"id": "c"}])
    it.begin()
    it.end("c", "fail")
    it.end("b", "fail")
    (_, last) = it.end("a")
    assert last.error.message == "node 'b' failed: b says fail (and 1 more)"
    assert last.error.type == "NodeFailed"


def test_after_the_last_fact_nothing_happens_any_more(hand) -> None:
    it = hand([{"id": "a"}])
    it.begin()
    it.end("a")
    assert it.machine.ended
    assert it.handle(TimePassed(at=it.now + 1)) == []
    assert it.end("a", "fail", attempt=1) == []
    assert it.cancel() == []


class TestTime:
    def test_a_stimulus_from_before_counts_as_now(self, hand) -> None:
        it = hand([{"id": "a"}, {"id": "b"}])
        it.now = 5_000
        it.begin()
        (succeeded,) = it.handle(AttemptEnded(4_000, 0, -1, 1, "success", b"1", None, 5))
        assert succeeded.at == 5_000
        requested, *_ = it.handle(Operate(at=1, operation=Cancel()))
        assert requested.at == 5_000

    def test_retries_count_from_the_time_that_counts(self, hand) -> None:
        wait = {"fail": {"max_attempts": 2, "backoff": {"initial": "1s", "jitter": 0}}}
        it = hand([{"id": "a", "retry": wait}])
        it.now = 5_000
        it.begin()
        (failed,) = it.handle(AttemptEnded(0, 0, -1, 1, "fail", b"null", None, 5))
        assert failed.retry_at == 5_000 + 1_000_000

    def test_time_of_the_past_makes_nothing_due(self, hand) -> None:
        it = hand([{"id": "a", "retry": {"fail": {"max_attempts": 2}}}])
        it.begin()
        it.end("a", "fail")
        assert it.handle(TimePassed(at=0)) == []

    def test_the_facts_of_a_journal_never_go_backwards(self, hand) -> None:
        it = hand([{"id": f"n{number}"} for number in range(20)])
        it.begin()
        for number in range(20):
            it.now += 100 if number % 2 else -80
            it.end(f"n{number}")
        times = [fact.at for fact in it.world.facts]
        assert times == sorted(times)
