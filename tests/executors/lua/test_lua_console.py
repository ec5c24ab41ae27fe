"""The sandbox to type at: globals stay, results are shown, nothing that goes wrong ends it."""

from __future__ import annotations

import os
import signal

import pytest

from dagengine.clock import SystemClock
from dagengine.executors.lua.console import Console


@pytest.fixture
def lines():
    return []


@pytest.fixture
def console(scope, lines):
    made = scope(inputs={"limit": 5}, nodes={"load-data": [1, 2]})
    return Console(made, clock=SystemClock(), lines=lambda *line: lines.append(line), max_memory=128 << 20)


def shown(console, code):
    entered = console.enter(code)
    assert entered.error is None, entered
    return entered.text


def test_expressions_are_shown_as_json(console):
    assert shown(console, "{a = 1, b = {2.5, json.null}}") in ('{"a":1,"b":[2.5,null]}', '{"b":[2.5,null],"a":1}')
    assert shown(console, "inputs.limit, nodes['load-data']") == "5\n[1,2]"
    assert shown(console, "nil") == "null"
    assert shown(console, "x = 1") == ""


def test_what_is_not_json_is_shown_as_tostring_does(console):
    assert shown(console, "print, 0/0") == "function: 0x00000001\n-nan" or shown(console, "print").startswith(
        "function"
    )
    assert shown(console, "setmetatable({print}, {__tostring = function() return 'mine' end})") == "mine"


def test_globals_stay_and_locals_do_not(console):
    assert shown(console, "local here = 1 there = 2") == ""
    assert shown(console, "here, there, _G.there") == "null\n2\n2"
    assert shown(console, "function twice(n) return n * 2 end") == ""
    assert shown(console, "twice(there)") == "4"


@pytest.mark.parametrize("code", ["for i = 1, 2 do", "function f()", "x = {", "local s = [[a", "if inputs then"])
def test_code_that_is_not_complete_is_not_an_error_yet(console, code):
    assert console.enter(code).unfinished


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("x = = 1", "LuaSyntaxError"),
        ("error('boom')", "LuaError"),
        ("error(fail('no', {type = 'Nope'}))", "Nope"),
        ("string.upper = nil", "LuaError"),
        ("('x'):rep(1 << 30)", "MemoryLimit"),
        ("local t = {} while true do t[#t + 1] = {} end", "MemoryLimit"),
        ("local function f() return 1 + f() end return f()", "LuaError"),
    ],
)
def test_after_an_error_everything_is_still_there(console, code, kind):
    console.enter("kept = 7")
    entered = console.enter(code)
    assert entered.error is not None
    assert (entered.error.type, entered.unfinished) == (kind, False)
    assert shown(console, "kept, ('x'):upper(), select('#', coroutine.resume(coroutine.create(print)))") == '7\n"X"\n1'


def test_errors_show_what_was_entered(console):
    error = console.enter("error('boom')").error
    assert error is not None
    assert (error.message, error.line) == ("boom", 1)


ENDLESS = (
    "print('go') while true do end",
    "print('go') while true do pcall(function() while true do end end) end",
    "print('go') local f = coroutine.wrap(function() while true do end end) f()",
    "print('go') table.sort({3, 2, 1}, function() while true do end end)",
)


@pytest.mark.parametrize("code", ENDLESS)
def test_what_is_cancelled_stops_and_no_script_can_catch_it(scope, code):
    token = object()
    console = Console(scope(), clock=SystemClock(), lines=lambda *_: console.cancel(token))
    console.enter("kept = 7")
    error = console.enter(code, token=token).error
    assert error is not None
    assert error.type == "Cancelled"
    assert shown(console, "kept") == "7"


def test_only_what_runs_is_cancelled(console):
    before, after = object(), object()
    console.cancel(before)
    assert console.enter("for i = 1, 1000000 do end return 1", token=after).text == "1"
    console.cancel(after)
    assert console.enter("for i = 1, 1000000 do end return 2", token=object()).text == "2"
    assert shown(console, "for i = 1, 1000000 do end return 3") == "3"


@pytest.mark.parametrize("code", ENDLESS)
def test_a_signal_stops_what_runs_and_no_script_can_catch_it(scope, code):
    # The line of the log comes while the script runs: the signal is there before the next instruction of Python's.
    console = Console(scope(), clock=SystemClock(), lines=lambda *_: os.kill(os.getpid(), signal.SIGINT))
    console.enter("kept = 7")
    with pytest.raises(KeyboardInterrupt):
        console.enter(code)
    assert shown(console, "kept") == "7"


def test_the_log_comes_at_once(console, lines):
    assert shown(console, "print('a', 1) log.warn('b')") == ""
    assert lines == [("info", "a\t1"), ("warning", "b")]
