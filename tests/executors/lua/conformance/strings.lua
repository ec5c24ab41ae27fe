-- `string`, as in §6.5 of the manual.
local s = "Hello, World"
return {
  ["sub counts from 1, and from the end"] = {s:sub(1, 5), s:sub(-5), s:sub(3, 3), s:sub(5, 2), s:sub(-100, 100)},
  ["len, # and reverse"] = {#s, s:len(), ("abc"):reverse(), #"\0\0"},
  ["upper and lower"] = {s:upper(), s:lower()},
  ["byte and char"] = {("A"):byte(), {("abc"):byte(1, -1)}, string.char(72, 105), string.char() == ""},
  ["rep with a separator"] = {("ab"):rep(3), ("ab"):rep(3, "-"), ("x"):rep(0), ("x"):rep(-1)},
  ["find answers with positions"] = {{s:find("World")}, {s:find("o", 6)}, {s:find("l+")}, {s:find("xyz")}},
  ["find may be plain"] = {{("a.b"):find(".", 1, true)}, {("a.b"):find("%.")}, {("abc"):find("", 10)}},
  ["match gives captures"] = {{("key=value"):match("(%w+)=(%w+)")}, ("2024"):match("%d+"), {("ab"):match("()b()")}},
  ["frontiers, balances and back references"] = {
    ("THE (quick) fox"):match("%f[%a]%a+%f[%A]"), ("f(a(b)c)d"):match("%b()"), ("\"x\" 'y'"):match("([\"'])(.-)%1"),
  },
  ["gmatch goes through all"] = (function()
    local words = {}
    for word, at in ("one two  three"):gmatch("(%a+)()") do words[#words + 1] = word .. at end
    return words
  end)(),
  ["gmatch may begin later"] = (function()
    local n = 0
    for _ in ("aaaa"):gmatch("a", 3) do n = n + 1 end
    return n
  end)(),
  ["gsub with text, table and function"] = {
    {("hello"):gsub("l", "L")}, {("hello"):gsub("l", "L", 1)}, {("$name"):gsub("%$(%w+)", {name = "Ada"})},
    {("abc"):gsub("%w", function(c) if c ~= "b" then return c .. c end end)}, {("abc"):gsub("%w", "%0%0")},
    {("abc"):gsub("", "-")}, {("a b"):gsub("(%w) (%w)", "%2 %1")},
  },
  ["format"] = {
    ("%d %5d|%-5d|%05d"):format(1, 2, 3, 4), ("%5.2f %e %g"):format(3.14159, 1000, 0.1), ("%s %10s|%-4s|"):format("a", "b", "c"),
    ("%x %X %o %c %%"):format(255, 255, 8, 65), ("%q"):format("a\n\"b\"\0"), ("%i"):format(3.0), ("%a"):format(1), ("%.3s"):format("abcdef"),
  },
  ["format refuses a float that is no integer"] = {pcall(string.format, "%d", 1.5)},
  ["texts that are numbers count as such"] = {"10" + 5, "3" * "4", 10 .. 20, "0x10" + 0, "1e1" * 1},
  ["comparison is by bytes"] = {"a" < "b", "Z" < "a", "" < "a", "a" < "aa", "10" < "9"},
  ["escapes"] = {"\65\066\x43\u{44}", "a\z
      b", 'it\'s', [[
first line break is dropped]], [==[ ]] ]==]},
  ["pack and unpack"] = {
    {string.unpack("<i4", string.pack("<i4", -2))}, string.packsize("i4i8"), {string.unpack("s1z", string.pack("s1z", "ab", "cd"))},
    {string.unpack(">I2", "\1\2")},
  },
}
