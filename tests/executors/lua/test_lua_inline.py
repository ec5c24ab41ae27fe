"""The inline executor, on the loop's thread and beside it: the port's promises, deadlines, cancellation, logs."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

from dagengine.clock import SystemClock
from dagengine.executors.lua.inline import InlineLua


class Recorder:
    """Collects outcomes; `wait(n)` until there are n."""

    def __init__(self) -> None:
        self.outcomes = []
        self.threads = set()
        self._changed = asyncio.Event()

    def done(self, job, outcome):
        self.outcomes.append((job, outcome))
        self.threads.add(threading.get_ident())
        self._changed.set()

    async def wait(self, n):
        async with asyncio.timeout(30):
            while len(self.outcomes) < n:
                self._changed.clear()
                await self._changed.wait()
        return [outcome for _, outcome in self.outcomes]

    async def by_index(self, n):
        """The outcomes in the order of their jobs' items: a job that is cancelled before it began is done early."""
        await self.wait(n)
        return [outcome for _, outcome in sorted(self.outcomes, key=lambda each: each[0].index or 0)]


@pytest.fixture
def lines():
    return []


@pytest.fixture(params=[False, True], ids=["loop", "thread"])
async def executor(request, lines):
    executor = InlineLua(log=lines.append, clock=SystemClock(), thread=request.param, max_memory=64 << 20)
    yield executor
    await executor.close()


@pytest.fixture
async def beside(lines):
    executor = InlineLua(log=lines.append, clock=SystemClock(), thread=True, max_memory=64 << 20)
    yield executor
    await executor.close()


@pytest.fixture
async def recorder():
    return Recorder()


async def test_a_job_ends_with_its_result(executor, recorder, job):
    executor.submit([job("return {value = nodes.a.v + 1}", nodes={"a": {"v": 1}})], recorder.done)
    (outcome,) = await recorder.wait(1)
    assert (outcome.conclusion, outcome.result, outcome.error) == ("success", b'{"value":2}', None)
    assert outcome.elapsed >= 0


async def test_every_job_of_every_batch_is_done_once_on_the_loops_thread(executor, recorder, job):
    for batch in range(10):
        executor.submit([job("return index", index=i + 100 * batch) for i in range(100)], recorder.done)
    executor.submit([], recorder.done)
    assert recorder.outcomes == []
    outcomes = await recorder.wait(1000)
    assert [outcome.result for outcome in outcomes] == [str(i + 1).encode() for i in range(1000)]
    assert recorder.threads == {threading.get_ident()}


async def test_done_may_submit_more_without_recursion(executor, job):
    left = 5000
    finished = asyncio.Event()

    def done(_job, _outcome):
        nonlocal left
        left -= 1
        if left:
            executor.submit([job("return 1")], done)
        else:
            finished.set()

    executor.submit([job("return 1")], done)
    async with asyncio.timeout(30):
        await finished.wait()


async def test_an_error_in_done_does_not_stop_the_others(executor, recorder, job):
    loop, caught = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _loop, context: caught.append(context["exception"]))

    def broken(_job, _outcome):
        raise RuntimeError("broken")

    executor.submit([job("return 1")], broken)
    executor.submit([job("return 2")], recorder.done)
    assert (await recorder.wait(1))[0].result == b"2"
    assert [str(exc) for exc in caught] == ["broken"]


@pytest.mark.parametrize(
    ("code", "conclusion", "kind"),
    [
        ("error('x')", "fail", "LuaError"),
        ("return print", "fail", "ResultError"),
        ("x = = 1", "fail", "LuaSyntaxError"),
        ("while true do end", "error", "Timeout"),
        ("return ('x'):rep(1000000000)", "error", "MemoryLimit"),
    ],
)
async def test_how_an_attempt_ends_decides_its_conclusion(executor, recorder, job, code, conclusion, kind):
    timeout = 50_000 if kind == "Timeout" else 60_000_000  # a busy machine may need long for anything
    executor.submit([job(code, timeout=timeout), job("return 1")], recorder.done)
    first, second = await recorder.wait(2)
    assert (first.conclusion, first.error.type) == (conclusion, kind)
    assert (second.conclusion, second.result) == ("success", b"1")


async def test_the_timeout_counts_from_the_begin_of_the_attempt(executor, recorder, job):
    slow = "for i = 1, 20000000 do end"
    executor.submit([job(slow), job("return 1", timeout=10_000)], recorder.done)
    _, second = await recorder.wait(2)
    assert second.conclusion == "success"


async def test_a_job_of_another_executor_is_an_error(executor, recorder, job):
    executor.submit([msgspec.structs.replace(job("return 1"), spec=object())], recorder.done)
    (outcome,) = await recorder.wait(1)
    assert (outcome.conclusion, outcome.error.type) == ("error", "InternalError")
    assert outcome.error.message == "not a Lua node: its executor is object"


async def test_a_sink_that_fails_is_an_outcome(recorder, job):
    def sink(_line):
        raise OSError("disk full")

    executor = InlineLua(log=sink, clock=SystemClock())
    executor.submit([job("print('x') return 1"), job("return 2")], recorder.done)
    first, second = await recorder.wait(2)
    assert first.error.message == "the Lua executor failed: OSError: disk full"
    assert second.result == b"2"
    await executor.close()


async def test_log_lines_say_whose_they_are(executor, recorder, lines, job):
    before = SystemClock().now()
    executor.submit([job("print('a') log.error('b')", node="x", index=3, attempt=2), job("print('c')")], recorder.done)
    await recorder.wait(2)
    shown = [(line.execution, line.node, line.index, line.attempt, line.line, line.level, line.text) for line in lines]
    assert shown == [
        ("e-1", "x", 3, 2, 1, "info", "a"),
        ("e-1", "x", 3, 2, 2, "error", "b"),
        ("e-1", "n", None, 1, 1, "info", "c"),
    ]
    assert all(before <= line.at <= SystemClock().now() for line in lines)


