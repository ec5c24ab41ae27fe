"""Values on their way into Lua and back: nothing lost, nothing changeable, and a clear word where it cannot be."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=20) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=40,
)
once_per_test = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same(left, right):
    """Equal, with integers and floats told apart."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return left == right


@once_per_test
@given(value=json_values)
def test_any_json_value_comes_back_as_it_went_in(lua, value):
    assert same(lua.value("return inputs.value", inputs={"value": value}), value)


@once_per_test
@given(value=json_values)
def test_the_scripts_own_encode_and_decode_keep_any_value(lua, value):
    code = "return json.decode(json.encode(inputs.value))"
    assert same(lua.value(code, inputs={"value": value}), value)


@once_per_test
@given(value=json_values)
def test_decode_reads_what_another_program_wrote(lua, value):
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    assert same(lua.value("return json.decode(inputs.text)", inputs={"text": text}), value)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536, 70000])
def test_texts_lists_and_objects_of_every_packed_width_are_read(lua, size):
    value = {"text": "x" * size, "list": list(range(size)), "object": {f"k{i}": i for i in range(size)}, "x" * size: 1}
    assert lua.value("return inputs", inputs=value) == value


@pytest.mark.parametrize(
    "number", [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, -1, -32, -33, -128, -129]
)
def test_integers_of_every_packed_width_are_read(lua, number):
    assert lua.value("return {inputs.n, math.type(inputs.n)}", inputs={"n": number}) == [number, "integer"]


def test_integers_and_floats_stay_apart(lua):
    assert lua.raw("return {inputs.a, inputs.b, 3.0, 3, 7 // 2, 7 / 2}", inputs={"a": 1, "b": 1.0}) == (
        b"[1,1.0,3.0,3,3,3.5]"
    )


def test_floats_are_written_as_short_as_they_read_back_exactly(lua):
    assert (
        lua.raw("return {0.1, 1e100, 0.1 + 0.2, 5e-324}") == b"[0.1,1e+100,0.30000000000000004,4.94065645841247e-324]"
    )


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**63) - 1])
def test_integers_beyond_64_bits_are_refused(lua, scope, number):
    given = msgspec.structs.replace(scope(), inputs=b'{"n":%d}' % number)
    error = lua.runtime.run(lua.runtime.script("return inputs.n"), given)
    assert error.type == "LuaError"
    assert "a value in scope holds an integer" in error.message
    assert lua.value("return 1") == 1


def test_null_is_json_null_in_a_value_and_nil_where_a_node_is_missing(lua):
    assert lua.error("return nodes.a.x", nodes={"a": None}).message == "attempt to index a null value (field 'a')"
    code = (
        "return {nodes.a == json.null, inputs.x == json.null, nodes.gone == nil, tostring(json.null), type(json.null)}"
    )
    assert lua.value(code, nodes={"a": None}, inputs={"x": None}) == [True, True, True, "null", "userdata"]


def test_an_empty_table_is_an_object_unless_made_by_json_array(lua):
    assert lua.value("return {a = {}, b = json.array(), c = json.array({}), d = inputs.e}", inputs={"e": []}) == {
        "a": {},
        "b": [],
        "c": [],
        "d": [],
    }


def test_a_script_that_returns_nothing_returns_null(lua):
    assert lua.raw("local x = 1") == b"null"
    assert lua.raw("return") == b"null"
    assert lua.raw("return nil") == b"null"
    assert lua.raw("return json.null") == b"null"


def test_read_only_values_can_be_used_as_people_expect(lua):
    code = """
    local rows, out = inputs.rows, {}
    local copy = table.move(rows, 1, #rows, 1, {})
    table.sort(copy, function(a, b) return a > b end)
    out.count, out.sorted, out.joined = #rows, copy, table.concat(rows, "-")
    out.first, out.last = rows[1], select(-1, table.unpack(rows))
    out.sum = 0
    for _, n in ipairs(rows) do out.sum = out.sum + n end
    out.pairs = 0
    for i, n in pairs(rows) do out.pairs = out.pairs + i * n end
    out.raw = {rawlen(rows), rawget(rows, 2), next(inputs.one), rawget(inputs.one, "k")}
    out.packed = #table.pack(table.unpack(rows))
    out.empty = next(inputs.none) == nil and #inputs.none == 0
    out.kind = {type(rows), getmetatable(rows)}
    return out
    """
    assert lua.value(code, inputs={"rows": [3, 1, 2], "one": {"k": "v"}, "none": {}}) == {
        "count": 3,
        "sorted": [3, 2, 1],
        "joined": "3-1-2",
        "first": 3,
        "last": 2,
        "sum": 6,
        "pairs": 11,
        "raw": [3, 1, "k", "v"],
        "packed": 3,
        "empty": True,
        "kind": ["table", False],
    }


