-- The scripts' `time` library: moments are seconds since 1970 (integers, or floats with a fraction), or RFC 3339 texts.
-- Pure: nothing here looks at a clock. `time.now` is added by `library.lua`.

local type, error, next, tointeger, integer_type = type, error, next, math.tointeger, math.type
local match, find, sub, format, tonumber = string.match, string.find, string.sub, string.format, tonumber
local floor = math.floor

local FIRST <const>, LAST <const> = -62135596800, 253402300799 -- the years 1 to 9999

-- Days from 1970-01-01; Howard Hinnant, "chrono-compatible low-level date algorithms".
local function days_from(year, month, day)
  year = month <= 2 and year - 1 or year
  local era = year // 400
  local of_era = year - era * 400
  local of_year = (153 * (month > 2 and month - 3 or month + 9) + 2) // 5 + day - 1
  return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
end

local function date_of(days)
  days = days + 719468
  local era = days // 146097
  local of_era = days - era * 146097
  local year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
  local of_year = of_era - (365 * year + year // 4 - year // 100)
  local month = (5 * of_year + 2) // 153
  local day = of_year - (153 * month + 2) // 5 + 1
  month = month < 10 and month + 3 or month - 9
  return year + era * 400 + (month <= 2 and 1 or 0), month, day
end

local LENGTHS <const> = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

local function length_of(year, month)
  if month == 2 and year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0) then return 29 end
  return LENGTHS[month]
end

local function not_a_time(text, level)
  error("time: " .. format("%q", sub(text, 1, 64)) .. " is not an RFC 3339 time such as 2026-01-31T09:30:00Z", level + 1)
end

local function offset_of(text)
  if text == "Z" or text == "z" then return 0 end
  local sign, hours, minutes = match(text, "^([+-])(%d%d):(%d%d)$")
  if not sign or tonumber(hours) > 23 or tonumber(minutes) > 59 then return nil end
  local seconds = tonumber(hours) * 3600 + tonumber(minutes) * 60
  return sign == "-" and -seconds or seconds
end

local MOST_TEXT <const> = 64 -- bytes: no pattern here is slow on a text that is short

