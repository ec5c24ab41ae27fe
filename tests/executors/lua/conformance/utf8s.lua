-- `utf8`, as in §6.7 of the manual.
local s = "aß€😀"
return {
  ["len counts characters"] = {utf8.len(s), #s, utf8.len(""), utf8.len(s, 2), utf8.len(s, -4)},
  ["len says where a text is not UTF-8"] = select(2, utf8.len("ab\xff")),
  ["char makes texts"] = {utf8.char(97, 223, 8364, 128512), utf8.char() == ""},
  ["codepoint reads them"] = {{utf8.codepoint(s, 1, -1)}, utf8.codepoint("€")},
  ["offset finds the n-th character"] = {utf8.offset(s, 3), utf8.offset(s, -1), utf8.offset(s, 5), utf8.offset(s, 9) == nil},
  ["codes goes through them"] = (function()
    local found = {}
    for at, code in utf8.codes(s) do found[#found + 1] = at .. ":" .. code end
    return found
  end)(),
  ["charpattern matches one"] = (function()
    local found = {}
    for c in s:gmatch(utf8.charpattern) do found[#found + 1] = c end
    return found
  end)(),
  ["codes refuses what is not UTF-8"] = (pcall(function() for _ in utf8.codes("\xff") do end end)) == false,
  ["escapes"] = {"\u{20AC}", #"\u{7FFFFFFF}"},
}
