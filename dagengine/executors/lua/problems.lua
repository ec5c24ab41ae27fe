-- Where a value is not JSON, for people: the slow walk, after the fast one of `values.lua` has given up.

local values = ...

local getmetatable = debug.getmetatable
local type, next, format, integer_type, utf8_length = type, next, string.format, math.type, utf8.len
local behind, step, null, ARRAY, FAILURE = values.behind, values.step, values.null, values.ARRAY, values.FAILURE

local MAX_DEPTH <const> = values.MAX_DEPTH
local MOST_VISITED <const> = 1000000

local find_problem

local function is_position(key)
  return integer_type(key) == "integer" and key >= 1
end

-- Counts the values that were visited; false when they have become too many.
local function may_visit(above)
  above.visited = above.visited + 1
  if above.visited % 1024 == 0 then values.look() end
  return above.visited <= MOST_VISITED
end

local function too_many(above) return above.root .. " holds, somewhere, a value that is not JSON" end

local function key_problem(real, listed, path, above)
  for key in next, real do
    if not may_visit(above) then return too_many(above) end
    if type(key) == "string" then
      if listed == "marked" then return path .. " is an array with the key " .. format("%q", key) end
      if listed then return path .. " mixes list elements and the key " .. format("%q", key) .. "; use one of them" end
      if not utf8_length(key) then return path .. " has a key that is not valid UTF-8" end
    elseif not is_position(key) then
      return step(path, key) .. " has a key of type " .. type(key) .. "; the keys of an object are strings"
    end
  end
  if not listed then return nil end
  local count, highest = 0, 0
  for key in next, real do
    count = count + 1
    if key > highest then highest = key end
  end
  if count == highest then return nil end
  local hole = 1
  while real[hole] ~= nil do hole = hole + 1 end
  return path .. " has a hole: [" .. hole .. "] is nil; use json.null"
end

local function table_problem(value, path, above)
  if not may_visit(above) then return too_many(above) end
  if above[value] then return path .. " is a cycle: it is the same table as " .. above[value] end
  if above.depth >= MAX_DEPTH then return path .. " is nested deeper than " .. MAX_DEPTH .. " levels" end
  local real = behind(value) or value
  local meta = getmetatable(value)
  if meta == FAILURE then return path .. " is a failure: return what `fail` gives by itself, or raise it with `error`" end
  local listed = meta == ARRAY and "marked"
  for key in next, real do
    if listed then break end
    listed = is_position(key)
  end
  local problem = key_problem(real, listed, path, above)
  if problem then return problem end
  above[value] = path
  above.depth = above.depth + 1
  for key, inner in next, real do
    if not may_visit(above) then return too_many(above) end
    problem = find_problem(inner, step(path, key), above)
    if problem then return problem end
  end
  above.depth = above.depth - 1
  above[value] = nil
end

function find_problem(value, path, above)
  local kind = type(value)
  if kind == "table" then return table_problem(value, path, above) end
  if kind == "string" then
    if not utf8_length(value) then return path .. " is a string that is not valid UTF-8" end
  elseif kind == "number" then
    if value ~= value then return path .. " is NaN, which JSON cannot hold" end
    if value - value ~= 0 then return path .. " is infinite, which JSON cannot hold" end
  elseif kind ~= "boolean" and value ~= null then
    return path .. " is a " .. kind
  end
end

-- What of `value` is not JSON, with its place; nil when nothing is found. `root` is what the script calls the value.
function values.find_problem(value, root)
  return find_problem(value, root, {depth = 0, visited = 0, root = root})
end
