"""Attacks on the sandbox: nothing outside is reached, nothing of another script is changed, every script ends."""

from __future__ import annotations

import time

import pytest

from dagengine.executors.lua.runtime import BREAKING

LIMIT = 100_000


@pytest.mark.parametrize(
    "name",
    [
        "python",
        "io",
        "package",
        "debug",
        "load",
        "loadfile",
        "loadstring",
        "dofile",
        "collectgarbage",
        "warn",
    ],
)
def test_what_reaches_outside_is_not_there(lua, name):
    assert lua.value(f"return {name} == nil and _G[{name!r}] == nil and _ENV[{name!r}] == nil") is True


@pytest.mark.parametrize("field", ["os.execute", "os.getenv", "os.exit", "os.remove", "os.tmpname", "string.dump"])
def test_what_reaches_outside_is_not_in_the_libraries(lua, field):
    assert lua.value(f"return {field} == nil") is True


@pytest.mark.parametrize(
    "code",
    [
        "getmetatable('').__index = nil",
        "getmetatable('').__index.upper = nil",
        "getmetatable('').__add = print",
        "setmetatable('', {})",
        "string.upper = function() end",
        "rawset(string, 'upper', print)",
        "table.insert(string, print)",
        "table.move({print}, 1, 1, 1, string)",
        "setmetatable(string, {})",
        "getmetatable(string).__index = {}",
        "math.floor = nil",
        "coroutine.wrap = nil",
        "json.decode = nil",
        "log.info = nil",
        "os.time = nil",
        "utf8.char = nil",
        "setmetatable(_ENV, {})",
        "setmetatable(_G, {__index = {}})",
        "getmetatable(_ENV).__index.print = nil",
        "getmetatable(_G).__index = nil",
        "setmetatable(inputs, {})",
        "getmetatable(inputs).__index.a = 1",
        "rawset(inputs, 'a', 2)",
        "table.insert(inputs.list, 1)",
        "getmetatable(json.null).__index = {}",
        "setmetatable(json.null, {})",
        "getmetatable(json.array()).__index = {x = 1}",
        "setmetatable(print, {})",
        "for name, f in pairs(string) do rawset(string, name, nil) end",
    ],
)
def test_nothing_shared_can_be_changed(lua, code):
    lua.error(code, inputs={"a": 1, "list": []})
    check = """
    local e = json.array()
    return {("x"):upper(), math.floor(1.5), #utf8.char(233), json.encode(e), inputs.a, type(coroutine.wrap), e.x == nil}
    """
    assert lua.value(check, inputs={"a": 1, "list": []}) == ["X", 1, 2, "[]", 1, "function", True]


@pytest.mark.parametrize(
    "code",
    [
        "x = 5",
        "_G.x = 5",
        "_ENV.x = 5",
        "rawset(_G, 'x', 5)",
        "function x() end",
        "_G.print = nil print = nil",
        "pairs = nil next = nil type = nil",
        "coroutine.wrap(function() x = 5 end)()",
        "local ENV <close> = setmetatable({}, {__close = function() x = 5 end})",
    ],
)
def test_globals_end_with_the_call(lua, code):
    lua.value(code)
    assert lua.value("return {x == nil, type(print), type(pairs), type(_G.x)}") == [True, "function", "function", "nil"]


def test_globals_of_one_call_are_seen_in_all_of_it(lua):
    code = "x = 1 local function f() x = x + 1 end f() coroutine.wrap(f)() return {x, _G.x, _ENV.x, _G == _ENV}"
    assert lua.value(code) == [3, 3, 3, True]


@pytest.mark.parametrize(
    "code",
    [
        "return 1 end, function() return 2",
        "end",
        "return 1 end do",
        "x = 1 --[[",
        "\x1bLua",
    ],
)
def test_code_cannot_close_what_it_is_put_into(lua, code):
    assert lua.error(code).type == "LuaSyntaxError"


@pytest.mark.parametrize(
    "code",
    [
        "return debug.getinfo(1)",
        "return string.dump(function() end)",
        "return load('return 1')()",
        "return ('').dump(print)",
        "local s = string.format('%p', {})",
        "setmetatable({}, {__gc = function() end})",
        "coroutine.yield(1)",
        "coroutine.close(coroutine.running())",
        "coroutine.close()",
        "local main = coroutine.running() coroutine.wrap(function() coroutine.close(main) end)()",
        "table.sort({3, 2, 1}, function() coroutine.yield() end)",
    ],
)
def test_what_is_not_available_is_refused(lua, code):
    error = lua.error(code)
    assert error.type == "LuaError"
    assert error.line == 1
    assert not lua.runtime.broken


def test_a_finalizer_set_later_never_runs(lua):
    lua.value("local m = {} for i = 1, 1000 do setmetatable({}, m) end m.__gc = function() while true do end end")
    assert lua.value("local t = {} for i = 1, 100000 do t = {t = i} end return 1") == 1


