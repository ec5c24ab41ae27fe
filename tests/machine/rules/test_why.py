"""Why nodes are not running: every reason that there is, as it comes about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dagengine.machine import why
from dagengine.machine.operations import Cancel, Decide, Pause, Skip, Unpause
from dagengine.machine.stimuli import Queued

SECOND = 1_000_000
LUA: dict[str, Any] = {"type": "lua", "code": "return 1"}


def begun(hand, *nodes: dict[str, Any], **spec: Any):
    it = hand(list(nodes), **spec)
    it.begin()
    return it


def waiting_on(hand):
    return begun(hand, {"id": "b"}, {"id": "a", "dependencies": ["b"]})


def main_part(hand):
    return begun(hand, {"id": "b"}, on_exit=[{"id": "a", "executor": LUA}])


def paused(hand):
    it = begun(hand, {"id": "b"}, {"id": "a", "dependencies": ["b"]})
    it.operate(Pause(node="a"))
    it.end("b")
    return it


def starting(hand):
    return begun(hand, {"id": "a", "when": "inputs.go"})


def pool_full(hand):
    it = begun(hand, {"id": "a", "pool": "db"})
    it.handle(Queued(at=it.now, node=0, index=-1, pool="db"))
    return it


def rate_limited(hand):
    it = begun(hand, {"id": "a", "rate": "1/s"})
    it.handle(Queued(at=it.now, node=0, index=-1, rate="1/s"))
    return it


def backoff(hand):
    it = begun(hand, {"id": "a", "retry": {"fail": {"max_attempts": 2, "backoff": {"initial": "1s", "jitter": 0}}}})
    it.end("a", "fail")
    return it


def awaiting_time(hand):
    return begun(hand, {"id": "a", "executor": {"type": "wait", "duration": "1s"}})


def awaiting_signal(hand):
    return begun(hand, {"id": "a", "executor": {"type": "wait", "signal": {"name": "go", "timeout": "1s"}}})


def awaiting_approval(hand):
    it = begun(hand, {"id": "a", "executor": {"type": "wait", "approval": {"who": ["ada", "bob"], "quorum": 2}}})
    it.operate(Decide(node="a", approved=True, author="ada"))
    return it


def items(hand):
    it = begun(hand, {"id": "a", "foreach": "inputs.list", "max_parallel": 1})
    it.evaluated("foreach", "a", b"[1,2,3]")
    return it


def succeeded(hand):
    it = begun(hand, {"id": "a"})
    it.end("a")
    return it


def failed(hand):
    it = begun(hand, {"id": "a"})
    it.end("a", "fail")
    return it


def skipped(hand):
    it = begun(hand, {"id": "a", "when": "inputs.go"})
    it.evaluated("when", "a", b"false")
    return it


def overridden(hand):
    it = begun(hand, {"id": "a"})
    it.operate(Skip(node="a", author="ada", reason="it hangs"))
    return it


def cancelled(hand):
    it = begun(hand, {"id": "a"})
    it.operate(Cancel())
    return it


def given_up(hand):
    it = begun(hand, {"id": "a"})
    it.world.give_up()
    return it


CASES: dict[str, tuple[Callable[..., Any], str, dict[str, Any]]] = {
    "waiting_on": (waiting_on, "it waits for b", {"waiting_on": ("b",)}),
    "main_part": (main_part, "it belongs to `on_exit`, which comes after all other nodes", {}),
    "paused": (paused, "the node is paused", {"since": 1_000}),
    "starting": (starting, "nothing stands in its way: it is about to begin", {}),
    "pool_full": (pool_full, "there is no room in the pool 'db'", {"pool": "db", "since": 1_000}),
    "rate_limited": (rate_limited, "its attempts begin as often as 1/s allows", {"rate": "1/s"}),
    "backoff": (
        backoff,
        "attempt 1 did not succeed (Scripted: a says fail); it will be tried again",
        {"until": 1_000 + SECOND, "attempt": 1},
    ),
    "awaiting_time": (awaiting_time, "it waits for its time to come", {"until": 1_000 + SECOND}),
    "awaiting_signal": (awaiting_signal, "it waits for the signal 'go'", {"name": "go", "until": 1_000 + SECOND}),
    "awaiting_approval": (awaiting_approval, "it waits for an approval of ada, bob (1 of 2)", {"until": None}),
    "items": (items, "its items: 2 pending, 1 running", {"items": {"pending": 2, "running": 1}}),
    "succeeded": (succeeded, "it has succeeded", {"attempt": 1}),
    "failed": (failed, "it failed: a says fail", {"attempt": 1}),
    "skipped": (skipped, "its `when` came to false: inputs.go", {"reason": "when_false"}),
    "overridden": (overridden, "ada skipped it: it hangs", {"author": "ada"}),
    "cancelled": (cancelled, "the execution was cancelled", {"reason": "cancelled"}),
    "given_up": (given_up, "the execution was given up before it had ended: engine-1 broke down", {"index": None}),
}
OF_ITEMS = {"max_parallel", "window", "stopping"}


@pytest.mark.parametrize("code", CASES)
def test_each_reason(hand, code: str) -> None:
    make, words, known = CASES[code]
    (told,) = why.explain(make(hand).state, "a")
    assert (told.node, told.index, told.code, told.words) == ("a", None, code, words)
    assert {name: getattr(told, name) for name in known} == known


def test_there_is_a_case_for_each_reason_that_there_is() -> None:
    assert set(CASES) | OF_ITEMS == set(why.codes())


def test_a_node_that_runs_has_none(hand) -> None:
    it = begun(hand, {"id": "a"}, {"id": "b", "dependencies": ["a"]})
    assert why.explain(it.state, "a") == []
    assert [told.node for told in why.explain(it.state)] == ["b"]


def test_a_node_that_there_is_not(hand) -> None:
    with pytest.raises(KeyError):
        why.explain(begun(hand, {"id": "a"}).state, "x")


@pytest.mark.parametrize("node", ["", "a"])
def test_after_a_pause_times_are_later_by_it(hand, node: str) -> None:
    it = awaiting_signal(hand)
    it.operate(Pause(node=node))
    assert why.explain(it.state, "a")[0].code == "paused"
    it.pass_time(60 * SECOND)
    it.operate(Unpause(node=node))
    assert why.explain(it.state, "a")[0].until == 1_000 + 61 * SECOND


class TestItems:
    def test_each_that_neither_runs_nor_has_succeeded(self, hand) -> None:
        it = items(hand)
        assert [(told.index, told.code) for told in why.explain_items(it.state, "a")] == [
            (1, "max_parallel"),
            (2, "max_parallel"),
        ]

    def test_those_of_a_node_that_is_paused(self, hand) -> None:
        it = items(hand)
        it.operate(Pause(node="a"))
        assert {told.code for told in why.explain_items(it.state, "a")} == {"paused"}

    def test_those_that_failed_and_those_that_their_node_ended_without(self, hand) -> None:
        it = begun(hand, {"id": "a", "foreach": "inputs.list", "fail_after": 0, "max_parallel": 2})
        it.evaluated("foreach", "a", b"[1,2,3]")
        it.end("a", "fail", index=0)
        told = why.explain_items(it.state, "a")
        assert [(one.index, one.code) for one in told] == [(0, "failed"), (1, "cancelled"), (2, "cancelled")]
        assert told[1].words == "its node has ended without it"

    def test_those_that_come_after_more_than_may_be_under_way(self, hand) -> None:
        it = begun(hand, {"id": "a", "foreach": "inputs.list"})
        it.evaluated("foreach", "a", b"[" + b",".join([b"1"] * 1_100) + b"]")
        told = why.explain_items(it.state, "a")
        assert [(one.index, one.code) for one in told] == [(index, "window") for index in range(1_024, 1_100)]
        assert told[0].words == "others come first: about 1,024 items of a node may be under way at once"

    def test_room_is_filled_up_when_there_is_more_of_it(self, hand) -> None:
        it = begun(hand, {"id": "a", "foreach": "inputs.list"})
        it.evaluated("foreach", "a", b"[" + b",".join([b"1"] * 1_100) + b"]")
        for index in range(50):
            it.end("a", index=index)
        assert {one.code for one in why.explain_items(it.state, "a")} == {"window"}

    def test_those_that_come_after_items_that_are_being_evaluated(self, hand) -> None:
        effect = {"type": "python", "function": "f", "args": {"x": "{{ item }}"}}
        it = begun(hand, {"id": "a", "foreach": "inputs.list", "executor": effect, "max_parallel": 1})
        it.evaluated("foreach", "a", b"[1,2]")
        assert [one.code for one in why.explain_items(it.state, "a")] == ["starting", "max_parallel"]

    def test_those_that_come_after_items_that_are_queued(self, hand) -> None:
        it = begun(hand, {"id": "a", "foreach": "inputs.list", "pool": "db", "max_parallel": 1})
        it.evaluated("foreach", "a", b"[1,2]")
        it.handle(Queued(at=it.now, node=0, index=0, pool="db"))
        assert [one.code for one in why.explain_items(it.state, "a")] == ["pool_full", "max_parallel"]

    def test_those_of_a_node_that_uses_the_grace_of_a_cancel(self, hand) -> None:
        effect, retry = {"type": "python", "function": "f"}, {"fail": {"max_attempts": 3}}
        it = begun(hand, {"id": "a", "foreach": "inputs.list", "max_parallel": 2, "executor": effect, "retry": retry})
        it.evaluated("foreach", "a", b"[1,2,3]")
        it.end("a", "fail", index=0)
        it.operate(Cancel(grace=SECOND))
        told = why.explain_items(it.state, "a")
        assert [(one.index, one.code) for one in told] == [(0, "stopping"), (2, "stopping")]

    def test_those_of_a_node_without_any(self, hand) -> None:
        assert why.explain_items(begun(hand, {"id": "a"}).state, "a") == []
