-- The scripts' `base64` library (RFC 4648): `encode`, `encode_url` (without padding), `decode` (takes both).
-- In Lua, so that the deadline and the limit on memory cover it; three bytes are two steps through a table of pairs.

local type, error = type, error
local byte, char, gsub, find, sub = string.byte, string.char, string.gsub, string.find, string.sub
local concat = table.concat

local PIECE <const> = 3 * 4096 -- bytes that are encoded before they are put together: multiples of 3 and of 4

local STANDARD <const> = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local URL <const> = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

local pairs_by, six_bits = {}, nil -- made when they are first needed: they are bigger than all the rest

local function pairs_of_letters(letters)
  local made = pairs_by[letters]
  if made then return made end
  made = {}
  for high = 0, 63 do
    for low = 0, 63 do
      made[high * 64 + low] = sub(letters, high + 1, high + 1) .. sub(letters, low + 1, low + 1)
    end
  end
  pairs_by[letters] = made
  return made
end

local function values_of_letters()
  if not six_bits then
    local made = {[45] = 62, [95] = 63}
    for i = 1, 64 do made[byte(STANDARD, i)] = i - 1 end
    six_bits = made
  end
  return six_bits
end

local function checked(text, name)
  if type(text) ~= "string" then
    error("bad argument #1 to '" .. name .. "' (string expected, got " .. type(text) .. ")", 3)
  end
end

-- The last one or two bytes of a text.
local function tail(text, at, letters, pairs_of)
  local left = #text - at + 1
  if left == 0 then return "" end
  local a, b = byte(text, at, at + 1)
  local bits = a << 16 | (b or 0) << 8
  local first = pairs_of[bits >> 12]
  if left == 1 then return first end
  local third = (bits >> 6 & 63) + 1
  return first .. sub(letters, third, third)
end

local function encoded(text, letters)
  local pairs_of = pairs_of_letters(letters)
  local pieces, whole = {}, #text - #text % 3
  for from = 1, whole, PIECE do
    local parts, n = {}, 0
    for at = from, from + PIECE - 1, 3 do
      if at > whole then break end
      local a, b, c = byte(text, at, at + 2)
      parts[n + 1] = pairs_of[a << 4 | b >> 4]
      n = n + 2
      parts[n] = pairs_of[(b & 15) << 8 | c]
    end
    pieces[#pieces + 1] = concat(parts, "", 1, n)
  end
  pieces[#pieces + 1] = tail(text, whole + 1, letters, pairs_of)
  return concat(pieces)
end

local function wrong(text)
  local at, _, letter = find(text, "([^%w+/_=-])")
  if at then error("base64.decode: byte " .. at .. " (" .. byte(letter) .. ") does not belong to base64", 3) end
  error("base64.decode: the text is cut off or wrongly padded", 3)
end

local function decoded_piece(text, from, to, value_of)
  local parts, n = {}, 0
  for at = from, to, 4 do
    local a, b, c, d = byte(text, at, at + 3)
    a, b, c, d = value_of[a], value_of[b], value_of[c], value_of[d]
    if not (a and b and c and d) then return nil end
    local bits = a << 18 | b << 12 | c << 6 | d
    n = n + 1
    parts[n] = char(bits >> 16, bits >> 8 & 255, bits & 255)
  end
  return concat(parts, "", 1, n)
end

local base64 = {}

function base64.encode(text)
  checked(text, "encode")
  local result = encoded(text, STANDARD)
  return result .. ("="):rep(-#text % 3)
end

function base64.encode_url(text)
  checked(text, "encode_url")
  return encoded(text, URL)
end

function base64.decode(text)
  checked(text, "decode")
  text = find(text, "[ \t\r\n]") and gsub(text, "[ \t\r\n]+", "") or text
  local padded = #text
  while padded > 0 and #text - padded < 2 and byte(text, padded) == 61 do padded = padded - 1 end
  if padded < #text and #text % 4 ~= 0 then wrong(text) end
  local left = padded % 4
  if left == 1 then wrong(text) end
  local pieces, whole, value_of = {}, padded - left, values_of_letters()
  for from = 1, whole, PIECE do
    local last = from + PIECE - 1
    local piece = decoded_piece(text, from, last < whole and last or whole, value_of)
    if not piece then wrong(text) end
    pieces[#pieces + 1] = piece
  end
  if left > 0 then
    local a, b, c = byte(text, whole + 1, padded)
    a, b, c = value_of[a], value_of[b], c == nil and 0 or value_of[c]
    if not (a and b and c) then wrong(text) end
    local bits = a << 18 | b << 12 | c << 6
    pieces[#pieces + 1] = left == 2 and char(bits >> 16) or char(bits >> 16, bits >> 8 & 255)
  end
  return concat(pieces)
end

return base64
