-- To-be-closed variables (§3.3.8).
local function closer(log, name) return setmetatable({}, {__close = function(_, why) log[#log + 1] = name .. (why and ":" .. tostring(why) or "") end}) end
return {
  ["closed at the end of the block, last first"] = (function()
    local log = {}
    do
      local a <close> = closer(log, "a")
      local b <close> = closer(log, "b")
      log[#log + 1] = "body"
    end
    return log
  end)(),
  ["closed on return and break"] = (function()
    local log = {}
    local function f() local a <close> = closer(log, "f") return "value" end
    log[#log + 1] = f()
    for i = 1, 3 do local a <close> = closer(log, "i" .. i) if i == 2 then break end end
    return log
  end)(),
  ["closed on goto"] = (function()
    local log = {}
    do local a <close> = closer(log, "a") goto out end
    ::out::
    return log
  end)(),
  ["closed on an error, and told of it"] = (function()
    local log = {}
    local ok, why = pcall(function() local a <close> = closer(log, "a") error("boom", 0) end)
    return {log, ok, why}
  end)(),
  ["an error while closing takes the place of the first"] = {pcall(function()
    local a <close> = setmetatable({}, {__close = function() error("second", 0) end})
    error("first", 0)
  end)},
  ["nil and false need not be closed"] = (function() local a <close>, b = nil, 1 local c <close> = false return b end)(),
  ["what cannot be closed is refused"] = {pcall(function() local a <close> = {} end)},
  ["a generic for closes its fourth value"] = (function()
    local log = {}
    local function iterate() return function(_, i) if i < 3 then return i + 1 end end, nil, 0, closer(log, "loop") end
    for i in iterate() do log[#log + 1] = i end
    return log
  end)(),
}