def test_the_raw_table_behind_a_value_is_never_handed_out(lua):
    code = """
    local found = {}
    local iterate, state = pairs(inputs)
    found[1] = state == inputs
    for name, value in pairs(inputs) do found[#found + 1] = not pcall(rawset, value, "x", 1) end
    found[#found + 1] = not pcall(rawset, select(2, next(inputs)), "x", 1)
    found[#found + 1] = next(inputs, "gone") == nil
    return found
    """
    error = lua.error(code, inputs={"a": {}})
    assert "next" in error.message
    assert (
        lua.value(code.replace('found[#found + 1] = next(inputs, "gone") == nil', ""), inputs={"a": {}}) == [True] * 3
    )


ENDLESS = {
    "loop": "while true do end",
    "goto": "::again:: goto again",
    "pcall": "while true do pcall(function() while true do end end) end",
    "xpcall": "xpcall(function() while true do end end, function() while true do end end)",
    "xpcall in a loop": "while true do xpcall(function() while true do end end, error) end",
    "resume": "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    "wrap": "while true do pcall(coroutine.wrap(function() while true do end end)) end",
    "coroutines in coroutines": """
        local function deep(n)
          if n == 0 then while true do end end
          coroutine.wrap(deep)(n - 1)
        end
        while true do for n = 150, 220 do pcall(deep, n) end end""",
    "close at the end": """
        local x <close> = setmetatable({}, {__close = function() while true do end end})
        while true do end""",
    "close of a coroutine": """
        local co = coroutine.create(function()
          local x <close> = setmetatable({}, {__close = function() while true do end end})
          coroutine.yield()
        end)
        coroutine.resume(co)
        coroutine.close(co)""",
    "close in wrap": """
        coroutine.wrap(function()
          local x <close> = setmetatable({}, {__close = function() while true do end end})
          while true do end
        end)()""",
    "close after an error": """
        while true do
          pcall(function()
            local x <close> = setmetatable({}, {__close = function() while true do end end})
            error("x")
          end)
        end""",
    "close of a for loop": """
        local closing = setmetatable({}, {__close = function() while true do end end})
        for _ in function() return 1 end, nil, nil, closing do end""",
    "many closes": """
        local function f(n)
          if n == 0 then while true do end end
          local x <close> = setmetatable({}, {__close = function() while true do end end})
          f(n - 1)
        end
        f(10000)""",
    "full C stack": """
        local function deep(n)
          if n == 0 then while true do end end
          return (string.gsub("x", "x", function() return deep(n - 1) end))
        end
        while true do for n = 180, 200 do pcall(deep, n) end end""",
    "full C stack, handler": """
        local function spin() while true do end end
        local function deep(n)
          if n == 0 then xpcall(spin, spin) end
          return (string.gsub("x", "x", function() return deep(n - 1) end))
        end
        while true do for n = 180, 200 do pcall(deep, n) end end""",
    "full C stack, close": """
        local function deep(n)
          if n == 0 then while true do end end
          return (string.gsub("x", "x", function() return deep(n - 1) end))
        end
        local function watched(n)
          local x <close> = setmetatable({}, {__close = function() while true do end end})
          deep(n)
        end
        while true do
          for n = 180, 200 do
            local co = coroutine.create(watched)
            coroutine.resume(co, n)
            coroutine.close(co)
            pcall(coroutine.wrap(watched), n)
          end
        end""",
    "pcall in a recursion": "local function f() pcall(f) f() end f()",
    "xpcall in a recursion": "local function f() xpcall(f, f) end while true do f() end",
    "__eq": "local m = {__eq = function() while true do end end} return setmetatable({}, m) == setmetatable({}, m)",
    "__concat": "return 'x' .. setmetatable({}, {__concat = function() while true do end end})",
    "__len in concat": """
        local m = {__len = function() return 1 << 61 end, __index = function() return '' end}
        return table.concat(setmetatable({}, m))""",
    "__pairs": "for _ in pairs(setmetatable({}, {__pairs = function() while true do end end})) do end",
    "__tostring in print": "print(setmetatable({}, {__tostring = function() while true do end end}))",
    "__tostring of an error": "error(setmetatable({}, {__tostring = function() while true do end end}))",
    "__index of an error": "error(setmetatable({}, {__index = function() while true do end end}))",
    "sort": "table.sort({1, 2, 3}, function() while true do end end)",
    "gsub": "string.gsub('x', 'x', function() while true do end end)",
    "encode": "while true do json.encode({1, 2, 3}) end",
    "print": "while true do print('x') end",
    "heavy C calls": "while true do local s = ('x'):rep(1000000) end",
    "global hook names": "debug = {sethook = print} sethook = nil error = nil pcall = nil while true do end",
}


@pytest.mark.parametrize("code", ENDLESS.values(), ids=ENDLESS.keys())
def test_a_script_that_never_ends_is_stopped(lua, code):
    begun = time.monotonic()
    error = lua.error(code, run={"timeout": LIMIT})
    assert (error.type, error.message) == ("Timeout", "the script ran longer than its timeout of 0.1 s")
    assert time.monotonic() - begun < 5
    assert lua.value("return 1") == 1


