-- Patterns that take for ever, and other single calls into C that do.

--# optional items
--  Tries: two to the power of fifty ways to match.
--  Ends: Timeout
return ("a"):rep(50):find(("a?"):rep(50) .. ("a"):rep(50))

--# many lazy items
--  Tries: all ways to cut a text into twenty pieces.
--  Ends: Timeout
return ("a"):rep(5000):find((".-"):rep(20) .. "b")

--# many greedy items
--  Tries: the same, greedy.
--  Ends: Timeout
return ("a"):rep(5000):find((".*"):rep(20) .. "b")

--# quadratic
--  Tries: a pattern with one repetition that fails at each position of a long text.
--  Ends: Timeout
return ("a"):rep(1 << 21):find("a-b")

--# quadratic, greedy
--  Tries: the same, greedy.
--  Ends: Timeout
return ("a"):rep(1 << 21):find("a*b")

--# cubic
--  Tries: two repetitions on a text of middle size.
--  Ends: Timeout
return ("a"):rep(30000):match("a*a*b")

--# gsub
--  Tries: to be slow at each match.
--  Ends: Timeout
return (("a"):rep(200000):gsub(("a-"):rep(10) .. "b", ""))

--# gmatch
--  Tries: to be slow in an iterator.
--  Ends: Timeout
for _ in ("a"):rep(200000):gmatch("a*a*b") do end

--# anchored
--  Tries: to be slow at one position.
--  Ends: Timeout
return ("a"):rep(100000):match("^a*a*a*b")

--# captures
--  Tries: to be slow with captures.
--  Ends: Timeout
return ("a"):rep(20000):match("(a*)(a*)(a*)b")

--# back-references
--  Tries: to be slow with references to captures.
--  Ends: Timeout
return ("a"):rep(20000):match("(a*)(a*)%1%2b")

--# frontiers
--  Tries: to be slow with frontiers.
--  Ends: Timeout
return ("a "):rep(20000):match("%f[%w].-%f[%W].-%f[%w].-!")

--# balanced
--  Tries: to be slow with what looks for balance at each position.
--  Ends: Timeout
return ("("):rep(1 << 20):find("%b()")

--# balanced, many
--  Tries: the same, nested in repetitions.
--  Ends: Timeout
return ("(x"):rep(5000):find(".-%b().-%b()!")

--# classes
--  Tries: to be slow in one set that is long.
--  Ends: Timeout or anything
local set = "[" .. ("b"):rep(100000) .. "]"
return ("a"):rep(100000):find(set)

--# a long pattern
--  Tries: to be slow in a pattern that is long itself.
--  Ends: Timeout or LuaError
return ("a"):rep(30000):find(("a?"):rep(30000) .. "b")

--# plain search
--  Tries: a search without any pattern that is quadratic.
--  Ends: Timeout
local s = ("a"):rep(1 << 21)
return s:find(("a"):rep(1 << 20) .. "b", 1, true)

--# plain search in disguise
--  Tries: the same with a pattern that has nothing special in it.
--  Ends: Timeout
local s = ("a"):rep(1 << 22)
return s:find(("a"):rep(1 << 21) .. "b")

--# catching the deadline of a pattern
--  Tries: to catch what stops a pattern.
--  Ends: Timeout
while true do pcall(string.find, ("a"):rep(30000), "a*a*a*b") end

--# a linear pattern on a big text
--  Tries: to take long with a pattern that is harmless.
--  Ends: Timeout
local s = ("x"):rep(1 << 24)
while true do s:gsub("y", "z") s:gsub(".", "y") s:match(".*z") end

--# gsub with a C function
--  Tries: to call C from C, for every byte of a long text.
--  Ends: Timeout
local s = ("x"):rep(1 << 23)
while true do s:gsub(".", string.byte) end

--# gsub with a table that never ends
--  Tries: to be asked for each byte.
--  Ends: Timeout
local s = ("x"):rep(1 << 23)
while true do s:gsub(".", setmetatable({}, {__index = function() return "y" end})) end

--# a million empty matches
--  Tries: to match nothing, everywhere.
--  Ends: Timeout
local s = ("x"):rep(1 << 23)
while true do s:gsub("", "") end

--# gsub that recurses
--  Tries: to recurse through replacements.
--  Ends: LuaError
--  Says: overflow
local function f() return (("x"):gsub("x", f)) end
return f()

--# RE2 with counted repetitions
--  Tries: to have a pattern that is big when it is compiled.
--  Ends: LuaError
return re.find("x", "((((x{100}){100}){100}){100}){100}")

--# RE2 until the end
--  Tries: to hold the thread in the host's own search.
--  Ends: Timeout
local s = ("ab"):rep(1 << 19)
while true do re.find(s, "(a|b)*c|(b|a)*d|[ab]*e") end

--# RE2 with many patterns
--  Tries: to have the host compile for ever.
--  Ends: Timeout
local i = 0
while true do
  i = i + 1
  re.find("x", ("(a|b|%d){1,100}"):format(i))
end

--# RE2 with a big text again and again
--  Tries: to have the host take over a text for each match.
--  Ends: Timeout
local big, other = ("ab"):rep(1 << 19), ("cd"):rep(1 << 19)
while true do re.gsub(big, "a", function() re.find(other, "c") end) end

--# durations
--  Tries: to be slow in a pattern of the library's own.
--  Ends: LuaError
return time.add(0, ("1"):rep(1 << 20))

--# durations that go on
--  Tries: the same with many parts.
--  Ends: LuaError
return time.add(0, ("1h"):rep(1 << 20) .. "x")

--# times
--  Tries: the same with a fraction of a second that is long.
--  Ends: LuaError
return time.parse("2026-01-01T00:00:00." .. ("1"):rep(1 << 22) .. "x")

--# times that are formatted
--  Tries: the same with an offset that is long.
--  Ends: LuaError
return time.format(0, "+" .. ("01:"):rep(1 << 20))

--# numbers in JSON
--  Tries: to be slow in the pattern that reads numbers.
--  Ends: LuaError
return json.decode(("1"):rep(1 << 22) .. "x")

--# blanks in base64
--  Tries: to be slow where blanks are removed.
--  Ends: LuaError
return base64.decode((" \n"):rep(1 << 21) .. "=")
