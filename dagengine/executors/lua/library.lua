-- The libraries that scripts see: Lua's own, made deterministic (time, randomness and addresses come from the attempt)
-- and safe to share (read-only, and nothing that reaches files, processes, code loading or the host).

local values, guard, json, metatables, limits, extras = ...

local getmetatable = debug.getmetatable
local type, next, pairs, select, error = type, next, pairs, select, error
local rawget, rawlen, rawequal = rawget, rawlen, rawequal
local tonumber, tostring, setmetatable = tonumber, tostring, setmetatable
local find, sub, concat, format = string.find, string.sub, table.concat, string.format
local date, randomseed, integer_type, tointeger = os.date, math.randomseed, math.type, math.tointeger
local behind = values.behind

local attempt = {time = 0, seed = 0}
local library = {attempt = attempt}

---------------------------------------------------------------------------------------------------------------------
-- Texts without addresses: the n-th table, function or thread that an attempt shows is number n.

local numbers, numbered = nil, 0

local function shown(value)
  local kind = type(value)
  if kind ~= "table" and kind ~= "function" and kind ~= "thread" then return tostring(value) end
  local meta = getmetatable(value)
  local name = kind
  if meta then
    if rawget(meta, "__tostring") ~= nil then return tostring(value) end
    local named = rawget(meta, "__name")
    if type(named) == "string" then name = named end
  end
  numbers = numbers or setmetatable({}, {__mode = "k"})
  local number = numbers[value]
  if not number then
    numbered = numbered + 1
    number = numbered
    numbers[value] = number
  end
  return format("%s: 0x%08x", name, number)
end
library.shown = shown

---------------------------------------------------------------------------------------------------------------------
-- Tables: read-only values are seen through, never handed out.

local function through(t, key)
  local real = behind(t)
  if real then return next(real, key) end
  return next(t, key)
end

local function each(t)
  local real = behind(t)
  if real then return function(_, key) return next(real, key) end, t, nil end
  return pairs(t)
end

---------------------------------------------------------------------------------------------------------------------
-- Time and randomness.

-- Days from 1970-01-01 to the given day of the Gregorian calendar; Howard Hinnant, "chrono-compatible low-level date
-- algorithms", days_from_civil.
local function days(year, month, day)
  year = month <= 2 and year - 1 or year
  local era = year // 400
  local of_era = year - era * 400
  local of_year = (153 * (month > 2 and month - 3 or month + 9) + 2) // 5 + day - 1
  return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
end

local function field(t, key, default)
  local value = t[key]
  if value == nil then value = default end
  local whole = tointeger(value)
  if not whole then
    if value == nil then error("field '" .. key .. "' missing in date table", 3) end
    error("field '" .. key .. "' is not an integer", 3)
  end
  if whole > 1000000000000 or whole < -1000000000000 then error("field '" .. key .. "' is out-of-bound", 3) end
  return whole
end

