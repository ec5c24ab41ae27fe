"""Limits of a single node: memory and output, never more than the engine's own."""

from __future__ import annotations

import msgspec
import pytest

HOARD = "local t = {} for i = 1, 1000000 do t[i] = i .. ' some more text' end return #t"


def test_a_node_may_use_less_than_the_engine(lua):
    error = lua.error(HOARD, run={"memory": 4 << 20})
    assert (error.type, error.message) == ("MemoryLimit", "the script needed more memory than the 4 MiB it may use")


def test_the_limit_of_one_node_is_not_the_next_ones(lua):
    lua.error(HOARD, run={"memory": 4 << 20})
    assert lua.value("return #('x'):rep(20 << 20)") == 20 << 20
    assert lua.value("return #('x'):rep(1000)", run={"memory": 1 << 20}) == 1000
    assert lua.value("return #('x'):rep(20 << 20)") == 20 << 20


def test_a_node_cannot_use_more_than_the_engine(lua):
    lua.max_memory = 8 << 20
    error = lua.error(HOARD, run={"memory": 1 << 30})
    assert (error.type, error.message) == ("MemoryLimit", "the script needed more memory than the 8 MiB it may use")


def test_what_others_left_behind_is_not_held_against_a_node(lua):
    for _ in range(20):
        lua.value("local t = {} for i = 1, 20000 do t[i] = {i} end return #t")
        assert lua.value("return #('x'):rep(1 << 20)", run={"memory": 4 << 20}) == 1 << 20


def test_what_others_left_behind_does_not_widen_a_limit(lua):
    lua.value("local t = {} for i = 1, 200000 do t[i] = {i} end return #t")
    error = lua.error("local t = {} for i = 1, 200000 do t[i] = {i} end return #t", run={"memory": 4 << 20})
    assert error.type == "MemoryLimit"


def test_inputs_too_big_for_a_node_are_its_limit(lua):
    error = lua.error("return #inputs.t", inputs={"t": "x" * (2 << 20)}, run={"memory": 1 << 20})
    assert error.type == "MemoryLimit"


def test_a_result_may_be_limited_further(lua):
    error = lua.error("return ('x'):rep(100)", run={"output": 50})
    assert (error.type, error.message) == ("ResultError", "result is bigger than 50 bytes of JSON")
    assert lua.value("return ('x'):rep(100)") == "x" * 100


def test_a_result_is_never_bigger_than_the_engine_allows(lua):
    lua.max_output = 1000
    assert (
        lua.error("return ('x'):rep(2000)", run={"output": 5000}).message == "result is bigger than 1000 bytes of JSON"
    )


@pytest.mark.parametrize(("limits", "kind"), [({"memory": 1 << 20}, "MemoryLimit"), ({"output": 10}, "ResultError")])
async def test_the_executor_keeps_the_limits_of_the_document(perform, job, limits, kind):
    code = "return ('x'):rep(4 << 20):sub(1, 1000)"
    limited, free = await perform([job(code, **limits), job("return #('x'):rep(1000)")])
    assert limited.error.type == kind
    assert limited.conclusion == ("error" if kind == "MemoryLimit" else "fail")
    assert free.result == b"1000"


async def test_a_failure_on_purpose_ends_the_attempt_as_fail(perform, job):
    outcomes = await perform([job("return fail('no', {type = 'Nope', n = 1})"), job("error(fail('no'))")])
    assert [(each.conclusion, each.error.type, each.error.message) for each in outcomes] == [
        ("fail", "Nope", "no"),
        ("fail", "Failed", "no"),
    ]
    assert msgspec.json.decode(bytes(outcomes[0].error.details)) == {"type": "Nope", "n": 1}
