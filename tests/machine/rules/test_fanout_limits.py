"""`foreach` over maps, `max_parallel` and `fail_after`."""

from __future__ import annotations

from typing import Any

import pytest

RETRY = {"fail": {"max_attempts": 2, "backoff": {"initial": "1s", "jitter": 0}}}


@pytest.fixture
def expanded(hand):
    """`expanded(items, **node)`: node `a` with these items, expanded, and `b` after it."""

    def make(items: bytes, **fields: Any):
        it = hand([{"id": "a", "foreach": "inputs.list"} | fields, {"id": "b", "dependencies": ["a"]}])
        it.begin()
        it.evaluated("foreach", "a", items)
        return it

    return make


class TestMaps:
    def test_items_come_in_the_order_of_their_keys(self, expanded) -> None:
        it = expanded(b'{"pear":3,"apple":[2],"fig":{"n":1}}')
        items = it.state.items[0]
        assert items.keys == ["apple", "fig", "pear"]
        assert [bytes(value) for value in items.values] == [b"[2]", b'{"n":1}', b"3"]

    def test_the_result_is_an_object_with_the_same_keys(self, expanded) -> None:
        it = expanded(b'{"b \\"quoted\\"":1,"a":2}')
        it.end("a", index=1, result=b'"second"')
        it.end("a", index=0, result=b'"first"')
        assert it.state.result(0) == b'{"a":"first","b \\"quoted\\"":"second"}'

    def test_an_empty_one_succeeds_at_once(self, expanded) -> None:
        assert expanded(b"{}").phases == {"a": "succeeded", "b": "running"}

    def test_it_survives_a_crash(self, expanded) -> None:
        it = expanded(b'{"b":1,"a":2}')
        it.crash()
        assert it.state.items[0].keys == ["a", "b"]


class TestMaxParallel:
    def test_so_many_are_under_way(self, expanded) -> None:
        it = expanded(b"[1,2,3,4]", max_parallel=2)
        assert it.commands == ["run a[0] 1", "run a[1] 1"]
        it.end("a", index=1)
        assert it.commands == ["run a[2] 1"]

    def test_one_that_waits_to_be_tried_again_keeps_its_place(self, expanded) -> None:
        it = expanded(b"[1,2,3]", max_parallel=2, retry=RETRY)
        it.end("a", "fail", index=0)
        assert it.commands == []
        it.pass_time(1_000_000)
        assert it.commands == ["run a[0] 2"]

    def test_one_that_fails_for_good_gives_its_place_up(self, expanded) -> None:
        it = expanded(b"[1,2,3]", max_parallel=1)
        it.end("a", "fail", index=0)
        assert it.commands == ["run a[1] 1"]

    def test_it_holds_while_items_are_being_prepared(self, expanded) -> None:
        args = {"type": "python", "function": "f", "args": {"n": "{{ item }}"}}
        it = expanded(b"[1,2,3]", max_parallel=1, executor=args)
        assert it.commands == ["evaluate args a[0]"]
        it.evaluated("args", "a", b"!", index=0)
        assert it.commands == ["evaluate args a[1]"]

    def test_it_holds_after_a_crash(self, expanded) -> None:
        it = expanded(b"[1,2,3,4]", max_parallel=2)
        it.end("a", index=0)
        it.crash()
        assert it.commands == ["run a[1] 1", "run a[2] 1"]
        it.end("a", index=2)
        assert it.commands == ["run a[3] 1"]


class TestFailAfter:
    def test_so_many_may_fail_and_their_results_are_null(self, expanded) -> None:
        it = expanded(b"[1,2,3]", fail_after=1)
        it.end("a", "fail", index=0)
        it.end("a", index=1)
        it.end("a", index=2)
        assert it.phases == {"a": "succeeded", "b": "running"}
        assert it.state.result(0) == b"[null,1,1]"

    def test_one_more_fails_the_node_at_once(self, expanded, kinds) -> None:
        it = expanded(b"[1,2,3,4]", fail_after=1, max_parallel=3)
        it.end("a", "fail", index=0)
        made = it.end("a", "error", index=2)
        assert it.phases["a"] == "running", "an error is tried again, so it has not failed yet"
        it.pass_time(60_000_000)
        it.end("a", "error", index=2)
        it.pass_time(60_000_000)
        made = it.end("a", "error", index=2)
        assert kinds(made) == ["NodeFailed a[2]", "NodeFailed a", "NodeSkipped b", "ExecutionFailed"]
        assert it.commands == ["abandon a[1] 1", "abandon a[3] 1"]
        assert made[1].error.message == "2 of 4 items failed; item 0: a says fail"
        assert made[1].conclusion == "fail"

    def test_zero_tolerates_none(self, expanded) -> None:
        it = expanded(b"[1,2]", fail_after=0)
        it.end("a", "fail", index=0)
        assert it.phases["a"] == "failed"
        assert it.commands == ["abandon a[1] 1"]

    def test_without_it_all_items_run(self, expanded) -> None:
        it = expanded(b"[1,2]")
        it.end("a", "fail", index=0)
        assert it.phases["a"] == "running"
        it.end("a", index=1)
        assert it.phases["a"] == "failed"

    def test_what_must_follow_follows_after_a_crash(self, expanded, kinds) -> None:
        it = expanded(b"[1,2]", fail_after=0)
        it.end("a", "fail", index=0)
        made = it.crash(keep=5)
        assert kinds(made) == ["NodeFailed a", "NodeSkipped b", "ExecutionFailed"]
