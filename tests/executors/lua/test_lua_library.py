"""What the sandbox adds to Lua's own library: base64, digests, time, regular expressions, fail."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import msgspec
import pytest

from dagengine.executors.lua import names


def details(error):
    return None if error.details is msgspec.UNSET else msgspec.json.decode(bytes(error.details))


# --- base64 ---


@pytest.mark.parametrize("size", [*range(20), 100, 12_287, 12_288, 12_289, 12_290, 50_000])
def test_base64_is_what_everybody_else_has(lua, size):
    data = bytes((i * 7 + size) % 256 for i in range(size))
    standard, url = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode().rstrip("=")
    code = """
    local standard, url = base64.encode(base64.decode(inputs.standard)), base64.encode_url(base64.decode(inputs.url))
    return {standard = standard, url = url, same = base64.decode(inputs.standard) == base64.decode(inputs.url),
            size = #base64.decode(standard), sha = sha256(base64.decode(url))}"""
    told = lua.value(code, inputs={"standard": standard, "url": url})
    sha = hashlib.sha256(data).hexdigest()
    assert told == {"standard": standard, "url": url, "same": True, "size": size, "sha": sha}


def test_base64_may_have_blanks_and_no_padding(lua):
    assert lua.value("return base64.decode('aGVs\\n bG8') .. base64.decode('aGk')") == "hellohi"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aGVsbG8*", "base64.decode: byte 8 (42) does not belong to base64"),
        ("a", "base64.decode: the text is cut off or wrongly padded"),
        ("aGk=x", "base64.decode: the text is cut off or wrongly padded"),
        ("aGV=", None),
        ("aGk==", "base64.decode: the text is cut off or wrongly padded"),
        ("=aGk", "base64.decode: the text is cut off or wrongly padded"),
    ],
)
def test_what_is_not_base64_is_refused(lua, text, message):
    if message is None:
        assert lua.value("return base64.decode(inputs.t)", inputs={"t": text}) == "he"
        return
    error = lua.error("\nlocal x = base64.decode(inputs.t)", inputs={"t": text})
    assert (error.message, error.line) == (message, 2)


def test_a_megabyte_takes_no_time_worth_speaking_of(lua):
    begun = time.perf_counter()
    code = "local t = ('x'):rep(1 << 20) return #base64.decode(base64.encode(t)) + #sha256(t) + #hmac('k', t)"
    assert lua.value(code) == (1 << 20) + 128
    assert time.perf_counter() - begun < 3


# --- digests ---


@pytest.mark.parametrize("text", ["", "abc", "ß\x00" * 1000])
def test_digests_are_what_everybody_else_has(lua, text):
    told = lua.value("return {sha256(inputs.t), hmac('key', inputs.t), hmac(inputs.t, 'x')}", inputs={"t": text})
    data = text.encode()
    keyed = [hmac.new(key, said, "sha256").hexdigest() for key, said in ((b"key", data), (data, b"x"))]
    assert told == [hashlib.sha256(data).hexdigest(), *keyed]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("local x = sha256(5)", "bad argument #1 to 'sha256' (string expected, got number)"),
        ("local x = sha256()", "bad argument #1 to 'sha256' (string expected, got nil)"),
        ("local x = hmac('k', {})", "bad argument #2 to 'hmac' (string expected, got table)"),
        ("local x = sha256(('x'):rep((16 << 20) + 1))", "sha256: the text is longer than 16 MiB"),
    ],
)
def test_what_cannot_be_digested_is_refused(lua, code, message):
    error = lua.error(f"\n{code}")
    assert (error.message, error.line) == (message, 2)


# --- time ---


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("time.parse('1970-01-01T00:00:00Z')", 0),
        ("time.parse('2024-02-29T12:30:15Z')", 1709209815),
        ("time.parse('2024-02-29T12:30:15.25+02:00')", 1709202615.25),
        ("time.parse('2024-02-29')", 1709164800),
        ("time.parse('0001-01-01T00:00:00Z')", -62135596800),
        ("time.format(0)", "1970-01-01T00:00:00Z"),
        ("time.format(1709209815.25)", "2024-02-29T12:30:15.25Z"),
        ("time.format(1709209815, '+05:30')", "2024-02-29T18:00:15+05:30"),
        ("time.format(-1)", "1969-12-31T23:59:59Z"),
        ("time.format('2024-02-29T23:30:00-01:00')", "2024-03-01T00:30:00Z"),
        ("time.format(0.9999999)", "1970-01-01T00:00:01Z"),
        ("time.add(0, 90)", 90),
        ("time.add(0, '1h30m')", 5400),
        ("time.add(0, '-2d')", -172800),
        ("time.add(0, '1.5s')", 1.5),
        ("time.add(1, '250ms')", 1.25),
        ("time.format(time.add('2024-01-31T10:00:00Z', {months = 1}))", "2024-02-29T10:00:00Z"),
        ("time.format(time.add('2024-02-29', {years = 1, days = 1}))", "2025-03-01T00:00:00Z"),
        ("time.format(time.add('2024-03-31', {months = -13, hours = 2}))", "2023-02-28T02:00:00Z"),
        ("time.add(0, {weeks = 1, minutes = 1, seconds = 0.5})", 604860.5),
        ("time.diff('2024-03-01', '2024-02-01')", 29 * 86400),
        ("time.diff(10, 4.5)", 5.5),
        ("math.type(time.diff(time.parse('2024-01-01T00:00:00.5Z'), time.parse('2024-01-01T00:00:00.5Z')))", "integer"),
    ],
)
def test_time(lua, expression, value):
    assert lua.value(f"return {expression}") == value


