"""The `python` executor: the port's promises, results, exceptions, deadlines, cancellation, logs."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import decimal
import enum
import math
import threading
import uuid
from typing import Any

import pytest

from dagengine.executors.base import MAX_RESULT
from dagengine.executors.lua.runtime import DEFAULT_MAX_OUTPUT
from dagengine.executors.python import Context

MILLISECOND = 1_000


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: float
    y: float | None = None


async def test_synchronous_functions_run_beside_the_loop_and_asynchronous_ones_on_it(calls, job) -> None:
    async def on_loop() -> bool:
        return threading.current_thread() is threading.main_thread()

    calls.executor.register("thread", lambda: threading.current_thread() is threading.main_thread())
    calls.executor.register("loop", on_loop)
    calls.submit(job("thread", node="a"), job("loop", node="b"))
    await calls.wait(2)
    assert {job.node: outcome.result for job, outcome in calls.outcomes} == {"a": b"false", "b": b"true"}


async def test_done_is_never_called_before_submit_has_returned(calls, job) -> None:
    calls.executor.register("f", lambda: 1)
    calls.submit(job("f"), job("nowhere", node="other"))
    assert calls.outcomes == []
    await calls.wait(2)


async def test_every_job_of_a_large_batch_is_done_once(calls, job) -> None:
    calls.executor.register("f", lambda index: index)
    calls.submit(*(job("f", index=index) for index in range(500)))
    await calls.wait(500)
    assert sorted(job.index for job, _ in calls.outcomes) == list(range(500))
    assert all(outcome.result == str(job.index + 1).encode() for job, outcome in calls.outcomes)


async def test_the_time_that_a_call_took_is_told(calls) -> None:
    async def function() -> None:
        await asyncio.sleep(0.02)

    outcome = await calls.call(function)
    assert 20 * MILLISECOND <= outcome.elapsed < 5_000 * MILLISECOND


class TestResults:
    @pytest.mark.parametrize(
        ("result", "written"),
        [
            (None, b"null"),
            ({"a": [1, 2.5, "ü", True, None]}, '{"a":[1,2.5,"ü",true,null]}'.encode()),
            ((1, 2), b"[1,2]"),
            (2**63, b"9223372036854775808"),
            (Point(1, 2), b'{"x":1,"y":2}'),
            (Point(1), b'{"x":1,"y":null}'),
            ([Point(1), Colour.RED], b'[{"x":1,"y":null},"red"]'),
            (datetime.date(2026, 1, 2), b'"2026-01-02"'),
            (uuid.UUID(int=0), b'"00000000-0000-0000-0000-000000000000"'),
            ("null", b'"null"'),
        ],
        ids=str,
    )
    async def test_what_json_can_say_is_a_result(self, calls, result: object, written: bytes) -> None:
        outcome = await calls.call(lambda: result)
        assert (outcome.conclusion, outcome.result) == ("success", written)

    @pytest.mark.parametrize(
        ("result", "why"),
        [
            (math.nan, "not JSON compliant"),
            ([1, {"x": math.inf}], "not JSON compliant"),
            (-math.inf, "not JSON compliant"),
            (Point(math.nan), "not JSON compliant"),
            ({1, 2}, "Type is not JSON serializable: set"),
            (decimal.Decimal("1.5"), "Type is not JSON serializable: "),
            (b"bytes", "Type is not JSON serializable: bytes"),
            (2**64, "Integer exceeds 64-bit range"),
            ({1: "x"}, "Dict key must be str"),
            ("\ud800", "surrogates not allowed"),
            (object(), "Type is not JSON serializable: object"),
        ],
        ids=["nan", "inf", "-inf", "nan inside", "set", "decimal", "bytes", "huge", "key", "surrogate", "object"],
    )
    async def test_what_it_cannot_say_fails_the_node(self, calls, result: object, why: str) -> None:
        outcome = await calls.call(lambda: result)
        assert (outcome.conclusion, outcome.error.type) == ("fail", "ResultError")
        assert outcome.error.message.startswith("the function returned something that is not JSON: ")
        assert why in outcome.error.message

    @pytest.mark.parametrize("deep", [False, True], ids=["cycle", "deep"])
    async def test_what_has_no_end_fails_the_node(self, calls, deep: bool) -> None:
        endless: list[Any] = []
        endless.append(endless)
        for _ in range(5_000 if deep else 0):
            endless = [endless]
        outcome = await calls.call(lambda: endless)
        assert (outcome.conclusion, outcome.error.type) == ("fail", "ResultError")

    async def test_a_coroutine_is_no_result(self, calls) -> None:
        async def later() -> int:
            return 1

        outcome = await calls.call(lambda: later())
        assert outcome.error.message == "the function returned a coroutine: register the `async def` itself"


def refuse(number: int) -> None:
    raise ValueError(f"{number} is too small")


class TestExceptions:
    @staticmethod
    def synchronous(number: int) -> None:
        refuse(number)

    @staticmethod
    async def asynchronous(number: int) -> None:
        refuse(number)

    @pytest.mark.parametrize("name", ["synchronous", "asynchronous"])
    async def test_they_fail_the_node_and_tell_the_users_frames_only(self, calls, name: str) -> None:
        outcome = await calls.call(getattr(self, name), args={"number": 3})
        error = outcome.error
        assert (outcome.conclusion, error.type, error.message) == ("fail", "ValueError", "3 is too small")
        assert error.line == refuse.__code__.co_firstlineno + 1
        frames = [line for line in error.traceback.splitlines() if line.startswith("  File")]
        assert len(frames) == 2
        assert f"in {name}" in frames[0]
        assert frames[1].startswith(f'  File "{__file__}", line {error.line}, in refuse')
        assert "dagengine/executors" not in error.traceback

    async def test_one_without_a_message_is_called_by_its_name(self, calls) -> None:
        def function() -> None:
            raise KeyError

        outcome = await calls.call(function)
        assert (outcome.error.type, outcome.error.message) == ("KeyError", "KeyError")

    @pytest.mark.parametrize("is_async", [False, True], ids=["thread", "loop"])
    @pytest.mark.parametrize("kind", [SystemExit, asyncio.CancelledError, RecursionError, StopIteration])
    async def test_no_exception_of_a_function_gets_out(self, calls, kind: type[BaseException], is_async: bool) -> None:
        def function() -> None:
            raise kind("enough")

        async def later() -> None:
            function()

        outcome = await calls.call(later if is_async else function)
        assert outcome.conclusion == "fail"
        # A coroutine that raises StopIteration is told so by Python itself.
        assert outcome.error.type == ("RuntimeError" if is_async and kind is StopIteration else kind.__name__)

    async def test_a_function_that_awaits_a_cancelled_task_fails(self, calls) -> None:
        async def function() -> None:
            task = asyncio.ensure_future(asyncio.sleep(60))
            task.cancel()
            await task

        outcome = await calls.call(function)
        assert (outcome.conclusion, outcome.error.type) == ("fail", "CancelledError")

    async def test_a_task_that_is_cancelled_from_outside_breaks_the_attempt_down(self, calls) -> None:
        begun = asyncio.Event()
        tasks = []

        async def function() -> None:
            tasks.append(asyncio.current_task())
            begun.set()
            await asyncio.sleep(60)

        calls.begin(function)
        await begun.wait()
        tasks[0].cancel()
        (outcome,) = await calls.wait()
        assert (outcome.conclusion, outcome.error.type) == ("error", "Cancelled")


class TestDeadlines:
    async def test_an_asynchronous_function_is_stopped(self, calls) -> None:
        stopped = asyncio.Event()

        async def function() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                stopped.set()

        outcome = await calls.call(function, timeout=20 * MILLISECOND)
        assert (outcome.conclusion, outcome.error.type) == ("error", "Timeout")
        assert outcome.error.message == "the attempt took longer than its timeout of 0.02 s"
        await asyncio.wait_for(stopped.wait(), 5)

    async def test_one_that_does_not_let_itself_be_stopped_ends_all_the_same(self, calls) -> None:
        release = asyncio.Event()

        async def function() -> str:
            while True:
                try:
                    await release.wait()
                    return "late"
                except asyncio.CancelledError:
                    continue

        outcome = await calls.call(function, timeout=10 * MILLISECOND)
        assert outcome.error.type == "Timeout"
        release.set()
        await asyncio.sleep(0)
        assert len(calls.outcomes) == 1

    async def test_a_synchronous_function_goes_on_but_nobody_waits_for_it(self, calls) -> None:
        release = threading.Event()
        outcome = await calls.call(lambda: release.wait(30), timeout=10 * MILLISECOND)
        assert (outcome.conclusion, outcome.error.type) == ("error", "Timeout")
        release.set()

    async def test_time_counts_from_when_a_thread_has_begun(self, calls, job) -> None:
        release, begun = threading.Event(), threading.Semaphore(0)

        def function(hold: bool) -> str:
            begun.release()
            if hold:
                release.wait(30)
            return "in time"

        calls.executor.register("f", function)
        for number in range(2):  # both threads are busy for longer than the timeout of what waits behind them
            calls.submit(job("f", node=f"busy{number}", args={"hold": True}))
        calls.submit(job("f", node="last", args={"hold": False}, timeout=50 * MILLISECOND))
        await asyncio.to_thread(lambda: [begun.acquire(timeout=30) for _ in range(2)])
        assert not await asyncio.to_thread(release.wait, 0.1)
        release.set()
        await calls.wait(3)
        assert {outcome.result for _, outcome in calls.outcomes} == {b'"in time"'}

    async def test_a_call_that_ends_in_time_is_not_stopped_later(self, calls) -> None:
        await calls.value(lambda: 1, timeout=5_000 * MILLISECOND)
        assert len(calls.outcomes) == 1


class TestCancelling:
    async def test_an_asynchronous_function_is_told(self, calls) -> None:
        begun, told = asyncio.Event(), asyncio.Event()

        async def function() -> None:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                told.set()
                raise

        job = calls.begin(function)
        await begun.wait()
        calls.cancel(job)
        (outcome,) = await calls.wait()
        assert (outcome.conclusion, outcome.error.type) == ("error", "Cancelled")
        await asyncio.wait_for(told.wait(), 5)

    async def test_a_call_that_no_thread_has_begun_is_dropped(self, calls, job) -> None:
        release, ran = threading.Event(), []

        def function(name: str) -> None:
            ran.append(name)
            release.wait(30)

        calls.executor.register("f", function)
        jobs = [job("f", node=name, args={"name": name}) for name in ("busy1", "busy2", "waiting")]
        calls.submit(*jobs)
        calls.cancel(jobs[2])
        release.set()
        await calls.wait(3)
        assert sorted(ran) == ["busy1", "busy2"]

    async def test_a_call_that_a_thread_has_begun_goes_on_and_its_result_is_thrown_away(self, calls) -> None:
        begun, release = threading.Event(), threading.Event()

        def function() -> str:
            begun.set()
            release.wait(30)
            return "late"

        job = calls.begin(function)
        await asyncio.to_thread(begun.wait, 30)
        calls.cancel(job)
        await calls.wait()
        release.set()
        await calls.value(lambda: 1, node="other")
        assert [outcome.conclusion for _, outcome in calls.outcomes] == ["error", "success"]

    async def test_what_there_is_not_is_not_cancelled(self, calls, job) -> None:
        calls.cancel(job())
        assert calls.outcomes == []

    async def test_the_end_of_an_abandoned_call_is_not_taken_for_that_of_the_same_attempt_given_again(
        self, calls
    ) -> None:
        """A thread cannot be stopped; after a takeover the same pure attempt may be running in two of them."""
        first_may_end, second_may_end, begun = threading.Event(), threading.Event(), threading.Semaphore(0)
        results = iter([("first", first_may_end), ("second", second_may_end)])

        def function() -> str:
            name, may_end = next(results)
            begun.release()
            may_end.wait(30)
            return name

        job = calls.begin(function)
        await asyncio.to_thread(begun.acquire, timeout=30)
        calls.cancel(job)
        calls.submit(job)
        await asyncio.to_thread(begun.acquire, timeout=30)
        first_may_end.set()
        await asyncio.to_thread(lambda: None)
        second_may_end.set()
        _, second = await calls.wait(2)
        assert second.result == b'"second"'


class TestClosing:
    async def test_tasks_are_cancelled_and_nobody_is_called_any_more(self, calls) -> None:
        begun, told = asyncio.Event(), asyncio.Event()

        async def function() -> None:
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                told.set()

        calls.begin(function, timeout=60_000 * MILLISECOND)
        await begun.wait()
        await calls.executor.close()
        assert told.is_set()
        assert calls.outcomes == []

    async def test_queued_calls_are_dropped_and_threads_end(self, calls, job) -> None:
        release, begun = threading.Event(), threading.Semaphore(0)

        def function() -> None:
            begun.release()
            release.wait(30)

        calls.executor.register("f", function)
        calls.submit(*(job("f", node=f"n{number}") for number in range(5)))
        await asyncio.to_thread(lambda: [begun.acquire(timeout=30) for _ in range(2)])
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("dagengine-python")]
        assert len(threads) == 2
        await calls.executor.close()
        release.set()
        await asyncio.to_thread(lambda: [thread.join(30) for thread in threads])
        assert not any(thread.is_alive() for thread in threads)
        assert not begun.acquire(blocking=False)
        assert calls.outcomes == []


class TestLogs:
    async def test_lines_are_numbered_and_say_where_they_come_from(self, calls) -> None:
        def function(context: Context) -> None:
            context.log("one")
            context.log(2)  # type: ignore[arg-type]  # people log whatever they have

        await calls.value(function, execution="e-7", node="load", index=1, attempt=3)
        assert [(line.line, line.text, line.level) for line in calls.lines] == [(1, "one", "info"), (2, "2", "info")]
        line = calls.lines[0]
        assert (line.execution, line.node, line.index, line.attempt) == ("e-7", "load", 1, 3)
        assert line.at > 1_700_000_000_000_000

    async def test_asynchronous_functions_log_too(self, calls) -> None:
        async def function(context: Context) -> None:
            context.log("from the loop")

        await calls.value(function)
        assert [line.text for line in calls.lines] == ["from the loop"]


async def test_a_call_for_which_there_is_no_thread_breaks_down(calls, job, monkeypatch) -> None:
    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls.executor.register("f", lambda: 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        calls.submit(job("f"))
    (outcome,) = await calls.wait()
    assert (outcome.conclusion, outcome.error.type) == ("error", "Overloaded")


@pytest.mark.parametrize("over", [0, 1])
async def test_a_result_has_a_most(calls, over: int) -> None:
    outcome = await calls.call(lambda: "x" * (MAX_RESULT - 2 + over))
    if over:
        assert (outcome.conclusion, outcome.error.type) == ("fail", "ResultError")
        assert outcome.error.message.startswith("the function returned 4,194,305 bytes of JSON, and 4,194,304 are the")
    else:
        assert (outcome.conclusion, len(outcome.result)) == ("success", MAX_RESULT)


def test_nodes_of_lua_and_python_may_return_the_same() -> None:
    assert MAX_RESULT == DEFAULT_MAX_OUTPUT
