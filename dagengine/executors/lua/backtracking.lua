-- Lua's patterns in Lua: the matcher of lstrlib.c, for what may take long. Slower by far than the one in C, and watched.
--
-- A pattern is read into items: `kind`; `set`, the bytes it matches as the keys of a table; `source`, its own pattern;
-- `least` and `greedy` of a repetition.

local error, pcall, find, sub, byte, char = error, pcall, string.find, string.sub, string.byte, string.char

local DEEPEST <const> = 200 -- MAXCCALLS of lstrlib.c
local OPEN_LENGTH <const>, POSITION_LENGTH <const> = -1, -2

local ONE <const>, MANY <const>, MAYBE <const>, OPEN <const>, CLOSE <const>, POSITION <const>, BALANCED <const>,
  FRONTIER <const>, AGAIN <const>, END <const>, MALFORMED <const> = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11

-- The bytes that the class `source` (`%a`, `[^x]`, `.`, `x`) matches.
local function set_of(source)
  local set, pattern = {}, "^" .. source
  for code = 0, 255 do
    if find(char(code), pattern) then set[code] = true end
  end
  return set
end

-- The position after the class that begins at `at`.
local function class_end(pattern, at)
  local c = byte(pattern, at)
  if c == 37 then
    if at == #pattern then error("malformed pattern (ends with '%')", 0) end
    return at + 2
  end
  if c ~= 91 then return at + 1 end
  at = at + 1
  if byte(pattern, at) == 94 then at = at + 1 end
  repeat -- look for a ']'
    if at > #pattern then error("malformed pattern (missing ']')", 0) end
    local inner = byte(pattern, at)
    at = at + 1
    if inner == 37 then at = at + 1 end
  until byte(pattern, at) == 93
  return at + 1
end

local function repeated(pattern, at, source)
  local mark = byte(pattern, at)
  if mark == 42 then return {kind = MANY, source = source, least = 0, greedy = true}, at + 1 end
  if mark == 43 then return {kind = MANY, source = source, least = 1, greedy = true}, at + 1 end
  if mark == 45 then return {kind = MANY, source = source, least = 0, greedy = false}, at + 1 end
  if mark == 63 then return {kind = MAYBE, source = source}, at + 1 end
  return {kind = ONE, source = source}, at
end

local function escaped(pattern, at)
  local c = byte(pattern, at + 1)
  if c == 98 then
    if at + 3 > #pattern then error("malformed pattern (missing arguments to '%b')", 0) end
    return {kind = BALANCED, opening = byte(pattern, at + 2), closing = byte(pattern, at + 3)}, at + 4
  elseif c == 102 then
    if byte(pattern, at + 2) ~= 91 then error("missing '[' after '%f' in pattern", 0) end
    local stop = class_end(pattern, at + 2)
    return {kind = FRONTIER, source = sub(pattern, at + 2, stop - 1)}, stop
  elseif c and c >= 48 and c <= 57 then
    return {kind = AGAIN, capture = c - 48}, at + 2
  end
end

local function item_at(pattern, at)
  local c = byte(pattern, at)
  if c == 40 then
    if byte(pattern, at + 1) == 41 then return {kind = POSITION}, at + 2 end
    return {kind = OPEN}, at + 1
  elseif c == 41 then
    return {kind = CLOSE}, at + 1
  elseif c == 36 and at == #pattern then
    return {kind = END}, at + 1
  elseif c == 37 then
    local item, stop = escaped(pattern, at)
    if item then return item, stop end
  end
  local stop = class_end(pattern, at)
  local source = sub(pattern, at, stop - 1)
  if #source == 1 and c ~= 46 and find(source, "%W") then source = "%" .. source end
  return repeated(pattern, stop, source)
end

local backtracking = {}