@pytest.mark.parametrize(
    "text", ["", "x", "2024-02-30", "2024-13-01T00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00", "20240101"]
)
def test_what_is_no_time_is_refused(lua, text):
    error = lua.error("\nlocal x = time.parse(inputs.t)", inputs={"t": text})
    assert error.message == f'time: "{text}" is not an RFC 3339 time such as 2026-01-31T09:30:00Z'
    assert error.line == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("time.add(0, '1 day')", 'time: "1 day" is not a duration such as 1h30m, 45s, 250ms or 2d'),
        ("time.add(0, {day = 1})", 'unknown part "day"; there are years'),
        ("time.add(0, {months = 0.5})", "months is not a whole number"),
        ("time.add(0, 1e300)", "the result is outside the years 1 to 9999"),
        ("time.add(0, {years = 9999})", "the result is outside the years 1 to 9999"),
        ("time.format({})", "bad argument #1 to 'format' (number or RFC 3339 text expected, got table)"),
        ("time.format(0, 'CET')", "bad argument #2 to 'format' (an offset such as +02:00 expected)"),
        ("time.format(0/0)", "is outside the years 1 to 9999"),
    ],
)
def test_what_time_cannot_do_is_said(lua, code, message):
    assert message in lua.error(f"local x = {code}").message


def test_now_stands_still_and_is_the_attempts_own(lua):
    code = "local a = time.now() for i = 1, 100000 do end return {time.now() == a, a, os.time()}"
    assert lua.value(code, run={"now": 1_700_000_000_250_000}) == [True, 1_700_000_000.25, 1_700_000_000]


def test_expressions_have_time_but_not_now(lua, scope):
    made = lua.runtime.template(b"j", [b"{time.now == nil, time.diff(3, 1)}"], ["time"])
    assert lua.runtime.run(made, scope()) == b"[true,2]"


# --- regular expressions ---


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("{re.find('hello world', 'o w')}", [5, 7]),
        ("{re.find('hello world', '(o) (w)')}", [5, 7, "o", "w"]),
        ("{re.find('abc', 'x')}", {}),
        ("{re.find('abab', 'a', 2)}", [3, 3]),
        ("{re.find('abab', 'a', -2)}", [3, 3]),
        ("{re.find('abc', '', 4)}", [4, 3]),
        ("{re.find('abc', '', 5)}", {}),
        ("{re.find('xfoo', '^foo', 2)}", {}),
        ("re.match('key = value', '(\\\\w+) = \\\\w+')", "key"),
        ("re.match('2024-05-06', '\\\\d{4}-\\\\d{2}')", "2024-05"),
        ("{re.match('ab', '(a)|(b)')}", ["a"]),
        ("select('#', re.match('ab', '(a)(x)?'))", 2),
        ("re.match('Straße', '\\\\pL+')", "Straße"),
        ("re.match('HELLO', '(?i)hello')", "HELLO"),
        ("re.match('a\\nb', '(?s)a.b')", "a\nb"),
        ("{re.gsub('hello world', '(\\\\w+)', '<%1>')}", ["<hello> <world>", 2]),
        ("{re.gsub('hello world', '\\\\w+', '%0 %0', 1)}", ["hello hello world", 1]),
        ("re.gsub('abc', '', '-')", "-a-b-c-"),
        ("re.gsub('äö', '', '-')", "-ä-ö-"),
        ("(re.gsub('abc', '\\\\w', {a = '1', b = 2}))", "12c"),
        ("(re.gsub('abc', '(\\\\w)', function(c) if c ~= 'b' then return c:upper() end end))", "AbC"),
        ("(re.gsub('a b', '(x)?b', '[%1]'))", "a []"),
        ("(re.gsub('50%', '%', '%% off'))", "50% off"),
        ("re.split('a, b,c', ',\\\\s*')", ["a", "b", "c"]),
        ("re.split('a,b,c', ',', 2)", ["a", "b,c"]),
        ("re.split('', ',')", [""]),
        ("re.split(',a,', ',')", ["", "a", ""]),
        ("re.split('abc', '')", ["a", "b", "c"]),
        ("re.find(12345, '34')", 3),
    ],
)
def test_regular_expressions(lua, expression, value):
    code = f"return {expression}"
    if not expression.startswith(("{", "(", "re.split", "select", "re.match")):
        code = f"local first = {expression} return first"
    assert lua.value(code) == value


