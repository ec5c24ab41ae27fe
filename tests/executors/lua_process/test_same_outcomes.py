"""What a script comes to is the same in every isolation."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest

from dagengine.clock import SystemClock
from dagengine.executors.lua.inline import InlineLua
from dagengine.executors.lua.process.executor import LuaProcesses

MEMORY = 64 << 20
Anywhere = InlineLua | LuaProcesses

SCRIPTS = [
    "return nil",
    "return {a = 1, b = {1, 2.5, 'x'}, c = json.null, d = json.array {}}",
    "return inputs",
    "return {inputs.deep.list[2], nodes.a.v, nodes['b-c'], nodes.missing == nil, env.HOME, item, index}",
    "local all = {} for id, value in pairs(nodes) do all[id] = value end return all",
    "return {_G.inputs.deep.list, _ENV.item}",
    "local t = {} for i = 1, 5 do t[i] = math.random(1, 1000000) end return t",
    "return {tostring({}), tostring(print), math.type(2^53)}",
    "local keys = {} for k in pairs({x = 1, y = 2, z = 3, [1] = 4}) do keys[#keys + 1] = tostring(k) end return keys",
    "error('no')",
    "error({message = 'table'})",
    "local function inner() error('deep') end\nlocal function outer() inner() end\nouter()",
    "return inputs.missing.field",
    "inputs.deep = 1",
    "return print",
    "return 0 / 0",
    "return 1, 2",
    "x = = 1",
    "return '\\xff'",
    "return ('x'):rep(5000000)",
    "return coroutine.wrap(function() coroutine.yield(1) end)()",
    "local function f() return f() + 1 end return f()",
    "return pcall(error, {code = 1})",
    "return ('x'):rep(1000000000)",
    "local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end",
    "local t = {} while true do pcall(function() while true do t[#t + 1] = ('x'):rep(1000000) .. #t end end) end",
    "coroutine.wrap(function() local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end end)()",
    "local ok, co = pcall(coroutine.create, 5) return {ok, co}",
    "return {key, execution}",
    "return {_ENV.key, _G.execution.status}",
    "return require('lib').double(inputs.deep.list[3])",
    "return {require('lib') == require('lib'), require('far.away')}",
    "return require('broken')",
    "return require('missing')",
    "return fail('too bad', {rows = {1, 2}, note = 'ü'})",
    "return fail('too bad')",
    "return {json.decode('[1]'), os.time(), os.date()}",
]

SCOPE: dict[str, Any] = {
    "inputs": {"deep": {"list": ["a", "ü" * 2000, 3]}},
    "nodes": {"a": {"v": "v" * 3000}, "b-c": [1, 2], "big": ["x" * 5000] * 3},
    "env": {"HOME": "/nowhere"},
    "item": {"n": 1},
    "index": 4,
    "seed": 7_000_000_000_000_000_001,
    "key": "k",
    "modules": {
        "lib": "local lib = {} function lib.double(n) return n * 2 end return lib",
        "far.away": "return {require('lib').double(4), math.random() < 2, ('x'):rep(2000)}",
        "broken": "local x = nil\nreturn x.y",
    },
    "conclusion": {"status": "failed", "error": {"type": "Timeout", "message": "m" * 2000}},
}


@pytest.fixture(params=["inline", "thread", "process"])
async def anywhere(request: pytest.FixtureRequest, lines: list[Any], start: Callable[..., Any]) -> AsyncIterator[Any]:
    """An executor of each isolation."""
    if request.param == "process":
        yield start(workers=2)
        return
    executor = InlineLua(log=lines.append, clock=SystemClock(), thread=request.param == "thread", max_memory=MEMORY)
    yield executor
    await executor.close()


class StoppedClock(SystemClock):
    """What scripts are told must not differ because one ran later."""

    def now(self) -> int:
        return 1_700_000_000_000_000


async def test_scripts_come_to_the_same_inline_and_in_a_process(start, lines, job, crowd) -> None:
    await _compare([job(code, **SCOPE) for code in SCRIPTS], start, lines, crowd)


LIMITED = [
    "return 1",
    "return ('x'):rep(999)",
    "return ('x'):rep(3000000)",
    "local s = ('x'):rep(30000000) return #s",
    "local t = {} while true do t[#t + 1] = ('x'):rep(100000) .. #t end",
    "return #inputs.deep.list[2]",
]


@pytest.mark.parametrize("limits", [{"memory": 4 << 20}, {"output": 1000}, {"memory": 4 << 20, "output": 1000}])
async def test_limits_of_a_node_are_the_same_inline_and_in_a_process(limits, start, lines, job, crowd) -> None:
    unlimited = job("local s = ('x'):rep(20000000) return #s")
    await _compare(
        [each for code in LIMITED for each in (job(code, **SCOPE, **limits), unlimited)], start, lines, crowd
    )


async def test_modules_that_changed_are_not_those_of_before(start, lines, job, crowd) -> None:
    read = "return require('m').v"
    versions = [{"m": f"return {{v = '{i}', filler = '{'x' * size}'}}"} for i in (1, 2) for size in (1, 3000)]
    jobs = [job(read, modules=versions[i % 4]) for i in range(12)]
    await _compare(jobs, start, lines, crowd)
    assert [outcome.result for _, outcome in crowd.ended[12:16]] == [b'"1"', b'"1"', b'"2"', b'"2"']


async def _compare(jobs: Sequence[Any], start: Callable[..., Any], lines: list[Any], crowd: Any) -> None:
    """Perform jobs inline, then in one process, one after the other."""
    inline = InlineLua(log=lines.append, clock=StoppedClock(), max_memory=MEMORY)
    processes = start(workers=1, clock=StoppedClock())
    for count, (executor, job) in enumerate(itertools.product([inline, processes], jobs)):
        crowd.submit(executor, [job])
        await crowd.wait(count + 1)
    await inline.close()
    outcomes = [msgspec.structs.replace(outcome, elapsed=0) for _, outcome in crowd.ended]
    expected, got = outcomes[: len(jobs)], outcomes[len(jobs) :]
    different = [(job.spec.code, *pair) for job, *pair in zip(jobs, expected, got, strict=True) if pair[0] != pair[1]]
    assert different == []


async def test_every_job_of_every_batch_ends_once_on_the_loops_thread(anywhere, job, crowd) -> None:
    threads = set()

    def done(*ended: Any) -> None:
        threads.add(threading.get_ident())
        crowd.done(*ended)

    for batch in range(10):
        anywhere.submit([job("return index", index=batch * 200 + i) for i in range(200)], done)
    anywhere.submit([], done)
    assert crowd.ended == []
    await crowd.wait(2000)
    assert {index: outcome.result for index, outcome in crowd.by_index().items()} == {
        i: str(i + 1).encode() for i in range(2000)
    }
    assert threads == {threading.get_ident()}


async def test_done_may_submit_more(anywhere, job) -> None:
    left, finished = 500, asyncio.Event()

    def done(_job: Any, _outcome: Any) -> None:
        nonlocal left
        left -= 1
        if left:
            anywhere.submit([job("return 1")], done)
        else:
            finished.set()

    anywhere.submit([job("return 1")], done)
    async with asyncio.timeout(30):
        await finished.wait()


async def test_an_error_in_done_does_not_stop_the_others(anywhere, job, crowd) -> None:
    loop, caught, told = asyncio.get_running_loop(), [], asyncio.Event()
    loop.set_exception_handler(lambda _loop, context: (caught.append(str(context["exception"])), told.set()))

    def broken(_job: Any, _outcome: Any) -> None:
        raise RuntimeError("broken")

    anywhere.submit([job("return 1")], broken)
    await asyncio.sleep(0)
    crowd.submit(anywhere, [job("return 2")])
    assert (await crowd.wait(1))[0].result == b"2"
    async with asyncio.timeout(30):
        await told.wait()
    assert caught == ["broken"]


@pytest.mark.parametrize(
    ("code", "conclusion", "kind"),
    [
        ("error('x')", "fail", "LuaError"),
        ("x = = 1", "fail", "LuaSyntaxError"),
        ("return print", "fail", "ResultError"),
        ("while true do end", "error", "Timeout"),
        ("while true do pcall(function() while true do end end) end", "error", "Timeout"),
        ("coroutine.wrap(function() while true do end end)()", "error", "Timeout"),
        ("setmetatable({}, {__close = function() while true do end end})", "success", None),
        ("local x <close> = setmetatable({}, {__close = function() while true do end end})", "error", "Timeout"),
        ("return ('x'):rep(1000000000)", "error", "MemoryLimit"),
    ],
)
async def test_how_an_attempt_ends_decides_its_conclusion(anywhere, job, crowd, code, conclusion, kind) -> None:
    timeout = 200_000 if kind == "Timeout" else 20_000_000  # a busy machine may need long for anything
    crowd.submit(anywhere, [job(code, index=0, timeout=timeout), job("return 1", index=1)])
    await crowd.wait(2)
    first, second = crowd.by_index()[0], crowd.by_index()[1]
    assert (first.conclusion, first.error and first.error.type) == (conclusion, kind)
    assert (second.conclusion, second.result) == ("success", b"1")
    if kind == "Timeout":
        assert first.error.message == "the script ran longer than its timeout of 0.2 s"
        assert 200_000 <= first.elapsed < 10_000_000


async def test_the_timeout_counts_from_the_begin_of_the_attempt(anywhere, job, crowd) -> None:
    slow = "for i = 1, 30000000 do end"
    crowd.submit(anywhere, [job(slow, index=0), job(slow, index=1), job("return 1", index=2, timeout=50_000)])
    await crowd.wait(3)
    assert crowd.by_index()[2].conclusion == "success"


async def test_a_job_of_another_executor_is_an_error(anywhere, job, crowd) -> None:
    crowd.submit(anywhere, [msgspec.structs.replace(job("return 1"), spec=object())])
    (outcome,) = await crowd.wait(1)
    assert (outcome.conclusion, outcome.error.type) == ("error", "InternalError")
    assert outcome.error.message == "not a Lua node: its executor is object"


async def test_values_that_cannot_be_converted_are_an_error_of_their_own_attempt(anywhere, job, crowd) -> None:
    odd = job("return env.A", index=0, env={"A": "\ud800"})
    crowd.submit(anywhere, [odd, job("return 2", index=1)])
    await crowd.wait(2)
    assert crowd.by_index()[0].error.type == "InternalError"
    assert crowd.by_index()[0].error.message.startswith("a value in scope cannot be converted: ")
    assert crowd.by_index()[1].result == b"2"


async def test_a_sink_that_fails_is_an_outcome(start, job, crowd) -> None:
    def sink(_line: Any) -> None:
        raise OSError("disk full")

    crowd.submit(start(log=sink), [job("print('x') return 1", index=0), job("return 2", index=1)])
    await crowd.wait(2)
    assert crowd.by_index()[0].error.message == "the Lua executor failed: OSError: disk full"
    assert crowd.by_index()[1].result == b"2"


async def test_log_lines_say_whose_they_are(anywhere, job, crowd, lines) -> None:
    before = SystemClock().now()
    crowd.submit(anywhere, [job("print('a') log.error('b\\nc')", node="x", index=3, attempt=2)])
    await crowd.wait(1)
    crowd.submit(anywhere, [job("log.debug('ü')", execution="e-2")])
    await crowd.wait(2)
    shown = [(line.execution, line.node, line.index, line.attempt, line.line, line.level, line.text) for line in lines]
    assert shown == [
        ("e-1", "x", 3, 2, 1, "info", "a"),
        ("e-1", "x", 3, 2, 2, "error", "b"),
        ("e-1", "x", 3, 2, 3, "error", "c"),
        ("e-2", "n", None, 1, 1, "debug", "ü"),
    ]
    assert all(before <= line.at <= SystemClock().now() for line in lines)


async def test_a_flood_of_log_is_cut(anywhere, job, crowd, lines) -> None:
    crowd.submit(anywhere, [job("for i = 1, 100000 do print(i) end return 1")])
    (outcome,) = await crowd.wait(1)
    assert outcome.result == b"1"
    assert len(lines) == 1001
    assert lines[-1].text.startswith("log truncated")


async def test_closing_twice_and_submitting_afterwards_do_nothing(anywhere, job, crowd) -> None:
    crowd.submit(anywhere, [job("return 1")])
    await anywhere.close()
    await anywhere.close()
    crowd.submit(anywhere, [job("return 1")])
    anywhere.cancel("e-1", "n", None, 1)
    await asyncio.sleep(0)
    assert crowd.ended == []