-- The items of a pattern from byte `at` on. Where it is malformed they end; to get there is an error.
function backtracking.items(pattern, at)
  local items, sets = {}, {}
  while at <= #pattern do
    local fine, item, stop = pcall(item_at, pattern, at)
    if not fine then item, stop = {kind = MALFORMED, message = item}, #pattern + 1 end
    at = stop
    if item.source then
      local set = sets[item.source] or set_of(item.source)
      sets[item.source], item.set = set, set
    end
    items[#items + 1] = item
  end
  return items
end

---------------------------------------------------------------------------------------------------------------------
-- How much work it may be.

local function disjoint(a, b)
  for code = 0, 255 do
    if a[code] and b[code] then return false end
  end
  return true
end

-- The item that must come next after the one at `i`: past what takes no text.
local function following(items, i)
  repeat i = i + 1 until not items[i] or items[i].kind < OPEN or items[i].kind > POSITION
  return items[i]
end

-- Whether the repetition at `i` has one way to match only.
local function is_certain(items, i)
  local after = following(items, i)
  if not after then return true end
  if after.kind == END then return true end
  local must = after.kind == ONE or after.kind == MANY and after.least == 1
  return must and disjoint(items[i].set, after.set)
end

-- The item whose class a match must begin with, if there is one.
function backtracking.first(items)
  local i = 1
  while items[i] and (items[i].kind == OPEN or items[i].kind == POSITION) do i = i + 1 end
  local item = items[i]
  local must = item and (item.kind == ONE or item.kind == MANY and item.least == 1)
  return must and item or nil
end

-- The work to find that `items` do not match at a position: the power of the text's length, and a factor.
function backtracking.work(items)
  local power, factor, widest = 0, #items + 1, 1
  for i = #items, 1, -1 do
    local item = items[i]
    if item.source and #item.source > widest then widest = #item.source end
    if item.kind == MANY then
      if not is_certain(items, i) then
        power = power + 1
      elseif items[i + 1] and power == 0 then
        power = following(items, i) and 1 or 0
      end
    elseif item.kind == MAYBE then
      if not is_certain(items, i) then factor = factor * 2 end
    elseif item.kind == BALANCED or item.kind == AGAIN then
      power = power < 1 and 1 or power
    end
  end
  return power, factor * (1 + widest // 8)
end

---------------------------------------------------------------------------------------------------------------------
-- Matching.

local text, size, program -- what is being matched
local starts, lengths, level = {}, {}, 0 -- captures

local run

local function many(item, i, at, depth)
  local set, stop = item.set, at
  if item.greedy then
    while set[byte(text, stop)] do stop = stop + 1 end
    for to = stop, at + item.least, -1 do
      local last = run(i + 1, to, depth + 1)
      if last then return last end
    end
    return nil
  end
  while true do
    local last = run(i + 1, stop, depth + 1)
    if last then return last end
    if not set[byte(text, stop)] then return nil end
    stop = stop + 1
  end
end

local function opened(length, i, at, depth)
  if level >= 32 then error("too many captures", 0) end
  level = level + 1
  starts[level], lengths[level] = at, length
  local last = run(i + 1, at, depth + 1)
  if not last then level = level - 1 end
  return last
end

local function closed(i, at, depth)
  local which = level
  while which > 0 and lengths[which] ~= OPEN_LENGTH do which = which - 1 end
  if which == 0 then error("invalid pattern capture", 0) end
  lengths[which] = at - starts[which]
  local last = run(i + 1, at, depth + 1)
  if not last then lengths[which] = OPEN_LENGTH end
  return last
end

local function balanced(item, at)
  if byte(text, at) ~= item.opening then return nil end
  local open = 1
  for to = at + 1, size do
    local c = byte(text, to)
    if c == item.closing then
      open = open - 1
      if open == 0 then return to + 1 end
    elseif c == item.opening then
      open = open + 1
    end
  end
end

local function again(item, at)
  local which = item.capture
  if which < 1 or which > level or lengths[which] == OPEN_LENGTH then
    error("invalid capture index %" .. which .. " in pattern", 0)
  end
  local length = lengths[which]
  if length < 0 or at + length - 1 > size then return nil end -- a position matches nothing
  if sub(text, starts[which], starts[which] + length - 1) ~= sub(text, at, at + length - 1) then return nil end
  return at + length
end

-- The position after a match of the items from `i` on at `at`; nil without one.
function run(i, at, depth)
  if depth > DEEPEST then error("pattern too complex", 0) end
  while true do
    local item = program[i]
    if not item then return at end
    local kind = item.kind
    if kind == ONE then
      if not item.set[byte(text, at)] then return nil end
      at = at + 1
    elseif kind == MANY then
      return many(item, i, at, depth)
    elseif kind == MAYBE then
      if item.set[byte(text, at)] then
        local last = run(i + 1, at + 1, depth + 1)
        if last then return last end
      end
    elseif kind == OPEN then
      return opened(OPEN_LENGTH, i, at, depth)
    elseif kind == POSITION then
      return opened(POSITION_LENGTH, i, at, depth)
    elseif kind == CLOSE then
      return closed(i, at, depth)
    elseif kind == END then
      return at == size + 1 and at or nil
    elseif kind == MALFORMED then
      error(item.message, 0)
    elseif kind == FRONTIER then
      if item.set[at > 1 and byte(text, at - 1) or 0] or not item.set[byte(text, at) or 0] then return nil end
    else
      if kind == BALANCED then at = balanced(item, at) else at = again(item, at) end
      if not at then return nil end
    end
    i = i + 1
  end
end

local function captured(n, ...)
  if n == 0 then return ... end
  local length = lengths[n]
  if length == OPEN_LENGTH then error("unfinished capture", 0) end
  if length == POSITION_LENGTH then return captured(n - 1, starts[n], ...) end
  return captured(n - 1, sub(text, starts[n], starts[n] + length - 1), ...)
end

-- First and last byte of the match of `items` at byte `at` of `s`, and its captures; nil without one.
function backtracking.match(s, items, at)
  text, size, program, level = s, #s, items, 0
  local last = run(1, at, 0)
  if not last then return nil end
  return at, last - 1, captured(level)
end

return backtracking
