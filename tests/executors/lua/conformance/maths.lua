-- Integers and floats (§3.4) and `math` (§6.8).
local function type_of(...) local t = {} for i, v in ipairs {...} do t[i] = math.type(v) end return t end
return {
  ["integers and floats are kept apart"] = {type_of(1, 1.0, 1e0, 2^2, 4 / 2, 4 // 2, 4.0 // 2, 3 * 1.0), 1 == 1.0},
  ["how numbers are shown"] = {tostring(1), tostring(1.0), tostring(-0.0), tostring(1e15), tostring(1e100), tostring(2^53), 1e15 .. ""},
  ["integer division and modulo round down"] = {7 // 2, -7 // 2, 7 // -2, 7 % 3, -7 % 3, 7 % -3, 5.5 // 2, -5.5 % 2},
  ["division by zero"] = {tostring(1 / 0), tostring(-1 / 0), pcall(function() return 1 // 0 end)},
  ["modulo by zero"] = {pcall(function() return 1 % 0 end)},
  ["float modulo by zero is NaN"] = (1.0 % 0) ~= (1.0 % 0),
  ["integers wrap around"] = {math.maxinteger + 1 == math.mininteger, math.mininteger - 1 == math.maxinteger, math.maxinteger * 2},
  ["bits"] = {5 & 3, 5 | 3, 5 ~ 3, ~0, 1 << 4, 256 >> 4, 1 << 64, -1 >> 60, 2.0 | 1},
  ["bits refuse fractions"] = {pcall(function() return 1.5 | 1 end)},
  ["powers are floats"] = {2 ^ 10, math.type(2 ^ 2), -2 ^ 2, 2 ^ -1, 2 ^ 3 ^ 2},
  ["floor, ceil, modf, fmod"] = {math.floor(2.7), math.floor(-2.7), math.ceil(2.1), {math.modf(3.7)}, math.fmod(-7, 3), math.fmod(7, 3)},
  ["max, min, abs"] = {math.max(1, 5, 3), math.min(2, -1.5), math.abs(-4), math.abs(math.mininteger) == math.mininteger},
  ["tointeger"] = {math.tointeger(3.0), math.tointeger("8"), math.tointeger(3.5) == nil, math.tointeger({}) == nil},
  ["ult compares without signs"] = {math.ult(1, -1), math.ult(-1, 1)},
  ["sqrt, exp, log"] = {math.sqrt(16), math.exp(0), math.log(8, 2), math.log(100, 10), math.log(1)},
  ["pi and trigonometry"] = {math.floor(math.pi * 1e6), math.floor(math.sin(math.pi / 2)), math.cos(0), math.floor(math.deg(math.pi))},
  ["huge is more than everything"] = {math.huge > math.maxinteger, -math.huge < math.mininteger, math.huge == 1 / 0},
  ["comparison of integers and floats is exact"] = {math.maxinteger < math.maxinteger + 0.0, 1 < 1.5, 2^53 == 2^53 + 1},
  ["tonumber"] = {tonumber("10"), tonumber("0x1p4"), tonumber("  7  "), tonumber("z", 36), tonumber("1010", 2), tonumber("10x") == nil, tonumber("") == nil, tonumber("1e") == nil},
  ["random keeps its bounds"] = (function()
    for _ = 1, 1000 do
      local a, b, c = math.random(), math.random(6), math.random(-3, 3)
      if a < 0 or a >= 1 or b < 1 or b > 6 or c < -3 or c > 3 then return false end
    end
    return math.type(math.random(0)) == "integer"
  end)(),
  ["random refuses an empty interval"] = {pcall(math.random, 2, 1)},
  ["randomseed begins anew"] = (function()
    math.randomseed(42) local a, b = math.random(1000), math.random(1000)
    math.randomseed(42) return a == math.random(1000) and b == math.random(1000)
  end)(),
  ["numerals"] = {0xff, 0x.8p1, 1e2, .5, 3., 0xffffffffffffffff, 9223372036854775807, math.type(9223372036854775808)},
}
