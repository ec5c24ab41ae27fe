-- To go on after the deadline, by catching it or by being where nobody looks.

--# an empty loop
--  Tries: to run for ever.
--  Ends: Timeout
while true do end

--# goto
--  Tries: to run for ever without a loop.
--  Ends: Timeout
::again:: goto again

--# a numeric loop
--  Tries: to run for ever in one instruction.
--  Ends: Timeout
for _ = 1, math.maxinteger do end

--# a loop that never gets there
--  Tries: to have a float loop stand still.
--  Ends: Timeout
for _ = 1e300, 2e300, 1 do end

--# recursion by tail calls
--  Tries: to run for ever on a stack that does not grow.
--  Ends: Timeout
local function f() return f() end
f()

--# pcall
--  Tries: to catch the deadline.
--  Ends: Timeout
while true do pcall(function() while true do end end) end

--# pcall of itself
--  Tries: to catch the deadline in a tower of pcalls.
--  Ends: Timeout
local function f() pcall(f) while true do end end
f()

--# pcalls and calls in each other
--  Tries: to have so many frames below the one that is stopped that nobody gets out of them.
--  Ends: Timeout
local function f() pcall(f) f() end
f()

--# xpcalls and calls in each other
--  Tries: the same with handlers.
--  Ends: Timeout or LuaError
local function f() xpcall(f, function() f() end) f() end
f()

--# coroutines and calls in each other
--  Tries: the same with coroutines.
--  Ends: Timeout or MemoryLimit
local function f() coroutine.resume(coroutine.create(f)) pcall(coroutine.wrap(f)) f() end
f()

--# sorts, replacements and calls in each other
--  Tries: the same through C functions that cannot be left by a yield.
--  Ends: Timeout
local function f() pcall(string.gsub, "x", "x", f) pcall(table.sort, {2, 1, 3}, f) f() end
f()

--# closing and calls in each other
--  Tries: the same in what is closed.
--  Ends: Timeout
local function f()
  local _ <close> = setmetatable({}, {__close = function() f() end})
  pcall(f)
end
f()

--# pcall of pcall
--  Tries: to have pcall call itself for ever.
--  Ends: Timeout
while true do pcall(pcall, pcall, pcall, error) end

--# xpcall with a handler that loops
--  Tries: to be stopped in the handler of the error that stops.
--  Ends: Timeout
xpcall(function() while true do end end, function() while true do end end)

--# xpcall with a handler that fails
--  Tries: to have errors in handlers of errors.
--  Ends: Timeout
while true do xpcall(function() error("x") end, function() error("y") end) end

--# xpcall with itself as handler
--  Tries: to recurse in handlers.
--  Ends: Timeout or LuaError or MemoryLimit
local function handler() return xpcall(error, handler, "x") end
while true do xpcall(error, handler, "x") end

--# coroutines
--  Tries: to loop where the hook was not set.
--  Ends: Timeout
while true do coroutine.wrap(function() while true do end end)() end

--# a coroutine in a coroutine
--  Tries: the same, deeper.
--  Ends: Timeout
local function nest(depth)
  if depth == 0 then while true do end end
  return coroutine.wrap(function() pcall(nest, depth - 1) while true do end end)()
end
nest(50)

--# coroutines that yield
--  Tries: to starve the thread in switches.
--  Ends: Timeout
local co = coroutine.wrap(function() while true do coroutine.yield() end end)
while true do co() end

--# coroutines that are made
--  Tries: to make coroutines for ever.
--  Ends: Timeout or MemoryLimit
while true do coroutine.create(function() end) end

--# coroutines that are kept
--  Tries: to keep a thousand loops for later.
--  Ends: Timeout or MemoryLimit
local all = {}
while true do
  local co = coroutine.create(function() while true do coroutine.yield() end end)
  all[#all + 1] = co
  for _, each in ipairs(all) do coroutine.resume(each) end
end

--# a coroutine closed with work to do
--  Tries: to loop in a coroutine that is being closed.
--  Ends: Timeout
local co = coroutine.create(function()
  local _ <close> = setmetatable({}, {__close = function() while true do end end})
  coroutine.yield()
end)
coroutine.resume(co)
coroutine.close(co)

--# a coroutine that died of a full stack
--  Tries: to run closing methods where hooks are off after an overflow.
--  Ends: Timeout or LuaError or MemoryLimit
local co = coroutine.create(function()
  local _ <close> = setmetatable({}, {__close = function() while true do end end})
  local function f() return 1 + f() end
  f()
end)
print(coroutine.resume(co))
coroutine.close(co)
while true do end

--# wrap of wrap
--  Tries: to fill the C stack with coroutines, and to loop there.
--  Ends: Timeout
local function f() local w = coroutine.wrap(f) pcall(w) while true do end end
f()

--# metamethods
--  Tries: to loop in each of the metamethods.
--  Ends: Timeout
local function loop() while true do end end
local t = setmetatable({}, {__add = loop, __index = loop, __call = loop, __eq = loop, __lt = loop, __len = loop, __concat = loop})
while true do pcall(function() return t + 1 end) pcall(function() return t.x end) end

--# __index that grows
--  Tries: to recurse in __index.
--  Ends: Timeout
local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end})
while true do pcall(function() return t[1] end) end

