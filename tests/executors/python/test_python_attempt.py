"""`dagengine.attempt` and `dagengine.Fail`: on threads and on the loop, and outside of any attempt."""

from __future__ import annotations

import asyncio
import contextvars
import pickle
import threading
from typing import Any

import pytest

from dagengine import Cancelled, Context, Fail, attempt

SECOND = 1_000_000


def tell() -> list[Any]:
    return [
        attempt.execution,
        attempt.workflow,
        attempt.version,
        attempt.node,
        attempt.index,
        attempt.number,
        attempt.idempotency_key,
    ]


async def tell_later() -> list[Any]:
    await asyncio.sleep(0)
    return tell()


class TestWhichItIs:
    @pytest.mark.parametrize("function", [tell, tell_later])
    async def test_attempt_is_the_one_that_the_code_runs_in(self, calls, function) -> None:
        value = await calls.value(function, execution="e-9", node="load", index=3, attempt=2, key="e-9/load[3]/1")
        assert value == ["e-9", "w", "1.0.0", "load", 3, 2, "e-9/load[3]/1"]

    async def test_attempts_side_by_side_are_told_apart(self, calls, job) -> None:
        together = asyncio.Barrier(3)

        async def function() -> str:
            await together.wait()
            return attempt.node

        calls.executor.register("f", function)
        calls.submit(*(job("f", node=name) for name in ("a", "b", "c")))
        await calls.wait(3)
        assert all(outcome.result == f'"{job.node}"'.encode() for job, outcome in calls.outcomes)

    async def test_the_parameter_context_is_the_same(self, calls) -> None:
        def function(context: Context) -> bool:
            return context.node == attempt.node and context.attempt == context.number == attempt.number == 4

        assert await calls.value(function, attempt=4) is True

    async def test_a_thread_of_the_functions_own_is_inside_in_a_copy_of_its_context(self, calls) -> None:
        def function() -> list[str]:
            found: list[str] = []
            for run in (contextvars.copy_context().run, lambda f: f()):
                thread = threading.Thread(target=run, args=(lambda: found.append(repr(attempt)),))
                thread.start()
                thread.join()
            return found

        assert await calls.value(function, index=2) == ["<attempt 1 at n[2] of e-1>", "<no attempt>"]

    async def test_nothing_of_it_is_left_on_the_thread(self, calls, job) -> None:
        seen: list[str] = []
        calls.executor.register("f", lambda: None)
        calls.submit(*(job("f", node=f"n{number}") for number in range(8)))
        await calls.wait(8)
        calls.executor.register("g", lambda: seen.append(repr(attempt)))
        calls.submit(job("g", node="last"))
        await calls.wait(9)
        assert seen == ["<attempt 1 at last of e-1>"]
        assert repr(attempt) == "<no attempt>"


class TestOutside:
    def test_nothing_is_cancelled_and_lines_go_to_standard_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert attempt.cancelled is False
        attempt.raise_if_cancelled()
        attempt.log("hello", "warning")
        assert capsys.readouterr().err == "hello\n"

    def test_there_is_no_node(self) -> None:
        with pytest.raises(RuntimeError, match="no attempt runs here"):
            _ = attempt.node


class TestLogging:
    async def test_lines_have_levels_and_numbers(self, calls) -> None:
        def function() -> None:
            attempt.log("one")
            attempt.log({"two": 2}, "error")

        await calls.value(function)
        assert [(line.line, line.level, line.text) for line in calls.lines] == [
            (1, "info", "one"),
            (2, "error", "{'two': 2}"),
        ]

    async def test_another_level_is_refused(self, calls) -> None:
        outcome = await calls.call(lambda: attempt.log("x", "loud"))
        assert outcome.error.message == "there is no level 'loud': it is one of debug, info, warning and error"