@pytest.mark.parametrize(
    ("code", "where"),
    [
        ("inputs.rows = 1", "inputs.rows"),
        ("inputs.new = 1", "inputs.new"),
        ("inputs.rows[1] = 5", "inputs.rows[1]"),
        ("inputs.rows[2].deep.x = 5", "inputs.rows[2].deep.x"),
        ("nodes.load.n = 5", "nodes.load.n"),
        ('nodes["load-data"].n = 5', 'nodes["load-data"].n'),
        ("nodes.other = 5", "nodes.other"),
        ("item.x = 5", "item.x"),
        ("env.HOME = ''", "env.HOME"),
        ("rawset(inputs, 'rows', 1)", "inputs.rows"),
        ("table.insert(inputs.rows, 1)", "inputs.rows[3]"),
        ("table.remove(inputs.rows)", "inputs.rows[2]"),
        ("table.sort(inputs.numbers)", "inputs.numbers["),
        ("for _, row in pairs(inputs.rows) do row.x = 1 end", "inputs.rows[1].x"),
        ("string.upper = nil", "string.upper"),
        ("json.null = nil", "json.null"),
    ],
)
def test_writing_to_a_read_only_value_names_it(lua, code, where):
    error = lua.error(
        code,
        inputs={"rows": [{"x": 0}, {"deep": {}}], "numbers": [2, 1]},
        nodes={"load": {"n": 1}, "load-data": {"n": 1}},
        item={"x": 1},
        env={"HOME": "/"},
    )
    assert error.message.startswith(f"attempt to modify a read-only value ({where}")
    assert error.line == 1


def test_values_kept_for_the_next_script_cannot_be_changed_by_the_last(lua):
    big = {"rows": [{"n": n, "text": "x" * 50} for n in range(100)]}
    lua.value("for _, row in ipairs(nodes.a.rows) do pcall(rawset, row, 'n', 0) end", nodes={"a": big})
    assert lua.value("return nodes.a", nodes={"a": big}) == big


def test_only_ancestors_that_ended_well_are_in_nodes(lua):
    nodes = {"a": 1, "load-data": {"x": 2}, "c": [3]}
    assert lua.value('return {nodes.a, nodes["load-data"].x, nodes.zz == nil}', nodes=nodes) == [1, 2, True]
    code = "local all = {} for id, value in pairs(nodes) do all[id] = value end return all"
    assert lua.value(code, nodes=nodes) == nodes
    assert lua.value("local n = nodes return {n.a, _G.nodes.c[1], _ENV['nodes'].a}", nodes=nodes) == [1, 3, 1]


def test_more_nodes_than_a_call_takes_arguments(lua):
    nodes = {f"n{i}": i for i in range(500)}
    code = "return " + " + ".join(f"nodes.{id}" for id in nodes)
    assert lua.value(code, nodes=nodes) == sum(range(500))


def test_item_and_index_are_there_in_a_foreach_only_and_index_counts_from_one(lua):
    assert lua.value("return {item.v, index}", item={"v": "x"}, index=0) == ["x", 1]
    assert lua.value("return {item == nil, index == nil}") == [True, True]


def test_env_is_in_scope(lua):
    assert lua.value("return env.REGION", env={"REGION": "north"}) == "north"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return print", "result is a function"),
        ("return {rows = {{}, {}, {x = print}}}", "result.rows[3].x is a function"),
        ("return {['load-data'] = coroutine.create(print)}", 'result["load-data"] is a thread'),
        ("local t = {} t.a = {b = t} return t", "result.a.b is a cycle: it is the same table as result"),
        ("return {rows = {1, 2, n = 2}}", 'result.rows mixes list elements and the key "n"; use one of them'),
        ("return {[1] = 1, [2] = 2, [5] = 5}", "result has a hole: [3] is nil; use json.null"),
        ("return {[3] = 1}", "result has a hole: [1] is nil; use json.null"),
        ("local t = {1, 2, 3} t[2] = nil return t", "result has a hole: [2] is nil; use json.null"),
        ("return {x = 0/0}", "result.x is NaN, which JSON cannot hold"),
        ("return {1/0}", "result[1] is infinite, which JSON cannot hold"),
        ("return {-1/0}", "result[1] is infinite, which JSON cannot hold"),
        ("return {[true] = 1}", "result[a boolean] has a key of type boolean; the keys of an object are strings"),
        ("return {[1.5] = 1}", "result[1.5] has a key of type number; the keys of an object are strings"),
        ("return {[0] = 1}", "result[0] has a key of type number; the keys of an object are strings"),
        ("return {x = 'a\\xff'}", "result.x is a string that is not valid UTF-8"),
        ("return {x = '\\u{D800}'}", "result.x is a string that is not valid UTF-8"),
        ("return {['\\xff'] = 1}", "result has a key that is not valid UTF-8"),
        ("local t = {} for _ = 1, 200 do t = {t} end return t", "is nested deeper than 100 levels"),
        ("return json.array({x = 1})", 'result is an array with the key "x"'),
        ("return 1, 2", "the script returned several values; return one table"),
        ("return ('x'):gsub('x', 'y')", "the script returned several values; return one table"),
    ],
)
def test_a_result_that_is_not_json_says_where(lua, code, message):
    error = lua.error(code)
    assert error.type == "ResultError"
    assert message in error.message
    assert lua.value("return {1}") == [1]


