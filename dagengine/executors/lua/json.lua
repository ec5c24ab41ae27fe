-- The scripts' `json` library: `json.null`, `json.array`, `json.encode`, `json.decode`; calling it encodes.
-- `decode` makes ordinary tables that may be changed; its arrays are marked, so that `[]` stays `[]`.

local values, guard, max_output = ...

local getmetatable, setmetatable = debug.getmetatable, setmetatable
local type, next, error, pcall, tonumber = type, next, error, pcall, tonumber
local byte, sub, find, match, format = string.byte, string.sub, string.find, string.match, string.format
local concat, integer_type, utf8_char, utf8_length = table.concat, math.type, utf8.char, utf8.len

local ARRAY, null, behind = values.ARRAY, values.null, values.behind
local MAX_DEPTH <const> = 100

local MOST_TEXT <const> = 16 << 20 -- bytes: no hook watches how one token is found

local json = {null = null}

---------------------------------------------------------------------------------------------------------------------

local UNESCAPED = {
  [34] = '"', [92] = "\\", [47] = "/", [98] = "\b", [102] = "\f", [110] = "\n", [114] = "\r", [116] = "\t",
}

local function wrong(what, at)
  error(format("json.decode: %s at byte %d", what, at), 0)
end

local function blank(s, i)
  return find(s, "[^ \t\r\n]", i) or #s + 1
end

-- The character of the `\uXXXX` whose backslash is at `i`, and where to go on.
local function unicode(s, i)
  local hex = match(s, "^\\u(%x%x%x%x)", i)
  if not hex then wrong("bad \\u escape", i) end
  local code = tonumber(hex, 16)
  if code >= 0xdc00 and code <= 0xdfff then wrong("unpaired surrogate", i) end
  if code < 0xd800 or code > 0xdbff then return utf8_char(code), i + 6 end
  local low = tonumber(match(s, "^\\u(%x%x%x%x)", i + 6) or "0", 16)
  if low < 0xdc00 or low > 0xdfff then wrong("unpaired surrogate", i) end
  return utf8_char(0x10000 + (code - 0xd800) * 0x400 + low - 0xdc00), i + 12
end

local function escaped(s, start)
  local parts, n, i = {}, 0, start
  while true do
    local stop = find(s, '["\\\0-\31]', i)
    if not stop then wrong("unfinished string", start - 1) end
    n = n + 1
    parts[n] = sub(s, i, stop - 1)
    local c = byte(s, stop)
    if c == 34 then return concat(parts, "", 1, n), stop + 1 end
    if c ~= 92 then wrong("control character in a string", stop) end
    local following = byte(s, stop + 1)
    n = n + 1
    if following == 117 then
      parts[n], i = unicode(s, stop)
    else
      parts[n] = UNESCAPED[following] or wrong("bad escape", stop)
      i = stop + 2
    end
  end
end

local function text(s, start)
  local stop = find(s, '["\\\0-\31]', start)
  if stop and byte(s, stop) == 34 then return sub(s, start, stop - 1), stop + 1 end
  return escaped(s, start)
end

local function number(s, i)
  local whole, fraction, exponent, stop = match(s, "^(-?%d+)(%.?%d*)([eE]?[+-]?%d*)()", i)
  if not whole or find(whole, "^-?0%d") or fraction == "." then wrong("bad value", i) end
  if exponent ~= "" and not find(exponent, "^[eE][+-]?%d+$") then wrong("bad number", i) end
  local value = tonumber(sub(s, i, stop - 1))
  if fraction == "" and exponent == "" then
    if integer_type(value) ~= "integer" then wrong("integer outside 64 bits", i) end
  elseif value - value ~= 0 then
    wrong("number out of range", i)
  end
  return value, stop
end

local parse

local function array(s, i, depth)
  local result, n = setmetatable({}, ARRAY), 0
  i = blank(s, i)
  if byte(s, i) == 93 then return result, i + 1 end
  while true do
    n = n + 1
    result[n], i = parse(s, i, depth)
    i = blank(s, i)
    local c = byte(s, i)
    if c == 93 then return result, i + 1 end
    if c ~= 44 then wrong("expected ',' or ']'", i) end
    i = blank(s, i + 1)
  end
end

local function object(s, i, depth)
  local result = {}
  i = blank(s, i)
  if byte(s, i) == 125 then return result, i + 1 end
  while true do
    if byte(s, i) ~= 34 then wrong("expected a key in quotes", i) end
    local key
    key, i = text(s, i + 1)
    i = blank(s, i)
    if byte(s, i) ~= 58 then wrong("expected ':'", i) end
    result[key], i = parse(s, blank(s, i + 1), depth)
    i = blank(s, i)
    local c = byte(s, i)
    if c == 125 then return result, i + 1 end
    if c ~= 44 then wrong("expected ',' or '}'", i) end
    i = blank(s, i + 1)
  end
end

function parse(s, i, depth)
  local c = byte(s, i)
  if c == 34 then return text(s, i + 1) end
  if c == 123 or c == 91 then
    if depth >= MAX_DEPTH then wrong("nested deeper than " .. MAX_DEPTH .. " levels", i) end
    if c == 123 then return object(s, i + 1, depth + 1) end
    return array(s, i + 1, depth + 1)
  end
  if c == 116 and sub(s, i, i + 3) == "true" then return true, i + 4 end
  if c == 102 and sub(s, i, i + 4) == "false" then return false, i + 5 end
  if c == 110 and sub(s, i, i + 3) == "null" then return null, i + 4 end
  if not c then wrong("unexpected end", i) end
  return number(s, i)
end

function json.decode(s)
  if type(s) ~= "string" then error("json.decode: expected a string, got " .. type(s), 2) end
  if #s > MOST_TEXT then error("json.decode: the text is longer than " .. (MOST_TEXT >> 20) .. " MiB", 2) end
  if not utf8_length(s) then error("json.decode: the text is not valid UTF-8", 2) end
  local value, stop = parse(s, blank(s, 1), 0)
  stop = blank(s, stop)
  if stop <= #s then wrong("something follows the value", stop) end
  return value
end

---------------------------------------------------------------------------------------------------------------------

function json.encode(value)
  local done, result = pcall(values.encode, value, max_output)
  if done then return result end
  guard.rethrow(result)
  error("json.encode: " .. values.locate(value, "value", max_output), 2)
end

-- Marks `list` as an array, so that it is written as `[…]` even when it is empty. Without `list`, a new one.
function json.array(list)
  if list == nil then return setmetatable({}, ARRAY) end
  if type(list) ~= "table" then error("json.array: expected a table, got " .. type(list), 2) end
  local real, is_array = behind(list)
  if real then
    if is_array then return list end
    if next(real) == nil then return setmetatable({}, ARRAY) end
    error("json.array: the value is an object", 2)
  end
  local meta = getmetatable(list)
  if meta ~= nil and meta ~= ARRAY then error("json.array: the table has a metatable of its own", 2) end
  return setmetatable(list, ARRAY)
end

return json
