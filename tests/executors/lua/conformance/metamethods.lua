-- Metatables (§2.4).
local V = {}
V.__index = V
local function vector(x, y) return setmetatable({x = x, y = y}, V) end
V.__add = function(a, b) return vector(a.x + b.x, a.y + b.y) end
V.__sub = function(a, b) return vector(a.x - b.x, a.y - b.y) end
V.__mul = function(a, b) return type(a) == "number" and vector(a * b.x, a * b.y) or vector(a.x * b, a.y * b) end
V.__unm = function(a) return vector(-a.x, -a.y) end
V.__eq = function(a, b) return a.x == b.x and a.y == b.y end
V.__lt = function(a, b) return a.x < b.x end
V.__le = function(a, b) return a.x <= b.x end
V.__len = function() return 2 end
V.__concat = function(a, b) return tostring(a) .. "|" .. tostring(b) end
V.__tostring = function(v) return "(" .. v.x .. ", " .. v.y .. ")" end
V.__call = function(v, n) return v.x * n end
V.__idiv = function(a, n) return vector(a.x // n, a.y // n) end
V.__band = function(a, n) return a.x & n end
local a, b = vector(1, 2), vector(3, 4)
return {
  ["arithmetic"] = {tostring(a + b), tostring(b - a), tostring(a * 2), tostring(2 * a), tostring(-a), tostring(b // 2), b & 1},
  ["comparison"] = {a == vector(1, 2), a ~= b, a < b, a <= b, a > b, a >= b, rawequal(a, vector(1, 2))},
  ["length, concatenation, call"] = {#a, a .. b, a .. "x", "x" .. a, a(5), rawlen(a)},
  ["inheritance"] = (function()
    local Base = {} Base.__index = Base
    function Base.new(class, name) return setmetatable({name = name}, class) end
    function Base:hello() return "I am " .. self.name end
    local Derived = setmetatable({}, {__index = Base}) Derived.__index = Derived
    function Derived:hello() return Base.hello(self) .. "!" end
    return {Base:new("a"):hello(), Derived:new("b"):hello()}
  end)(),
  ["__index and __newindex as functions"] = (function()
    local log = {}
    local t = setmetatable({}, {__index = function(_, k) return k .. "?" end, __newindex = function(t, k, v) log[#log + 1] = k rawset(t, k, v) end})
    t.x = 1
    t.x = 2
    return {t.x, t.y, log, rawget(t, "y") == nil}
  end)(),
  ["__newindex as a table"] = (function() local store = {} local t = setmetatable({}, {__newindex = store}) t.x = 1 return {store.x, rawget(t, "x") == nil} end)(),
  ["__pairs"] = (function()
    local t, found = setmetatable({}, {__pairs = function() return function(_, k) if not k then return 1, "one" end end, nil, nil end}), {}
    for k, v in pairs(t) do found[#found + 1] = k .. v end
    return found
  end)(),
  ["__metatable hides"] = (function()
    local t = setmetatable({}, {__metatable = "locked"})
    return {getmetatable(t), (pcall(setmetatable, t, {}))}
  end)(),
  ["__name is shown in errors"] = {select(2, pcall(function() return setmetatable({}, {__name = "Thing"}) + 1 end))},
  ["an order may be made of __lt"] = (function()
    local list = {vector(3, 0), vector(1, 0), vector(2, 0)}
    table.sort(list)
    return {list[1].x, list[2].x, list[3].x}
  end)(),
  ["ipairs and # respect metamethods"] = (function()
    local t = setmetatable({}, {__index = function(_, i) if i <= 3 then return i * 10 end end, __len = function() return 3 end})
    local sum = 0
    for _, v in ipairs(t) do sum = sum + v end
    return {sum, #t, table.concat(t, ",")}
  end)(),
}
