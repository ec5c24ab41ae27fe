"""What the port of executors promises, kept by every adapter: one outcome for each job, at the right time."""

from __future__ import annotations

import pytest

SECOND = 1_000_000


async def test_each_job_is_done_exactly_once(performance) -> None:
    performance.submit(*performance.jobs(performance.kind.answer, 60))
    outcomes = await performance.ended(60)
    assert {outcome.result for outcome in outcomes} == {b"42"}
    assert sorted(job.index for job, _ in performance.outcomes) == list(range(60))


async def test_none_is_done_before_submit_has_returned(performance) -> None:
    kind = performance.kind
    performance.submit(performance.job(kind.answer, node="a"), performance.job(kind.fail, node="b"))
    assert performance.outcomes == []
    await performance.ended(2)


async def test_done_may_submit_more(performance) -> None:
    kind, executor = performance.kind, performance.executor

    def again(job, outcome) -> None:
        executor.submit([performance.job(kind.answer, node="second")], performance._done)

    executor.submit([performance.job(kind.answer, node="first")], again)
    await performance.ended(1)
    assert performance.outcomes[0][0].node == "second"


async def test_jobs_come_back_as_they_were_given(performance) -> None:
    jobs = performance.jobs(performance.kind.answer, 3)
    performance.submit(*jobs)
    await performance.ended(3)
    assert {id(job) for job, _ in performance.outcomes} == {id(job) for job in jobs}


async def test_an_empty_batch_is_nothing(performance) -> None:
    performance.submit()
    performance.submit(performance.job(performance.kind.answer))
    await performance.ended(1)


async def test_code_that_says_no_has_failed(performance) -> None:
    performance.submit(performance.job(performance.kind.fail))
    (outcome,) = await performance.ended(1)
    assert outcome.conclusion == "fail"
    assert outcome.error is not None
    assert outcome.error.type
    assert outcome.error.message


async def test_a_timeout_is_an_error_that_says_how_long(performance) -> None:
    performance.submit(performance.job(performance.kind.endless, timeout=SECOND // 5))
    (outcome,) = await performance.ended(1)
    assert (outcome.conclusion, outcome.error.type) == ("error", "Timeout")
    assert "0.2 s" in outcome.error.message
    assert outcome.elapsed >= SECOND // 5


async def test_a_timeout_in_time_changes_nothing(performance) -> None:
    performance.submit(performance.job(performance.kind.answer, timeout=60 * SECOND))
    (outcome,) = await performance.ended(1)
    assert outcome.result == b"42"


async def test_log_lines_say_where_they_come_from_and_are_numbered(performance) -> None:
    job = performance.job(performance.kind.log, node="talks", index=2, attempt=3)
    performance.submit(job)
    await performance.ended(1)
    await performance.until(lambda: len(performance.lines) == 2)
    one, two = performance.lines
    assert (one.text, two.text) == performance.kind.lines
    assert [one.line, two.line] == [1, 2]
    assert (two.execution, two.node, two.index, two.attempt) == ("e-1", "talks", 2, 3)
    assert two.at >= one.at > 0


class TestCancel:
    async def test_an_attempt_that_runs_is_stopped_and_done(self, beside) -> None:
        job = beside.job(beside.kind.endless)
        beside.submit(job)
        await beside.until(lambda: beside.lines)
        beside.cancel(job)
        (outcome,) = await beside.ended(1)
        assert (outcome.conclusion, outcome.error.type) == ("error", "Cancelled")

    async def test_grace_may_be_shortened(self, beside) -> None:
        job = beside.job(beside.kind.endless)
        beside.submit(job)
        await beside.until(lambda: beside.lines)
        beside.cancel(job, grace=600 * SECOND)
        beside.cancel(job)
        (outcome,) = await beside.ended(1)
        assert outcome.conclusion == "error"

    async def test_attempts_that_were_not_begun_are_done_too(self, performance) -> None:
        jobs = performance.jobs(performance.kind.endless, 30)
        performance.submit(*jobs)
        for job in jobs:
            performance.cancel(job)
        outcomes = await performance.ended(30)
        assert {outcome.error.type for outcome in outcomes} == {"Cancelled"}

    async def test_it_concerns_the_very_attempt(self, performance) -> None:
        job = performance.job(performance.kind.answer, node="n", index=1, attempt=2)
        performance.submit(job)
        for other in (
            performance.job(None, node="n", index=1, attempt=1),
            performance.job(None, node="n", index=2, attempt=2),
            performance.job(None, node="n", attempt=2),
            performance.job(None, node="m", index=1, attempt=2),
            performance.job(None, node="n", index=1, attempt=2, execution="e-2"),
        ):
            performance.cancel(other)
        (outcome,) = await performance.ended(1)
        assert outcome.result == b"42"

    async def test_an_attempt_that_has_ended_is_not_done_again(self, performance) -> None:
        job = performance.job(performance.kind.answer)
        performance.submit(job)
        await performance.ended(1)
        performance.cancel(job)
        performance.submit(performance.job(performance.kind.answer, node="later"))
        await performance.ended(2)


class TestClose:
    @pytest.mark.parametrize("begun", [True, False])
    async def test_nobody_is_told_any_more(self, beside, begun) -> None:
        beside.submit(*beside.jobs(beside.kind.endless, 10))
        if begun:
            await beside.until(lambda: beside.lines)
        await beside.executor.close()
        await beside.ended(0)

    async def test_twice_is_once(self, performance) -> None:
        performance.submit(performance.job(performance.kind.answer))
        await performance.ended(1)
        await performance.executor.close()
        await performance.executor.close()
