-- Values across the border: MessagePack in (as deeply read-only tables), JSON text out.
--
-- A read-only value is an empty table (the proxy) whose metatable holds the real one in `__index`. Nothing a script can
-- call hands the real table out. Arrays have `__len` in that metatable, objects do not: so `[]` and `{}` stay apart.
-- Everything here reads tables raw: no metamethod of a script can run inside host code, which no deadline covers.

local getmetatable, setmetatable = debug.getmetatable, setmetatable
local type, next, rawget, rawlen, error, tostring = type, next, rawget, rawlen, error, tostring
local byte, sub, find, gsub, format, unpack = string.byte, string.sub, string.find, string.gsub, string.format, string.unpack
local concat, create = table.concat, table.create
local integer_type, utf8_length = math.type, utf8.len

local MAX_DEPTH <const> = 100

local values = {MAX_DEPTH = MAX_DEPTH}

-- `json.null`: a userdata of Lua's own, so that it is no table, and indexing it says "attempt to index a null value".
local null = io.stderr
debug.setmetatable(null, {__name = "null", __tostring = function() return "null" end, __metatable = false})
values.null = null

-- The metatable of tables that `json.array` made.
local ARRAY = {__name = "array", __metatable = false}
values.ARRAY = ARRAY

-- The metatable of what `fail` made: no value, but the end of an attempt.
local FAILURE = {__name = "failure", __metatable = false}
values.FAILURE = FAILURE

-- Set by the sandbox: the message for a write to `proxy[key]`, and what asks the host whether to go on.
values.describe_write, values.look = nil, nil

-- Set by `problems.lua`: what about a value is not JSON, if anything.
values.find_problem = nil

local function refuse_write(proxy, key)
  error(values.describe_write(proxy, key), 2)
end
values.refuse_write = refuse_write

local function length(proxy)
  return rawlen(getmetatable(proxy).__index)
end

-- The real table behind a read-only one and whether it is an array; nil for anything else.
local function behind(value)
  local meta = getmetatable(value)
  if meta and rawget(meta, "__newindex") == refuse_write then
    local real = meta.__index
    if type(real) == "function" then real = meta.all() end
    return real, meta.__len ~= nil
  end
end
values.behind = behind

-- A read-only table whose members come when they are read: `one(_, key)` gives a member, `all()` the real table of all.
function values.lazy(one, all)
  return setmetatable({}, {__index = one, __newindex = refuse_write, __metatable = false, all = all})
end

function values.read_only(real)
  return setmetatable({}, {__index = real, __newindex = refuse_write, __metatable = false})
end

function values.read_only_array(real)
  return setmetatable({}, {__index = real, __newindex = refuse_write, __metatable = false, __len = length})
end

---------------------------------------------------------------------------------------------------------------------
-- MessagePack → read-only tables. The writer is ours, so that only what it writes has to be understood.

local decode

local function text(s, i, b)
  if b == 0xd9 then return unpack(">s1", s, i + 1) end
  if b == 0xda then return unpack(">s2", s, i + 1) end
  return unpack(">s4", s, i + 1)
end

local function object(s, i, n)
  local real = n > 1 and create(0, n) or {}
  for _ = 1, n do
    local b, key = byte(s, i, i), nil
    if b < 0xc0 then
      key = sub(s, i + 1, i + b - 0xa0)
      i = i + b - 0x9f
    else
      key, i = text(s, i, b)
    end
    b = byte(s, i)
    if b < 0x80 then
      real[key] = b
      i = i + 1
    elseif b >= 0xa0 and b < 0xc0 then
      real[key] = sub(s, i + 1, i + b - 0xa0)
      i = i + b - 0x9f
    elseif b == 0xcb then
      real[key], i = unpack(">d", s, i + 1)
    else
      real[key], i = decode(s, i, b)
    end
  end
  return setmetatable({}, {__index = real, __newindex = refuse_write, __metatable = false}), i
