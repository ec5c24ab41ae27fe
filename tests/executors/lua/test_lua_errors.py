"""What a script's error tells its author: the message, the line, and the author's own frames."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("code", "message", "line"),
    [
        ("\n\nerror('boom')", "boom", 3),
        ("\nerror('boom', 0)", "boom", 2),
        ("local x = nil\nreturn x.y", "attempt to index a nil value (local 'x')", 2),
        ("return nodes.gone.x", "attempt to index a nil value (field 'gone')", 1),
        ("return 1 + {}", "attempt to perform arithmetic on a table value", 1),
        ("\nnope()", "attempt to call a nil value (global 'nope')", 2),
        ("error({message = 'from a table', code = 5})", "from a table", 1),
        ("error({code = 5})", '{"code":5}', 1),
        ("error(setmetatable({}, {__tostring = function() return 'shown' end}))", "shown", 1),
        ("error(setmetatable({}, {__tostring = function() error('x') end}))", "error with a table value", 1),
        ("error({print})", "error with a table value", 1),
        ("error(print)", "function: 0x00000001", 1),
        ("error(true)", "true", 1),
        ("error(5)", "5", 1),
        ("assert(false)", "assertion failed!", 1),
        ("assert(nil, 'because')", "because", 1),
        ("\ntable.insert(1, 2)", "bad argument #1 to 'insert' (table expected, got number)", 2),
        ("('x'):rep({})", "bad argument #2 to 'rep' (number expected, got table)", 1),
        ("string.format('%d', 'x')", "bad argument #2 to 'format' (number expected, got string)", 1),
        ("setmetatable(1, {})", "bad argument #1 to 'setmetatable' (table expected, got number)", 1),
        ("for i = 1, 'x' do end", "bad 'for' limit (number expected, got string)", 1),
    ],
)
def test_message_and_line_are_the_scripts_own(lua, code, message, line):
    error = lua.error(code)
    assert (error.type, error.message, error.line) == ("LuaError", message, line)


def test_an_error_without_a_value(lua):
    error = lua.error("error(nil)")
    assert error.type == "LuaError"
    assert error.message in ("error without a message", "<no error object>")


def test_the_traceback_names_lines_and_functions_of_the_script_only(lua):
    code = """local function inner(x)
  return x.y.z
end
local function outer(x)
  local r = inner(x)
  return r
end
local r = outer({})
return r"""
    assert lua.error(code).traceback.split("\n") == [
        "line 2, in function 'inner'",
        "  return x.y.z",
        "line 5, in function 'outer'",
        "  local r = inner(x)",
        "line 8, in the script",
        "  local r = outer({})",
    ]


def test_an_error_in_a_callback_or_a_coroutine_keeps_its_line(lua):
    assert lua.error("\ntable.sort({1, 2}, function()\nerror('x')\nend)").line == 3
    assert lua.error("\nlocal f = coroutine.wrap(function()\nerror('x')\nend)\nf()").line == 3
    assert lua.error("\n\npcall(error)\nerror('y')").line == 4


def test_an_error_caught_and_raised_again_keeps_its_message(lua):
    error = lua.error("local ok, e = pcall(error, 'first', 0)\nerror('second: ' .. e, 0)")
    assert (error.message, error.line) == ("second: first", 2)


def test_a_very_long_message_is_cut(lua):
    assert len(lua.error("error(('x'):rep(1000000))").message) < 10_000


def test_a_message_that_is_not_utf8_is_readable(lua):
    assert lua.error("error('a\\xffb', 0)").message == "a\ufffdb"


@pytest.mark.parametrize(
    ("code", "message", "line"),
    [
        ("x = = 1", "unexpected symbol near '='", 1),
        ("local x = 1\nif x then\nreturn x", "'end' expected (to close 'if' at line 2) near <eof>", 3),
        ("return 'abc", "unfinished string near <eof>", 1),
        ("\n\ngoto nowhere", "no visible label 'nowhere' for <goto> at line 3", 3),
        ("break", "break outside loop near 'break'", 1),
        ("local x <const> = 1\nx = 2", "attempt to assign to const variable 'x'", 2),
    ],
)
def test_a_syntax_error_has_its_line(lua, code, message, line):
    error = lua.error(code)
    assert error.type == "LuaSyntaxError"
    assert message in error.message
    assert error.line == line


def test_a_timeout_names_the_line_that_was_running(lua):
    error = lua.error("local x = 1\n\nwhile true do\nx = x\nend", run={"timeout": 20_000})
    assert error.type == "Timeout"
    assert error.line in (3, 4)
    assert "in the script" in error.traceback


def test_what_is_told_of_an_error_is_never_long(lua):
    name = "x" * 50_000
    for code in (
        f"return '{'x' * 1_000_000}",
        f"local t = {{}} function t.{name}(n) if n == 0 then error('x') end t.{name}(n - 1) return 1 end t.{name}(60)",
    ):
        error = lua.error(code)
        assert len(error.message) + len(error.traceback) < 20_000


def test_a_syntax_error_shows_its_source_line(lua):
    assert lua.error("local x = 1\n  x = = 2").traceback == "line 2, in the script\n  x = = 2"
