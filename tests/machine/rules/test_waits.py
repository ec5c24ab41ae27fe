"""`wait` nodes: for a time, a signal, an approval."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from dagengine.events import facts
from dagengine.machine.operations import Decide, Signal

SECOND = 1_000_000


def waiting(id: str = "a", *, retry: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    node = {"id": id, "executor": {"type": "wait", **fields}}
    return node if retry is None else node | {"retry": retry}


ONCE_MORE = {"fail": {"max_attempts": 2, "backoff": {"initial": "1s", "jitter": 0}}}


class TestTimes:
    def test_a_duration_counts_from_its_beginning(self, hand, kinds) -> None:
        it = hand([waiting(duration="5s"), {"id": "b", "dependencies": ["a"]}])
        began = it.now
        assert kinds(it.begin()) == ["ExecutionStarted", "NodeWaiting a"]
        assert it.facts[1].until == began + 5 * SECOND
        assert it.commands == []
        assert kinds(it.pass_time(5 * SECOND)) == ["NodeSucceeded a", "NodeStarted b"]
        assert it.state.result(0) == b"null"
        assert it.facts[0].elapsed == 5 * SECOND

    def test_a_time_that_has_passed_ends_the_wait_at_once(self, hand, kinds) -> None:
        it = hand([waiting(until="1970-01-01T00:00:00Z")])
        assert kinds(it.begin())[1:] == ["NodeWaiting a", "NodeSucceeded a", "ExecutionSucceeded"]

    def test_a_time_may_be_worked_out(self, hand) -> None:
        it = hand([waiting(until="{{ inputs.at }}")])
        it.begin()
        assert it.commands == ["evaluate args a"]
        it.evaluated("args", "a", b'{"until":"1970-01-01T00:01:00Z"}')
        assert it.machine.wake_at == 60 * SECOND

    def test_what_is_no_time_fails_the_node_before_any_attempt(self, hand) -> None:
        it = hand([waiting(until="{{ inputs.at }}", retry=ONCE_MORE)])
        it.begin()
        failed, _ = it.evaluated("args", "a", b'{"until":"soon"}')
        assert (failed.attempt, failed.error.type, failed.retry_at) == (0, "WaitError", None)


class TestSignals:
    def test_the_payload_is_the_result(self, hand, kinds) -> None:
        it = hand([waiting(signal={"name": "go"})])
        it.begin()
        made = it.operate(Signal(name="go", payload=Raw(b'{"n":1}')))
        assert kinds(made) == ["Signalled", "NodeSucceeded a", "ExecutionSucceeded"]
        assert it.state.result(0) == b'{"n":1}'

    def test_one_signal_is_for_the_one_node_that_has_waited_longest(self, hand) -> None:
        it = hand([waiting("a", signal={"name": "go"}), waiting("b", signal={"name": "go"})])
        it.begin()
        it.operate(Signal(name="go"))
        assert it.phases == {"a": "succeeded", "b": "waiting"}

    def test_signals_are_kept_in_the_order_in_which_they_came(self, hand) -> None:
        later = waiting("b", signal={"name": "go"}) | {"dependencies": ["a"]}
        it = hand([waiting("a", signal={"name": "go"}), later])
        it.begin()
        for payload in (b"1", b"2", b"3"):
            it.operate(Signal(name="go", payload=Raw(payload)))
        assert [it.state.result(0), it.state.result(1)] == [b"1", b"2"]

    def test_signals_that_nobody_waits_for_are_kept_in_order_too(self, hand) -> None:
        late = [waiting(id, signal={"name": "go"}) | {"dependencies": ["first"]} for id in ("a", "b")]
        it = hand([{"id": "first"}, *late, {"id": "last"}])
        it.begin()
        for payload in (b"1", b"2", b"3"):
            it.operate(Signal(name="go", payload=Raw(payload)))
        it.end("first")
        assert [it.state.result(1), it.state.result(2)] == [b"1", b"2"]
        assert [bytes(kept.payload) for kept in it.state.signals["go"]] == [b"3"]

    def test_a_name_that_no_node_can_wait_for_is_refused(self, hand) -> None:
        it = hand([waiting(signal={"name": "go"})])
        it.begin()
        (refused,) = it.operate(Signal(name="stop"))
        assert refused.why == "no node waits for a signal 'stop'; there are: go"

    def test_any_name_is_taken_where_names_are_worked_out(self, hand) -> None:
        it = hand([waiting(signal={"name": "go-{{ inputs.n }}"})])
        it.begin()
        it.operate(Signal(name="go-7"))
        it.evaluated("args", "a", b'{"signal":"go-7"}')
        assert it.phases == {"a": "succeeded"}

    def test_a_name_must_be_a_text(self, hand) -> None:
        it = hand([waiting(signal={"name": "{{ inputs.n }}"})])
        it.begin()
        it.evaluated("args", "a", b'{"signal":7}')
        assert it.facts[0].error.message == "the name of a signal must be a text, got 7"

    def test_nothing_in_time_fails_without_a_default(self, hand) -> None:
        it = hand([waiting(signal={"name": "go", "timeout": "2s"})])
        it.begin()
        failed, _ = it.pass_time(2 * SECOND)
        assert (failed.conclusion, failed.error.type) == ("fail", "WaitTimeout")
        assert failed.error.message == "no signal 'go' came within 2s"

    def test_nothing_in_time_is_the_default(self, hand) -> None:
        it = hand([waiting(signal={"name": "go", "timeout": "2s", "default": False})])
        it.begin()
        it.pass_time(2 * SECOND)
        assert it.state.result(0) == b"false"

    def test_a_wait_that_is_tried_again_has_its_name_worked_out_again(self, hand) -> None:
        it = hand([waiting(signal={"name": "go-{{ inputs.n }}", "timeout": "1s"}, retry=ONCE_MORE)])
        it.begin()
        it.evaluated("args", "a", b'{"signal":"go-7"}')
        it.pass_time(SECOND)
        it.pass_time(SECOND)
        assert it.commands == ["evaluate args a"]
        (again,) = it.evaluated("args", "a", b'{"signal":"go-7"}')
        assert (again.attempt, again.name) == (2, "go-7")

    def test_a_wait_that_is_tried_again_goes_on_after_a_crash(self, hand) -> None:
        it = hand([waiting(signal={"name": "go-{{ inputs.n }}", "timeout": "1s"}, retry=ONCE_MORE)])
        it.begin()
        it.evaluated("args", "a", b'{"signal":"go-7"}')
        it.pass_time(SECOND)
        it.pass_time(SECOND)
        it.crash()
        it.pass_time(0)
        assert it.commands == ["evaluate args a"]

    def test_a_signal_that_was_committed_without_what_follows_is_taken_after_a_crash(self, hand, kinds) -> None:
        it = hand([waiting(signal={"name": "go"})])
        it.begin()
        it.operate(Signal(name="go"))
        assert kinds(it.crash(keep=3)) == ["NodeSucceeded a", "ExecutionSucceeded"]


class TestApprovals:
    def test_so_many_must_approve(self, hand, kinds) -> None:
        it = hand([waiting(approval={"quorum": 2})])
        it.begin()
        assert kinds(it.operate(Decide(node="a", approved=True, author="ada", reason="fine"))) == ["Decided a"]
        made = it.operate(Decide(node="a", approved=True, author="grace"))
        assert kinds(made) == ["Decided a", "NodeSucceeded a", "ExecutionSucceeded"]
        by = b'[{"author":"ada","reason":"fine"},{"author":"grace","reason":""}]'
        assert it.state.result(0) == b'{"approved":true,"by":' + by + b"}"

    @pytest.mark.parametrize(
        ("author", "why"),
        [
            ("eve", "'eve' may not decide about 'a'; these may: ada, grace"),
            ("ada", "'ada' has decided about 'a' already"),
        ],
    )
    def test_others_and_the_same_twice_are_refused(self, hand, author: str, why: str) -> None:
        it = hand([waiting(approval={"who": ["ada", "grace"], "quorum": 2})])
        it.begin()
        it.operate(Decide(node="a", approved=True, author="ada"))
        (refused,) = it.operate(Decide(node="a", approved=True, author=author))
        assert isinstance(refused, facts.CommandRefused)
        assert refused.why == why

    def test_one_rejection_fails_it(self, hand) -> None:
        it = hand([waiting(approval={"quorum": 2})])
        it.begin()
        _, failed, _ = it.operate(Decide(node="a", approved=False, author="ada", reason="too early"))
        assert (failed.conclusion, failed.error.type) == ("fail", "Rejected")
        assert failed.error.message == "ada rejected it: too early"

    def test_decisions_count_for_one_attempt(self, hand) -> None:
        it = hand([waiting(approval={"quorum": 2, "timeout": "1s"}, retry=ONCE_MORE)])
        it.begin()
        it.operate(Decide(node="a", approved=True, author="ada"))
        it.pass_time(SECOND)
        assert it.phases == {"a": "backoff"}
        it.pass_time(SECOND)
        it.operate(Decide(node="a", approved=True, author="ada"))
        assert it.phases == {"a": "waiting"}

    @pytest.mark.parametrize(
        ("default", "phase", "error"),
        [("approve", "succeeded", ""), ("reject", "failed", "Rejected"), (None, "failed", "WaitTimeout")],
    )
    def test_when_too_few_decide_in_time(self, hand, default: str | None, phase: str, error: str) -> None:
        it = hand([waiting(approval={"quorum": 2, "timeout": "1s", "default": default})])
        it.begin()
        it.operate(Decide(node="a", approved=True, author="ada"))
        ended, _ = it.pass_time(SECOND)
        assert it.phases == {"a": phase}
        assert (ended.error.type if error else "") == error

    def test_items_are_decided_about_one_by_one(self, hand) -> None:
        it = hand([waiting(approval={}) | {"foreach": "inputs.list"}])
        it.begin()
        it.evaluated("foreach", "a", b"[1,2]")
        it.operate(Decide(node="a", index=1, approved=True, author="ada"))
        assert (it.phase("a", 0), it.phase("a", 1)) == ("waiting", "succeeded")
        (refused,) = it.operate(Decide(node="a", index=5, approved=True, author="ada"))
        assert "an item that there is not" in refused.why

    def test_a_decision_that_was_committed_without_what_follows_counts_after_a_crash(self, hand, kinds) -> None:
        it = hand([waiting(approval={})])
        it.begin()
        it.operate(Decide(node="a", approved=True, author="ada"))
        assert kinds(it.crash(keep=3)) == ["NodeSucceeded a", "ExecutionSucceeded"]


@pytest.mark.parametrize("timeout", [None, "1s"])
def test_a_rejection_is_not_tried_again_whatever_the_policy_grants(hand, timeout: str | None) -> None:
    it = hand([waiting(approval={"timeout": timeout, "default": "reject"}, retry=ONCE_MORE)])
    it.begin()
    rejected, _ = it.pass_time(SECOND) if timeout else it.operate(Decide(node="a", approved=False))[1:]
    assert (rejected.error.type, rejected.retry_at) == ("Rejected", None)


def test_many_items_whose_time_has_come_long_ago_end_one_after_the_other(hand) -> None:
    it = hand([{"id": "w", "foreach": "inputs.l", "executor": {"type": "wait", "until": "1970-01-01T00:00:00Z"}}])
    it.begin()
    it.evaluated("foreach", "w", b"[" + b",".join([b"1"] * 3_000) + b"]")
    assert it.state.status == "succeeded"


def test_many_items_take_signals_that_were_kept(hand) -> None:
    wait = {"id": "w", "dependencies": ["a"], "executor": {"type": "wait", "signal": {"name": "go"}}}
    it = hand([{"id": "a"}, wait | {"foreach": "inputs.l", "max_parallel": 1}])
    it.begin()
    for _ in range(300):
        it.operate(Signal(name="go", payload=Raw(b"1")))
    it.end("a")
    it.evaluated("foreach", "w", b"[" + b",".join([b"1"] * 300) + b"]")
    assert it.state.status == "succeeded"
