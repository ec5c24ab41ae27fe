-- What makes Lua's `string` library safe to hand out: it is changed in place, because texts have it as their methods.
--
-- Big texts are told to `guard` before they are made. Where scripts are watched by a hook, a pattern goes to Lua's own
-- matcher only if that is sure to end soon; otherwise it is matched by `patterns`, a piece at a time.

local guard, patterns = ...

local type, error, select, find, format, gsub, rep = type, error, select, string.find, string.format, string.gsub, string.rep
local next, concat, tointeger, unpack = next, table.concat, math.tointeger, table.unpack

local BIG <const> = 32768  -- bytes of which `guard` wants to know
local STEP <const> = 4096  -- bytes: repeating short texts is slow in C, a byte at a time

local MOST_QUOTED <const> = 1 << 22 -- bytes: to escape takes long
local KEPT <const> = 500
local LONGEST_KEPT <const> = 200

local shown -- a table, function or thread as a text; the library says how
local changed = {}

local harmless, count = {}, 0 -- patterns of `format` without `%p`, which shows addresses

local function check(pattern, level)
  if find(pattern, "%%[-+ #0%d.]*p") and find(gsub(pattern, "%%%%", ""), "%%[-+ #0%d.]*p") then
    error("'%p' is not available", level)
  end
  if #pattern > LONGEST_KEPT then return end
  if count >= KEPT then harmless, count = {}, 0 end
  harmless[pattern] = true
  count = count + 1
end

function changed.format(pattern, ...)
  if type(pattern) ~= "string" or not find(pattern, "%", 1, true) then return format(pattern, ...) end
  local bytes = #pattern
  for i = 1, select("#", ...) do
    local value = (select(i, ...))
    local kind = type(value)
    if kind == "string" then
      bytes = bytes + #value
    elseif kind == "table" or kind == "function" or kind == "thread" then
      local arguments = {...}
      for at = i, select("#", ...) do
        kind = type(arguments[at])
        if kind == "table" or kind == "function" or kind == "thread" then arguments[at] = shown(arguments[at]) end
      end
      return changed.format(pattern, unpack(arguments, 1, select("#", ...)))
    end
  end
  if bytes > BIG then
    guard.big(bytes)
    if bytes > MOST_QUOTED and find(pattern, "%q", 1, true) then error("'%q' is not for texts of this length", 2) end
  end
  if not harmless[pattern] then check(pattern, 3) end
  return format(pattern, ...)
end

function changed.rep(s, n, separator)
  if s == "" and (separator == nil or separator == "") then return "" end
  local times = tointeger(n)
  if type(s) ~= "string" or not times or times <= 0 then return rep(s, n, separator) end
  local whole = separator and type(separator) == "string" and #separator or 0
  local bytes = (#s + whole) * (times < (1 << 31) and times or 1 << 31)
  if bytes <= BIG then return rep(s, n, separator) end
  guard.big(bytes)
  if separator and separator ~= "" or #s >= STEP then return rep(s, n, separator) end
  local piece = rep(s, STEP // #s)
  local pieces, rest = times // (STEP // #s), times % (STEP // #s)
  if rest == 0 then return rep(piece, pieces) end
  return concat({rep(piece, pieces), rep(s, rest)})
end

-- Functions whose cost is the length of what they are given.
for _, name in next, {"upper", "lower", "reverse"} do
  local original = string[name]
  changed[name] = function(s, ...)
    if type(s) == "string" and #s > BIG then guard.big(#s) end
    return original(s, ...)
  end
end

if guard.watched then
  for _, name in next, {"find", "match", "gmatch", "gsub"} do changed[name] = patterns[name] end
else
  changed.gsub = function(s, ...)
    if type(s) == "string" and #s > BIG then guard.big(#s) end
    return gsub(s, ...)
  end
end

-- Changes the library, so that it shows values as `how` does, and gives it back.
return function(how)
  shown = how
  string.dump = nil
  for name, value in next, changed do string[name] = value end
  return string
end
