"""What code finds in scope beside inputs: keys of a map, the execution's end, what a question brings, any ancestor."""

from __future__ import annotations

import msgspec
import pytest

from dagengine.executors import base
from dagengine.executors.lua.evaluator import LuaEvaluator


class Counting(dict):
    """Results that count how often each is looked at."""

    def __init__(self, *args):
        super().__init__(*args)
        self.reads = []

    def get(self, key, default=None):
        self.reads.append(key)
        return super().get(key, default)

    def __getitem__(self, key):
        self.reads.append(key)
        return super().__getitem__(key)


def test_the_key_of_an_item(lua):
    assert lua.value("return {key, item, index}", key="a b", item=5, index=1) == ["a b", 5, 2]
    assert lua.value("return key == nil", item=5, index=1) is True


def test_the_end_of_the_execution(lua):
    conclusion = {"status": "failed", "error": {"type": "LuaError", "message": "boom"}}
    code = "return {execution.status, execution.error.message}"
    assert lua.value(code, conclusion=conclusion) == ["failed", "boom"]
    assert lua.value("return execution == nil") is True


def test_the_end_of_the_execution_is_read_only(lua):
    error = lua.error("execution.status = 'succeeded'", conclusion={"status": "failed"})
    assert error.message == "attempt to modify a read-only value (execution.status)"


def test_nothing_of_one_call_is_there_in_the_next(lua):
    lua.value("return key", key="k", index=0)
    lua.error("return {key, execution.x.y}", key="k", conclusion={})
    lua.error("return {key, inputs.x}", key="k", inputs={"x": 1 << 64})
    assert lua.value("return {key == nil, execution == nil}") == [True, True]


def test_expressions_see_the_key_and_the_end(scope):
    evaluator = LuaEvaluator()
    with_key = scope(key="k", index=0, conclusion={"status": "succeeded"})
    assert evaluator.expression("key == 'k' and execution.status", with_key).value == b'"succeeded"'
    assert evaluator.expression("key == nil and execution == nil", scope()).value == b"true"


def test_a_question_may_bring_names(scope):
    evaluator = LuaEvaluator()
    given = {"response": b'{"status":200,"body":{"n":[1,2]}}'}
    asked = base.Question(scope=scope(), code="response.status == 200 and #response.body.n", given=given)
    assert evaluator.evaluate(asked).value == b"2"
    template = base.Question(scope=scope(), template="n={{ response.body.n[2] }}", given=given)
    assert evaluator.evaluate(template).value == b'"n=2"'
    big = {"response": msgspec.json.encode({"body": "x" * 10_000})}
    assert evaluator.evaluate(base.Question(scope=scope(), code="#response.body", given=big)).value == b"10000"


def test_what_a_question_brought_is_gone_with_it(scope):
    evaluator = LuaEvaluator()
    evaluator.evaluate(base.Question(scope=scope(), code="response", given={"response": b"1"}))
    evaluator.evaluate(base.Question(scope=scope(), code="response.x.y.z", given={"response": b"{}"}))
    error = evaluator.evaluate(base.Question(scope=scope(), code="response")).error
    assert error is not None
    assert error.message == "'response' is not defined"


def test_only_the_results_that_are_read_are_converted(lua, scope):
    nodes = Counting({f"n{i}": b'{"v":%d}' % i for i in range(500)})
    made = msgspec.structs.replace(scope(inputs={"name": "n7"}), nodes=nodes)
    chunk = lua.runtime.script("return nodes[inputs.name].v + nodes[inputs.name].v + nodes['n' .. 8].v")
    assert lua.runtime.run(chunk, made) == b"22"
    assert nodes.reads == ["n7", "n8"]


def test_a_result_that_is_not_there_is_nil(lua):
    code = "local found = {} for i = 1, 3 do found[i] = nodes['n' .. i] == nil end return {found, nodes[5] == nil}"
    assert lua.value(code, nodes={"n2": 1}) == [[True, False, True], True]


def test_all_results_can_be_gone_through_in_order(lua):
    nodes = {f"n-{i}": {"i": i} for i in range(20)}
    code = """
    local first = nodes['n-' .. 3]
    local ids, sum = {}, 0
    for id, value in pairs(nodes) do ids[#ids + 1] = id sum = sum + value.i end
    table.sort(ids)
    local same, raw = nodes['n-3'] == first, rawget(nodes, 'n-4').i
    return {n = #ids, sum = sum, same = same, next = next(nodes) ~= nil, raw = raw}"""
    assert lua.value(code, nodes=nodes) == {"n": 20, "sum": 190, "same": True, "next": True, "raw": 4}
    assert lua.value("local n = nodes return n", nodes=nodes) == nodes
    assert lua.value("local n = nodes return json.decode(json(n))", nodes=nodes) == nodes


def test_going_through_results_is_the_same_every_time(lua):
    nodes = {f"n{i}": i for i in range(100)}
    code = "local ids = {} for id in pairs(nodes) do ids[#ids + 1] = id end return ids"
    touched = "local x = nodes[inputs.id] " + code
    assert lua.value(code, nodes=nodes) == lua.value(touched, nodes=nodes, inputs={"id": "n50"})


def test_big_results_are_kept_converted(lua, scope):
    big = msgspec.json.encode([{"i": i} for i in range(2000)])
    made = msgspec.structs.replace(scope(inputs={"id": "big"}), nodes={"big": big})
    dynamic, named = lua.runtime.script("return #nodes[inputs.id]"), lua.runtime.script("return nodes.big[2000].i")
    assert lua.runtime.run(dynamic, made) == lua.runtime.run(dynamic, made) == b"2000"
    assert lua.runtime.run(named, made) == b"1999"


def test_results_are_read_only_however_they_are_reached(lua):
    for code in ("nodes[inputs.id] = 1", "nodes[inputs.id].v = 1", "rawset(nodes, inputs.id, 1)"):
        assert (
            "attempt to modify a read-only value (nodes"
            in lua.error(code, nodes={"a": {"v": 1}}, inputs={"id": "a"}).message
        )


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ((1 << 64) - 1, "an integer above 9223372036854775807, which Lua cannot hold"),
        (1 << 70, "an integer outside 64 bits"),
    ],
)
def test_a_result_that_lua_cannot_hold_is_named(lua, number, told):
    options = {"nodes": {"a-b": {"n": number}, "c": 1}, "inputs": {"id": "a-b"}}
    error = lua.error("local c = nodes['c' .. '']\nlocal n = nodes[inputs.id]\nreturn n", **options)
    assert error.message == f'nodes["a-b"] holds {told}'
    assert lua.value("local ok = pcall(function() return nodes[inputs.id] end) return ok", **options) is False


def test_code_that_names_very_many_nodes_reads_them_all(lua):
    names = [f"n{i}" for i in range(150)]
    code = "return " + " + ".join(f"nodes.{name}" for name in names)
    assert lua.value(code, nodes=dict.fromkeys(names, 2)) == 300


def test_results_are_read_from_coroutines_too(lua):
    code = "return coroutine.wrap(function() coroutine.yield(nodes[inputs.id]) end)()"
    assert lua.value(code, nodes={"a": [1, 2]}, inputs={"id": "a"}) == [1, 2]
