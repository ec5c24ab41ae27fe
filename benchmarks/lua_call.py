"""What one Lua call costs: bare runtime, inline executor, evaluator; small values, a big shared one, and heavy code.

`python -m benchmarks.lua_call [--quick]`
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import lupa.lua55 as lua
import msgspec

from benchmarks import figure
from dagengine.clock import SystemClock
from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua.evaluator import LuaEvaluator
from dagengine.executors.lua.inline import InlineLua
from dagengine.executors.lua.runtime import Runtime
from dagengine.spec.model import LuaExecutor

__all__ = ["figures"]

TRIVIAL = "return {value = 1}"
UPSTREAM = "return {v = nodes.a.v + 1}"
ITEM = "return {value = item.n * 2, index = index}"
SHARED = "return {n = #nodes.big, first = nodes.big[1].date}"
READ_ALL = "local sum = 0 for _, row in ipairs(nodes.big) do sum = sum + row.wind end return sum"
HEAVY = "local x = 0 for i = 1, 3000000 do x = (x * 31 + i) % 65537 end return x"

BIG = msgspec.json.encode(
    [
        {"date": f"2012-01-{i % 28 + 1:02}", "precipitation": i / 7, "wind": i % 5 / 3, "weather": "rain"}
        for i in range(1_461)
    ]
)
SCOPE = base.Scope(
    execution="e",
    workflow="w",
    version="1.0.0",
    digest="sha256:0",
    inputs=b'{"limit":3}',
    nodes={"a": b'{"v":1}', "big": BIG},
    env={},
    item=b'{"n":5}',
    index=0,
)


def figures(*, quick: bool = False) -> Iterator[figure.Figure]:
    """Microseconds per call; milliseconds where a call is long."""
    calls, repetitions = (5_000, 3) if quick else (50_000, 7)
    for name, code in (
        ("trivial", TRIVIAL),
        ("reads one node", UPSTREAM),
        ("foreach item", ITEM),
        ("shared big value", SHARED),
    ):
        yield _per_call(f"runtime: {name}", repetitions, calls, _runtime_call(code))
    for thread in (False, True):
        where = "thread" if thread else "loop"
        for name, code in (("trivial", TRIVIAL), ("reads one node", UPSTREAM)):
            times = [asyncio.run(_executor(code, calls, thread=thread)) / calls * 1e6 for _ in range(repetitions)]
            yield _figure(f"executor ({where}): {name}", "µs", times, goal="≤ 5" if not thread else "")
    evaluator = LuaEvaluator()
    yield _per_call("evaluator: when", repetitions, calls, lambda: evaluator.expression("nodes.a.v > 0", SCOPE))
    template = {"total": "{{ nodes.a.v }}", "text": "n = {{ inputs.limit }}"}
    yield _per_call("evaluator: template of two", repetitions, calls, lambda: evaluator.template(template, SCOPE))
    yield from _big(repetitions)
    yield from _heavy(3)


def _big(repetitions: int) -> Iterator[figure.Figure]:
    size = f"{len(BIG) // 1000} KB"
    # Each conversion is a new value, so that none is found converted.
    values = [BIG[:-1] + b',{"wind":%d}]' % n for n in range(repetitions)]
    runtime, code = Runtime(), "return #nodes.big"
    chunk = _chunk(runtime, code)
    times = []
    for value in values:
        scope = msgspec.structs.replace(SCOPE, nodes={"big": value})
        times.append(_seconds(lambda scope=scope: runtime.run(chunk, scope)) * 1e3)  # type: ignore[misc]  # bound now
    yield _figure(f"convert {size} to Lua", "ms", times)
    yield _per_call(f"read all of {size}, converted before", repetitions, 20, _runtime_call(READ_ALL))
    write = _runtime_call("return nodes.big")
    yield _figure(f"write {size} as JSON", "ms", [_seconds(write) * 1e3 for _ in range(repetitions)])


def _heavy(repetitions: int) -> Iterator[figure.Figure]:
    """What the hook that watches the deadline costs where nothing but Lua instructions run."""
    bare = lua.LuaRuntime(register_eval=False, register_builtins=False).execute(f"return function() {HEAVY} end")
    yield _figure("heavy code, no hook", "ms", [_seconds(bare) * 1e3 for _ in range(repetitions)])
    watched = _runtime_call(HEAVY)
    yield _figure("heavy code, watched", "ms", [_seconds(watched) * 1e3 for _ in range(repetitions)])


def _runtime_call(code: str) -> Callable[[], object]:
    runtime = Runtime()
    chunk = _chunk(runtime, code)
    return lambda: runtime.run(chunk, SCOPE)


def _chunk(runtime: Runtime, code: str):  # type: ignore[no-untyped-def]  # what `Runtime.run` takes
    chunk = runtime.script(code)
    if isinstance(chunk, ErrorInfo):
        raise SystemExit(chunk.message)
    return chunk


async def _executor(code: str, calls: int, *, thread: bool) -> float:
    executor = InlineLua(log=lambda _line: None, clock=SystemClock(), thread=thread)
    spec = LuaExecutor(code=code)
    jobs = [
        base.Job(position=0, node="n", index=i, attempt=1, spec=spec, scope=SCOPE, timeout=60_000_000)
        for i in range(calls)
    ]
    finished, left = asyncio.Event(), calls

    def done(_job: base.Job, _outcome: base.Outcome) -> None:
        nonlocal left
        left -= 1
        if not left:
            finished.set()

    begun = time.perf_counter()
    executor.submit(jobs, done)
    await finished.wait()
    taken = time.perf_counter() - begun
    await executor.close()
    return taken


def _per_call(measure: str, repetitions: int, calls: int, call: Callable[[], object]) -> figure.Figure:
    def many() -> None:
        for _ in range(calls):
            call()

    call()
    return _figure(measure, "µs", [_seconds(many) / calls * 1e6 for _ in range(repetitions)])


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _figure(measure: str, unit: str, times: list[float], *, goal: str = "") -> figure.Figure:
    return figure.of(times, benchmark="lua_call", measure=measure, unit=unit, goal=goal)


if __name__ == "__main__":
    figure.main(figures, "What one Lua call costs.")