end

local function array(s, i, n)
  local real = create(n)
  for position = 1, n do
    local b = byte(s, i)
    if b < 0x80 then
      real[position] = b
      i = i + 1
    elseif b == 0xcb then
      real[position], i = unpack(">d", s, i + 1)
    else
      real[position], i = decode(s, i, b)
    end
  end
  return setmetatable({}, {__index = real, __newindex = refuse_write, __metatable = false, __len = length}), i
end

local function unsigned64(s, i)
  local number, stop = unpack(">i8", s, i)
  if number < 0 then
    values.problem = "holds an integer above 9223372036854775807, which Lua cannot hold"
    error(values.problem, 0)
  end
  return number, stop
end

local wide = {
  [0xc0] = function(_, i) return null, i end,
  [0xc2] = function(_, i) return false, i end,
  [0xc3] = function(_, i) return true, i end,
  [0xcc] = function(s, i) return unpack(">I1", s, i) end,
  [0xcd] = function(s, i) return unpack(">I2", s, i) end,
  [0xce] = function(s, i) return unpack(">I4", s, i) end,
  [0xcf] = unsigned64,
  [0xd0] = function(s, i) return unpack(">i1", s, i) end,
  [0xd1] = function(s, i) return unpack(">i2", s, i) end,
  [0xd2] = function(s, i) return unpack(">i4", s, i) end,
  [0xd3] = function(s, i) return unpack(">i8", s, i) end,
  [0xcb] = function(s, i) return unpack(">d", s, i) end,
  [0xdc] = function(s, i) local n, j = unpack(">I2", s, i) return array(s, j, n) end,
  [0xdd] = function(s, i) local n, j = unpack(">I4", s, i) return array(s, j, n) end,
  [0xde] = function(s, i) local n, j = unpack(">I2", s, i) return object(s, j, n) end,
  [0xdf] = function(s, i) local n, j = unpack(">I4", s, i) return object(s, j, n) end,
}

function decode(s, i, b)
  if b < 0x80 then return b, i + 1 end
  if b < 0x90 then return object(s, i + 1, b - 0x80) end
  if b < 0xa0 then return array(s, i + 1, b - 0x90) end
  if b < 0xc0 then return sub(s, i + 1, i + b - 0xa0), i + b - 0x9f end
  if b >= 0xe0 then return b - 256, i + 1 end
  if b >= 0xd9 and b <= 0xdb then return text(s, i, b) end
  return wide[b](s, i + 1)
end

function values.decode(packed)
  return (decode(packed, 1, byte(packed, 1)))
end

---------------------------------------------------------------------------------------------------------------------
-- Lua → JSON. The fast walk gives up at the first value it cannot write; `locate` then walks again to say where.

