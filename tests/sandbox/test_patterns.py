"""Where scripts are watched, patterns that may take long are matched in Lua: that finds what Lua's own finds."""

from __future__ import annotations

import pkgutil
from typing import Any

import lupa.lua55 as lua
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

PACKAGE = "dagengine.executors.lua"

# Every function, with the same arguments, by Lua and by us: what it returns, or that it raises.
COMPARE = """
local own, ours, text, pattern, init, replacement = ...
local function results(find, match, gmatch, gsub)
  local told, unfinished = {}, false
  local function tell(...)
    local n = select("#", ...)
    for i = 1, n do told[#told + 1] = tostring((select(i, ...))) end
    told[#told + 1] = ";"
  end
  local function call(f, ...)
    local function kept(ok, ...)
      if ok then tell(...) else tell("raises") end
      unfinished = unfinished or not ok and tostring(...):find("unfinished capture", 1, true)
    end
    kept(pcall(f, ...))
  end
  call(find, text, pattern, init)
  call(match, text, pattern, init)
  call(find, text, pattern, init, true)
  call(gsub, text, pattern, replacement)
  call(gsub, text, pattern, replacement, 2)
  call(gsub, text, pattern, function(...) tell(...) return #told % 3 ~= 0 and "<" .. #told .. ">" or nil end)
  call(gsub, text, pattern, {a = "1", b = false, ab = 3})
  call(function()
    local n = 0
    for a, b, c in gmatch(text, pattern, init) do
      tell(a, b, c)
      n = n + 1
      if n > 100 then break end
    end
  end)
  -- Where nobody asks for a capture, Lua's own `gsub` does not notice that it is unfinished.
  return unfinished and "unfinished capture" or table.concat(told, " ")
end
return results(own.find, own.match, own.gmatch, own.gsub), results(ours.find, ours.match, ours.gmatch, ours.gsub)
"""


@pytest.fixture(scope="module", params=[0, 20, 400, 4_000_000], ids=lambda work: f"work={work}")
def compare(request: pytest.FixtureRequest) -> Any:
    """Both results of all functions, where Lua's matcher may do so much work."""
    state = lua.LuaRuntime(encoding=None, unpack_returned_tuples=True)

    def load(name: str, *arguments: Any) -> Any:
        source = pkgutil.get_data(PACKAGE, f"{name}.lua")
        assert source is not None
        return state.execute(source, *arguments)

    own = state.execute("local t = {} for name, f in pairs(string) do t[name] = f end return t")
    guard = state.execute("return {look = function() end, big = function() end}")
    ours = load("patterns", guard, load("backtracking"), request.param)
    both = state.execute("return load(...)", COMPARE.encode())
    return lambda *arguments: both(own, ours, *arguments)


items = st.sampled_from(b"a b . %a %d %s [ab] [^a] [a-c] [%d-] []] %. ^ $ %% \0".split(b" "))
marks = st.sampled_from([b"", b"", b"*", b"+", b"-", b"?"])
others = st.sampled_from(
    [b"(", b")", b"()", b"%b()", b"%bab", b"%f[a]", b"%f[%W]", b"%1", b"%2", b"[", b"%", b"(a*)", b"(.-)"]
)
pieces = st.one_of(st.tuples(items, marks).map(b"".join), st.tuples(items, marks).map(b"".join), others)
patterns = st.tuples(
    st.sampled_from([b"", b"", b"^"]), st.lists(pieces, max_size=6), st.sampled_from([b"", b"", b"$"])
).map(lambda parts: parts[0] + b"".join(parts[1]) + parts[2])
texts = st.lists(
    st.sampled_from([b"a", b"b", b"c", b"1", b" ", b"(", b")", b".", b"-", b"]", b"\0", b"\xff"]), max_size=14
).map(b"".join)
replacements = st.sampled_from([b"x", b"%0", b"<%1>", b"%%", b"%2%1", b"%", b"%x"])


@settings(max_examples=1_500)
@given(text=texts, pattern=patterns, init=st.integers(-4, 6), replacement=replacements)
@example(text=b"", pattern=b"", init=1, replacement=b"-")
@example(text=b"abc", pattern=b"^a", init=2, replacement=b"%0%0")
@example(text=b"a^b", pattern=b"^b", init=1, replacement=b"x")
@example(text=b"x", pattern=b"a%", init=1, replacement=b"x")
@example(text=b" a ", pattern=b"^%s*(.-)%s*$", init=1, replacement=b"%1")
def test_all_matchers_find_the_same(compare: Any, text: bytes, pattern: bytes, init: int, replacement: bytes) -> None:
    own, ours = compare(text, pattern, init, replacement)
    assert own == ours


@pytest.mark.parametrize(
    "pattern", [b"^%s*(.-)%s*$", b"(%w+)=(%w+)", b"a*a*b", b".-%d+", b"%f[%w]%w+", b"%b()", b"(.-)\n", b"[^,]*,?"]
)
def test_long_texts_are_matched_as_short_ones_are(compare: Any, pattern: bytes) -> None:
    text = (b"key=value, (and (more)) 12\n  " * 40) + b"b"
    own, ours = compare(text, pattern, 1, b"<%0>")
    assert own == ours