def test_gmatch_goes_through_all_matches(lua):
    code = """
    local found = {}
    for key, value in re.gmatch('a=1, bc=22, d=', '(\\\\w+)=(\\\\d*)') do found[#found + 1] = key .. value end
    for word in re.gmatch('one two', '\\\\w+') do found[#found + 1] = word end
    for letter in re.gmatch('ab', '') do found[#found + 1] = '.' end
    return found"""
    assert lua.value(code) == ["a1", "bc22", "d", "one", "two", ".", ".", "."]


def test_loops_over_texts_do_not_get_into_each_others_way(lua):
    code = """
    local found = {}
    for a in re.gmatch('ab', '\\\\w') do
      for b in re.gmatch('12', '\\\\d') do found[#found + 1] = a .. b end
      for i = 1, 40 do re.find('x', 'x{' .. i .. '}') end
    end
    return found"""
    assert lua.value(code) == ["a1", "a2", "b1", "b2"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("re.find('x', '(')", 're: "(" is not a pattern: missing ): ('),
        ("re.find('x', '(?=y)')", "invalid perl operator: (?="),
        ("re.find('x', '(a)\\\\1')", "invalid escape sequence: \\1"),
        ("re.find('x', 'a{1001}')", "invalid repetition size"),
        ("re.find('x', '\\\\pL{900}')", "pattern too large"),
        ("re.find('x', ('()'):rep(33))", "more than 32 groups"),
        ("re.find('x', ('x'):rep(1025))", "re: the pattern is longer than 1024 bytes"),
        ("re.find(('x'):rep((1 << 20) + 1), 'x')", "re: the text has 1048577 bytes; a text may have 1048576"),
        ("re.find(('x'):rep(1 << 20), '(.{0,500})(q)$')", "re: the pattern is too big for a text of 1048576 bytes"),
        ("re.gsub('x', 'x', '%2')", "the replacement names group %2, which the pattern has not"),
        ("re.gsub('x', 'x', '%q')", "the replacement has a '%' before what is no digit"),
        ("re.gsub('x', 'x', function() return {} end)", "the replacement of a match is a table"),
        ("re.find({}, 'x')", "bad argument #1 to 'find' (string expected, got table)"),
        ("re.find('x')", "bad argument #2 to 'find' (string expected, got nil)"),
        ("re.find('x', 'x', 'y')", "bad argument #3 to 'find' (integer expected, got string)"),
        ("re.gsub('x', 'x', true)", "bad argument #3 to 'gsub' (string, function or table expected, got boolean)"),
    ],
)
def test_what_a_pattern_cannot_be_is_said_with_the_line(lua, code, message):
    error = lua.error(f"\nlocal x = {code}\nreturn x")
    assert message in error.message
    assert error.line == 2


def test_patterns_that_ruin_others_take_linear_time(lua):
    code = """
    local text = ('a'):rep(100000)
    local first = re.find(text, '(a*)*b')
    local second = re.match(text, '^(a|aa)+$')
    return {first == nil, second}"""
    begun = time.perf_counter()
    assert lua.value(code) == [True, "a"]
    assert time.perf_counter() - begun < 2


def test_many_long_searches_end_at_the_deadline(lua):
    lua.value("return re.find('x', 'y') == nil")
    code = """
    local text = ('abcd'):rep(2000) .. 'q'
    while true do pcall(re.find, text, '[^x]*(?:a|b|c)(.{0,500})(q)$') end"""
    # Processor time: on a busy machine any clock goes on.
    begun = time.thread_time()
    assert lua.error(code, run={"timeout": 100_000}).type == "Timeout"
    assert time.thread_time() - begun < 0.6


def test_searching_at_the_limit_of_memory_stops_the_script_and_nothing_else(lua):
    lua.max_memory = 8 << 20
    code = """
    local kept = {}
    while true do
      for i = 1, 100 do kept[#kept + 1] = ('x'):rep(50) .. #kept end
      pcall(re.find, 'hello', 'l+')
      pcall(sha256, 'x')
    end"""
    assert lua.error(code).type == "MemoryLimit"
    assert lua.value("return re.match('abc', 'b')") == "b"


