"""Nothing leaks from one script to the next, in any order: state, globals, metatables, randomness, memory."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import msgspec
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ISOLATIONS = ["process", "inline"]

# Each of these looks for something, and finds the same wherever it is run.
GOOD = [
    "return {math.random(1000000), math.random(1000000)}",
    "return math.random(1 << 40)",
    "math.randomseed() return math.random(1000000)",
    "return tostring({}) .. tostring(print) .. tostring(coroutine.create(print))",
    "local t = {} for i = 1, 50 do t['k' .. i] = i end local s = {} for k in pairs(t) do s[#s + 1] = k end return s",
    "local n = {} for k, v in pairs(_G) do n[#n + 1] = k end table.sort(n) return n",
    "return {type(leak), type(_G.leak), type(string.leak), type(('').leak), type(json.leak), rawget(_G, 'leak')}",
    "local m = require('shared') return {m.add(), m.add(), m.leak == nil}",
    "return {os.time(), os.clock(), time.now(), os.date('%F')}",
    "return {('%5.2f'):format(2.5), ('x'):rep(3), ('a,b'):gsub(',', ';'), #('x'):upper()}",
    "return {re.gsub('a1b2', '[0-9]', '#'), (re.match('key=1', '(\\\\w+)='))}",
    "return {json.encode(json.array()), json.encode({}), json.decode('[]')}",
    "print('one') log.error('two') return 'logged'",
    "return {inputs, nodes.up.rows[3], env}",
    "return {pcall(error, {1})}",
    "return {pcall(setmetatable, '', {})}",
    "local co = coroutine.wrap(function(a) local b = coroutine.yield(a) return a + b end) return {co(1), co(2)}",
    "return #('x'):rep(30 << 20)",
    "local t = {} for i = 1, 200000 do t[i] = i end return #t",
    "local function f(n) return n == 0 and 0 or 1 + f(n - 1) end return f(10000)",
    "local t = {3, 1, 2} table.sort(t) return t",
    "return {base64.encode('abc'), sha256('abc'), hmac('k', 'abc')}",
    "error('a good error')",
    "return fail('a good failure', {a = 1})",
    "undefined.x = 1",
]

# Each of these leaves behind what it can.
EVIL = [
    "leak = 1 _G.leak = 1 _ENV.leak = 1 rawset(_G, 'leak', 1)",
    "print, pairs, type, error = nil return 1",
    "setmetatable(_G, {__index = function() return 'leak' end})",
    "string.leak = 1",
    "for k in pairs(string) do pcall(rawset, string, k, error) end",
    "getmetatable('').__index = {leak = 1}",
    "math.randomseed(1, 2) for i = 1, 100 do math.random() end return 1",
    "local m = require('shared') m.leak = 1 m.add = function() return 'leak' end return m.add()",
    "leak = ('x'):rep(50 << 20) return 1",
    "local s = 'x' for i = 1, 25 do s = s .. s end leak = s return #s",
    "local t = {} for i = 1, 100000 do t[i] = {i} end leak = t return 1",
    "local t = {} for i = 1, 30000 do t['key' .. i] = i end return t",
    "local t = setmetatable({}, {__mode = 'k'}) for i = 1, 10000 do t[{}] = i end leak = t return 1",
    "leak = coroutine.wrap(function() coroutine.yield() end) leak() return 1",
    "local x <close> = setmetatable({}, {__close = function() leak = 1 end}) error('on the way out')",
    "for i = 1, 1000 do re.find('x', 'pattern' .. i) end return 1",
    "for i = 1, 1000 do ('x'):find('[pattern' .. i .. ']') ('%d'):format(i) end return 1",
    "for i = 1, 2000 do tostring({}) print(i) end return 1",
    "json.array()[1] = 1 getmetatable(json.array()).leak = 1",
    "json.decode('[[[[')",
    "error(setmetatable({}, {__tostring = function() leak = 1 return ('x'):rep(1 << 20) end}))",
    "return {function() end}",
    "return fail(('x'):rep(1 << 20))",
    "local function f() return f() + 1 end return f()",
    "inputs.leak = 1",
    "table.insert(nodes.up.rows, 1)",
    "return ('x'):rep(1 << 29)",
    "while true do end",
    "return ('a'):rep(30000):find(('a*'):rep(5) .. 'b')",
]


def _ends(outcome: Any) -> tuple[Any, ...]:
    """How an attempt ended, without how long it took."""
    return outcome.conclusion, outcome.result, msgspec.json.encode(outcome.error)


@pytest.fixture(scope="module")
def expected(arena: Any, job: Any) -> list[tuple[Any, ...]]:
    """How the good ones end in a sandbox that has seen nothing else."""
    return [_ends(arena.alone(job(code, timeout=20_000_000))) for code in GOOD]


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_good_scripts_end_the_same_among_a_thousand_evil_ones(
    arena: Any, job: Any, expected: Any, isolation: str
) -> None:
    order = random.Random(3)
    stopped = [code for code in EVIL if "while true" in code or "a*" in code or "1 << 29" in code]
    for _ in range(500):
        evil = order.choice(EVIL if order.random() < 0.1 else [code for code in EVIL if code not in stopped])
        which = order.randrange(len(GOOD))
        jobs = [job(evil, timeout=30_000, seed=order.getrandbits(32)), job(GOOD[which], timeout=20_000_000)]
        outcome = arena.perform(isolation, jobs)[1]
        assert _ends(outcome) == expected[which], f"{GOOD[which]!r} after {evil!r}"


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_any_order_gives_the_same(arena: Any, job: Any, expected: Any, isolation: str) -> None:
    @settings(max_examples=25)
    @given(st.lists(st.one_of(st.sampled_from(EVIL[:26]), st.integers(0, len(GOOD) - 1)), min_size=1, max_size=12))
    def check(scripts: list[str | int]) -> None:
        jobs = [
            job(script, timeout=50_000) if isinstance(script, str) else job(GOOD[script], timeout=20_000_000)
            for script in scripts
        ]
        for script, outcome in zip(scripts, arena.perform(isolation, jobs), strict=True):
            if isinstance(script, int):
                assert _ends(outcome) == expected[script], GOOD[script]

    check()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_the_canary_sings_after_all_evil_scripts(arena: Any, job: Any, isolation: str) -> None:
    for code in EVIL:
        arena.perform(isolation, [job(code, timeout=50_000)])
        assert arena.sings(isolation) == "", code


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_memory_does_not_grow_with_the_number_of_scripts(arena: Any, job: Any, isolation: str) -> None:
    quick = [code for code in EVIL[:26] if "<< 20" not in code and "100000" not in code]
    rounds = [job(code, timeout=1_000_000) for code in quick]

    def held() -> int:
        if isolation == "process":
            children = psutil.Process().children()
            (zygote,) = (child for child in children if "lua.process.zygote" in " ".join(child.cmdline()))
            return max(worker.memory_info().rss for worker in zygote.children())
        return psutil.Process().memory_info().rss

    for _ in range(3):
        arena.perform(isolation, rounds)
    before = held()
    for _ in range(6):
        arena.perform(isolation, rounds)
    assert held() - before < 24 << 20, "more than allocators are slow to give back"


@pytest.mark.parametrize("kind", ["Timeout", "MemoryLimit"])
def test_a_sandbox_that_was_given_up_leaves_nothing_in_the_engine(arena: Any, job: Any, kind: str) -> None:
    code = "local s = ('x'):rep(20 << 20) while true do end" if kind == "Timeout" else "return ('x'):rep(1 << 30)"

    def given_up() -> None:
        (outcome,) = arena.perform("inline", [job(code, timeout=20_000)])
        assert outcome.error.type == kind

    for _ in range(3):
        given_up()
    tracemalloc.start()
    before, rss = tracemalloc.get_traced_memory()[0], psutil.Process().memory_info().rss
    for _ in range(20):
        given_up()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 1 << 20
    assert psutil.Process().memory_info().rss - rss < 60 << 20, "20 sandboxes of 20 MiB and more are gone"


def test_what_a_script_is_given_is_the_same_for_each_seed(arena: Any, job: Any) -> None:
    draw = "return {math.random(1 << 50), math.random(1 << 50)}"
    outcomes = {
        seed: {arena.perform(isolation, [job(draw, seed=seed)])[0].result for isolation in ISOLATIONS for _ in range(3)}
        for seed in range(5)
    }
    assert all(len(drawn) == 1 for drawn in outcomes.values())
    assert len({msgspec.json.encode(next(iter(drawn)).decode()) for drawn in outcomes.values()}) == 5
