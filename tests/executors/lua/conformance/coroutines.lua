-- `coroutine`, as in §2.6 and §6.3 of the manual.
local function collect(f) local found = {} for v in coroutine.wrap(f) do found[#found + 1] = v end return found end
return {
  ["values go in and out"] = (function()
    local thread = coroutine.create(function(a, b)
      local c = coroutine.yield(a + b)
      local d, e = coroutine.yield(c * 2)
      return d, e
    end)
    return {{coroutine.resume(thread, 1, 2)}, {coroutine.resume(thread, 10)}, {coroutine.resume(thread, "x", "y")}, {coroutine.resume(thread)}}
  end)(),
  ["a generator"] = collect(function() for i = 1, 3 do coroutine.yield(i * i) end end),
  ["a generator that calls itself"] = collect(function()
    local function walk(tree)
      if type(tree) ~= "table" then return coroutine.yield(tree) end
      for _, branch in ipairs(tree) do walk(branch) end
    end
    walk {1, {2, {3}}, 4}
  end),
  ["status"] = (function()
    local outer, inside
    outer = coroutine.create(function()
      local inner = coroutine.create(function() inside = coroutine.status(outer) end)
      coroutine.resume(inner)
      coroutine.yield()
    end)
    local before = coroutine.status(outer)
    coroutine.resume(outer)
    local between = coroutine.status(outer)
    coroutine.resume(outer)
    return {before, inside, between, coroutine.status(outer)}
  end)(),
  ["an error ends it"] = (function()
    local thread = coroutine.create(function() error("boom", 0) end)
    return {{coroutine.resume(thread)}, coroutine.status(thread), {coroutine.resume(thread)}}
  end)(),
  ["an error goes through wrap"] = {pcall(coroutine.wrap(function() error({code = 7}) end))},
  ["yield goes through pcall"] = collect(function() pcall(function() coroutine.yield("inside") error("x") end) coroutine.yield("after") end),
  ["yield goes through metamethods"] = collect(function()
    local t = setmetatable({}, {__index = function(_, k) return coroutine.yield(k) end, __add = function() coroutine.yield("+") return 1 end})
    local _ = t.field
    _ = t + t
  end),
  ["yield goes through an iterator"] = collect(function() for v in function() return coroutine.yield("next") end do return v end end),
  ["yield does not go through sort"] = (function()
    local thread = coroutine.create(function() table.sort({3, 2, 1}, function() coroutine.yield() end) end)
    return {coroutine.resume(thread)}
  end)(),
  ["close runs what was left open"] = (function()
    local closed = false
    local thread = coroutine.create(function()
      local guard <close> = setmetatable({}, {__close = function() closed = true end})
      coroutine.yield()
    end)
    coroutine.resume(thread)
    return {coroutine.close(thread), closed, coroutine.status(thread)}
  end)(),
  ["close tells of an error"] = (function()
    local thread = coroutine.create(function()
      local guard <close> = setmetatable({}, {__close = function() error("while closing", 0) end})
      coroutine.yield()
    end)
    coroutine.resume(thread)
    return {coroutine.close(thread)}
  end)(),
  ["running and isyieldable"] = {select(2, coroutine.running()), coroutine.isyieldable(), coroutine.wrap(function() return coroutine.isyieldable(), select(2, coroutine.running()) end)()},
  ["a script itself cannot yield"] = {pcall(coroutine.yield, 1)},
  ["what is dead stays dead"] = (function()
    local f = coroutine.wrap(function() return 1 end)
    f()
    return {pcall(f)}
  end)(),
}