--# __index of each other
--  Tries: to have a chain of __index go round in C.
--  Ends: LuaError
--  Says: chain
local a, b = {}, {}
setmetatable(a, {__index = b})
setmetatable(b, {__index = a})
return a.x

--# __newindex of each other
--  Tries: to have a chain of __newindex go round in C.
--  Ends: LuaError
--  Says: chain
local a, b = {}, {}
setmetatable(a, {__newindex = b})
setmetatable(b, {__newindex = a})
a.x = 1

--# __call of itself
--  Tries: to have calls of calls go round in C.
--  Ends: LuaError
local t = {}
setmetatable(t, {__call = t})
t()

--# __call of each other, for ever
--  Tries: the same, again and again.
--  Ends: Timeout
local a, b = {}, {}
setmetatable(a, {__call = b})
setmetatable(b, {__call = a})
while true do pcall(a) end

--# __close of a loop variable
--  Tries: to loop when a loop is left.
--  Ends: Timeout
for _ in (function() return 1 end), nil, nil, setmetatable({}, {__close = function() while true do end end}) do break end

--# __close after the deadline
--  Tries: to run on in what is closed because of the deadline.
--  Ends: Timeout
local function slow() for _ = 1, 1e9 do end end
local _ <close> = setmetatable({}, {__close = slow})
while true do end

--# a pile of __close after the deadline
--  Tries: to have a hundred thousand closing methods, each of which does a little that takes long.
--  Ends: Timeout
local meta = {__close = function() local s = ("x"):rep(1 << 22) s = s .. s s = s .. s end}
local function pile(depth)
  local _ <close> = setmetatable({}, meta)
  if depth == 0 then while true do end end
  pile(depth - 1)
  return depth
end
pile(20000)

--# a pile of __close in pcalls
--  Tries: the same, with a pcall for each.
--  Ends: Timeout
local meta = {__close = function() local s = ("x"):rep(1 << 22) s = s .. s end}
local function pile(depth)
  local _ <close> = setmetatable({}, meta)
  if depth == 0 then while true do end end
  pcall(pile, depth - 1)
  while true do end
end
pile(150)

--# __close that is a function of the library
--  Tries: to have what nobody watches run when things are closed.
--  Ends: Timeout
local big = {}
for i = 1, 200000 do big[i] = "xxxxxxxxxx" end
local made = {}
local function pile(depth)
  local _ <close> = setmetatable(big, {__close = table.concat})
  if depth == 0 then while true do end end
  pile(depth - 1)
  return depth
end
pile(5000)

--# __close in a closed coroutine after the deadline
--  Tries: to hand on the deadline from one coroutine to the next.
--  Ends: Timeout
local function chain(n)
  return coroutine.wrap(function()
    local _ <close> = setmetatable({}, {__close = function() if n > 0 then chain(n - 1)() end while true do end end})
    while true do end
  end)
end
chain(50)()

--# errors with __tostring that loops
--  Tries: to loop where the error is told.
--  Ends: Timeout
error(setmetatable({}, {__tostring = function() while true do end end}))

--# errors with a message that loops
--  Tries: to loop where the message is looked up.
--  Ends: Timeout
error(setmetatable({}, {__index = function() while true do end end}))

--# errors with an endless chain of messages
--  Tries: to have the error's text be an error.
--  Ends: LuaError or Timeout
local function raise() error(setmetatable({}, {__tostring = raise})) end
raise()

--# a loop at the bottom of the stack
--  Tries: to loop where the stack has no room for the hook.
--  Ends: Timeout or MemoryLimit
local depth = 0
local function down() depth = depth + 1 return 1 + down() end
pcall(down)
local function to(n) if n == 0 then while true do end end return 1 + to(n - 1) end
while true do
  for n = depth + 5, depth - 40, -1 do pcall(to, n) end
end

