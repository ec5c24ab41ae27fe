-- To take more memory than is given, or to go on without it.

--# one text
--  Tries: to take a gigabyte at once.
--  Ends: MemoryLimit
return ("x"):rep(1 << 30)

--# doubling
--  Tries: to take it by and by.
--  Ends: MemoryLimit
local s = "x"
while true do s = s .. s end

--# a table
--  Tries: to fill a table.
--  Ends: MemoryLimit
--  Timeout: 5000
local t = {}
while true do t[#t + 1] = {} end

--# a table of numbers
--  Tries: to fill an array.
--  Ends: MemoryLimit
--  Timeout: 5000
local t, n = {}, 0
while true do n = n + 1 t[n] = n end

--# keys
--  Tries: to fill a table with texts that are all different.
--  Ends: MemoryLimit
--  Timeout: 15000
local t, n = {}, 0
while true do n = n + 1 t["key " .. n] = true end

--# closures
--  Tries: to fill memory with functions.
--  Ends: MemoryLimit
--  Timeout: 5000
local t = {}
while true do t[#t + 1] = function() return t end end

--# coroutines
--  Tries: to fill memory with stacks.
--  Ends: MemoryLimit or LuaError
--  Timeout: 5000
local t = {}
while true do
  local co = coroutine.wrap(function(...) coroutine.yield(...) end)
  co(table.unpack({}, 1, 200))
  t[#t + 1] = co
end

--# deep stacks
--  Tries: to fill memory with recursion.
--  Ends: LuaError or MemoryLimit
local function f(...) return 1 + f(1, 2, 3, 4, 5, 6, 7, 8, ...) end
return f()

--# stacks of many coroutines
--  Tries: to have many deep stacks at once.
--  Ends: MemoryLimit
--  Timeout: 5000
local t = {}
local function deep(n) if n == 0 then coroutine.yield() end return 1 + deep(n - 1) end
while true do
  t[#t + 1] = coroutine.create(deep)
  coroutine.resume(t[#t], 10000)
end

--# varargs
--  Tries: to fill the stack with arguments.
--  Ends: LuaError or MemoryLimit or Timeout
local function f(...) return f(1, ...) end
return f()

--# caught
--  Tries: to go on when memory has run out.
--  Ends: MemoryLimit
local t = {}
pcall(function() while true do t[#t + 1] = ("x"):rep(1 << 16) .. #t end end)
return #t

--# caught by xpcall
--  Tries: the same with a handler.
--  Ends: MemoryLimit
local t = {}
local ok = xpcall(function() while true do t[#t + 1] = ("x"):rep(1 << 16) .. #t end end, function(m) return m end)
return ok

--# caught in a coroutine
--  Tries: to have a coroutine die of it, and to go on.
--  Ends: MemoryLimit
local t = {}
local co = coroutine.create(function() while true do t[#t + 1] = ("x"):rep(1 << 16) .. #t end end)
coroutine.resume(co)
return #t

--# caught by close
--  Tries: to close the coroutine that died of it.
--  Ends: MemoryLimit
local t = {}
local co = coroutine.wrap(function()
  local _ <close> = setmetatable({}, {__close = function() t = nil end})
  while true do t[#t + 1] = ("x"):rep(1 << 16) .. #t end
end)
pcall(co)
return 1

--# caught in a replacement
--  Tries: to have it caught inside of C.
--  Ends: MemoryLimit
local t = {}
local s = ("x"):gsub("x", function() pcall(function() while true do t[#t + 1] = ("x"):rep(1 << 16) .. #t end end) end)
return s

--# at the edge
--  Tries: to live where nothing more can be had, so that the host has no room.
--  Ends: MemoryLimit or Timeout
local t = {}
local meta = {__close = function() error("harmless") end}
pcall(function()
  local _ <close> = setmetatable({}, meta)
  while true do t[#t + 1] = ("x"):rep(1 << 12) .. #t end
end)
while true do
  pcall(function()
    local _ <close> = setmetatable({}, meta)
    print(("y"):rep(100)) json.encode(t) sha256(t[1]) re.find(t[1], "y")
  end)
end

--# at the edge, with a result
--  Tries: to return a result where there is no room to write it.
--  Ends: MemoryLimit or ResultError
--  Timeout: 2000
local t = {}
for i = 1, 60 do t[i] = ("x"):rep(1 << 20) .. i end
return {t[1]:sub(1, 1000), t, t, t}

--# at the edge, with an error
--  Tries: to raise an error where there is no room to tell it.
--  Ends: MemoryLimit or LuaError
--  Timeout: 2000
keep = {}
for i = 1, 60 do keep[i] = ("x"):rep(1 << 20) .. i end
error(keep[1] .. keep[2])

--# at the edge, with what the host gives
--  Tries: to have the host hand over something where there is no room.
--  Ends: MemoryLimit or Timeout
local t, name = {}, "up"
local meta = {__close = function() error("harmless") end}
while true do
  pcall(function()
    local _ <close> = setmetatable({}, meta)
    while true do t[#t + 1] = ("x"):rep(1 << 14) .. #t end
  end)
  pcall(function()
    local _ <close> = setmetatable({}, meta)
    for id in pairs(nodes) do t[1] = nodes[id] end
    t[1] = nodes[name].rows[1]
  end)
end

--# a limit of its own
--  Tries: to take more than the node may have, though the worker has it.
--  Ends: MemoryLimit
--  Memory: 4
return #("x"):rep(16 << 20)

--# a limit of its own, by and by
--  Tries: the same in small pieces.
--  Ends: MemoryLimit
--  Memory: 4
--  Timeout: 5000
local t = {}
while true do t[#t + 1] = {} end

--# weak tables
--  Tries: to have the collector work for ever.
--  Ends: Timeout or MemoryLimit
local weak = setmetatable({}, {__mode = "k"})
local last = {}
while true do
  local key = {}
  weak[key] = last
  last = key
end

--# weak tables made late
--  Tries: to have the collector meet a long chain in one step, in a table that is weak only once it is full.
--  Ends: value [20000, 20000, 20000]
--  Timeout: 2000
local function chained(late)
  local meta = {}
  local t, last = setmetatable({}, meta), {}
  for _ = 1, 20000 do
    local key = {}
    t[key] = last
    last = key
  end
  last = nil
  late(meta)
  for _ = 1, 20 do local _ = ("x"):rep(1 << 20) end
  local n = 0
  for _ in next, t do n = n + 1 end
  return n
end
return {
  chained(function(meta) meta.__mode = "k" end),
  chained(function(meta) meta[("_"):rep(2) .. ("edom"):reverse()] = "k" end),
  chained(function(meta) rawset(meta, "__mode", "k") end),
}

--# weak tables by ways around
--  Tries: to write __mode where nobody looks.
--  Ends: value [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
--  Timeout: 2000
local function left(make)
  local t, meta = {}, {}
  local _, other = pcall(make, t, meta)
  t = other or t
  rawset(t, {}, true)
  for _ = 1, 20 do local _ = ("x"):rep(1 << 20) end
  local n = 0
  for _ in next, t do n = n + 1 end
  return n
end
local function raw(t, key, value) rawset(t, key, value) end
return {
  -- The metatable's own metatable goes away.
  left(function(t, meta)
    setmetatable(meta, {__newindex = raw}) setmetatable(t, meta) setmetatable(meta, nil) meta.__mode = "k"
  end),
  -- Its __newindex does.
  left(function(t, meta)
    local own = {__newindex = raw}
    setmetatable(meta, own) setmetatable(t, meta) own.__newindex = nil meta.__mode = "k"
  end),
  left(function(t, meta)
    local own = {__newindex = raw}
    setmetatable(t, meta) setmetatable(meta, own) meta.__mode = "k"
  end),
  -- It is its own.
  left(function(t, meta)
    setmetatable(meta, meta) setmetatable(t, meta) meta.__newindex = nil meta.__mode = "k"
  end),
  left(function(t)
    setmetatable(t, t) t.__mode = "k"
  end),
  -- It is written to in the place of another.
  left(function(t, meta)
    local other = setmetatable({}, {__newindex = meta})
    setmetatable(t, meta) other.__mode = "k"
  end),
  -- It is the environment, or comes with __mode in it.
  left(function(t)
    setmetatable(t, _ENV) __mode = "k"
  end),
  left(function(t)
    setmetatable(t, json.decode('{"__mode": "k"}'))
  end),
  left(function(t, meta)
    meta.__mode = false setmetatable(t, meta) meta.__mode = "k"
  end),
  -- It was an array.
  left(function(t)
    local meta = json.array()
    if pcall(setmetatable, t, meta) then meta.__mode = "k" end
  end),
}

--# weak tables in a full stack
--  Tries: to have setmetatable fail in the middle, at any of its calls.
--  Ends: value 0
--  Timeout: 2000
local tables = {}
local function make(meta) tables[#tables + 1] = setmetatable({}, meta) end
local function again(meta)
  make(meta)
  setmetatable({}, meta)
  make(meta)
end
local function nested(n, f, meta)
  if n == 0 then f(meta) return 0 end
  return 1 + select(2, assert(pcall(nested, n - 1, f, meta)))
end
local most = 0
while pcall(nested, most + 1, function() end) do most = most + 1 end
for n = most - 12, most + 1 do
  for _, meta in ipairs {{__mode = "k"}, setmetatable({__mode = "k"}, {})} do
    pcall(nested, n, make, meta)
    again(meta)
  end
end
for _, t in ipairs(tables) do t[{}] = true end
for _ = 1, 20 do local _ = ("x"):rep(1 << 20) end
local lost = 0
for _, t in ipairs(tables) do if next(t) == nil then lost = lost + 1 end end
return lost

--# a chain through metatables of metatables
--  Tries: to use what the sandbox keeps of each metatable as the weak table.
--  Ends: Timeout or MemoryLimit
local last = {}
while true do
  local meta = {__name = last, __index = last, __newindex = last}
  setmetatable({}, setmetatable({}, meta))
  meta.__name, meta.__index, meta.__newindex = nil, nil, nil
  last = meta
end

--# long chains
--  Tries: to have the collector recurse.
--  Ends: MemoryLimit
--  Timeout: 5000
local list
while true do list = {list} end

--# joined texts
--  Tries: to have a text grow by a byte at a time.
--  Ends: Timeout or MemoryLimit
local s = ("x"):rep(1 << 20)
while true do s = s .. "x" end

--# base64
--  Tries: to have a library need much more than it is given.
--  Ends: MemoryLimit or Timeout
return #base64.encode(("x"):rep(40 << 20))

--# JSON of much
--  Tries: to have a text be read into much more than itself.
--  Ends: MemoryLimit or Timeout
return json.decode("[" .. ("{},"):rep(5 << 20) .. "{}]")

--# JSON of blanks
--  Tries: to have the next token be far away.
--  Ends: LuaError
return json.decode((" "):rep(40 << 20))
