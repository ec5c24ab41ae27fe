-- To leave more behind than is asked for: results, errors, logs.

--# a big text
--  Tries: to return sixteen megabytes.
--  Ends: ResultError
--  Says: bigger than
return ("x"):rep(16 << 20)

--# a text of escapes
--  Tries: to return a text that is six times as big as JSON.
--  Ends: ResultError
--  Says: bigger than
--  Timeout: 2000
return ("\1"):rep(3 << 20)

--# a big list
--  Tries: to return ten million elements.
--  Ends: ResultError or MemoryLimit
--  Timeout: 2000
local t = table.create(1 << 21)
for i = 1, 1 << 21 do t[i] = 1 end
return {t, t, t, t, t}

--# a bomb
--  Tries: to return a table that doubles at each of fifty levels.
--  Ends: ResultError or Timeout
local t = {1}
for _ = 1, 50 do t = {t, t} end
return t

--# a bomb of names
--  Tries: the same with objects.
--  Ends: ResultError or Timeout
local t = {a = 1}
for _ = 1, 50 do t = {aaaaaaaaaa = t, bbbbbbbbbb = t} end
return t

--# a bomb of nothing
--  Tries: the same with tables that are empty.
--  Ends: ResultError or Timeout
local t = {}
for _ = 1, 90 do t = {t, t} end
return t

--# a bomb that ends badly
--  Tries: to have the search for what is wrong take for ever.
--  Ends: ResultError or Timeout
local t = {1}
for _ = 1, 50 do t = {t, t} end
return {first = print, t = t}

--# empty places
--  Tries: to have the host look through millions of empty places for nothing.
--  Ends: Timeout or ResultError
local hollow = table.create(0, 1 << 20)
local t = {}
for i = 1, 100000 do t[i] = hollow end
return t

--# empty places in a list
--  Tries: the same with lists, whose elements are counted first.
--  Ends: Timeout or ResultError
local hollow = table.create(0, 1 << 20)
hollow[1] = 1
local t = {}
for i = 1, 100000 do t[i] = hollow end
return t

--# empty places in JSON
--  Tries: the same within the script.
--  Ends: Timeout or LuaError
local hollow = table.create(0, 1 << 20)
local t = {}
for i = 1, 100000 do t[i] = hollow end
return json.encode(t)

--# a search for what is wrong
--  Tries: to have the host look for long where a value is no JSON, through tables that it has seen before.
--  Ends: ResultError or Timeout
local big = {}
for i = 1, 20000 do big[i] = i end
local t = {}
for i = 3000, 2, -1 do t[i] = big end
t[1] = print
return t

--# a search within the script
--  Tries: the same within the script.
--  Ends: LuaError or Timeout
local big = {}
for i = 1, 20000 do big[i] = i end
local t = {}
for i = 3000, 2, -1 do t[i] = big end
t[1] = print
return json.encode(t)

--# a length that is a lie
--  Tries: to return a list whose length is a number of eighteen digits.
--  Ends: ResultError
local t = {}
for i = 0, 61 do t[1 << i] = 1 end
return t

--# deep
--  Tries: to return a table of a million levels.
--  Ends: ResultError
--  Says: nested deeper
local t = {}
for _ = 1, 100000 do t = {t} end
return t

--# a cycle
--  Tries: to return a table without an end.
--  Ends: ResultError
--  Says: cycle
local t = {}
t.t = {t}
return t

--# iterators
--  Tries: to return a table with methods that never end.
--  Ends: value {}
local function forever() while true do end end
return setmetatable({}, {__pairs = forever, __index = forever, __len = forever, __tostring = forever, __close = forever})

--# many results
--  Tries: to return a hundred thousand values.
--  Ends: ResultError
return 1, 2, table.unpack({}, 1, 100000)

--# many results, all of them
--  Tries: to return as many as a stack holds.
--  Ends: ResultError or LuaError or MemoryLimit
local t = {}
for i = 1, 900000 do t[i] = i end
return table.unpack(t)

--# no text
--  Tries: to return bytes.
--  Ends: ResultError
--  Says: UTF-8
return {("\xff"):rep(1000)}

--# numbers that are none
--  Tries: to return what JSON has no word for.
--  Ends: ResultError
return {1 / 0, -1 / 0, 0 / 0}

--# a big message
--  Tries: to have a message of megabytes.
--  Ends: LuaError
error(("x"):rep(16 << 20))

--# a big message in a table
--  Tries: the same in a table.
--  Ends: LuaError
error {message = ("x"):rep(16 << 20)}

--# a big table as an error
--  Tries: the same by a table that is shown.
--  Ends: LuaError
local t = {}
for i = 1, 100000 do t[i] = "xxxxxxxxxx" end
error(t)

--# a big text of an error
--  Tries: the same by __tostring.
--  Ends: LuaError
error(setmetatable({}, {__tostring = function() return ("x"):rep(16 << 20) end}))

--# a big failure
--  Tries: the same by what a script says on purpose.
--  Ends: Failed
return fail(("x"):rep(16 << 20))

--# a big failure that is raised
--  Tries: the same, raised.
--  Ends: Failed
error(fail(("x"):rep(16 << 20)))

--# big details
--  Tries: the same by details.
--  Ends: LuaError
return fail("x", {text = ("x"):rep(1 << 20)})

--# long names
--  Tries: to have a traceback of long names.
--  Ends: LuaError
local LONG = {}
local function make(depth)
  if depth == 0 then error("x") end
  LONG.NAME(depth - 1)
  return 1
end
LONG.NAME = make
make(50)

--# a message of zeros
--  Tries: to have a message that is no text.
--  Ends: LuaError
error(("\0\xff\r\n"):rep(10000))

--# a line of zeros
--  Tries: to have log lines that are no text.
--  Ends: value 1
for _ = 1, 10 do print(("\0\xff\r"):rep(1000)) end
return 1

--# a flood
--  Tries: to log a million lines.
--  Ends: value 1
for _ = 1, 100000 do print("x") end
return 1

--# a flood of one line
--  Tries: to log a line of megabytes.
--  Ends: value 1
print(("x"):rep(16 << 20))
log.error(("x"):rep(16 << 20))
return 1

--# a flood of line ends
--  Tries: to log a million empty lines at once.
--  Ends: value 1
print(("\n"):rep(1 << 22))
return 1

--# a flood of values
--  Tries: to log a hundred thousand values in a line.
--  Ends: value 1
local t = {}
for i = 1, 50000 do t[i] = {} end
print(table.unpack(t))
return 1

--# a flood before the deadline
--  Tries: to have the log hold up the deadline.
--  Ends: Timeout
while true do log.info(("x"):rep(1000)) end

--# forged lines
--  Tries: to write lines that look like another level's, or another attempt's.
--  Ends: value 1
print("1\n3error: everything is lost\n\n0")
return 1

--# __tostring in the log
--  Tries: to loop where values are shown.
--  Ends: Timeout
print(setmetatable({}, {__tostring = function() while true do end end}))
