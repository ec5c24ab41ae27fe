-- `table`, as in §6.6 of the manual, and tables themselves.
local function sorted(list, ...) table.sort(list, ...) return list end
return {
  ["insert and remove"] = (function()
    local t = {1, 2, 3}
    table.insert(t, 4) table.insert(t, 1, 0)
    local last, first = table.remove(t), table.remove(t, 1)
    return {t, last, first, table.remove({}) == nil}
  end)(),
  ["insert refuses a place outside"] = {pcall(table.insert, {1, 2}, 5, "x")},
  ["concat"] = {table.concat({1, 2, 3}), table.concat({1, 2, 3}, ", "), table.concat({1, 2, 3}, "-", 2, 3), table.concat({}, "x")},
  ["concat refuses what is no text"] = {pcall(table.concat, {1, {}, 3})},
  ["pack and unpack"] = {table.pack(1, nil, 3).n, select("#", table.unpack({1, nil, 3}, 1, 3)), {table.unpack({1, 2, 3}, 2)}},
  ["sort"] = {sorted {3, 1, 2}, sorted({3, 1, 2}, function(a, b) return a > b end), sorted {"b", "a", "C"}},
  ["sort refuses an order that is none"] = (pcall(table.sort, {1, 2, 3, 4, 5, 6, 7, 8}, function() return true end)) == false,
  ["move"] = {table.move({1, 2, 3}, 1, 3, 2), table.move({1, 2, 3}, 2, 3, 1), table.move({1, 2}, 1, 2, 1, {})},
  ["create makes an empty table"] = {#table.create(10), next(table.create(10, 10)) == nil},
  ["length and holes at the end"] = (function() local t = {1, 2, 3} t[#t] = nil return {#t, #{n = 1}, #{1, 2, nil}} end)(),
  ["next, pairs, ipairs"] = (function()
    local keys, n = {}, 0
    for k in pairs({a = 1, b = 2, 10}) do keys[#keys + 1] = tostring(k) end
    table.sort(keys)
    for _ in ipairs({1, 2, nil, 4}) do n = n + 1 end
    return {keys, n, next({}) == nil}
  end)(),
  ["fields may go while a table is walked"] = (function()
    local t = {a = 1, b = 2, c = 3}
    for k in pairs(t) do t[k] = nil end
    return next(t) == nil
  end)(),
  ["floats that are integers are the same key"] = (function() local t = {} t[1.0] = "a" t[2^53] = "b" return {t[1], t[1 << 53]} end)(),
  ["NaN and nil are no keys"] = {pcall(function() local t = {} t[0/0] = 1 end), pcall(function() local t = {} t[nil] = 1 end)},
  ["constructors"] = {{[1] = "a", "b"}, {1, 2, (function() return 3, 4 end)()}, {((function() return 5, 6 end)())}, #{(function() end)()}},
}