local function parsed(text, level)
  if #text > MOST_TEXT then not_a_time(text, level + 1) end
  local year, month, day, hour, minute, second, fraction, offset =
    match(text, "^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)(%.?%d*)([Zz+-].*)$")
  if not year then
    year, month, day = match(text, "^(%d%d%d%d)%-(%d%d)%-(%d%d)$")
    if not year then not_a_time(text, level + 1) end
    hour, minute, second, fraction, offset = 0, 0, 0, "", "Z"
  end
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second)
  local east = offset_of(offset)
  if not east or fraction == "." or (fraction ~= "" and sub(fraction, 1, 1) ~= ".") then not_a_time(text, level + 1) end
  if month < 1 or month > 12 or day < 1 or day > length_of(year, month) then not_a_time(text, level + 1) end
  if hour > 23 or minute > 59 or second > 60 then not_a_time(text, level + 1) end
  local seconds = days_from(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - east
  local part = fraction ~= "" and tonumber("0" .. fraction) or 0
  return part ~= 0 and seconds + part or seconds
end

-- The seconds that `moment` stands for: a number, or an RFC 3339 text.
local function seconds_of(moment, position, name, level)
  if type(moment) == "string" then return parsed(moment, level + 1) end
  if type(moment) ~= "number" then
    local told = "bad argument #%d to '%s' (number or RFC 3339 text expected, got %s)"
    error(format(told, position, name, type(moment)), level + 1)
  end
  if moment ~= moment or moment < FIRST or moment > LAST then
    error("time: " .. moment .. " is outside the years 1 to 9999", level + 1)
  end
  return moment
end

local UNITS <const> = {ms = 0.001, s = 1, m = 60, h = 3600, d = 86400}

-- Seconds of `1h30m`, `250ms`, `-2d`.
local function duration_of(text, level)
  if #text > MOST_TEXT then text = sub(text, 1, MOST_TEXT) .. "…" end -- which is none
  local sign, rest = match(text, "^([+-]?)(.+)$")
  local total, at = 0, 1
  while rest and at <= #rest do
    local _, stop, amount, unit = find(rest, "^(%d+%.?%d*)(%a+)", at)
    if not stop or not UNITS[unit] then break end
    total = total + (tointeger(amount) or tonumber(amount)) * UNITS[unit]
    at = stop + 1
  end
  if not rest or at <= #rest then
    error("time: " .. format("%q", sub(text, 1, 64)) .. " is not a duration such as 1h30m, 45s, 250ms or 2d", level + 1)
  end
  return sign == "-" and -total or total
end

local PARTS <const> = {weeks = 604800, days = 86400, hours = 3600, minutes = 60, seconds = 1}

-- Months keep the day as far as the month has it: a month after January 31 is the end of February.
local function later_by_months(seconds, months)
  local whole = floor(seconds)
  local days = whole // 86400
  local year, month, day = date_of(days)
  month = month - 1 + months
  year, month = year + month // 12, month % 12 + 1
  if year < 1 or year > 9999 then error("time: the result is outside the years 1 to 9999", 4) end
  local last = length_of(year, month)
  return days_from(year, month, day < last and day or last) * 86400 + (seconds - days * 86400)
end

local function with_parts(seconds, parts)
  local months, rest = 0, 0
  for name, amount in next, parts do
    if type(amount) ~= "number" then error("time.add: " .. format("%q", name) .. " is not a number", 3) end
    if name == "years" or name == "months" then
      local whole = tointeger(amount)
      if not whole or whole > 120000 or whole < -120000 then error("time.add: " .. name .. " is not a whole number", 3) end
      months = months + whole * (name == "years" and 12 or 1)
    elseif PARTS[name] then
      rest = rest + amount * PARTS[name]
    else
      local told = "time.add: unknown part %q; there are years, months, weeks, days, hours, minutes and seconds"
      error(format(told, name), 3)
    end
  end
  return (months ~= 0 and later_by_months(seconds, months) or seconds) + rest
end

-- A whole number as an integer.
local function plain(seconds)
  return integer_type(seconds) == "float" and tointeger(seconds) or seconds
end

local time = {}

function time.parse(text)
  if type(text) ~= "string" then
    error("bad argument #1 to 'parse' (string expected, got " .. type(text) .. ")", 2)
  end
  return parsed(text, 2)
end

function time.format(moment, offset)
  local seconds = seconds_of(moment, 1, "format", 2)
  offset = offset == nil and "Z" or offset
  local east = type(offset) == "string" and #offset < 7 and offset_of(offset)
  if not east then error("bad argument #2 to 'format' (an offset such as +02:00 expected)", 2) end
  local micros = floor((seconds - floor(seconds)) * 1000000 + 0.5)
  local whole = tointeger(floor(seconds)) + east
  if micros == 1000000 then whole, micros = whole + 1, 0 end
  local year, month, day = date_of(whole // 86400)
  local of_day = whole % 86400
  local fraction = micros ~= 0 and match(format(".%06d", micros), "^(.-)0*$") or ""
  local text = "%04d-%02d-%02dT%02d:%02d:%02d%s%s"
  return format(text, year, month, day, of_day // 3600, of_day // 60 % 60, of_day % 60, fraction, east == 0 and "Z" or offset)
end

function time.add(moment, amount)
  local seconds = seconds_of(moment, 1, "add", 2)
  local result
  if type(amount) == "number" then
    result = seconds + amount
  elseif type(amount) == "string" then
    result = seconds + duration_of(amount, 2)
  elseif type(amount) == "table" then
    result = with_parts(seconds, amount)
  else
    error("bad argument #2 to 'add' (seconds, a duration or a table of parts expected, got " .. type(amount) .. ")", 2)
  end
  if result ~= result or result < FIRST or result > LAST then
    error("time: the result is outside the years 1 to 9999", 2)
  end
  return plain(result)
end

function time.diff(later, earlier)
  return plain(seconds_of(later, 1, "diff", 2) - seconds_of(earlier, 2, "diff", 2))
end

return time
