-- `string.find`, `match`, `gmatch` and `gsub` where a hook watches scripts. Lua's own matcher backtracks, in C, where no
-- hook comes: a hostile pattern holds it for ever. So before it is let go, its work is bounded from above, and where that
-- is too much, the text is matched from one position after the other: by Lua's matcher, if its work at one position is
-- little, and else by `backtracking`, which is in Lua, and watched. All three find the same.
--
-- How the work is bounded. A repetition that must be followed by something that it cannot match itself has one way to
-- match; any other one multiplies the work for what follows by the length of the text; `x?` doubles it.

-- `WORK`: the steps of Lua's own matcher that are let go in one call.
local guard, backtracking, WORK = ...

local type, error, select, tostring = type, error, select, tostring
local find, match, gmatch, gsub = string.find, string.match, string.gmatch, string.gsub
local sub, byte, concat, tointeger, maxinteger = string.sub, string.byte, table.concat, math.tointeger, math.maxinteger

local PLAIN <const> = 1 << 28 -- bytes that a search without a pattern may compare: the same
local BIG <const> = 32768     -- bytes of which `guard` wants to know
local LONG <const> = 1 << 20  -- bytes of which all matches are found at once
local KEPT <const> = 500
local LONGEST_KEPT <const> = 200

local search
local known, known_literal, count = {}, {}, 0 -- what is known of a pattern

-- The greatest length of a text of which `length ^ power * factor` is no more than `WORK`.
local function longest(power, factor)
  if power == 0 then return factor <= WORK and maxinteger or -1 end
  return (WORK / factor) ^ (1 / power) // 1 | 0
end

-- What is known: `items` as `backtracking` reads them; `anchored`; the longest texts to search at once and at a position;
-- `first`, what a match begins with; `body`, the pattern for one position. Texts of no more than
-- `quick` bytes need no further look.
local function read(pattern, is_literal)
  local anchored = not is_literal and byte(pattern, 1) == 94
  local items = backtracking.items(pattern, anchored and 2 or 1)
  local power, factor = backtracking.work(items)
  local about = {
    items = items,
    anchored = anchored,
    at_once = longest(anchored and power or power + 1, factor),
    at_one = longest(power, factor),
    first = backtracking.first(items),
    body = anchored and pattern or "^" .. pattern,
  }
  about.quick = about.at_once < BIG and about.at_once or BIG
  return about
end

-- A pattern of `gmatch` is not anchored: a `^` there is a character (`is_literal`).
local function knowledge(pattern, is_literal)
  local all = is_literal and known_literal or known
  local about = all[pattern]
  if about then return about end
  about = read(pattern, is_literal)
  if #pattern <= LONGEST_KEPT then
    if count >= KEPT then
      known, known_literal, count = {}, {}, 0
      all = is_literal and known_literal or known
    end
    all[pattern] = about
    count = count + 1
  end
  return about
end

local function texts_of(s, pattern)
  if type(s) == "number" then s = tostring(s) end
  if type(pattern) == "number" then pattern = tostring(pattern) end
  return s, pattern, type(s) == "string" and type(pattern) == "string"
end

-- First and last byte of the match at byte `at`, and its captures; nil without one.
local function match_at(s, about, at)
  if #s - at < about.at_one then return find(s, about.body, at) end
  return backtracking.match(s, about.items, at)
end

local function found(s, about, at, first, ...)
  if first then return first, ... end
  return search(s, about, at + 1)
end

