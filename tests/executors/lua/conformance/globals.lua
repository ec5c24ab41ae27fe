-- `global` declarations, new in Lua 5.5 (§2.2).
local results = {}
do
  global print, pairs, pcall, type
  global counted
  counted = 1
  counted = counted + 1
  results["declared globals are read and written"] = counted
end
do
  global function greet(name) return "Hello, " .. name end
  results["global functions"] = greet("Ada")
end
do
  global <const> *
  results["everything may be read"] = type(string)
end
results["outside of declarations anything goes"] = (function() anything = 3 return anything end)()
results["named varargs are a table"] = (function(...rest) return {rest.n, rest[2]} end)("a", "b")
return results