# --- fail ---


def test_a_failure_says_why_and_with_what(lua):
    error = lua.error("return fail('out of stock', {type = 'OutOfStock', sku = 'A1', left = 0})")
    assert (error.type, error.message, error.line) == ("OutOfStock", "out of stock", 0)
    assert details(error) == {"type": "OutOfStock", "sku": "A1", "left": 0}


def test_a_failure_needs_no_details(lua):
    error = lua.error("return fail('no')")
    assert (error.type, error.message, details(error)) == ("Failed", "no", None)


def test_a_failure_can_be_raised_from_anywhere(lua):
    code = "local function check(n)\n  if n > 1 then error(fail('too many', {n = n})) end\nend\ncheck(2)\nreturn 1"
    error = lua.error(code)
    assert (error.type, error.message, error.line, details(error)) == ("Failed", "too many", 2, {"n": 2})
    assert error.traceback.split("\n")[-2:] == ["line 4, in the script", "  check(2)"]


def test_a_failure_is_caught_and_read_like_any_error(lua):
    code = """
    local ok, why = pcall(function() error(fail('no', {code = 7})) end)
    return {ok = ok, message = why.message, code = why.details.code, shown = tostring(why), kind = type(why)}"""
    assert lua.value(code) == {"ok": False, "message": "no", "code": 7, "shown": "no", "kind": "table"}


def test_a_failure_keeps_what_it_said(lua):
    code = "local d = {n = 1} local f = fail('no', d) d.n = 2 f.message = 'yes' return f"
    error = lua.error(code)
    assert (error.message, details(error)) == ("no", {"n": 1})


def test_details_may_be_what_came_in(lua):
    assert details(lua.error("return fail('no', inputs)", inputs={"a": [1]})) == {"a": [1]}


def test_a_failure_inside_a_result_is_refused(lua):
    error = lua.error("return {rows = {fail('no')}}")
    assert error.type == "ResultError"
    assert error.message == "result.rows[1] is a failure: return what `fail` gives by itself, or raise it with `error`"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("5", "bad argument #1 to 'fail' (string expected, got number)"),
        ("'x', 5", "bad argument #2 to 'fail' (table expected, got number)"),
        ("'x', {1, 2}", "bad argument #2 to 'fail' (an object expected, got a list)"),
        ("'x', {f = print}", "bad argument #2 to 'fail' (details.f is a function)"),
        ("'x', {t = ('x'):rep(70000)}", "bad argument #2 to 'fail' (details is bigger than 65536 bytes of JSON)"),
        ("'x', {type = 'Timeout'}", "bad argument #2 to 'fail' (the type Timeout is one of the platform's own)"),
        ("'x', {type = 'two words'}", "details.type is the type of the error: a name such as OutOfStock)"),
        ("'x', {type = 5}", "details.type is the type of the error: a name such as OutOfStock)"),
    ],
)
def test_a_failure_that_cannot_be_is_an_error(lua, arguments, message):
    error = lua.error(f"\nlocal f = fail({arguments})\nreturn f")
    assert (error.type, error.line) == ("LuaError", 2)
    assert message in error.message


def test_a_failure_comes_with_the_log(lua):
    seen = []
    lua.error("log.warn('w') return fail('no')", run={"lines": lambda level, text: seen.append((level, text))})
    assert seen == [("warning", "w")]


# --- the whole ---


def test_the_names_that_the_check_knows_are_those_that_there_are(lua):
    code = "local found = {} for _, name in ipairs(inputs) do found[name] = _G[name] ~= nil end return found"
    there = lua.value(code, inputs=sorted(names.SCRIPT - names.SCOPE))
    assert [name for name, is_there in there.items() if not is_there] == []


def test_no_python_object_is_within_reach(lua):
    code = """
    local seen, found = {}, {}
    local function walk(value, path, depth)
      local kind = type(value)
      if kind == 'userdata' and value ~= json.null then found[#found + 1] = path end
      if kind ~= 'table' or seen[value] or depth > 6 then return end
      seen[value] = true
      for k, v in pairs(value) do walk(k, path .. '.key', depth + 1) walk(v, path .. '.' .. tostring(k), depth + 1) end
      walk(getmetatable(value), path .. '.meta', depth + 1)
    end
    for _, name in ipairs(inputs) do walk(_G[name], name, 0) end
    for _, call in ipairs {
      function() re.find('x', '(') end, function() sha256({}) end, function() return nodes.x.y end,
      function() base64.decode('*') end, function() hmac() end,
    } do
      local _, why = pcall(call)
      walk(why, 'error', 0)
    end
    return json.array(found)"""
    assert lua.value(code, inputs=sorted(names.SCRIPT)) == []