-- The next byte that the class of `item` matches.
local function candidate(s, item, at)
  local weight = #item.source < 4 and 1 or #item.source
  if (#s - at) * weight < WORK then return (find(s, item.source, at)) end
  local set = item.set
  for k = at, #s do
    if set[byte(s, k)] then return k end
  end
end

-- The same for the first match at or after `at`.
function search(s, about, at)
  if about.anchored then return match_at(s, about, at) end
  if at > #s + 1 then return nil end
  if about.first then
    at = candidate(s, about.first, at)
    if not at then return nil end
  end
  return found(s, about, at, match_at(s, about, at))
end

local function whole(s, first, last, ...)
  if not first then return nil end
  if select("#", ...) == 0 then return sub(s, first, last) end
  return ...
end

local function start_of(s, init)
  local at = init == nil and 1 or tointeger(init)
  if not at then return nil end
  if at < 0 then at = #s + at + 1 end
  return at < 1 and 1 or at
end

-- A search without a pattern, in windows: comparing at each position is quadratic, too.
local function search_plain(s, wanted, at)
  local n, m = #s, #wanted
  local width = PLAIN // (m + 1) + 1
  while at + m - 1 <= n do
    local first, last = find(sub(s, at, at + width + m - 2), wanted, 1, true)
    if first then return at + first - 1, at + last - 1 end
    at = at + width
  end
end

local patterns = {}

local SPECIAL <const> = "[%^$*+?.([%%-]"

function patterns.find(s, pattern, init, plain)
  local about, fine = known[pattern], nil
  if about and type(s) == "string" and #s <= about.quick then return find(s, pattern, init, plain) end
  s, pattern, fine = texts_of(s, pattern)
  local at = fine and start_of(s, init)
  if not at or at > #s + 1 then return find(s, pattern, init, plain) end
  if #s > BIG then guard.look() end
  if plain or not find(pattern, SPECIAL) then
    if not plain then knowledge(pattern) end
    if #s * #pattern <= PLAIN then return find(s, pattern, init, plain) end
    return search_plain(s, pattern, at)
  end
  about = about or knowledge(pattern)
  if #s <= about.at_once then return find(s, pattern, init) end
  return search(s, about, at)
end

function patterns.match(s, pattern, init)
  local about, fine = known[pattern], nil
  if about and type(s) == "string" and #s <= about.quick then return match(s, pattern, init) end
  s, pattern, fine = texts_of(s, pattern)
  local at = fine and start_of(s, init)
  if not at or at > #s + 1 then return match(s, pattern, init) end
  if #s > BIG then guard.look() end
  about = about or knowledge(pattern)
  if #s <= about.at_once then return match(s, pattern, init) end
  return whole(s, search(s, about, at))
end

-- A function that gives one match after the other. An empty match right behind another match is none.
local function matches(s, about, at)
  local previous = -1
  local function taken(first, last, ...)
    if not first then
      at = #s + 2
      return nil
    end
    if last < first and last == previous then
      at = first + 1
      return false
    end
    at = last < first and first + 1 or last + 1
    previous = last
    return first, last, ...
  end
  local function step()
    if at > #s + 1 then return nil end
    return taken(search(s, about, at))
  end
  local function again(first, ...)
    if first == false then return again(step()) end
    return first, ...
  end
  return function() return again(step()) end
end

function patterns.gmatch(s, pattern, init)
  local about, fine = known_literal[pattern], nil
  if about and type(s) == "string" and #s <= about.quick then return gmatch(s, pattern, init) end
  s, pattern, fine = texts_of(s, pattern)
  local at = fine and start_of(s, init)
  if not at then return gmatch(s, pattern, init) end
  about = about or knowledge(pattern, true)
  if #s <= about.at_once then return gmatch(s, pattern, init) end
  local step = matches(s, about, at)
  return function() return whole(s, step()) end
end

-- What the text `replacement` is in place of a match; `%0` to `%9` are its captures.
local function filled(s, replacement, first, last, ...)
  local captures = select("#", ...) == 0 and {sub(s, first, last)} or {...}
  return (gsub(replacement, "%%(.?)", function(mark)
    if mark == "%" then return "%" end
    if mark == "0" then return sub(s, first, last) end
    local at = tointeger(mark)
    if not at then error("invalid use of '%' in replacement string", 0) end
    if not captures[at] then error("invalid capture index %" .. mark .. " in replacement string", 0) end
    return tostring(captures[at])
  end))
end

local function replaced(s, replacement, first, last, ...)
  local kind = type(replacement)
  local value
  if kind == "string" then
    if not find(replacement, "%", 1, true) then return replacement end
    return filled(s, replacement, first, last, ...)
  elseif kind == "function" then
    value = replacement(whole(s, first, last, ...))
  else
    value = replacement[(whole(s, first, last, ...))]
  end
  if value == nil or value == false then return sub(s, first, last) end
  if type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 0)
  end
  return value
end

function patterns.gsub(s, pattern, replacement, most)
  local about, fine = known[pattern], nil
  if about and type(s) == "string" and #s <= about.quick then return gsub(s, pattern, replacement, most) end
  s, pattern, fine = texts_of(s, pattern)
  if not fine then return gsub(s, pattern, replacement, most) end
  about = about or knowledge(pattern)
  if #s <= about.at_once and #s <= LONG then
    if #s > BIG then guard.big(#s) end
    return gsub(s, pattern, replacement, most)
  end
  guard.big(2 * #s)
  gsub("", "x", replacement, most) -- says what is wrong with the arguments
  if type(replacement) == "number" then replacement = tostring(replacement) end
  local step, parts, n, at, done = matches(s, about, 1), {}, 0, 1, 0
  most = most == nil and maxinteger or tointeger(most)
  if about.anchored and most > 1 then most = 1 end
  local function take(first, last, ...)
    if not first then return false end
    parts[n + 1] = sub(s, at, first - 1)
    parts[n + 2] = replaced(s, replacement, first, last, ...)
    n, at, done = n + 2, last + 1, done + 1
    return true
  end
  while done < most and take(step()) do end
  if done == 0 then return s, 0 end
  parts[n + 1] = sub(s, at)
  return concat(parts, "", 1, n + 1), done
end

return patterns
