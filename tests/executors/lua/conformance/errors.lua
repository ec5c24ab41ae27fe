-- Errors (§2.3), `pcall`, `xpcall`, `error`, `assert`, `select`, `type`.
return {
  ["pcall gives what the function gives"] = {pcall(function(...) return ... end, 1, 2)},
  ["error takes any value"] = {pcall(error, "text", 0), select(2, pcall(error, {code = 1})).code, select(2, pcall(error, 5))},
  ["error says where"] = {select(2, pcall(function() error("here") end))},
  ["levels"] = (function() local function f() error("there", 2) end return {select(2, pcall(function() f() end))} end)(),
  ["xpcall calls its handler"] = {xpcall(function() error("x", 0) end, function(m) return m .. "!" end)},
  ["xpcall passes arguments on"] = {xpcall(function(a, b) return a + b end, print, 2, 3)},
  ["pcalls nest"] = {pcall(pcall, error, "x")},
  ["assert"] = {{assert(1, "unused")}, {pcall(assert, false, "said")}, {pcall(assert, nil)}},
  ["errors name what they are about"] = {
    select(2, pcall(function() local t = {} return t.a.b end)), select(2, pcall(function() return #5 end)),
    select(2, pcall(function() return {} < {} end)), select(2, pcall(function() return 1 < "2" end)),
    select(2, pcall(function() return {} .. "x" end)), select(2, pcall(function() local s = "x" return s:nope() end)),
  },
  ["type and tostring"] = {type(nil), type(1), type("x"), type({}), type(print), type(coroutine.create(print)), tostring(nil), tostring(true)},
  ["select"] = {select("#"), select("#", nil, nil), (select(2, "a", "b")), select(-1, "a", "b"), (pcall(select, 0))},
  ["raw access"] = {rawequal("a", "a"), rawlen {1, 2}, rawlen "abc", rawget({x = 1}, "x"), rawset({}, "y", 2).y},
  ["stack overflow is an error like any other"] = (pcall(function() local function f() return 1 + f() end return f() end)) == false,
}
