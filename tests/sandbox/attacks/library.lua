-- Functions of Lua's library that take a count, an index or a callback, with arguments that nobody would give them.

--# rep of nothing
--  Tries: to repeat an empty text for ever.
--  Ends: value [0, 0, 0]
return {#(""):rep(math.maxinteger), #(""):rep(math.maxinteger, ""), #string.rep("", 1 << 62, "")}

--# rep of everything
--  Tries: a size that overflows.
--  Ends: LuaError
return ("xx"):rep(math.maxinteger)

--# rep with separators
--  Tries: a size that overflows by the separator.
--  Ends: LuaError
return ("x"):rep(math.maxinteger // 2, ("y"):rep(100))

--# rep of small pieces
--  Tries: to have one call copy single bytes for long.
--  Ends: Timeout
while true do (""):rep(30 << 20, "y") end

--# format with widths
--  Tries: to have numbers padded with gigabytes.
--  Ends: value 0
local done = 0
for _, pattern in ipairs {"%99999d", "%.99999f", "%999s", "%-1000d", "%.100000s", "%1.1000d", "%" .. ("0"):rep(1000) .. "d"} do
  if pcall(string.format, pattern, 1) then done = done + 1 end
end
return done

--# format with a hundred thousand items
--  Tries: to have one call take long.
--  Ends: Timeout or MemoryLimit
local pattern, arguments = ("%99d"):rep(100000), {}
for i = 1, 100000 do arguments[i] = i end
while true do pattern:format(table.unpack(arguments)) end

--# format with tables
--  Tries: to have arguments copied for each table among them.
--  Ends: Timeout or MemoryLimit
local arguments = {}
for i = 1, 20000 do arguments[i] = {} end
local pattern = ("%s"):rep(20000)
while true do pattern:format(table.unpack(arguments)) end

--# format of big texts
--  Tries: to multiply a big text.
--  Ends: MemoryLimit
local big = ("x"):rep(8 << 20)
return #("%s%s%s%s%s%s%s%s"):format(big, big, big, big, big, big, big, big)

--# quoted texts
--  Tries: to have one call escape megabytes.
--  Ends: Timeout or MemoryLimit
local big = ("\0\n\""):rep(1 << 20)
while true do local _ = ("%q"):format(big) end

--# quoted texts that are long
--  Tries: to have one call escape more than it can soon.
--  Ends: LuaError
return ("%q"):format(("\0"):rep(8 << 20))

--# concat that never ends
--  Tries: to have concat read from a table that has everything, by a C function.
--  Ends: Timeout or LuaError or MemoryLimit
return table.concat(setmetatable({}, {__index = getmetatable, __metatable = ""}), "", 1, math.maxinteger - 1)

--# concat that never ends, in Lua
--  Tries: the same with a function.
--  Ends: Timeout or LuaError or MemoryLimit
return table.concat(setmetatable({}, {__index = function() return "" end}), "", 1, math.maxinteger - 1)

--# concat of a length that is a lie
--  Tries: the same by __len.
--  Ends: Timeout or LuaError or MemoryLimit
return table.concat(setmetatable({}, {__index = getmetatable, __metatable = "", __len = function() return 1 << 60 end}))

--# concat of big texts
--  Tries: to multiply a big text.
--  Ends: MemoryLimit
local t, big = {}, ("x"):rep(1 << 20)
for i = 1, 1000 do t[i] = big end
return #table.concat(t)

--# concat with a big separator
--  Tries: the same by what is between.
--  Ends: MemoryLimit
local t = {}
for i = 1, 1000 do t[i] = "" end
return #table.concat(t, ("x"):rep(1 << 20))

--# a sort of millions
--  Tries: to have one call take long.
--  Ends: Timeout
local t = table.create(1 << 20)
for i = 1, 1 << 20 do t[i] = (i * 7919) % 1000003 end
while true do
  table.sort(t)
  table.sort(t, function(a, b) return a > b end)
end

--# a sort by C
--  Tries: to sort for ever with a comparison that is no Lua.
--  Ends: Timeout or LuaError
local t = table.create(1 << 20)
for i = 1, 1 << 20 do t[i] = (i * 7919) % 1000003 end
while true do table.sort(t, math.ult) end

--# a sort of long texts
--  Tries: to have each comparison take long.
--  Ends: Timeout
local t = {}
local base = ("x"):rep(1 << 17)
for i = 1, 300 do t[i] = base .. (i * 7919) % 300 end
while true do table.sort(t, function(a, b) return a < b end) table.sort(t, function(a, b) return a > b end) end

--# a sort without order
--  Tries: to have a sort run out of bounds or for ever.
--  Ends: Timeout
local t = table.create(300000)
for i = 1, 300000 do t[i] = i end
local n = 0
while true do
  pcall(table.sort, t, function() return true end)
  pcall(table.sort, t, function() n = n + 1 return n % 2 == 0 end)
end

--# a sort of what is not there
--  Tries: to have a sort believe in two billion elements.
--  Ends: Timeout or LuaError
table.sort(setmetatable({}, {__len = function() return (1 << 31) - 2 end, __index = getmetatable, __metatable = "x", __newindex = rawequal}))

--# a sort that yields
--  Tries: to leave a sort in the middle.
--  Ends: value [false, false]
local co = coroutine.wrap(function() table.sort({3, 2, 1}, function() coroutine.yield(true) return true end) return true end)
local first = pcall(co)
return {first, (pcall(co))}

--# move to infinity
--  Tries: to move all the elements that there could be.
--  Ends: LuaError
table.move({}, 1, math.maxinteger - 1, 2)

--# move by texts
--  Tries: to hide a count in texts that are numbers.
--  Ends: LuaError
table.move({}, "1", "1000000000000", 1, {})

--# move by floats
--  Tries: the same with floats.
--  Ends: LuaError
table.move({}, 1.0, 1e15, 1, {})

--# move over the edge
--  Tries: to have the count overflow.
--  Ends: LuaError
table.move({}, math.mininteger, math.maxinteger, 1, {})

--# moves of ten million
--  Tries: to move as much as may be, for ever.
--  Ends: Timeout or LuaError
local t, to = {}, {}
while true do table.move(t, 1, 10000000, 1, to) end

--# moves by metamethods
--  Tries: to have each element that is moved call a C function.
--  Ends: Timeout or LuaError
local t = setmetatable({}, {__index = getmetatable, __newindex = rawequal, __metatable = "x"})
while true do table.move(t, 1, 9999999, 1, t) end

--# insert far away
--  Tries: to have an insertion shift elements that are not there: the length of a table can be a lie.
--  Ends: anything or LuaError or Timeout
local t = {}
for i = 0, 61 do t[1 << i] = 1 end
table.insert(t, 1, "x")

--# remove far away
--  Tries: the same by removing.
--  Ends: anything or LuaError or Timeout
local t = {}
for i = 0, 61 do t[1 << i] = 1 end
table.remove(t, 1)

--# insert with a length that changes
--  Tries: to pass a check with one length, and to be shifted by another.
--  Ends: LuaError or Timeout
local n = 0
local t = setmetatable({}, {__len = function() n = n + 1 return n % 2 == 1 and 1 or 1 << 60 end, __index = getmetatable, __metatable = "x", __newindex = rawequal})
for _ = 1, 4 do pcall(table.insert, t, 1, "x") n = n + 1 end
while true do end

--# remove with a length that changes
--  Tries: the same by removing.
--  Ends: LuaError or Timeout
local n = 0
local t = setmetatable({}, {__len = function() n = n + 1 return n % 2 == 1 and 1 or 1 << 60 end, __index = getmetatable, __metatable = "x", __newindex = rawequal})
for _ = 1, 4 do pcall(table.remove, t, 1) n = n + 1 end
while true do end

--# insertions at the front
--  Tries: to be quadratic in C.
--  Ends: Timeout
local t = table.create(1 << 20)
for i = 1, 1 << 20 do t[i] = i end
while true do table.insert(t, 1, 0) table.remove(t, 1) end

--# unpack of everything
--  Tries: to have more results than a stack holds.
--  Ends: LuaError
--  Says: too many results
return table.unpack({}, 1, 1 << 30)

--# unpack over the edge
--  Tries: to have the count overflow.
--  Ends: LuaError
--  Says: too many results
return table.unpack({}, math.mininteger, math.maxinteger)

--# unpack as much as goes
--  Tries: to have one call take long.
--  Ends: Timeout or MemoryLimit or LuaError
while true do select("#", table.unpack({}, 1, 900000)) end

--# create too much
--  Tries: to have tables made that nothing can hold.
--  Ends: MemoryLimit or LuaError
return table.create(1 << 30, 1 << 30)

--# create with counts that are none
--  Tries: sizes that overflow.
--  Ends: value [false, false, false]
return {pcall(table.create, -1) and 1 or false, pcall(table.create, 1 << 40) and 1 or false, pcall(table.create, 0, 1 << 40) and 1 or false}

--# pack with padding
--  Tries: to have texts padded with gigabytes.
--  Ends: MemoryLimit or LuaError
return string.pack("c2000000000", "x")

--# pack sizes
--  Tries: to have sizes overflow.
--  Ends: value 6442450941
return string.packsize("c2147483647c2147483647c2147483647")

--# pack with a long format
--  Tries: to have one call take long.
--  Ends: Timeout or MemoryLimit
local f = ("c1000000"):rep(20)
while true do f:pack(table.unpack({"", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", ""}, 1, 20)) end

--# unpack with a length that is a lie
--  Tries: to read beyond the end of a text.
--  Ends: value [false, false, false, false]
return {
  pcall(string.unpack, "s8", "\255\255\255\255\255\255\255\127x") and 1 or false,
  pcall(string.unpack, "c100", "x") and 1 or false,
  pcall(string.unpack, "i16", ("\255"):rep(8) .. ("\1"):rep(8)) and 1 or false,
  pcall(string.unpack, "z", "x") and 1 or false,
}

--# bytes of everything
--  Tries: to have more results than a stack holds.
--  Ends: LuaError
--  Says: slice too long
return ("x"):rep(10 << 20):byte(1, -1)

--# sub beyond the ends
--  Tries: to read what is beside a text.
--  Ends: value ["", "", "x", "x", ""]
local s = "x"
return {s:sub(2), s:sub(math.maxinteger), s:sub(math.mininteger), s:sub(math.mininteger, math.maxinteger), s:sub(math.maxinteger, math.mininteger)}

--# utf8 of megabytes
--  Tries: to have one call take long.
--  Ends: Timeout
local s = ("é"):rep(1 << 22)
while true do utf8.len(s) utf8.offset(s, -1) utf8.codepoint(s, 1) end

--# utf8 that is none
--  Tries: to have broken texts read beyond their ends.
--  Ends: value [false, false, true, false]
return {
  pcall(utf8.codepoint, "\xf8", 1) and 1 or false,
  pcall(utf8.codepoint, "\xe2\x82", 1, -1) and 1 or false,
  utf8.len("\xff") == nil,
  pcall(utf8.char, 1 << 40) and 1 or false,
}

--# codes while the text is broken
--  Tries: to iterate over what is no UTF-8.
--  Ends: LuaError
for _ in utf8.codes("ab\xffcd") do end

--# dates
--  Tries: to have dates that nothing can show, and formats that nothing knows.
--  Ends: value 0
local done = 0
for _, pattern in ipairs {"%Ez", "%Q", "%", "%E", "%O", "%5Y"} do if pcall(os.date, pattern) then done = done + 1 end end
for _, at in ipairs {1 << 62, -1 << 62, 1e300, 0 / 0, "x"} do if pcall(os.date, "%Y", at) then done = done + 1 end end
return done

--# dates in megabytes
--  Tries: to have one call take long.
--  Ends: Timeout or MemoryLimit
local f = ("%c"):rep(100000)
while true do os.date(f) end

--# times of the far future
--  Tries: to have the calendar count for ever.
--  Ends: value [false, true, false]
local far = pcall(os.time, {year = math.maxinteger, month = 1, day = 1})
local fine = pcall(os.time, {year = 900000000000, month = 1, day = 1})
return {far, fine, (pcall(time.add, 0, {years = math.maxinteger}))}

--# integers at their ends
--  Tries: to divide what cannot be divided.
--  Ends: value [-9223372036854775808, 0, false, false]
return {math.mininteger // -1, math.mininteger % -1, (pcall(function() return 1 // 0 end)), (pcall(function() return 1 % 0 end))}

--# shifts beyond the ends
--  Tries: what C does not define.
--  Ends: value [0, 0, 0, -1]
return {1 << 64, 1 << math.maxinteger, 1 >> math.mininteger, math.mininteger >> 63 | -1}

--# select beyond the ends
--  Tries: to read beside the arguments.
--  Ends: value [false, false, 0]
return {(pcall(select, -2, 1)), (pcall(select, math.mininteger, 1)), (select("#", select(math.maxinteger, 1)))}

--# next with a key that is not there
--  Tries: to have `next` read what is not there.
--  Ends: value [false, false, false]
return {(pcall(next, {}, "x")), (pcall(next, inputs, "nothing")), (pcall(next, {1}, 2))}

--# a table that changes while it is read
--  Tries: to have an iteration read what was freed.
--  Ends: value true
local t = {}
for i = 1, 1000 do t["k" .. i] = i end
pcall(function()
  for key in pairs(t) do
    t[key] = nil
    for i = 1, 50 do t[key .. i] = i end
    for i = 1, 50 do t[key .. i] = nil end
  end
end)
return true

--# random numbers of no range
--  Tries: to have the generator divide by nothing or go round.
--  Ends: value [false, false, true]
return {(pcall(math.random, 0, -1)), (pcall(math.random, 1, 2, 3)), math.random(math.mininteger, math.maxinteger) ~= nil}

--# base64 of megabytes
--  Tries: to hold the thread, or to run out of memory.
--  Ends: Timeout or MemoryLimit
local s = ("x"):rep(1 << 20)
while true do base64.decode(base64.encode(s)) end

--# digests of megabytes
--  Tries: to hold the host.
--  Ends: Timeout
local s = ("x"):rep(15 << 20)
while true do sha256(s) hmac(s, s) end

--# digests of too much
--  Tries: to hold the host for long, once.
--  Ends: LuaError
return sha256(("x"):rep(20 << 20))

--# digests of what is no text
--  Tries: to have the host take what it does not know.
--  Ends: value [false, false, false, false]
return {(pcall(sha256, {})), (pcall(sha256)), (pcall(hmac, print, "x")), (pcall(hmac, "x", json.null))}

--# regular expressions of what is no text
--  Tries: the same for patterns.
--  Ends: value [false, false, false, false]
return {(pcall(re.find, {}, "x")), (pcall(re.find, "x", {})), (pcall(re.find, "x", "(")), (pcall(re.find, "x", "\255"))}