class TestCancelled:
    @pytest.mark.parametrize("late", [False, True], ids=["looks", "raises"])
    async def test_a_function_on_a_thread_may_look_and_end_within_its_grace(self, calls, late: bool) -> None:
        begun = threading.Event()

        def function() -> str:
            begun.set()
            while not attempt.cancelled:
                threading.Event().wait(0.001)
            if late:
                attempt.raise_if_cancelled()
            return "in time"

        job = calls.begin(function)
        await asyncio.to_thread(begun.wait, 30)
        calls.cancel(job, grace=60 * SECOND)
        (outcome,) = await calls.wait()
        if late:
            assert (outcome.conclusion, outcome.error.type) == ("error", "Cancelled")
        else:
            assert outcome.result == b'"in time"'

    async def test_one_that_does_not_look_ends_after_its_grace(self, calls) -> None:
        release = threading.Event()
        begun = threading.Event()

        def function() -> None:
            begun.set()
            release.wait(30)

        job = calls.begin(function)
        await asyncio.to_thread(begun.wait, 30)
        calls.cancel(job, grace=SECOND // 100)
        (outcome,) = await calls.wait()
        assert outcome.error.type == "Cancelled"
        release.set()

    async def test_a_shorter_grace_wins(self, calls) -> None:
        async def function() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(60)

        job = calls.begin(function)
        await asyncio.sleep(0)
        calls.cancel(job, grace=3_600 * SECOND)
        calls.cancel(job, grace=3_600 * SECOND)
        await asyncio.sleep(0)
        assert calls.outcomes == []
        calls.cancel(job)
        (outcome,) = await calls.wait()
        assert outcome.error.type == "Cancelled"

    async def test_an_asynchronous_function_is_cancelled_and_what_it_then_returns_counts(self, calls) -> None:
        async def function() -> list[bool]:
            before = attempt.cancelled
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return [before, attempt.cancelled]
            return []

        job = calls.begin(function)
        await asyncio.sleep(0)
        calls.cancel(job, grace=60 * SECOND)
        (outcome,) = await calls.wait()
        assert outcome.result == b"[false,true]"

    async def test_a_task_that_has_not_begun_ends_at_once(self, calls) -> None:
        async def function() -> None:
            raise AssertionError("it was cancelled before")

        job = calls.begin(function)
        calls.cancel(job, grace=3_600 * SECOND)
        (outcome,) = await calls.wait()
        assert outcome.error.type == "Cancelled"

    async def test_a_call_that_no_thread_has_begun_is_dropped_at_once(self, calls, job) -> None:
        release = threading.Event()
        calls.executor.register("f", lambda: release.wait(30))
        jobs = [job("f", node=name) for name in ("busy1", "busy2", "waiting")]
        calls.submit(*jobs)
        calls.cancel(jobs[2], grace=3_600 * SECOND)
        (outcome,) = await calls.wait()
        assert outcome.error.type == "Cancelled"
        release.set()
        await calls.wait(3)

    async def test_after_its_timeout_an_abandoned_function_is_told(self, calls) -> None:
        told = threading.Event()

        def function() -> None:
            while not attempt.cancelled:
                threading.Event().wait(0.001)
            told.set()

        outcome = await calls.call(function, timeout=SECOND // 100)
        assert outcome.error.type == "Timeout"
        assert await asyncio.to_thread(told.wait, 30)

    async def test_cancelled_without_having_been_asked_is_a_failure(self, calls) -> None:
        def function() -> None:
            raise Cancelled

        outcome = await calls.call(function)
        assert (outcome.conclusion, outcome.error.type) == ("fail", "Cancelled")


class TestFail:
    @pytest.mark.parametrize("is_async", [False, True], ids=["thread", "loop"])
    async def test_it_ends_the_attempt_with_its_type_and_details(self, calls, is_async: bool) -> None:
        def function() -> None:
            raise Fail("3 of 5 are left", type="OutOfStock", details={"left": 3})

        async def later() -> None:
            function()

        outcome = await calls.call(later if is_async else function)
        error = outcome.error
        assert (outcome.conclusion, error.type, error.message) == ("fail", "OutOfStock", "3 of 5 are left")
        assert bytes(error.details) == b'{"left":3}'
        assert error.line == function.__code__.co_firstlineno + 1

    async def test_without_more_its_type_is_failed(self, calls) -> None:
        def function() -> None:
            raise Fail("no")

        error = (await calls.call(function)).error
        assert (error.type, error.message) == ("Failed", "no")
        assert not error.details

    @pytest.mark.parametrize("details", [{"x": object()}, {"x": "y" * 70_000}], ids=["not JSON", "large"])
    async def test_details_that_cannot_be_kept_are_told(self, calls, details: dict[str, object]) -> None:
        def function() -> None:
            raise Fail("no", details=details)

        error = (await calls.call(function)).error
        assert error.type == "ResultError"
        assert error.message.startswith("the details of Fail('no') cannot be kept: ")

    def test_it_can_be_pickled(self) -> None:
        again = pickle.loads(pickle.dumps(Fail("no", type="T", details={"a": 1})))
        assert (again.reason, again.type, again.details) == ("no", "T", {"a": 1})

    async def test_endless_messages_are_cut_and_half_characters_written_out(self, calls) -> None:
        def function() -> None:
            raise ValueError("\ud800" + "x" * 50_000)

        message = (await calls.call(function)).error.message
        assert message.startswith("\\ud800xxx")
        assert message.endswith("… (33,617 more characters)")