--# a loop at the bottom of the C stack
--  Tries: to loop where no C call is left for the hook.
--  Ends: Timeout
local function to(n)
  if n == 0 then while true do end end
  return (("x"):gsub("x", function() to(n - 1) end))
end
while true do for n = 150, 230 do pcall(to, n) end end

--# a loop in a comparison
--  Tries: to loop inside of C, in a sort.
--  Ends: Timeout
table.sort({3, 2, 1, 5, 4}, function() while true do end end)

--# a loop in a replacement
--  Tries: to loop inside of C, in gsub.
--  Ends: Timeout
("x"):gsub("x", function() while true do end end)

--# catching in a replacement
--  Tries: to catch the deadline inside of C, again and again.
--  Ends: Timeout
while true do
  pcall(string.gsub, ("x"):rep(1000), "x", function() pcall(function() while true do end end) end)
end

--# catching in a comparison
--  Tries: the same in a sort, whose errors are swallowed one by one.
--  Ends: Timeout
local t = {}
for i = 1, 10000 do t[i] = i end
while true do pcall(table.sort, t, function(a, b) pcall(function() while true do end end) return a < b end) end

--# many small C calls
--  Tries: to starve the hook with C functions.
--  Ends: Timeout
local s = ("x"):rep(1 << 20)
while true do s:upper() s:lower() s:reverse() end

--# few big C calls
--  Tries: to have few instructions take long.
--  Ends: Timeout
while true do local _ = ("x"):rep(1 << 25) end

--# big comparisons
--  Tries: to have single instructions take long: texts that differ in their last byte.
--  Ends: Timeout
local s = "x"
for _ = 1, 24 do s = s .. s end
local a, b = s .. "a", s .. "b"
local same = 0
while true do if a < b and a <= b and a ~= b then same = same + 1 end end

--# much of little
--  Tries: to have much in memory, and slow instructions, before anybody has looked.
--  Ends: Timeout
local s = " "
for _ = 1, 24 do s = s .. s end
s = s .. "1"
while true do local _ = s + 1 _ = s + 1 _ = s + 1 _ = s + 1 _ = s + 1 _ = s + 1 _ = s + 1 _ = s + 1 _ = s + 1 _ = s + 1 end

--# long keys
--  Tries: the same with keys of megabytes, that are hashed to their ends.
--  Ends: Timeout or MemoryLimit
local s, t = "x", {}
for _ = 1, 23 do s = s .. s end
while true do t[s .. "a"] = 1 t[s .. "b"] = 1 t = {} end

--# big joins
--  Tries: the same with texts that are put together.
--  Ends: Timeout
local s = "x"
for _ = 1, 23 do s = s .. s end
while true do local _ = s .. "y" _ = s .. "z" _ = #_ end

--# sparse tables
--  Tries: to have `next` look for an element in millions of empty places.
--  Ends: Timeout
local t = table.create(0, 1 << 20)
while true do
  next(t) next(t) next(t) next(t) next(t) next(t) next(t) next(t) next(t) next(t)
  next(t) next(t) next(t) next(t) next(t) next(t) next(t) next(t) next(t) next(t)
end

--# numbers from long texts
--  Tries: to have numbers be read from megabytes of blanks.
--  Ends: Timeout
local s = (" "):rep(1 << 24)
while true do tonumber(s) tonumber(s, 16) end

--# random numbers for ever
--  Tries: to run for ever in the library.
--  Ends: Timeout
while true do math.randomseed(1, 2) math.random(0) end

--# memory errors that are caught
--  Tries: to run out of memory, catch it, and go on.
--  Ends: MemoryLimit
while true do pcall(string.rep, "x", 1 << 30) end

--# memory errors that are swapped
--  Tries: to put another error in the place of the one that says that memory ran out.
--  Ends: Timeout or MemoryLimit
local meta = {__close = function() error("harmless") end}
while true do
  pcall(function()
    local _ <close> = setmetatable({}, meta)
    return ("x"):rep(1 << 30)
  end)
end

--# the deadline swapped
--  Tries: to put another error in the place of the one that says that time is over.
--  Ends: Timeout
local meta = {__close = function() error("harmless") end}
while true do
  pcall(function()
    local _ <close> = setmetatable({}, meta)
    while true do end
  end)
end

--# log until the end
--  Tries: to hold the thread with lines for the log.
--  Ends: Timeout
while true do print("x") end

--# require until the end
--  Tries: to run for ever in loading modules that are not there.
--  Ends: Timeout
while true do pcall(require, "nothing") end

--# writing to what is read-only until the end
--  Tries: to have the message of a refused write take long.
--  Ends: Timeout
while true do pcall(function() nodes.up.rows[50].n = 1 end) end
