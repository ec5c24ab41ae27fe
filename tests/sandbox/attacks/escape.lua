-- To reach what is outside: files, processes, code loading, the host's objects, the library's own tables.

--# loaders are gone
--  Tries: to find a function that loads code, under every name Lua ever had for one.
--  Ends: value "none"
for _, name in ipairs {"load", "loadstring", "loadfile", "dofile", "module", "package", "setfenv", "getfenv", "newproxy"} do
  if _G[name] or _ENV[name] then return name end
end
return "none"

--# the host is gone
--  Tries: to find what lupa puts into a state.
--  Ends: value "none"
for _, name in ipairs {"python", "lupa", "io", "debug", "collectgarbage", "warn", "arg", "host", "guard", "values"} do
  if _G[name] ~= nil then return name end
end
return "none"

--# os is four functions
--  Tries: to reach processes and files through os.
--  Ends: value "clock date difftime time"
local names = {}
for name in pairs(os) do names[#names + 1] = name end
table.sort(names)
return table.concat(names, " ")

--# bytecode as text
--  Tries: to run bytecode that string.dump would make.
--  Ends: value [true, true]
return {string.dump == nil, ("").dump == nil}

--# require reaches no file
--  Tries: to require Lua's own packages, files, and names with tricks in them.
--  Ends: value 0
local reached = 0
for _, name in ipairs {"io", "os", "debug", "package", "_G", "lupa", "../shared", "/etc/passwd", "shared\0", "", "shared.lua"} do
  if pcall(require, name) then reached = reached + 1 end
end
return reached

--# the metatable of texts
--  Tries: to get or change what all texts share.
--  Ends: value [false, false, false, false]
local got = getmetatable("")
local set = pcall(setmetatable, "", {})
local changed = pcall(function() getmetatable("").__index = {} end)
local assigned = pcall(function() local s = "x" s.upper = print end)
return {got, set, changed, assigned}

--# poisoned libraries
--  Tries: to replace functions of the libraries, by every way to write to a table.
--  Ends: value 0
local poisoned = 0
local function evil() return "evil" end
for _, name in ipairs {"string", "table", "math", "utf8", "coroutine", "os", "json", "log", "re", "time", "base64"} do
  local library = _ENV[name]
  local ways = {
    function() library.evil = evil end,
    function() rawset(library, "evil", evil) end,
    function() for key in pairs(library) do library[key] = evil end end,
    function() for key in pairs(library) do rawset(library, key, evil) end end,
    function() setmetatable(library, {__index = evil}) end,
    function() getmetatable(library).__index = evil end,
    function() table.insert(library, evil) end,
    function() table.move({evil}, 1, 1, 1, library) end,
    function() table.sort(library, function() return true end) library[1] = evil end,
    function() json.array(library)[1] = evil end,
    function() table.remove(library) library[1] = evil end,
  }
  for _, way in ipairs(ways) do
    if pcall(way) then poisoned = poisoned + 1 end
  end
  if library.evil then poisoned = poisoned + 100 end
end
return poisoned

--# raw access to what is read-only
--  Tries: to get behind a read-only value with the raw functions.
--  Ends: value [1, 3, false, false, false, 1]
local raw = rawget(inputs.deep.er, "a")
local length = rawlen(inputs.list)
local set = pcall(rawset, inputs.deep.er, "a", 2)
local through = pcall(function() for _, v in pairs(inputs.deep) do v.a = 2 end end)
local nexted = pcall(function() local _, v = next(inputs.deep) v.a = 2 end)
return {raw, length, set, through, nexted, inputs.deep.er.a}

--# sort what is read-only
--  Tries: to have C functions write to a read-only list.
--  Ends: value [false, false, false, false, 1]
local sorted = pcall(table.sort, inputs.list, function(a, b) return tostring(a) > tostring(b) end)
local inserted = pcall(table.insert, inputs.list, 1, "x")
local removed = pcall(table.remove, inputs.list, 1)
local moved = pcall(table.move, {9, 9, 9}, 1, 3, 1, inputs.list)
return {sorted, inserted, removed, moved, inputs.list[1]}

--# another environment
--  Tries: to find the library's own table by changing what globals are.
--  Ends: value [false, false, false, "nil"]
local meta = getmetatable(_ENV)
local set = pcall(setmetatable, _ENV, nil)
local index = pcall(function() getmetatable(_ENV).__index.print = nil end)
local _ENV <const> = {type = type, meta = meta, set = set, index = index, got = _G}
return {meta, set, index, type(got.load)}

--# global declarations of Lua 5.5
--  Tries: to reach or lock globals by the new declarations.
--  Ends: value [true, "nil"]
global print, type, tostring
global<const> *
global own
own = 5
return {own == 5, type(load)}

--# the sandbox's own coroutine
--  Tries: to resume, close or end the coroutine that all scripts run in.
--  Ends: value [false, false, false, false, "running"]
local main, is_main = coroutine.running()
local resumed = coroutine.wrap(function() return coroutine.resume(main) end)()
local closed = coroutine.wrap(function() return (pcall(coroutine.close, main)) end)()
local self = pcall(coroutine.close, main)
local yielded = pcall(coroutine.yield, 1)
return {resumed, closed, self, yielded, is_main and coroutine.status(main)}

--# a yield to the host
--  Tries: to yield out of the script from a metamethod, an iterator, a comparison and a close.
--  Ends: value [false, false, false, false]
local meta = setmetatable({}, {__index = function() return coroutine.yield() end, __close = function() coroutine.yield() end})
local indexed = pcall(function() return meta.x end)
local iterated = pcall(function() for _ in coroutine.yield do end end)
local compared = pcall(table.sort, {3, 2, 1}, function() return coroutine.yield() end)
local closing = pcall(function() local _ <close> = meta end)
return {indexed, iterated, compared, closing}

--# an error handler with a view
--  Tries: to see the host's frames, values or files from an error handler.
--  Ends: value [false, "string", true]
local seen
local ok = xpcall(function() local x = nil; return x.y end, function(message) seen = message return message end)
return {ok, type(seen), not seen:find("host") and not seen:find("%.py") and not seen:find("0x")}

--# addresses in texts
--  Tries: to learn where things lie in memory.
--  Ends: value "none"
local made = {{}, print, coroutine.create(print), setmetatable({}, {__name = "Mine"}), string.upper, inputs, json, json.null}
for _, value in ipairs(made) do
  local texts = {tostring(value), ("%s"):format(value), string.format("%10s", value)}
  local ways = {function() return value .. "" end, function() return #value < value end, function() return -value end,
    function() error(value) end, function() return value() end, function() return ("%d"):format(value) end,
    function() return ("%q"):format(value) end, function() return utf8.char(value) end, function() return math.floor(value) end}
  for _, way in ipairs(ways) do
    local _, message = pcall(way)
    texts[#texts + 1] = tostring(message)
  end
  for _, text in ipairs(texts) do
    local address = text:match("0x(%x+)")
    if address and tonumber(address, 16) > 1000 then return text end
  end
end
return "none"

--# pointers by format
--  Tries: to have string.format write an address.
--  Ends: value 0
local found = 0
for _, pattern in ipairs {"%p", "%10p", "%-10p", "% p", "%#p", "%0p", "%+p", "%.3p", "%%%p", "x%px"} do
  if pcall(string.format, pattern, {}) then found = found + 1 end
  if pcall(string.format, pattern, "text") then found = found + 1 end
end
return found

--# json.null is no file
--  Tries: to write through the userdata that json.null is made of.
--  Ends: value [false, false, false, false, "null"]
local null = json.null
local wrote = pcall(function() null:write("x") end)
local closed = pcall(function() null:close() end)
local meta = getmetatable(null)
local called = pcall(function() string.upper(null) null() end)
return {wrote, closed, meta, called, tostring(null)}

--# a finalizer
--  Tries: to run code whenever memory is collected, in anybody's attempt.
--  Ends: value [false, false]
local made = pcall(setmetatable, {}, {__gc = function() while true do end end})
local late = {}
setmetatable({}, late)
late.__gc = function() while true do end end
for _ = 1, 100 do local _ = {{}, {}, ("x"):rep(100000)} end
return {made, (pcall(setmetatable, {}, late))}

--# a finalizer by the back door
--  Tries: to have __gc found by rawget of a read-only or an indexed metatable.
--  Ends: value "not called"
local called = "not called"
local function gc() called = "called" end
pcall(setmetatable, {}, setmetatable({}, {__index = {__gc = gc}}))
pcall(setmetatable, {}, setmetatable({}, {__index = function() return gc end}))
for _ = 1, 200 do local _ = ("x"):rep(200000) end
return called

--# a forged failure
--  Tries: to end with a type that only the platform has.
--  Ends: value [false, false, false, false]
local named = {}
for i, kind in ipairs {"Timeout", "MemoryLimit", "Killed", "InternalError"} do
  named[i] = pcall(fail, "no", {type = kind})
end
return named

--# a forged failure by metatable
--  Tries: to have something else be taken for what `fail` makes.
--  Ends: value [false, false, false]
local real = fail("x")
local meta = getmetatable(real)
local copied = pcall(setmetatable, {message = "y"}, meta or 0)
local changed = pcall(setmetatable, real, {})
return {meta, copied, changed}

--# a failure that was changed
--  Tries: to change what a failure says after it was checked.
--  Ends: Fine
--  Says: ^first$
local failure = fail("first", {type = "Fine"})
failure.message = ("second"):rep(1000)
failure.details = {type = "Timeout"}
error(failure)

--# a line of an error that is none
--  Tries: to have a number taken for a line that is none, so that the record of the attempt cannot be read.
--  Ends: LuaError
error("script:99999999999999999999999: from nowhere", 0)

--# a line beyond the code
--  Tries: the same with a number that is one.
--  Ends: LuaError
error("script:9223372036854775807: from nowhere", 0)

--# a memory error that is none
--  Tries: to have the platform believe that memory ran out, in the hope of what it does then.
--  Ends: MemoryLimit
pcall(error, "not enough memory", 0)
return 1

--# the host's words
--  Tries: to say what the guard says when a script is stopped.
--  Ends: LuaError
error("the script was stopped", 0)

--# upvalues of the library
--  Tries: to reach shared state through functions that the library gives away.
--  Ends: value [true, true, false]
local iterate, state, start = ipairs({})
local again = ipairs({})
local through, value = pairs(inputs)
local ok = pcall(function() value.x = 1 end)
return {iterate == again, start == 0, ok}

--# modules share nothing
--  Tries: to leave something in a module for whoever requires it next.
--  Ends: value [1, 2, "set"]
local shared = require "shared"
local first, second = shared.add(), shared.add()
shared.add = function() return "evil" end
return {first, second, "set"}

--# a module with metatables
--  Tries: to poison a module's own environment.
--  Ends: LuaError
local shared = require "shared"
setmetatable(shared, {__index = _G, __newindex = _G})
shared.leaked = "leak"
assert(leaked == "leak")
getmetatable("").__index.leak = 1

--# bytes that look like Lua
--  Tries: to smuggle a name past what decides what a script may see.
--  Ends: value ["nil", "nil"]
local e = "_E" .. "NV"
return {type(_G and _G[e]), type(_G["lo" .. "ad"])}

--# metamethods on json values
--  Tries: to have the encoder call a method of the script, where nobody watches.
--  Ends: value {"a":1}
local t = setmetatable({a = 1}, {
  __index = function() error("called") end,
  __pairs = function() error("called") end,
  __len = function() error("called") end,
  __tostring = function() error("called") end,
})
return t

--# weak tables look at others
--  Tries: to see another script's values die.
--  Ends: value 0
local seen = setmetatable({}, {__mode = "kv"})
for key, value in pairs(_G) do
  if type(value) == "table" and value ~= _G then seen[#seen + 1] = {value} end
end
for _ = 1, 100 do local _ = ("x"):rep(100000) end
local left = 0
for _, value in pairs(seen) do if value.secret then left = left + 1 end end
return left
