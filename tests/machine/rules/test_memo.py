"""`cache`: results that were found before."""

from __future__ import annotations

from typing import Any

import pytest

from dagengine.machine.operations import Cancel, Pause, Rerun, Skip, Unpause
from dagengine.machine.stimuli import Found, Queued

CACHED: dict[str, Any] = {"id": "a", "cache": {"key": "k", "ttl": "1h"}}


@pytest.fixture
def asked(hand):
    """`asked(**node)`: a machine that has asked for the result of node `a`, whose key is `"k"`."""

    def make(*others: dict[str, Any], **fields: Any):
        it = hand([CACHED | fields, *others])
        it.begin()
        it.evaluated("cache", "a", b'"k"')
        return it

    return make


def answer(it: Any, result: bytes | None, index: int = -1, serial: int | None = None) -> list[Any]:
    known = it.machine.asked.get(("lookup", 0, index), 0) if serial is None else serial
    found = Found(at=it.now, node=0, index=index, serial=known, result=result, execution="e-0")
    return it.handle(found)


def test_what_was_found_is_the_result_without_an_attempt(asked, kinds) -> None:
    it = asked()
    assert it.commands == ["look up a"]
    made = answer(it, b"5")
    assert kinds(made) == ["NodeSucceeded a", "ExecutionSucceeded"]
    assert (made[0].cached_from, made[0].attempt, made[0].cache) == ("e-0", 0, "")
    assert it.state.result(0) == b"5"


def test_what_was_not_found_is_made_and_kept(asked, kinds) -> None:
    it = asked()
    (started,) = answer(it, None)
    assert len(started.cache) == 64
    ended, _ = it.end("a")
    assert ended.cache == started.cache
    assert ended.cache_until == it.now + 3_600_000_000


def test_without_a_ttl_it_is_kept_for_ever(asked) -> None:
    it = asked(cache={"key": "k"})
    answer(it, None)
    assert it.end("a")[0].cache_until is None


def test_a_later_attempt_is_kept_under_the_same_digest(asked) -> None:
    it = asked(retry={"fail": {"max_attempts": 2, "backoff": {"initial": "1s"}}})
    (first,) = answer(it, None)
    it.end("a", "fail")
    (second,) = it.pass_time(2_000_000)
    assert second.cache == first.cache
    assert it.end("a")[0].cache == first.cache


def test_a_failure_is_not_kept(asked) -> None:
    it = asked()
    answer(it, None)
    assert not hasattr(it.end("a", "fail")[0], "cache")


def digest(asked, **fields: Any) -> str:
    it = asked(**fields)
    return it.last.commands[0].key


def test_the_digest_is_over_the_key_and_the_content_of_the_executor(asked, hand) -> None:
    lua = {"type": "lua", "code": "return 1"}
    plain = digest(asked, executor=lua)
    assert digest(asked, executor=lua, timeout="5s") == plain, "what is around the executor does not matter"
    assert digest(asked, executor=lua | {"code": "return 2"}) != plain
    other = hand([CACHED | {"executor": lua}])
    other.begin()
    other.evaluated("cache", "a", b'"other"')
    assert other.last.commands[0].key != plain


def test_modules_count_for_lua_alone(hand) -> None:
    found = {}
    for kind, executor in {
        "lua": {"type": "lua", "code": "return 1"},
        "py": {"type": "python", "function": "f"},
    }.items():
        for modules in ({}, {"m": "return 1"}):
            it = hand([CACHED | {"executor": executor}], modules=modules)
            it.begin()
            it.evaluated("cache", "a", b'"k"')
            found[kind, bool(modules)] = it.last.commands[0].key
    assert found["lua", False] != found["lua", True]
    assert found["py", False] == found["py", True]


def test_each_item_has_a_key_of_its_own(hand) -> None:
    it = hand([CACHED | {"foreach": "inputs.list"}])
    it.begin()
    it.evaluated("foreach", "a", b"[1,2]")
    it.evaluated("cache", "a", b"1", index=0)
    first = it.last.commands[0].key
    it.evaluated("cache", "a", b"2", index=1)
    assert it.last.commands[0].key != first
    answer(it, b"10", index=0)
    answer(it, None, index=1)
    assert (it.phase("a", 0), it.phase("a", 1)) == ("succeeded", "running")


