"""Scripts that do not end by themselves: each is stopped in time, and it alone, while others go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from typing import Any

import pytest

from dagengine.executors import base

pytestmark = pytest.mark.alone

LIMIT = 200_000
MARGIN = 0.2

HOSTILE = {
    "loop": "while true do end",
    "optional pattern": "return ('a'):rep(50):find(('a?'):rep(50) .. ('a'):rep(50))",
    "many stars": "return ('a'):rep(5000):find(('.-'):rep(20) .. 'b')",
    "gsub": "return (('a'):rep(200000):gsub(('a-'):rep(10) .. 'b', ''))",
    "huge sort": "local t = {} for i = 1, 2000000 do t[i] = (i * 7919) % 2000003 end table.sort(t) table.sort(t)"
    " table.sort(t, function(a, b) return a > b end) while true do table.sort(t) end",
    "wrong sort": "local t = {} for i = 1, 1000000 do t[i] = i end"
    " while true do pcall(table.sort, t, function() return true end) end",
    "finalizer of a loop": "for _ in (function() return 1 end), nil, nil, setmetatable({}, {__close = function()"
    " while true do end end}) do break end",
    "pcall": "while true do pcall(function() while true do end end) end",
    "xpcall": "xpcall(function() while true do end end, function() while true do end end)",
    "coroutines": "while true do coroutine.wrap(function() while true do end end)() end",
    "metamethod": "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end})"
    " while true do pcall(function() return t[1] end) end",
    "concat": "local s = 'x' while true do local t = {} for i = 1, 100 do t[i] = s end table.concat(t) end",
    "log flood": "while true do print('x') end",
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_script_is_stopped_while_another_execution_goes_on(executor, job, crowd, code) -> None:
    crowd.submit(executor, [job("return 0", execution="warm")])
    await crowd.wait(1)
    begun = time.monotonic()
    stopped_after: list[float] = []

    def done(ended: base.Job, outcome: base.Outcome) -> None:
        stopped_after.append(time.monotonic() - begun)
        crowd.done(ended, outcome)

    executor.submit([job(code, index=0, timeout=LIMIT)], done)
    others = 0
    while not stopped_after:
        crowd.submit(executor, [job(f"return {others}", index=others + 1, execution="other")])
        others += 1
        expected = 1 + others
        await crowd.wait(expected)
    await crowd.wait(2 + others)
    victim = crowd.by_index()[0]
    assert (victim.conclusion, victim.error.type) == ("error", "Timeout")
    assert LIMIT / 1e6 <= stopped_after[0] < LIMIT / 1e6 + MARGIN
    assert others > 3
    results = {i: outcome.result for i, outcome in crowd.by_index().items() if i}
    assert results == {i: str(i - 1).encode() for i in range(1, others + 1)}


class TestOnABusyMachine:
    """Where processes get no processor for a while."""

    async def test_an_attempt_that_has_not_begun_is_not_stopped(self, start, job, crowd, processes) -> None:
        executor = start(workers=1)
        crowd.submit(executor, [job("return 1", index=0)])
        await crowd.wait(1)
        (worker,) = processes.workers()
        worker.suspend()
        crowd.submit(executor, [job(f"return {i}", index=i, timeout=50_000) for i in range(1, 4)])
        await asyncio.sleep(0.2)  # no event: nothing may happen
        worker.resume()
        await crowd.wait(4)
        assert [crowd.by_index()[i].result for i in range(1, 4)] == [b"1", b"2", b"3"]
        assert processes.workers() == [worker], "nobody was killed for nothing"

    async def test_a_timeout_of_next_to_nothing_is_one(self, executor, job, crowd) -> None:
        crowd.submit(executor, [job("while true do end", index=i, timeout=1) for i in range(5)])
        outcomes = await crowd.wait(5)
        assert {outcome.error.type for outcome in outcomes} == {"Timeout"}

    async def test_the_timeout_counts_from_when_it_really_began(self, start, job, crowd, processes) -> None:
        executor = start(workers=1)
        crowd.submit(executor, [job("return 1", index=0)])
        await crowd.wait(1)
        (worker,) = processes.workers()
        worker.suspend()
        crowd.submit(executor, [job("while true do end", index=1, timeout=300_000)])
        await asyncio.sleep(0.25)  # most of its time
        resumed = time.monotonic()
        worker.resume()
        await crowd.wait(2)
        assert time.monotonic() - resumed >= 0.3
        assert crowd.by_index()[1].elapsed >= 300_000

    async def test_a_script_is_over_at_its_deadline_however_long_its_death_takes(
        self, start, job, crowd, processes
    ) -> None:
        executor = start(workers=1)
        crowd.submit(executor, [job("return 1", index=0)])
        await crowd.wait(1)
        (zygote,) = processes.zygotes()
        zygote.suspend()
        try:
            crowd.submit(executor, [job("while true do end", index=1, timeout=50_000), job("return 2", index=2)])
            assert (await crowd.wait(2))[1].error.type == "Timeout"
        finally:
            zygote.resume()
        await crowd.wait(3)
        assert crowd.by_index()[2].result == b"2"


async def test_only_the_one_that_ran_ends_and_the_others_run_once(start, job, crowd, lines) -> None:
    executor = start(workers=1)
    quick = "print(index) return index"
    hostile = "print(index) while true do end"
    jobs = [job(hostile if i in (20, 40) else quick, index=i, timeout=100_000) for i in range(60)]
    crowd.submit(executor, jobs)
    await crowd.wait(60)
    ends = crowd.by_index()
    assert {i for i, outcome in ends.items() if outcome.conclusion != "success"} == {20, 40}
    assert ends[20].error.type == ends[40].error.type == "Timeout"
    assert sorted(int(line.text) for line in lines) == list(range(1, 61)), "each began once"


async def test_a_worker_that_is_killed_loses_only_what_ran(start, job, crowd, lines, processes) -> None:
    began = asyncio.Event()

    def log(line: base.LogLine) -> None:
        lines.append(line)
        if line.text == "31":
            began.set()

    executor = start(workers=1, log=log)
    wait = "print(index) while true do end"
    crowd.submit(executor, [job("print(index)", index=i) for i in range(30)])
    crowd.submit(executor, [job(wait, index=30)] + [job("print(index) return 1", index=i) for i in range(31, 60)])
    async with asyncio.timeout(30):
        await began.wait()
    (worker,) = processes.workers()
    worker.send_signal(signal.SIGKILL)
    await crowd.wait(60)
    ends = crowd.by_index()
    assert {i for i, outcome in ends.items() if outcome.conclusion != "success"} == {30}
    error = ends[30].error
    assert error.type == "Killed"
    assert error.message == (
        "the script's worker process died while it ran: SIGKILL; the system may be short of memory"
    )
    assert sorted(int(line.text) for line in lines) == list(range(1, 61)), "each began once"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
async def test_a_crash_says_what_it_was(start, job, crowd, processes, number) -> None:
    began = asyncio.Event()
    executor = start(workers=1, log=lambda _line: began.set())
    crowd.submit(executor, [job("print('x') while true do end")])
    async with asyncio.timeout(30):
        await began.wait()
    processes.workers()[0].send_signal(number)
    (outcome,) = await crowd.wait(1)
    assert outcome.error.message == f"the script's worker process died while it ran: {number.name}"
    assert outcome.elapsed > 0


async def test_processor_time_is_limited_without_a_timeout(start, job, crowd) -> None:
    crowd.submit(start(workers=1, cpu=1), [job("while true do end", index=0), job("return 1", index=1)])
    await crowd.wait(2)
    error = crowd.by_index()[0].error
    assert (crowd.by_index()[0].conclusion, error.type) == ("error", "CPULimit")
    assert error.message == "the script used more than 1 s of processor time"
    assert crowd.by_index()[0].elapsed >= 1_000_000
    assert crowd.by_index()[1].result == b"1"


async def test_the_processor_time_of_one_script_is_not_the_next_ones(start, job, crowd) -> None:
    busy = "local sum = 0 for i = 1, 40000000 do sum = sum + i % 7 end return sum"
    crowd.submit(start(workers=1, cpu=1), [job(busy, index=i) for i in range(12)])
    outcomes = await crowd.wait(12)
    assert sum(outcome.elapsed for outcome in outcomes) > 2_000_000
    assert {outcome.conclusion for outcome in outcomes} == {"success"}


async def test_memory_belongs_to_one_script(executor, job, crowd) -> None:
    greedy = "local t = {} while true do t[#t + 1] = ('x'):rep(100000) .. #t end"
    crowd.submit(executor, [job(greedy if i % 5 == 0 else "return index", index=i) for i in range(40)])
    await crowd.wait(40)
    for i, outcome in crowd.by_index().items():
        assert (outcome.error and outcome.error.type) == ("MemoryLimit" if i % 5 == 0 else None)


async def test_values_too_big_for_a_worker_are_a_memory_limit(start, job, crowd) -> None:
    executor = start(workers=1, max_memory=16 << 20)
    big = job("return #inputs.rows", index=0, inputs={"rows": ["x" * 1000] * 100_000})
    crowd.submit(executor, [big, job("return 1", index=1)])
    await crowd.wait(2)
    assert crowd.by_index()[0].error.type == "MemoryLimit"
    assert crowd.by_index()[1].result == b"1"


class TestCancelling:
    async def test_a_running_script_is_killed_and_its_neighbours_run_once(self, start, job, crowd, lines) -> None:
        began = asyncio.Event()

        def log(line: base.LogLine) -> None:
            lines.append(line)
            began.set()

        executor = start(workers=1, log=log)
        jobs = [job("print(index) while true do end", index=0), *(job("print(index)", index=i) for i in range(1, 9))]
        crowd.submit(executor, jobs)
        async with asyncio.timeout(30):
            await began.wait()
        executor.cancel("e-1", "n", 0, 1)
        executor.cancel("e-1", "n", 5, 1)
        executor.cancel("e-1", "n", 6, 2)
        executor.cancel("e-2", "n", 7, 1)
        assert crowd.ended == []
        await crowd.wait(9)
        cancelled = {i: outcome.error.message for i, outcome in crowd.by_index().items() if outcome.error}
        assert cancelled == {
            0: "the attempt was cancelled",
            5: "the attempt was cancelled before it began",
        }
        assert sorted(line.text for line in lines) == ["1", "2", "3", "4", "5", "7", "8", "9"]

    async def test_what_waits_behind_busy_workers_is_told_at_once(self, executor, job, crowd) -> None:
        crowd.submit(executor, [job("while true do end", index=i) for i in range(2)])
        crowd.submit(executor, [job("return 1", index=i) for i in range(2, 500)])
        await asyncio.sleep(0)
        for i in range(2, 500):
            executor.cancel("e-1", "n", i, 1)
        outcomes = await crowd.wait(498, seconds=5)
        assert {outcome.error.type for outcome in outcomes} == {"Cancelled"}
        for i in range(2):
            executor.cancel("e-1", "n", i, 1)
        await crowd.wait(500)

    async def test_none_slips_through_while_others_are_handed_over(self, start, job, crowd, processes) -> None:
        """What is taken back from one worker is not given to it again because of what another one reports."""
        executor = start(workers=2)
        code = "if inputs.long then while true do end end for i = 1, 2000 do end return index"
        crowd.submit(executor, [job(code, index=i) for i in range(400)])
        await crowd.wait(400)
        crowd.ended.clear()
        first = min(processes.workers(), key=lambda worker: worker.create_time())
        first.suspend()
        jobs = [job(code, index=i, inputs={"long": i < 5}) for i in range(1_000)]
        crowd.submit(executor, jobs)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.05)  # noqa: ASYNC251 - the other one reports meanwhile, and nobody reads it
        for each in jobs:
            executor.cancel("e-1", "n", each.index, 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.resume()
        await crowd.wait(1_000)
        assert all(crowd.by_index()[i].error.type == "Cancelled" for i in range(5))

    async def test_the_next_of_the_same_name_is_another_one(self, executor, job, crowd) -> None:
        crowd.submit(executor, [job("return 'first'", index=0)])
        executor.cancel("e-1", "n", 0, 1)
        crowd.submit(executor, [job("return 'second'", index=0)])
        first, second = await crowd.wait(2)
        assert (first.error.type, second.result) == ("Cancelled", b'"second"')

    async def test_cancelling_what_is_over_or_unknown_harms_nobody(self, executor, job, crowd) -> None:
        executor.cancel("e-1", "n", None, 1)
        crowd.submit(executor, [job("return 1")])
        await crowd.wait(1)
        executor.cancel("e-1", "n", None, 1)
        crowd.submit(executor, [job("return 2")])
        assert [outcome.result for outcome in await crowd.wait(2)] == [b"1", b"2"]


async def test_nothing_leaks_from_one_script_to_the_next(start, job, crowd) -> None:
    executor = start(workers=1)
    scripts = [
        "x = 1 _G.y = 2 return x",
        "x = 1 _G.y = 2 string.z = 3",
        "return {x == nil, y == nil, string.z == nil}",
    ]
    for count, code in enumerate(scripts):
        crowd.submit(executor, [job(code, index=count)])
        await crowd.wait(count + 1)
    first, second, third = (outcome for _, outcome in crowd.ended)
    assert (first.result, third.result) == (b"1", b"[true,true,true]")
    assert second.error.type == "LuaError"


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_dies_and_whatever_is_cancelled_every_job_ends_once(
    executor, job, crowd, lines, processes, seed
) -> None:
    """A worker is killed every few milliseconds, by us or by its script's deadline."""
    chance = random.Random(seed)
    codes = {
        "quick": "print(index) return index",
        "slow": "print(index) for i = 1, 1000000 do end return index",
        "hostile": "print(index) while true do end",
    }
    kinds = chance.choices(list(codes), weights=[80, 15, 5], k=400)
    for first in range(0, 400, 100):
        batch = range(first, first + 100)
        crowd.submit(executor, [job(codes[kinds[i]], index=i, timeout=30_000, execution=f"e-{first}") for i in batch])
    cancelled = set(chance.sample(range(400), 20))
    killed = 0
    async with asyncio.timeout(60):
        while len(crowd.ended) < 400:
            await asyncio.sleep(0.005)
            for worker in processes.workers():
                if chance.random() < 0.1:
                    killed += 1
                    _kill(worker.pid)
            if cancelled and chance.random() < 0.5:
                index = cancelled.pop()
                executor.cancel(f"e-{index // 100 * 100}", "n", index, 1)
    ends = crowd.by_index()
    begun: list[Any] = [line.index for line in lines]
    assert len(begun) == len(set(begun)), "a script was begun twice"
    for index, outcome in ends.items():
        if outcome.conclusion == "success":
            assert outcome.result == str(index + 1).encode()
            assert index in begun
        else:
            assert outcome.error.type in {"Timeout", "Killed", "Cancelled"}
    assert sum(outcome.error is not None and outcome.error.type == "Killed" for outcome in ends.values()) <= killed


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