async def test_the_seed_and_the_time_of_a_job_reach_the_script(executor, recorder, job):
    code = "return {math.random(1000000), os.time()}"
    executor.submit([job(code, seed=5), job(code, seed=5), job(code, seed=6)], recorder.done)
    first, second, third = (msgspec.json.decode(outcome.result) for outcome in await recorder.wait(3))
    assert first[0] == second[0] != third[0]
    assert abs(first[1] - SystemClock().now() // 1_000_000) < 60


async def test_a_waiting_job_can_be_cancelled(recorder, lines, job):
    executor = InlineLua(log=lines.append, clock=SystemClock())
    executor.submit([job("print(index)", index=i) for i in range(3)], recorder.done)
    executor.cancel("e-1", "n", 1, 1)
    executor.cancel("e-1", "n", 2, 7)
    first, second, third = await recorder.by_index(3)
    assert (first.conclusion, third.conclusion) == ("success", "success")
    assert (second.conclusion, second.error.type) == ("error", "Cancelled")
    assert [line.text for line in lines] == ["1", "3"]
    await executor.close()


async def test_a_job_that_waits_for_the_thread_can_be_cancelled(beside, recorder, lines, job):
    beside.submit(
        [job("while true do end", index=0), job("print('ran')", index=1), job("return 3", index=2)], recorder.done
    )
    beside.cancel("e-1", "n", 1, 1)
    beside.cancel("e-1", "n", 0, 1)
    first, second, third = await recorder.by_index(3)
    assert first.error.type == second.error.type == "Cancelled"
    assert second.error.message == "the attempt was cancelled before it began"
    assert third.result == b"3"
    assert lines == []


async def test_a_running_job_can_be_cancelled_from_the_loop(recorder, job):
    running = asyncio.Event()
    loop = asyncio.get_running_loop()
    executor = InlineLua(log=lambda _line: loop.call_soon_threadsafe(running.set), clock=SystemClock(), thread=True)
    executor.submit([job("print('go') while true do end"), job("return 2", index=1)], recorder.done)
    async with asyncio.timeout(30):
        await running.wait()
    executor.cancel("e-1", "n", None, 1)
    first, second = await recorder.wait(2)
    assert (first.conclusion, first.error.type) == ("error", "Cancelled")
    assert second.result == b"2"
    await executor.close()


async def test_cancelling_what_is_over_or_unknown_harms_nobody(executor, recorder, job):
    executor.cancel("e-1", "n", None, 1)
    executor.submit([job("return 1")], recorder.done)
    await recorder.wait(1)
    executor.cancel("e-1", "n", None, 1)
    executor.submit([job("return 2")], recorder.done)
    outcomes = await recorder.wait(2)
    assert [outcome.result for outcome in outcomes] == [b"1", b"2"]


async def test_the_loop_gets_its_turn_between_slices(recorder, job):
    executor = InlineLua(log=print, clock=SystemClock(), slice=1_000)
    turns = 0

    async def others():
        nonlocal turns
        while len(recorder.outcomes) < 50:
            turns += 1
            await asyncio.sleep(0)

    executor.submit([job("for i = 1, 200000 do end", index=i) for i in range(50)], recorder.done)
    await others()
    assert turns >= 25
    await executor.close()


async def test_beside_the_loop_a_long_script_leaves_the_loop_alone(beside, recorder, job):
    beside.submit([job("for i = 1, 20000000 do end return 1")], recorder.done)
    turns = 0
    while not recorder.outcomes:
        turns += 1
        await asyncio.sleep(0)
    assert turns > 100


async def test_outcomes_come_while_a_later_job_still_computes(beside, recorder, job):
    beside.submit([job("return 1"), job("for i = 1, 3000000 do end"), job("while true do end", index=5)], recorder.done)
    outcomes = await recorder.wait(1)
    assert outcomes[0].result == b"1"
    assert len(outcomes) < 3
    beside.cancel("e-1", "n", 5, 1)
    assert (await recorder.by_index(3))[2].error.type == "Cancelled"


async def test_an_attempt_that_was_cancelled_can_be_given_again(executor, recorder, job):
    busy = [job("for i = 1, 300000 do end", index=i) for i in range(20)]
    executor.submit([*busy, job("return 'first'", index=50)], recorder.done)
    executor.cancel("e-1", "n", 50, 1)
    executor.submit([job("return 'again'", index=50)], recorder.done)
    ended = [(of.index, outcome) for of, outcome in (await recorder.wait(22), recorder.outcomes)[1] if of.index == 50]
    assert sorted(outcome.error.type if outcome.error else "success" for _, outcome in ended) == [
        "Cancelled",
        "success",
    ]


async def test_closing_stops_a_running_script_and_delivers_nothing_more(recorder, job):
    running = asyncio.Event()
    loop = asyncio.get_running_loop()
    executor = InlineLua(log=lambda _line: loop.call_soon_threadsafe(running.set), clock=SystemClock(), thread=True)
    executor.submit([job("print('go') while true do end"), job("return 1")], recorder.done)
    async with asyncio.timeout(30):
        await running.wait()
        await executor.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "dagengine-lua"]
    executor.submit([job("return 1")], recorder.done)
    await asyncio.sleep(0)
    assert recorder.outcomes == []


async def test_closing_on_the_loop_drops_what_waits(recorder, job):
    executor = InlineLua(log=print, clock=SystemClock())
    executor.submit([job("return 1")], recorder.done)
    await executor.close()
    await executor.close()
    await asyncio.sleep(0)
    assert recorder.outcomes == []