def test_an_answer_to_an_older_question_changes_nothing(asked) -> None:
    it = asked()
    assert answer(it, b"5", serial=0) == []
    it.cancel()
    assert answer(it, b"5") == []


def test_after_a_crash_it_is_asked_for_again(asked) -> None:
    it = asked()
    it.crash()
    assert it.commands == ["evaluate cache a"]


class TestRunAgain:
    def test_a_node_that_somebody_has_named_is_not_looked_up_and_its_result_is_kept(self, asked) -> None:
        it = asked()
        answer(it, None)
        it.end("a")
        it.operate(Rerun(nodes=("a",)))
        (started,) = it.evaluated("cache", "a", b'"k"')
        assert it.commands == ["run a 2"]
        assert it.end("a")[0].cache == started.cache != ""

    def test_nor_is_it_until_it_has_succeeded(self, asked) -> None:
        it = asked()
        answer(it, b"5")
        it.operate(Rerun(nodes=("a",)))
        it.evaluated("cache", "a", b'"k"')
        it.end("a", "fail")
        it.operate(Rerun())
        it.evaluated("cache", "a", b'"k"')
        assert it.commands == ["run a 2"]

    def test_without_a_name_it_is_looked_up(self, asked) -> None:
        it = asked()
        answer(it, None)
        it.end("a", "fail")
        it.operate(Rerun())
        it.evaluated("cache", "a", b'"k"')
        assert it.commands == ["look up a"]

    def test_so_is_what_depends_on_a_node_that_is_named(self, hand) -> None:
        it = hand([CACHED, {"id": "b", "dependencies": ["a"], "cache": {"key": "k"}}])
        it.begin()
        it.evaluated("cache", "a", b'"k"')
        answer(it, b"5")
        it.operate(Rerun(nodes=("a",)))
        it.evaluated("cache", "a", b'"k"')
        it.end("a")
        it.evaluated("cache", "b", b'"k"')
        assert it.commands == ["look up b"]

    def test_and_what_was_named_once_and_has_succeeded_since(self, hand) -> None:
        it = hand([CACHED | {"dependencies": ["b"]}, {"id": "b"}])
        it.begin()
        it.end("b")
        it.evaluated("cache", "a", b'"k"')
        question = it.last.commands[0]
        it.handle(Found(at=it.now, node=question.node, index=-1, serial=question.serial, result=b"5", execution="e-0"))
        for attempt in (1, 2):
            it.operate(Rerun(nodes=("a",)))
            it.evaluated("cache", "a", b'"k"')
            assert it.commands == [f"run a {attempt}"]
        it.end("a")
        it.operate(Rerun(nodes=("b",)))
        it.end("b")
        it.evaluated("cache", "a", b'"k"')
        assert it.commands == ["look up a"]


def test_a_node_that_found_its_result_is_not_queued_any_more(asked) -> None:
    it = asked({"id": "z"}, pool="db")
    answer(it, None)
    it.handle(Queued(at=it.now, node=0, index=-1, pool="db"))
    it.operate(Pause())
    it.operate(Unpause())
    it.evaluated("cache", "a", b'"k"')
    answer(it, b"1")
    assert it.phase("a") == "succeeded"
    assert not it.state.queued


@pytest.mark.parametrize("end", ["success", "fail", "skip", "cancel"])
def test_nothing_is_kept_of_attempts_that_are_over(hand, end: str) -> None:
    effect = {"type": "python", "function": "f", "args": {"n": "{{ inputs.n }}"}}
    it = hand([CACHED | {"executor": effect, "foreach": "inputs.list"}, {"id": "z"}])
    it.begin()
    it.evaluated("foreach", "a", b"[1,2]")
    for index in (0, 1):
        it.evaluated("args", "a", b'{"n":1}', index=index)
        it.evaluated("cache", "a", b'"k"', index=index)
        answer(it, None, index=index)
    assert set(it.state.args) == set(it.state.cache) == {(0, 0), (0, 1)}
    if end in ("success", "fail"):
        it.end("a", end, index=0)
        assert set(it.state.args) == set(it.state.cache) == {(0, 1)}
        it.end("a", end, index=1)
    else:
        it.operate(Skip(node="a") if end == "skip" else Cancel())
    assert not it.state.args
    assert not it.state.cache