local ESCAPES = {['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b", ["\f"] = "\\f"}
for code = 0, 31 do
  local char = string.char(code)
  ESCAPES[char] = ESCAPES[char] or format("\\u%04x", code)
end

local REFUSED <const> = "value is not JSON"
local TOO_BIG <const> = "value is too big"
local LOOK_EVERY <const> = 128       -- tables between two looks at the clock

local pieces, count, size, limit = {}, 0, 0, 0
local visited = 0 -- tables
local cause
local keys, key_count = {}, 0 -- '"name":' by name; rows share their names

local function refuse_size()
  cause = TOO_BIG
  error(TOO_BIG, 0)
end

local function quoted(s)
  if not find(s, "[^ !#-Z%[%]^-~]") then return '"' .. s .. '"' end
  if not utf8_length(s) then error(REFUSED, 0) end
  return '"' .. gsub(s, '[\0-\31"\\]', ESCAPES) .. '"'
end
values.quoted = quoted

local function quoted_key(key)
  if type(key) ~= "string" then error(REFUSED, 0) end
  local s = quoted(key) .. ":"
  if #key <= 64 then
    if key_count >= 2000 then keys, key_count = {}, 0 end
    keys[key] = s
    key_count = key_count + 1
  end
  return s
end

local write

local function write_array(real, n, depth)
  if n + count + size > limit then refuse_size() end
  local found = 0
  for _ in next, real do found = found + 1 end
  if found ~= n then error(REFUSED, 0) end
  if n == 0 then
    count = count + 1
    pieces[count] = "[]"
    return
  end
  for i = 1, n do
    count = count + 1
    pieces[count] = i == 1 and "[" or ","
    local value = real[i]
    if integer_type(value) == "integer" then
      count = count + 1
      pieces[count] = value
    else
      write(value, depth)
    end
  end
  count = count + 1
  pieces[count] = "]"
end

local function write_object(real, depth)
  local lead = "{"
  for key, value in next, real do
    count = count + 1
    pieces[count] = lead
    lead = ","
    count = count + 1
    local name = keys[key] or quoted_key(key)
    pieces[count] = name
    size = size + #name
    if integer_type(value) == "integer" then
      count = count + 1
      pieces[count] = value
    else
      write(value, depth)
    end
  end
  count = count + 1
  pieces[count] = lead == "{" and "{}" or "}"
end

local function write_table(value, depth)
  if depth > MAX_DEPTH then error(REFUSED, 0) end
  if count + size > limit then refuse_size() end
  visited = visited + 1
  if visited % LOOK_EVERY == 0 then values.look() end -- a table may have millions of empty places
  local meta = getmetatable(value)
  if meta then
    if rawget(meta, "__newindex") == refuse_write then
      value = meta.__index
      if meta.__len then return write_array(value, rawlen(value), depth) end
      if type(value) == "function" then value = meta.all() end
      return write_object(value, depth)
    elseif meta == ARRAY then
      return write_array(value, rawlen(value), depth)
    elseif meta == FAILURE then
      error(REFUSED, 0)
    end
  end
  local n = rawlen(value)
  if n > 0 then return write_array(value, n, depth) end
  return write_object(value, depth)
end

function write(value, depth)
  local kind = type(value)
  count = count + 1
  if kind == "string" then
    if #value > limit then refuse_size() end
    local s = quoted(value)
    pieces[count] = s
    size = size + #s
    if size > limit then refuse_size() end
  elseif kind == "number" then
    if value - value ~= 0 then error(REFUSED, 0) end -- NaN and the infinities
    pieces[count] = value
  elseif kind == "boolean" then
    pieces[count] = value and "true" or "false"
  elseif kind == "table" then
    count = count - 1
    write_table(value, depth + 1)
  elseif value == null then
    pieces[count] = "null"
  else
    error(REFUSED, 0)
  end
end

-- `value` as JSON text of at most `most` bytes. Raises; then `values.locate` says what is wrong.
function values.encode(value, most)
  if value == nil then return "null" end
  if count > 4096 or size > 65536 then pieces = {} end -- do not hold on to a big result
  count, size, limit, cause = 0, 0, most, nil
  write(value, 0)
  local s = count == 1 and tostring(pieces[1]) or concat(pieces, "", 1, count)
  if #s > most then refuse_size() end
  return s
end

---------------------------------------------------------------------------------------------------------------------
local function step(path, key)
  if type(key) == "string" then
    if find(key, "^[%a_][%w_]*$") then return path .. "." .. key end
    return path .. "[" .. format("%q", key) .. "]"
  end
  if integer_type(key) == "integer" then return path .. "[" .. key .. "]" end
  return path .. "[" .. (type(key) == "number" and tostring(key) or "a " .. type(key)) .. "]"
end
values.step = step

-- Why the last `values.encode(value, most)` raised; `root` is what the script calls the value.
function values.locate(value, root, most)
  if cause ~= TOO_BIG then
    local problem = values.find_problem(value, root)
    if problem then return problem end
  end
  return root .. " is bigger than " .. most .. " bytes of JSON"
end

return values
