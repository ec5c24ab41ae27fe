-- Statements: loops, goto, locals, closures, varargs (§3.3 to §3.5).
return {
  ["numeric for"] = (function()
    local found = {}
    for i = 1, 3 do found[#found + 1] = i end
    for i = 3, 1, -2 do found[#found + 1] = i end
    for i = 1, 0 do found[#found + 1] = "never" end
    for i = 1.0, 2 do found[#found + 1] = math.type(i) end
    return found
  end)(),
  ["a loop does not overflow"] = (function() local n = 0 for i = math.maxinteger - 1, math.maxinteger do n = n + 1 end return n end)(),
  ["a step of zero is refused"] = {pcall(function() for i = 1, 2, 0 do end end)},
  ["while, repeat and break"] = (function()
    local n, m = 0, 0
    while true do n = n + 1 if n == 5 then break end end
    repeat local done = m >= 3 m = m + 1 until done
    return {n, m}
  end)(),
  ["goto continues and leaves nested loops"] = (function()
    local found = {}
    for i = 1, 3 do
      for j = 1, 3 do
        if j == 2 then goto continue end
        if i == 3 then goto done end
        found[#found + 1] = i .. j
        ::continue::
      end
    end
    ::done::
    return found
  end)(),
  ["goto goes back"] = (function() local n = 0 ::top:: n = n + 1 if n < 4 then goto top end return n end)(),
  ["closures share their variables"] = (function()
    local function counter() local n = 0 return function() n = n + 1 return n end, function() return n end end
    local up, get = counter()
    local other = counter()
    up() up() other()
    return {get(), other()}
  end)(),
  ["each turn of a loop has its own variable"] = (function()
    local f = {}
    for i = 1, 3 do f[i] = function() return i end end
    return {f[1](), f[2](), f[3]()}
  end)(),
  ["varargs"] = (function(...)
    local a, b = ...
    return {select("#", ...), {...}, a, b, select(-1, ...), (select(2, ...))}
  end)(1, 2, 3),
  ["a function adjusts what it gets and gives"] = (function()
    local function f(a, b) return b, a end
    local x, y, z = f(1)
    return {x == nil, y, z == nil, (f(1, 2)), #{f(1, 2)}, #{f(1, 2), f(1, 2)}}
  end)(),
  ["assignment evaluates first"] = (function() local i, t = 1, {} i, t[i] = i + 1, 20 local a, b = 1, 2 a, b = b, a return {i, t[1], a, b} end)(),
  ["and, or, not"] = {(nil and 1) == nil, false or "x", 0 and "zero is true", "" and "so is a text", not nil, (1 and nil) == nil, nil or false},
  ["precedence"] = {2 + 3 * 4 ^ 2 / 2, -3 ^ 2, not 1 == 2, 1 .. 2 .. 3, 1 << 2 + 1, "a" .. 1 + 2, 5 - 3 - 1, 2 ^ 2 ^ 3},
  ["scopes"] = (function() local x = 1 do local x = 2 x = 3 end local x = x + 10 return x end)(),
  ["constants cannot be assigned"] = (function() local k <const> = 5 return k end)(),
  ["recursion and tail calls"] = (function()
    local function loop(n) if n == 0 then return "done" end return loop(n - 1) end
    local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
    return {loop(200000), fib(15)}
  end)(),
  ["methods"] = (function()
    local account = {balance = 0}
    function account:deposit(n) self.balance = self.balance + n return self end
    function account.new(n) return n end
    return {account:deposit(5):deposit(7).balance, account.new(3)}
  end)(),
  ["globals are the attempt's own"] = (function() made_here = 5 local seen = made_here made_here = nil return {seen, made_here == nil, _G.made_here == nil} end)(),
  ["_ENV can be another table"] = (function() local _ENV = {x = 7} return x end)(),
}
