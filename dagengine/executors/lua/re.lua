-- The scripts' `re` library: regular expressions in RE2's syntax, which take time linear in the text. Arguments and
-- results are those of Lua's own `string.find`, `match`, `gmatch` and `gsub`.
--
-- The host has the compiled patterns by number, and one text: a loop over the matches of a text hands it over once. It
-- answers with numbers: where the match begins and ends, and each of its groups.

local guard, host = ...

local type, error, tostring, select = type, error, tostring, select
local byte, sub, find, gsub, format = string.byte, string.sub, string.find, string.gsub, string.format
local concat, unpack, tointeger = table.concat, table.unpack, math.tointeger

local MOST_PATTERN <const> = 1024
local MOST_TEXT <const> = 1 << 20
local MOST_KEPT <const> = 32 -- compiled patterns

local kept, count = {}, 0 -- number, groups and how many bytes it may look at, by pattern
local subject             -- the text that the host has

local function bad_argument(position, name, expected, value, level)
  error(format("bad argument #%d to '%s' (%s expected, got %s)", position, name, expected, type(value)), level + 1)
end

local function compiled(pattern, level)
  local known = kept[pattern]
  if known then return known end
  if #pattern > MOST_PATTERN then
    error(format("re: the pattern is longer than %d bytes", MOST_PATTERN), level + 1)
  end
  if count >= MOST_KEPT then
    host.forget()
    kept, count = {}, 0
  end
  guard.room(4096)
  local number, groups, most = host.pattern(pattern)
  guard.look()
  if type(number) == "string" then
    error(format("re: %q is not a pattern: %s", sub(pattern, 1, 200), number), level + 1)
  end
  known = {number = number, groups = groups, most = most}
  kept[pattern] = known
  count = count + 1
  return known
end

