-- The scripts' `table` library: Lua's own, bounded. No hook watches a C function, and some of these go on for as long as
-- a length says; a length can be a lie, told by `__len`, or by a table with holes. So what is long is done in pieces, or
-- in Lua, or not at all; `guard` is asked whether to go on.

local guard = ...

local getmetatable = debug.getmetatable
local type, error, pcall, rawlen, select, tointeger = type, error, pcall, rawlen, select, math.tointeger
local concat, insert, move, remove, sort = table.concat, table.insert, table.move, table.remove, table.sort

local MOST_MOVED <const> = 10000000 -- elements that one call may shift
local PIECE <const> = 65536         -- elements that C may shift at once
local MANY <const> = 20000
local MOST_COMPARED <const> = 1 << 22 -- bytes of texts that C may sort
local BIG <const> = 32768           -- bytes
local MEMORY <const> = "not enough memory"

local watched = guard.watched

local tables = {create = table.create, pack = table.pack, unpack = table.unpack}

-- A table whose elements or length may be anything: read and written by Lua code, which is watched.
local function is_odd(t)
  return type(t) == "table" and getmetatable(t) ~= nil
end

-- A failed call is made again, so that its error names the script's own line.
function tables.concat(t, separator, i, j)
  if getmetatable(t) ~= nil and type(t) == "table" then
    local plain, n = {}, 0
    local last = j == nil and #t or tointeger(j)
    for at = i == nil and 1 or tointeger(i) or 1, last or 0 do
      n = n + 1
      local value = t[at]
      plain[n] = value == nil and false or value
    end
    if last then return concat(plain, separator, 1, n) end
    return concat(t, separator, i, j)
  end
  local fine, text = pcall(concat, t, separator, i, j)
  if fine then
    if #text > BIG then guard.big(#text) end
    return text
  end
  if text == MEMORY then guard.collect() end
  return concat(t, separator, i, j)
end

local function checked_length(t, name)
  local n = #t
  if type(n) ~= "number" then error("object length is not an integer", 3) end
  if n > MOST_MOVED then error(name .. ": the table is too long", 3) end
  if n > MANY and watched then guard.look() end
  return n
end

function tables.insert(t, ...)
  if type(t) == "table" and select("#", ...) == 2 then
    local n = checked_length(t, "table.insert")
    local place, value = ...
    local at = is_odd(t) and tointeger(place)
    if at then
      if at < 1 or at > n + 1 then error("bad argument #2 to 'insert' (position out of bounds)", 2) end
      for k = n + 1, at + 1, -1 do t[k] = t[k - 1] end
      t[at] = value
      return
    end
  end
  return insert(t, ...)
end

function tables.remove(t, ...)
  if type(t) == "table" and select("#", ...) > 0 then
    local n = checked_length(t, "table.remove")
    local at = is_odd(t) and tointeger((...))
    if at then
      if at ~= n and (at < 1 or at > n + 1) then
        error("bad argument #2 to 'remove' (position out of bounds)", 2)
      end
      local value = t[at]
      for k = at, n - 1 do t[k] = t[k + 1] end
      t[at < n and n or at] = nil
      return value
    end
  end
  return remove(t, ...)
end

function tables.move(a, first, last, at, ...)
  local from, to, start = tointeger(first), tointeger(last), tointeger(at)
  if not (from and to and start) then return move(a, first, last, at, ...) end
  if to < from then return move(a, from, to, start, ...) end
  if to - from < 0 or to - from >= MOST_MOVED then error("table.move: too many elements", 2) end
  if not watched or to - from < PIECE and not (is_odd(a) or is_odd((...))) then return move(a, from, to, start, ...) end
  local target = ...
  if target == nil then target = a end
  move(a, from, from - 1, start, target) -- says what is wrong with the arguments
  if start > to or start <= from or target ~= a then
    for k = 0, to - from do target[start + k] = a[from + k] end
  else
    for k = to - from, 0, -1 do target[start + k] = a[from + k] end
  end
  return target
end

-- Whether one call of C can sort `t` soon: there is not much of it, and its texts are not long.
local function is_quick(t, n)
  if n > MANY then return false end
  local bytes = 0
  for i = 1, n do
    local value = t[i]
    if type(value) == "string" then bytes = bytes + #value end
  end
  return bytes < MOST_COMPARED
end

-- Sorting takes long for many elements or long texts, and has no end for an order without sense that is in C. A
-- comparison in Lua is watched.
function tables.sort(t, ...)
  if not watched or type(t) ~= "table" then return sort(t, ...) end
  local order, odd = ..., getmetatable(t) ~= nil
  if order == nil and (odd or not is_quick(t, rawlen(t))) then return sort(t, function(a, b) return a < b end) end
  if type(order) == "function" and (odd or rawlen(t) > MANY) then
    return sort(t, function(a, b) return order(a, b) end)
  end
  return sort(t, ...)
end

return tables
