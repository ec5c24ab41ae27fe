"""The same attempt gives the same result, in every process: randomness, time, addresses and order come from outside."""

from __future__ import annotations

import subprocess
import sys

import pytest

DRAW = "local t = {} for i = 1, 5 do t[i] = math.random(1, 1000000) end t[6] = math.random() return t"


def test_randomness_comes_from_the_seed(lua):
    first = lua.value(DRAW, run={"seed": 7})
    assert lua.value(DRAW, run={"seed": 7}) == first
    assert lua.value(DRAW, run={"seed": 8}) != first
    lua.value("return math.random()", run={"seed": 9})
    assert lua.value(DRAW, run={"seed": 7}) == first


def test_a_seed_of_any_size_is_taken(lua):
    assert lua.value(DRAW, run={"seed": 2**64 - 1}) == lua.value(DRAW, run={"seed": 2**64 - 1})
    assert lua.value(DRAW, run={"seed": -1}) == lua.value(DRAW, run={"seed": -1})


def test_a_script_may_seed_for_itself_and_without_a_number_gets_the_attempts_seed(lua):
    own = "math.randomseed(42) return math.random(1, 1000000)"
    assert lua.value(own, run={"seed": 1}) == lua.value(own, run={"seed": 2})
    again = "math.random() math.randomseed() return math.random(1, 1000000)"
    assert lua.value(again, run={"seed": 1}) == lua.value("return math.random(1, 1000000)", run={"seed": 1})


def test_time_is_the_attempts(lua):
    at = 1_700_000_000_123_456
    assert lua.value("return {os.time(), os.clock(), os.date('%Y-%m-%dT%H:%M:%S')}", run={"now": at}) == [
        1_700_000_000,
        1_700_000_000.123456,
        "2023-11-14T22:13:20",
    ]
    assert lua.value("return os.date('*t').hour", run={"now": at}) == 22
    assert lua.value("return os.date('!%H', 0)") == "00"


@pytest.mark.parametrize(
    ("code", "seconds"),
    [
        ("{year = 1970, month = 1, day = 1, hour = 0}", 0),
        ("{year = 2024, month = 2, day = 29}", 1_709_208_000),
        ("{year = 2023, month = 14, day = 1, hour = 0}", 1_706_745_600),
        ("{year = 2024, month = 1, day = 0, hour = 0, min = 90, sec = -1}", 1_703_986_199),
        ("{year = 1969, month = 12, day = 31, hour = 23, min = 59, sec = 59}", -1),
    ],
)
def test_dates_are_turned_into_seconds_in_utc(lua, code, seconds):
    assert lua.value(f"return os.time({code})") == seconds


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("local t = os.time({year = 2024})", "field 'month' missing in date table"),
        ("local t = os.time({year = 2024, month = 1.5, day = 1})", "field 'month' is not an integer"),
        ("local t = os.time({year = 1 << 60, month = 1, day = 1})", "field 'year' is out-of-bound"),
        ("local t = os.time(5)", "bad argument #1 to 'time' (table expected, got number)"),
        ("local t = os.date('%Ez')", "bad argument #1 to 'date' (invalid conversion specifier '%Ez')"),
    ],
)
def test_a_date_that_is_none_is_an_error(lua, code, message):
    assert lua.error(code).message == message


def test_addresses_are_not_shown(lua):
    code = """
    local t, f, c = {}, function() end, coroutine.create(print)
    return {tostring(t), tostring(f), tostring(c), tostring(t), string.format("%s %s", t, print), ("%s"):format(inputs)}
    """
    assert (
        lua.value(code)
        == lua.value(code)
        == [
            "table: 0x00000001",
            "function: 0x00000002",
            "thread: 0x00000003",
            "table: 0x00000001",
            "table: 0x00000001 function: 0x00000004",
            "table: 0x00000005",
        ]
    )
    assert lua.value("return tostring(setmetatable({}, {__name = 'Point'}))") == "Point: 0x00000001"
    assert lua.value("return tostring(setmetatable({}, {__tostring = function() return 'me' end}))") == "me"


def test_the_order_of_keys_is_the_same_in_every_process(lua):
    script = (
        "from dagengine.executors import base; from dagengine.executors.lua.runtime import Runtime; import sys\n"
        "lua = Runtime()\n"
        "scope = base.Scope(execution='', workflow='', version='', digest='', inputs=b'{}', nodes={}, env={})\n"
        "sys.stdout.buffer.write(lua.run(lua.script(sys.argv[1]), scope))\n"
    )
    code = (
        "local t = {} for i = 1, 50 do t['key' .. i * 7] = i end for i = 1, 20 do t['key' .. i * 7] = nil end return t"
    )
    other = subprocess.run([sys.executable, "-c", script, code], capture_output=True, check=True).stdout
    assert other == lua.raw(code)