def test_a_result_has_a_size_limit(lua):
    lua.max_output = 1000
    assert lua.value("return ('x'):rep(998)") == "x" * 998
    error = lua.error("return ('x'):rep(999)")
    assert (error.type, error.message) == ("ResultError", "result is bigger than 1000 bytes of JSON")
    assert "bigger" in lua.error("local t = {} for i = 1, 1000 do t[i] = i end return t").message


def test_a_small_table_that_stands_for_a_huge_text_is_refused_quickly(lua):
    assert "bigger than" in lua.error("local t = {1} for _ = 1, 60 do t = {t, t} end return t").message


def test_metatables_of_a_script_do_not_run_while_its_result_is_written(lua):
    code = """
    local loop = function() while true do end end
    return setmetatable({1, 2}, {__len = loop, __pairs = loop, __index = loop, __tostring = loop})
    """
    assert lua.value(code) == [1, 2]


def test_a_table_used_twice_is_written_twice(lua):
    assert lua.value("local t = {1} return {t, t}") == [[1], [1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unexpected end at byte 1"),
        ("[1,", "unexpected end at byte 4"),
        ("[1 2]", "expected ',' or ']' at byte 4"),
        ('{"a" 1}', "expected ':' at byte 6"),
        ('{"a":1,}', "expected a key in quotes at byte 8"),
        ("{a:1}", "expected a key in quotes at byte 2"),
        ("[1]]", "something follows the value at byte 4"),
        ("nul", "bad value at byte 1"),
        ("01", "bad value at byte 1"),
        ("1.", "bad value at byte 1"),
        ("1e", "bad number at byte 1"),
        ("+1", "bad value at byte 1"),
        ('"a', "unfinished string at byte 1"),
        ('"a\nb"', "control character in a string at byte 3"),
        ('"\\x"', "bad escape at byte 2"),
        ('"\\u12"', "bad \\u escape at byte 2"),
        ('"\\ud800"', "unpaired surrogate at byte 2"),
        ('"\\udc00"', "unpaired surrogate at byte 2"),
        ("9223372036854775808", "integer outside 64 bits at byte 1"),
        ("1e999", "number out of range at byte 1"),
        ("[" * 101 + "]" * 101, "nested deeper than 100 levels at byte 101"),
    ],
)
def test_decode_says_what_is_wrong_and_where(lua, text, message):
    assert lua.error("return json.decode(inputs.text)", inputs={"text": text}).message == f"json.decode: {message}"


def test_the_json_library(lua):
    assert lua.value("return json.encode({a = {1, 2.5, json.null, true, 'x\\n'}})") == '{"a":[1,2.5,null,true,"x\\n"]}'
    assert lua.value("return json({1})") == "[1]"
    assert lua.value("return json.decode('\"\\\\u00e9\\\\ud83d\\\\ude00\\\\/\"')") == "é😀/"
    assert lua.value("local t = json.decode('[1]') t[2] = 2 return t") == [1, 2]
    assert lua.value("local t = json.decode('{\"a\": []}') t.b = 1 return t") == {"a": [], "b": 1}
    assert lua.value("return json.array(inputs.none)", inputs={"none": {}}) == []
    assert lua.error("return json.encode({x = {print}})").message == "json.encode: value.x[1] is a function"
    assert lua.error("return json.decode(5)").message == "json.decode: expected a string, got number"
    assert lua.error("return json.array(5)").message == "json.array: expected a table, got number"
    assert lua.error("return json.array(inputs)", inputs={"a": 1}).message == "json.array: the value is an object"
