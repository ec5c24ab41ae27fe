"""Metatables as scripts have them: Lua's own, but that nothing is weak, and nothing is finalized."""

from __future__ import annotations

import pytest

# Classes as people write them; each is given what it is to return.
CLASSES = {
    "an instance": (
        """
        local C = {} C.__index = C
        function C.new(x) return setmetatable({x = x}, C) end
        local one = C.new(1)
        function C:get() return self.x end -- after the first instance
        C.__add = function(a, b) return a.x + b.x end
        return {one:get(), one + C.new(2), getmetatable(one) == C, getmetatable(C) == nil}
        """,
        [1, 3, True, True],
    ),
    "inheritance": (
        """
        local Base = {} Base.__index = Base
        function Base.new(x) return setmetatable({x = x}, Base) end
        function Base:get() return self.x end
        local D = setmetatable({}, {__index = Base, __call = function(class, x) return class.make(x) end})
        D.__index = D
        function D.make(x) return setmetatable(Base.new(x), D) end
        local E = setmetatable({}, {__index = D}) E.__index = E
        local d, e = D(1), setmetatable({x = 2}, E)
        function Base:double() return 2 * self:get() end
        return {d:get(), d:double(), e:double(), getmetatable(d) == D, getmetatable(D).__index == Base, e.none == nil}
        """,
        [1, 2, 4, True, True, True],
    ),
    "a class whose metatable changes": (
        """
        local meta = {__index = {a = 1}, __call = function() return "old" end}
        local C = setmetatable({}, meta) C.__index = C
        local one = setmetatable({}, C)
        local before = {one.a, C()}
        meta.__index = function(_, key) return key .. "!" end
        meta.__call = function(_, ...) return select("#", ...) end
        meta.__len = function() return 7 end
        meta.__eq, meta.__tostring, meta.__name = rawequal, function() return "C" end, "Class"
        local after = {one.a, C(1, nil), #C, tostring(C), C == setmetatable({}, meta)}
        meta.__index, meta.__len = nil, nil
        return {before, after, {one.a == nil, #C}}
        """,
        [[1, "old"], ["a!", 2, 7, "C", False], [True, 0]],
    ),
    "a table that is its own metatable": (
        """
        local C = {} C.__index = function(_, key) return key end
        setmetatable(C, C)
        C.__call = function(_, x) return x + 1 end
        C.__concat = function() return "joined" end
        return {C.missing, C(1), C .. "x", getmetatable(C) == C, rawget(C, "missing") == nil}
        """,
        ["missing", 2, "joined", True, True],
    ),
    "prototypes": (
        """
        local A = {n = 0}
        function A:new(o) o = o or {} setmetatable(o, self) self.__index = self return o end
        function A:add(k) self.n = self.n + k return self.n end
        local S = A:new()
        function S:add(k) return A.add(self, 10 * k) end
        local T = S:new({n = 1})
        A.later = "seen"
        return {A:new():add(1), S:new():add(1), T:add(2), T:new():add(1), T.later, A.n}
        """,
        [1, 10, 21, 31, "seen", 0],
    ),
    "writes to a class with a metatable": (
        """
        local seen = {}
        local meta = {__newindex = function(t, key, value) seen[#seen + 1] = key rawset(t, key, value) end}
        local C = setmetatable({}, meta) C.__index = C
        local one = setmetatable({}, C)
        C.a = 1
        C.a = 2
        meta.__newindex = seen
        C.b = 3
        meta.__newindex = nil
        C.c = 4
        return {one.a, one.b == nil, one.c, seen.b, table.concat(seen, " ")}
        """,
        [2, True, 4, 3, "__index a"],
    ),
    "protection": (
        """
        local C = setmetatable({}, {__metatable = "locked"})
        local one = setmetatable({}, C)
        C.__metatable = false
        local _, first = pcall(setmetatable, C, {})
        local _, second = pcall(setmetatable, one, {})
        return {getmetatable(C), getmetatable(one), first, second}
        """,
        ["locked", False, "cannot change a protected metatable", "cannot change a protected metatable"],
    ),
    "metatables come and go": (
        """
        local C, M = {}, {__index = {a = 1}}
        local one = setmetatable({}, C)
        setmetatable(C, M) C.__index = C
        local first = one.a
        setmetatable(C, nil)
        local second = one.a == nil and getmetatable(C) == nil
        setmetatable(C, {__index = {a = 2}})
        local third = one.a
        return {first, second, third, setmetatable(C, M) == C, one.a, getmetatable(setmetatable(one, nil)) == nil}
        """,
        [1, True, 2, True, 1, True],
    ),
    "a class as a value": (
        """
        local C = {} setmetatable({}, C)
        C.name = "x" C[1] = nil C.list = {1}
        local keys = {}
        for key in pairs(C) do keys[#keys + 1] = key end
        table.sort(keys)
        local L = {} setmetatable({}, L)
        table.insert(L, "a") table.insert(L, 1, "b") L[#L + 1] = "c"
        return {C, keys, L, table.concat(L), table.remove(L, 1), rawlen(L), json.encode(L)}
        """,
        [{"name": "x", "list": [1]}, ["list", "name"], ["a", "c"], "bac", "b", 2, '["a","c"]'],
    ),
}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_metatables_are_those_of_lua(lua, name):
    code, expected = CLASSES[name]
    assert lua.value(code) == expected


@pytest.mark.parametrize("mode", ["k", "v", "kv"])
def test_a_weak_table_keeps_what_it_was_given(lua, mode):
    code = """
    local early, late = setmetatable({}, {__mode = MODE}), {}
    local t = setmetatable({}, late)
    late.__mode = MODE
    early[{}], t[{}], early[1], t[1] = 1, 1, {}, {}
    for _ = 1, 100000 do local _ = {{}} end
    local n = 0
    for _ in pairs(early) do n = n + 1 end
    for _ in pairs(t) do n = n + 1 end
    return {n, late.__mode == nil}
    """
    assert lua.value(code.replace("MODE", f"'{mode}'")) == [4, True]


def test_a_metatable_says_what_key_it_cannot_have(lua):
    error = lua.error("local m = {}\nsetmetatable({}, m)\nm[nil] = 1")
    assert (error.message, error.line) == ("table index is nil", 3)
    error = lua.error("local m = {}\nsetmetatable({}, m)\nm[0/0] = 1")
    assert (error.message, error.line) == ("table index is NaN", 3)


def test_a_class_that_is_called_by_itself_comes_to_an_end(lua):
    code = """
    local meta = {}
    local C = setmetatable({}, meta)
    setmetatable({}, C)
    meta.__call, meta.__add = C, C
    return {(pcall(C)), (pcall(function() return C + 1 end))}
    """
    assert lua.value(code) == [False, False]


@pytest.mark.parametrize("made", ["json.array()", "json.decode('[]')", "fail('x')"])
def test_what_json_and_fail_made_is_no_metatable(lua, made):
    error = lua.error(f"setmetatable({{}}, {made})")
    assert "cannot be a metatable" in error.message
    assert error.line == 1


def test_read_only_values_can_be_metatables_and_stay_what_they_are(lua):
    code = """
    local t = setmetatable({}, inputs)
    local fine = pcall(rawset, inputs, "__mode", "k")
    return {fine, getmetatable(t) == inputs, pcall(setmetatable, inputs, {}), next(t) == nil}
    """
    assert lua.value(code) == [False, True, False, True]
