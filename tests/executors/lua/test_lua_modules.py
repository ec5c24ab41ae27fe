"""`require`: the workflow's modules, anew in each attempt."""

from __future__ import annotations

import pytest

from dagengine.events.facts import ErrorInfo

ROWS = """local rows = {}
local count = 0
function rows.sum(list)
  count = count + 1
  local total = 0
  for _, value in ipairs(list) do total = total + value end
  return total
end
function rows.count() return count end
return rows"""


def test_a_module_is_what_it_returns(lua):
    code = "local rows = require 'rows' return rows.sum(inputs.list)"
    assert lua.value(code, modules={"rows": ROWS}, inputs={"list": [1, 2, 3]}) == 6


def test_a_module_is_loaded_once_in_an_attempt_and_anew_in_the_next(lua):
    code = "require('rows').sum({1}) require('rows').sum({1}) return {require('rows').count(), require('rows').seen}"
    for _ in range(3):
        assert lua.value(code, modules={"rows": ROWS}) == [2]
        assert lua.value("local r = require 'rows' r.seen = true return r.count()", modules={"rows": ROWS}) == 0


def test_a_modules_globals_are_its_own(lua):
    modules = {"m": "shared = (shared or 0) + 1 helper = function() return shared end return {helper = helper}"}
    code = "shared = 10 local m = require 'm' return {m.helper(), shared, helper == nil}"
    for _ in range(2):
        assert lua.value(code, modules=modules) == [1, 10, True]


def test_a_module_sees_the_library_and_nothing_of_the_scope(lua):
    modules = {"m": "return {inputs == nil, nodes == nil, env == nil, json ~= nil, re ~= nil, (...)}"}
    assert lua.value("return {m = require 'm', x = inputs.x}", modules=modules, inputs={"x": 1}) == {
        "m": [True, True, True, True, True, "m"],
        "x": 1,
    }


def test_a_module_that_returns_nothing_is_true(lua):
    assert lua.value("return {require 'm', require 'm'}", modules={"m": "local x = 1"}) == [True, True]


def test_modules_require_each_other(lua):
    modules = {"a.b": "return {n = require('c').n + 1}", "c": "return {n = 1}"}
    assert lua.value("return require('a.b').n + require('c').n", modules=modules) == 3


def test_randomness_and_time_in_a_module_are_the_attempts(lua):
    modules = {
        "m": "return {random = function() return math.random(1000000) end, now = function() return os.time() end}"
    }
    code = "local m = require 'm' return {m.random(), m.now()}"
    one, two, three = (lua.value(code, modules=modules, run={"seed": seed, "now": 5_000_000}) for seed in (1, 1, 2))
    assert one == two != three
    assert one[1] == 5


@pytest.mark.parametrize(
    ("code", "modules", "message"),
    [
        ("local m = require 'x'", {"b": "return 1", "a": "return 1"}, "there is no module 'x'; there are: a, b"),
        ("local m = require 'x'", {}, "there is no module 'x': the workflow has no spec.modules"),
        ("local m = require(5)", {}, "bad argument #1 to 'require' (string expected, got number)"),
    ],
)
def test_an_unknown_module_is_named(lua, code, modules, message):
    error = lua.error(f"\n{code}", modules=modules)
    assert (error.message, error.line) == (message, 2)


def test_modules_in_a_circle_are_told_in_their_order(lua):
    modules = {"a": "return require 'b'", "b": "local c = require 'c' return c", "c": "local a = require 'a' return a"}
    error = lua.error("local a = require 'a'", modules=modules)
    assert error.message == "module 'c':1: module 'a' requires itself: a → b → c → a"
    assert error.line == 1


def test_a_module_that_failed_can_be_required_again(lua):
    code = """
    local results = {}
    for i = 1, 2 do results[i] = select(2, pcall(require, 'm')) end
    return results"""
    assert lua.value(code, modules={"m": "error('not today')"}) == ["module 'm':1: not today"] * 2


def test_an_error_in_a_module_shows_its_line_and_the_scripts(lua):
    modules = {"rows": "local rows = {}\nfunction rows.first(list)\n  return list[1].name\nend\nreturn rows"}
    error = lua.error("local rows = require 'rows'\nlocal name = rows.first({})\nreturn name", modules=modules)
    assert error.message == "module 'rows':3: attempt to index a nil value (field 'integer index')"
    assert error.line == 2
    assert error.traceback.split("\n") == [
        "module 'rows':3, in function 'first'",
        "  return list[1].name",
        "line 2, in the script",
        "  local name = rows.first({})",
    ]


def test_a_syntax_error_in_a_module_is_told_where_it_is_required(lua):
    error = lua.error("local m = require 'm'", modules={"m": "local x = 1\nx = = 2"})
    assert (error.message, error.line) == ("module 'm':2: unexpected symbol near '='", 1)


def test_code_cannot_close_the_module_it_is_put_into(lua):
    assert "expected near 'end'" in lua.error("local m = require 'm'", modules={"m": "end local x = 1"}).message


def test_a_module_that_runs_for_ever_is_stopped(lua):
    assert lua.error("require 'm'", modules={"m": "while true do end"}, run={"timeout": 30_000}).type == "Timeout"


def test_the_same_name_in_another_workflow_is_another_module(lua):
    code = "return require 'm'"
    assert [lua.value(code, modules={"m": f"return {n}"}) for n in (1, 2, 1)] == [1, 2, 1]


def test_code_that_requires_nothing_finds_nothing_left_of_what_others_required(lua):
    lua.value("return require 'm'", modules={"m": "return 1"})
    error = lua.error("local m = _ENV['req' .. 'uire']('m')")
    assert error.message == "there is no module 'm': the workflow has no spec.modules"


def test_many_sets_of_modules_do_not_fill_the_memory(lua):
    lua.max_memory = 16 << 20
    for n in range(300):
        result = lua.raw("return #require('m')", modules={"m": f"return '{'x' * 100_000}{n:04}'"})
        assert not isinstance(result, ErrorInfo), (n, result)