local function prepared(text, pattern, name)
  if type(text) ~= "string" then
    if type(text) ~= "number" then bad_argument(1, name, "string", text, 3) end
    text = tostring(text)
  end
  if type(pattern) ~= "string" then bad_argument(2, name, "string", pattern, 3) end
  if #text > MOST_TEXT then
    error(format("re: the text has %d bytes; a text may have %d", #text, MOST_TEXT), 3)
  end
  return text, compiled(pattern, 3)
end

local function answered(...)
  guard.look()
  return ...
end

-- Where the next match from byte `start` on begins and ends, and each group; nil without one.
local function search(text, known, start, level)
  local size = #text - start + 1
  if size > known.most then
    local told = "re: the pattern is too big for a text of %d bytes: it can search %d at once"
    error(format(told, size, known.most), level + 1)
  end
  guard.room(0)
  if subject ~= text then
    host.text(text)
    subject = text
  end
  return answered(host.find(known.number, start))
end

local function captures(text, first, last, ...)
  local n = select("#", ...)
  if n == 0 then return sub(text, first, last) end
  if n == 2 then
    local from, to = ...
    return from > 0 and sub(text, from, to) or nil
  end
  local bounds, found = {...}, {}
  for i = 1, n, 2 do
    if bounds[i] > 0 then found[(i + 1) // 2] = sub(text, bounds[i], bounds[i + 1]) end
  end
  return unpack(found, 1, n // 2)
end

local function start_of(text, init, name)
  if init == nil then return 1 end
  local at = tointeger(init)
  if not at then bad_argument(3, name, "integer", init, 3) end
  if at < 0 then at = #text + at + 1 end
  return at < 1 and 1 or at
end

local function found_of(text, first, last, ...)
  if not first then return nil end
  if select("#", ...) == 0 then return first, last end
  return first, last, captures(text, first, last, ...)
end

local function match_of(text, first, ...)
  if not first then return nil end
  return captures(text, first, ...)
end

local re = {}

function re.find(text, pattern, init)
  local known
  text, known = prepared(text, pattern, "find")
  local start = start_of(text, init, "find")
  if start > #text + 1 then return nil end
  return found_of(text, search(text, known, start, 2))
end

function re.match(text, pattern, init)
  local known
  text, known = prepared(text, pattern, "match")
  local start = start_of(text, init, "match")
  if start > #text + 1 then return nil end
  return match_of(text, search(text, known, start, 2))
end

-- The byte after the character at `at`: an empty match moves on by one character, not into the middle of one.
local function after(text, at)
  at = at + 1
  local b = byte(text, at)
  while b and b >= 0x80 and b < 0xc0 do
    at = at + 1
    b = byte(text, at)
  end
  return at
end

-- A function that gives the bounds of one match after the other. An empty match right behind another match is none.
local function matches(text, pattern, level)
  local at, previous = 1, 0
  local function bounded(first, last, ...)
    if not first then
      at = #text + 2
      return nil
    end
    if last < first then
      if last == previous and previous > 0 then return false end
      at = after(text, first)
    else
      at = last + 1
    end
    previous = last
    return first, last, ...
  end
  local function step()
    if at > #text + 1 then return nil end
    return bounded(search(text, compiled(pattern, level), at, level))
  end
  local function again(first, ...)
    if first ~= false then return first, ... end
    at = after(text, at)
    return again(step())
  end
  return function() return again(step()) end
end

function re.gmatch(text, pattern)
  text = prepared(text, pattern, "gmatch")
  local step = matches(text, pattern, 3)
  return function() return match_of(text, step()) end
end

-- What `replacement`, a text with `%0` to `%9`, is in place of a match.
local function filled(text, replacement, first, last, ...)
  local bounds = {...}
  return (gsub(replacement, "%%(.?)", function(mark)
    if mark == "%" then return "%" end
    if mark == "0" then return sub(text, first, last) end
    local group = tointeger(mark)
    if not group then error("re.gsub: the replacement has a '%' before what is no digit", 0) end
    if group == 1 and #bounds == 0 then return sub(text, first, last) end
    local from = bounds[2 * group - 1]
    if not from then error("re.gsub: the replacement names group %" .. mark .. ", which the pattern has not", 0) end
    return from > 0 and sub(text, from, bounds[2 * group]) or ""
  end))
end

local function replaced(text, replacement, first, last, ...)
  local kind = type(replacement)
  local value
  if kind == "string" then
    if not find(replacement, "%", 1, true) then return replacement end
    return filled(text, replacement, first, last, ...)
  elseif kind == "function" then
    value = replacement(captures(text, first, last, ...))
  else
    value = replacement[(captures(text, first, last, ...))]
  end
  if value == nil or value == false then return sub(text, first, last) end
  if type(value) ~= "string" and type(value) ~= "number" then
    error("re.gsub: the replacement of a match is a " .. type(value), 0)
  end
  return value
end

function re.gsub(text, pattern, replacement, most)
  text = prepared(text, pattern, "gsub")
  local kind = type(replacement)
  if kind == "number" then
    replacement = tostring(replacement)
  elseif kind ~= "string" and kind ~= "function" and kind ~= "table" then
    bad_argument(3, "gsub", "string, function or table", replacement, 2)
  end
  local step, parts, n, at, done = matches(text, pattern, 2), {}, 0, 1, 0
  local function take(first, last, ...)
    if not first then return false end
    parts[n + 1] = sub(text, at, first - 1)
    parts[n + 2] = replaced(text, replacement, first, last, ...)
    n, at, done = n + 2, last + 1, done + 1
    return true
  end
  while (most == nil or done < most) and take(step()) do end
  parts[n + 1] = sub(text, at)
  return concat(parts, "", 1, n + 1), done
end

function re.split(text, pattern, most)
  text = prepared(text, pattern, "split")
  local step, parts, n, at = matches(text, pattern, 2), {}, 0, 1
  while most == nil or n < most - 1 do
    local first, last = step()
    if not first then break end
    if last >= first or (first > 1 and first <= #text) then
      n = n + 1
      parts[n] = sub(text, at, first - 1)
      at = last + 1
    end
  end
  parts[n + 1] = sub(text, at)
  return parts
end

return re
