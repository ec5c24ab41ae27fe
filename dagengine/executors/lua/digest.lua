-- The scripts' `sha256` and `hmac`: done by the host, which answers with four numbers.

local guard, host = ...

local type, error, format = type, error, string.format

local MOST_TEXT <const> = 16 << 20 -- bytes: no hook watches the host

local function checked(text, position, name)
  if type(text) ~= "string" then
    error("bad argument #" .. position .. " to '" .. name .. "' (string expected, got " .. type(text) .. ")", 3)
  end
  if #text > MOST_TEXT then error(name .. ": the text is longer than " .. (MOST_TEXT >> 20) .. " MiB", 3) end
end

local function hexadecimal(a, b, c, d)
  guard.look()
  return format("%016x%016x%016x%016x", a, b, c, d)
end

local digest = {}

function digest.sha256(text)
  checked(text, 1, "sha256")
  guard.room(0)
  return hexadecimal(host.sha256(text))
end

function digest.hmac(key, text)
  checked(key, 1, "hmac")
  checked(text, 2, "hmac")
  guard.room(0)
  return hexadecimal(host.hmac(key, text))
end

return digest