GREEDY = {
    "texts": "local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end",
    "doubling": "local s = 'x' while true do s = s .. s end",
    "tables": "local t = {} while true do t = {t} end",
    "coroutines": "local t = {} while true do t[#t + 1] = coroutine.create(print) end",
    "one huge text": "return ('x'):rep(1000000000)",
    "one huge table": "return table.create(1000000000)",
    "format": "return string.format('%s%s', ('x'):rep(30000000), ('y'):rep(30000000))",
    "concat": "local t = {} for i = 1, 100 do t[i] = ('x'):rep(1000000) end return table.concat(t)",
    "pcall": """
        while true do
          pcall(function() local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end end)
        end""",
    "resume": """
        while true do
          coroutine.resume(coroutine.create(function()
            local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end
          end))
        end""",
    "close in wrap": """
        coroutine.wrap(function()
          local x <close> = setmetatable({}, {__close = function() while true do end end})
          local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end
        end)()""",
    "decode": "return json.decode('[' .. ('1,'):rep(20000000) .. '1]')",
}


@pytest.mark.parametrize("code", GREEDY.values(), ids=GREEDY.keys())
def test_a_script_that_wants_too_much_memory_is_stopped(lua, code):
    error = lua.error(code, run={"timeout": 60_000_000})
    assert (error.type, error.message) == (
        "MemoryLimit",
        "the script needed more memory than the 64 MiB it may use",
    )
    assert lua.value("return 1") == 1


def test_input_that_does_not_fit_is_refused_before_lua_is_asked(lua):
    error = lua.error("return #inputs.text", inputs={"text": "x" * (40 << 20)})
    assert error.type == "MemoryLimit"
    error = lua.error("return #nodes.a", nodes={"a": [{}] * 1_000_000})
    assert error.type == "MemoryLimit"
    assert lua.value("return 1") == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("local function f() return 1 + f() end return f()", "stack overflow"),
        (
            "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k + 1] end return t[1]",
            "stack",
        ),
        ("local function f(s) return (s:gsub('.', f)) end return f('x')", "stack overflow"),
        ("table.move({}, 1, 1 << 61, 2)", "table.move: too many elements"),
        (
            "table.insert(setmetatable({}, {__len = function() return 1 << 61 end}), 1, 1)",
            "table.insert: the table is too long",
        ),
        (
            "table.remove(setmetatable({}, {__len = function() return 1 << 61 end}), 1)",
            "table.remove: the table is too long",
        ),
        ("return select('#', table.unpack({}, 1, 100000000))", "too many results to unpack"),
        ("return ('xx'):rep(1 << 62)", "resulting string too large"),
    ],
)
def test_what_would_exhaust_the_host_is_a_plain_error(lua, code, message):
    lua.max_memory = 256 << 20
    error = lua.error(code)
    assert error.type == "LuaError"
    assert message in error.message
    assert not lua.runtime.broken


def test_repeating_nothing_ends(lua):
    assert lua.value("return string.rep('', 1 << 62)") == ""


def test_coroutines_work_as_in_lua(lua):
    code = """
    local function numbers(n)
      return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end end)
    end
    local sum = 0
    for i in numbers(10) do sum = sum + i end
    local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) error("end " .. b, 0) end)
    local first = {coroutine.resume(co, 1)}
    local second = {coroutine.resume(co, "x")}
    local closed = {}
    local open = coroutine.create(function()
      local x <close> = setmetatable({}, {__close = function() closed[1] = true end})
      coroutine.yield()
    end)
    coroutine.resume(open)
    local state = coroutine.status(open)
    coroutine.close(open)
    local main = select(2, coroutine.running())
    return {sum, first, second, coroutine.status(co), closed, state, main, coroutine.isyieldable()}
    """
    assert lua.value(code) == [55, [True, 2], [False, "end x"], "dead", [True], "suspended", True, False]


def test_pcall_and_xpcall_work_as_in_lua(lua):
    code = """
    local out = {{pcall(function(a, b) return a + b end, 1, 2)}, {pcall(error, "x")}, {pcall(error, {code = 5})}}
    out[4] = {xpcall(function() error("x", 0) end, function(e) return e .. "!" end)}
    out[5] = {xpcall(function(...) return select("#", ...) end, print, 1, nil, 3)}
    out[6] = {xpcall(error, function() error("again", 0) end)}
    return out
    """
    values = lua.value(code)
    assert values[:5] == [[True, 3], [False, "x"], [False, {"code": 5}], [False, "x!"], [True, 3]]
    assert values[5] == [False, "again"]


def test_the_error_types_that_break_a_runtime_are_those_after_which_it_says_so(lua):
    runtime = lua.runtime
    assert lua.error("while true do end", run={"timeout": 1_000}).type in BREAKING
    assert runtime.broken
