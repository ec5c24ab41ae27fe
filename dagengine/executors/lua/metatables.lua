-- `setmetatable`, `getmetatable` and `rawset` as scripts have them: Lua's own, without weak tables and finalizers.
--
-- A weak table shows a script when memory is collected, so that an attempt run again may do something else; and what it
-- costs to collect one grows with the square of what is in it, in one step that no hook interrupts. `__gc` runs at any
-- time, in anybody's attempt, unwatched. `__gc` is refused. `__mode` is dropped: a table that holds what it was given
-- until the script ends is what Lua allows anyway, and modules that ask for weak tables go on working.
--
-- Lua looks for `__mode` in the metatable whenever it collects. So a metatable must never get one, however late: it has a
-- metatable of ours, whose `__newindex` sees each new key (`GUARDED`). One that has a metatable of the script's already
-- (a class that inherits) gets one that forwards to that: the script can change its own, and ours must keep `__newindex`.
-- Scripts see neither. Who writes a table raw, by a key that a script chooses, does it by `metatables.rawset`.

local values = ...

local real_metatable, put_metatable = debug.getmetatable, debug.setmetatable
local getmetatable, setmetatable, rawget, rawset, rawlen = getmetatable, setmetatable, rawget, rawset, rawlen
local type, next, error = type, next, error
local ARRAY <const>, FAILURE <const>, refuse_write <const> = values.ARRAY, values.FAILURE, values.refuse_write

local ORIGIN <const> = {} -- the key under which a forwarding metatable has the one it forwards to

-- What a forwarding metatable does where the event has been taken out of the script's since.
local ABSENT <const> = {
  __eq = function() return false end,
  __len = rawlen,
  __pairs = function(t) return next, t, nil end,
}

local EVENTS <const> = {}
for _, name in next, {
  "index", "newindex", "call", "close", "name", "tostring", "pairs", "len", "eq", "lt", "le", "concat", "unm", "bnot",
  "add", "sub", "mul", "div", "idiv", "mod", "pow", "band", "bor", "bxor", "shl", "shr",
} do
  EVENTS["__" .. name] = true
end

-- The forwarding metatable of a script's, where there is one. It must hold nothing of the script's but that one: scripts
-- would have a weak table to make chains in.
local forwards = setmetatable({}, {__mode = "k"})

local FORWARD <const> = {}

function FORWARD.__index(meta)
  return function(t, key)
    local from = rawget(meta, "__index")
    if type(from) == "function" then return from(t, key) end
    if from ~= nil then return from[key] end
  end
end

local function all(...) return ... end

local function forwarding(meta, event)
  if FORWARD[event] then return FORWARD[event](meta) end
  if event == "__name" then
    local name = rawget(meta, event)
    return type(name) == "string" and name or nil
  end
  return function(...)
    local method = rawget(meta, event)
    if method == nil then method = ABSENT[event] end
    if type(method) == "function" then return method(...) end
    return all(method(...)) -- no tail call: tables that call each other in a circle must come to the end of the stack
  end
end

-- Writes a new key of a metatable.
local function put(t, key, value)
  if key == "__mode" then return end
  if key == nil then error("table index is nil", 2) end
  if key ~= key then error("table index is NaN", 2) end
  rawset(t, key, value)
  local forward = forwards[t]
  if forward and EVENTS[key] and value ~= nil then forward[key] = forwarding(t, key) end
end

function FORWARD.__newindex(meta)
  return function(t, key, value)
    local to = rawget(meta, "__newindex")
    if to == nil then return put(t, key, value) end
    if type(to) == "function" then return to(t, key, value) end
    to[key] = value
  end
end

local GUARDED <const> = {__newindex = put}

local function forward_to(meta)
  local forward = forwards[meta]
  if not forward then
    forward = {__newindex = FORWARD.__newindex(meta), [ORIGIN] = meta}
    for event in next, EVENTS do
      if rawget(meta, event) ~= nil then forward[event] = forwarding(meta, event) end
    end
    forwards[meta] = forward
  end
  return forward
end

-- Sees to it that `meta` has no `__mode`, and gets none. In this order: an error of the stack may come at any call.
local function guard(meta, own)
  if own == ARRAY or own == FAILURE then
    error("bad argument #2 to 'setmetatable' (what json.array or fail made cannot be a metatable)", 3)
  end
  if own ~= nil and (rawget(own, ORIGIN) or rawget(own, "__newindex") == refuse_write) then return end
  rawset(meta, "__mode", nil)
  put_metatable(meta, own == nil and GUARDED or forward_to(own))
end

local metatables = {}

function metatables.setmetatable(t, meta)
  if type(meta) == "table" then
    if rawget(meta, "__gc") ~= nil then error("__gc is not available", 2) end
    local own = real_metatable(meta)
    if own ~= GUARDED then guard(meta, own) end
  end
  local own = real_metatable(t)
  if own == nil or type(t) ~= "table" then return setmetatable(t, meta) end
  local origin = rawget(own, ORIGIN)
  if (own == GUARDED or origin) and (meta == nil or type(meta) == "table") then
    if origin and rawget(origin, "__metatable") ~= nil then error("cannot change a protected metatable", 2) end
    return put_metatable(t, meta == nil and GUARDED or forward_to(meta))
  end
  if own == ARRAY then put_metatable(t, nil) end
  return setmetatable(t, meta)
end

function metatables.getmetatable(value)
  local own = real_metatable(value)
  if own == nil or own == GUARDED then return nil end
  local origin = rawget(own, ORIGIN)
  if not origin then return getmetatable(value) end
  local protected = rawget(origin, "__metatable")
  if protected ~= nil then return protected end
  return origin
end

function metatables.rawset(t, key, value)
  local own = real_metatable(t)
  if own ~= nil and type(t) == "table" then
    if rawget(own, "__newindex") == refuse_write then error(values.describe_write(t, key), 2) end
    if own == GUARDED or rawget(own, ORIGIN) then
      put(t, key, value)
      return t
    end
  end
  return rawset(t, key, value)
end

return metatables