local clocks = {
  clock = function() return attempt.time / 1000000 end,
  difftime = os.difftime,
  time = function(t)
    if t == nil then return attempt.time // 1000000 end
    if type(t) ~= "table" then error("bad argument #1 to 'time' (table expected, got " .. type(t) .. ")", 2) end
    local year, month, day = field(t, "year"), field(t, "month"), field(t, "day")
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    local hour, min, sec = field(t, "hour", 12), field(t, "min", 0), field(t, "sec", 0)
    return (days(year, month, 1) + day - 1) * 86400 + hour * 3600 + min * 60 + sec
  end,
  date = function(pattern, at)
    pattern = pattern == nil and "%c" or pattern
    if type(pattern) ~= "string" then
      error("bad argument #1 to 'date' (string expected, got " .. type(pattern) .. ")", 2)
    end
    if sub(pattern, 1, 1) ~= "!" then pattern = "!" .. pattern end
    return date(pattern, at == nil and attempt.time // 1000000 or at)
  end,
}

local maths = {}
for name, value in pairs(math) do maths[name] = value end
maths.randomseed = function(...)
  if select("#", ...) == 0 then return randomseed(attempt.seed) end
  return randomseed(...)
end

local quiet_maths = {}
for name, value in pairs(maths) do quiet_maths[name] = value end
quiet_maths.random, quiet_maths.randomseed = nil, nil

---------------------------------------------------------------------------------------------------------------------
-- The log: lines kept until the host takes them; `level` is one digit.

local lines, line_count, byte_count, pending = {}, 0, 0, 0
local adding = false -- the hook may ask for the log at any instruction

local function add(level, line)
  if line_count > limits.lines then return end
  if line_count == limits.lines or byte_count + #line > limits.bytes then
    line_count = limits.lines + 1
    level = "2"
    line = format("log truncated: an attempt may write %d lines and %d bytes", limits.lines, limits.bytes)
  elseif #line > limits.line then
    local cut = limits.line
    while cut > 0 and sub(line, cut + 1, cut + 1) >= "\x80" and sub(line, cut + 1, cut + 1) < "\xc0" do cut = cut - 1 end
    line = sub(line, 1, cut) .. format(" [cut: the line has %d bytes]", #line)
  end
  adding = true
  line_count = line_count + 1
  byte_count = byte_count + #line
  pending = pending + 1
  lines[pending] = level .. line
  adding = false
end

local function write(level, ...)
  local parts = {...}
  for i = 1, select("#", ...) do parts[i] = shown(parts[i]) end
  if line_count > limits.lines then return end
  local line = concat(parts, "\t")
  local from = 1
  while line_count <= limits.lines do
    local stop = find(line, "\n", from, true)
    if not stop then break end
    add(level, sub(line, from, stop - 1))
    from = stop + 1
  end
  if from <= #line or from == 1 then add(level, sub(line, from)) end
  if not guard.watched then guard.report() end
end

-- The lines not taken yet as one text, each with its level's digit before it; nil when there are none.
function library.take_log()
  if pending == 0 or adding then return nil end
  local text = concat(lines, "\n", 1, pending)
  lines, pending = {}, 0
  return text
end

function library.begin()
  numbers, numbered, line_count, byte_count, adding = nil, 0, 0, 0, false
  if pending > 0 then lines, pending = {}, 0 end
end

local log = {
  debug = function(...) write("0", ...) end,
  info = function(...) write("1", ...) end,
  warning = function(...) write("2", ...) end,
  warn = function(...) write("2", ...) end,
  error = function(...) write("3", ...) end,
}

---------------------------------------------------------------------------------------------------------------------
-- A failure on purpose: returned, or raised as an error, it ends the attempt.

local FAILURE, MOST_DETAILS <const> = values.FAILURE, 65536

-- Types that say what the platform did: a script cannot say that.
local PLATFORM <const> = {
  Timeout = true, Cancelled = true, MemoryLimit = true, CPULimit = true, Killed = true, InternalError = true,
}

local failures = setmetatable({}, {__mode = "k"}) -- what each says: reason, type, details as JSON

FAILURE.__tostring = function(failure) return failures[failure][1] end

local function bad_details(what)
  error("bad argument #2 to 'fail' (" .. what .. ")", 3)
end

local function checked_type(details)
  local real = behind(details) or details
  local kind = rawget(real, "type")
  if kind == nil then return "Failed" end
  if type(kind) ~= "string" or #kind > 128 or not find(kind, "^[%w_][%w_.:-]*$") then
    bad_details("details.type is the type of the error: a name such as OutOfStock")
  end
  if PLATFORM[kind] then bad_details("the type " .. kind .. " is one of the platform's own") end
  return kind
end

local function fail(reason, details)
  if type(reason) ~= "string" then
    error("bad argument #1 to 'fail' (string expected, got " .. type(reason) .. ")", 2)
  end
  local said = {reason, "Failed", nil}
  if details ~= nil then
    if type(details) ~= "table" then bad_details("table expected, got " .. type(details)) end
    local fine, text = guard.pcall(values.encode, details, MOST_DETAILS)
    if not fine then bad_details(values.locate(details, "details", MOST_DETAILS)) end
    if sub(text, 1, 1) ~= "{" then bad_details("an object expected, got a list") end
    said[2], said[3] = checked_type(details), text
  end
  local failure = setmetatable({message = reason, details = details}, FAILURE)
  failures[failure] = said
  return failure
end

-- Reason, type and details (JSON, or nil) when `value` is what `fail` made.
function library.failure_of(value)
  if getmetatable(value) ~= FAILURE then return nil end
  local said = failures[value]
  return said[1], said[2], said[3]
end

---------------------------------------------------------------------------------------------------------------------
-- What `_ENV` falls back to, for scripts and for expressions.

getmetatable("").__metatable = false

local names = {}

local function locked(name, real)
  local proxy = values.read_only(real)
  names[proxy] = name
  return proxy
end

function library.name_of(proxy)
  return names[proxy]
end

local json_library = locked("json", json)
getmetatable(json_library).__call = function(_, value) return json.encode(value) end

-- A text is read to its end, however long it is.
local function number_of(value, ...)
  if type(value) == "string" and #value > 65536 then guard.look() end
  return tonumber(value, ...)
end

local expression = {
  _VERSION = _VERSION,
  assert = assert, error = error, ipairs = ipairs, next = through, pairs = each, rawequal = rawequal,
  select = select, tonumber = number_of, tostring = shown, type = type, pcall = guard.pcall, xpcall = guard.xpcall,
  getmetatable = metatables.getmetatable, setmetatable = metatables.setmetatable, rawset = metatables.rawset,
  rawget = function(t, key)
    local real = behind(t)
    return rawget(real or t, key)
  end,
  rawlen = function(t)
    local real = behind(t)
    return rawlen(real or t)
  end,
  json = json_library,
  base64 = locked("base64", extras.base64),
  hmac = extras.digest.hmac,
  math = locked("math", quiet_maths),
  re = locked("re", extras.re),
  sha256 = extras.digest.sha256,
  string = locked("string", extras.texts(shown)),
  table = locked("table", extras.tables),
  time = locked("time", extras.time),
  utf8 = locked("utf8", utf8),
}

local script = {}
for name, value in pairs(expression) do script[name] = value end
local times = {}
for name, value in pairs(extras.time) do times[name] = value end
times.now = function() return attempt.time / 1000000 end

script.fail = fail
script.time = locked("time", times)
script.coroutine = locked("coroutine", guard.coroutine)
script.log = locked("log", log)
script.math = locked("math", maths)
script.os = locked("os", clocks)
script.print = function(...) write("1", ...) end

library.expression, library.script = expression, script
return library
