"""The `python` executor: calls functions that the engine knows by name.

Synchronous functions run on a pool of threads, asynchronous ones on the driver's loop. A function that exceeds its
timeout, or whose execution is cancelled, is told so where Python can (a task is cancelled, a queued call is dropped);
a thread that runs cannot be stopped, so its attempt ends in the journal and its result is thrown away.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import json
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import orjson

from dagengine.clock import Clock
from dagengine.errors import ExecutorError
from dagengine.events.facts import ErrorInfo
from dagengine.executors.base import MAX_RESULT, Done, Job, LogSink, Outcome
from dagengine.executors.python.binding import Binding, BindingError, Context
from dagengine.executors.python.threads import Call, Threads
from dagengine.spec.model import PythonExecutor

__all__ = ["PythonFunctions"]


class _Attempt:
    """One call under way."""

    __slots__ = ("call", "done", "ended", "job", "returned", "started", "task", "timer")

    def __init__(self, job: Job, done: Done) -> None:
        self.job = job
        self.done = done
        self.ended = False
        self.returned = False
        """Whether its thread is through with it."""
        self.started = time.perf_counter()
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.call: Call | None = None


class PythonFunctions:
    """Performs `python` nodes. Function names match those in documents."""

    def __init__(
        self,
        functions: Mapping[str, Callable[..., object]] | None = None,
        *,
        clock: Clock,
        log: LogSink | None = None,
        threads: int = 16,
    ) -> None:
        self._bindings: dict[str, Binding] = {}
        self._clock = clock
        self._log = log
        self._threads = Threads(threads)
        self._attempts: dict[tuple[str, str, int | None, int], _Attempt] = {}
        for name, function in (functions or {}).items():
            self.register(name, function)

    def register(self, name: str, function: Callable[..., object]) -> None:
        """Make `function` known as `name`.

        Raises ExecutorError when another function has that name, or when nodes cannot call it: it tells nothing of
        its parameters, or takes one by position only.
        """
        known = self._bindings.get(name)
        if known is not None and not _same(known.function, function):
            raise ExecutorError(f"another function is registered as '{name}' already")
        try:
            self._bindings[name] = Binding(function)
        except (TypeError, ValueError) as error:
            raise ExecutorError(f"'{name}' cannot be called by nodes: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._bindings

    def submit(self, jobs: Sequence[Job], done: Done) -> None:
        """Begin a call per job."""
        for job in jobs:
            attempt = _Attempt(job, done)
            self._attempts[job.scope.execution, job.node, job.index, job.attempt] = attempt
            self._begin(attempt)

    def cancel(self, execution: str, node: str, index: int | None, attempt: int) -> None:
        """Cancel a task, or drop a call that no thread has begun; `done` is called in any case."""
        found = self._attempts.get((execution, node, index, attempt))
        if found is not None:
            self._end(found, _error("Cancelled", "the attempt was cancelled"))

    async def close(self) -> None:
        """Cancel tasks and drop queued calls. Threads that run are not waited for."""
        attempts, self._attempts = list(self._attempts.values()), {}
        tasks = []
        for attempt in attempts:
            if attempt.timer is not None:
                attempt.timer.cancel()
            attempt.ended = True
            if attempt.task is not None:
                attempt.task.cancel()
                tasks.append(attempt.task)
        self._threads.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- one attempt ---

    def _begin(self, attempt: _Attempt) -> None:
        job = attempt.job
        loop = asyncio.get_running_loop()
        assert isinstance(job.spec, PythonExecutor)  # noqa: S101 - the driver routes jobs by executor type
        binding = self._bindings.get(job.spec.function)
        try:
            if binding is None:
                raise BindingError(f"this engine knows no function '{job.spec.function}'")
            arguments = binding.arguments(job, Context(job, self._log, self._clock.now))
        except BindingError as error:
            loop.call_soon(self._end, attempt, _fail(type(error).__name__, str(error)))
            return
        if binding.is_async:
            attempt.task = loop.create_task(self._on_loop(attempt, binding.function, arguments))
            self._started(attempt)
        else:
            try:
                attempt.call = self._threads.run(
                    functools.partial(self._on_thread, attempt, binding.function, arguments, loop)
                )
            except ExecutorError as error:
                loop.call_soon(self._end, attempt, _error("Overloaded", str(error)))

    def _started(self, attempt: _Attempt) -> None:
        """The call has really begun: its time counts from now."""
        attempt.started = time.perf_counter()
        if attempt.ended:
            return
        timeout = attempt.job.timeout
        if timeout is not None:
            error = _error("Timeout", f"the attempt took longer than its timeout of {timeout / 1e6:g} s")
            attempt.timer = asyncio.get_running_loop().call_later(timeout / 1e6, self._end, attempt, error)

    async def _on_loop(self, attempt: _Attempt, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        try:
            outcome = _succeed(await function(**arguments))
        except asyncio.CancelledError as error:
            # Its own doing, unless it was told to: then the attempt has ended already, or the loop is shutting down.
            told = (task := asyncio.current_task()) is not None and task.cancelling() > 0
            outcome = _error("Cancelled", "its task was cancelled") if told else _from_exception(error)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # left alone, SystemExit would end the loop and all that runs on it
            outcome = _from_exception(error)
        self._end(attempt, outcome)

    def _on_thread(
        self,
        attempt: _Attempt,
        function: Callable[..., Any],
        arguments: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        if attempt.ended:
            return
        _call(loop, self._started, attempt)
        try:
            result = function(**arguments)
            outcome = _never_awaited(result) if inspect.iscoroutine(result) else _succeed(result)
        except BaseException as error:  # a thread has nobody above it: SystemExit is the function's failure, too
            outcome = _from_exception(error)
        attempt.returned = True
        _call(loop, self._end, attempt, outcome)

    def _end(self, attempt: _Attempt, outcome: Outcome) -> None:
        job = attempt.job
        key = (job.scope.execution, job.node, job.index, job.attempt)
        # Not by its key alone: the same attempt may have been given again, by whoever took the execution over.
        if self._attempts.get(key) is not attempt:
            return
        del self._attempts[key]
        attempt.ended = True
        if attempt.timer is not None:
            attempt.timer.cancel()
        if attempt.task is not None and attempt.task is not asyncio.current_task():
            attempt.task.cancel()
        if attempt.call is not None and not attempt.returned:
            self._threads.drop(attempt.call)
        elapsed = round((time.perf_counter() - attempt.started) * 1e6)
        attempt.done(
            job,
            Outcome(conclusion=outcome.conclusion, result=outcome.result, error=outcome.error, elapsed=elapsed),
        )


def _same(known: Callable[..., object], function: Callable[..., object]) -> bool:
    """Whether two functions do the same: a cell of a notebook that is run again makes an equal function anew."""
    if known == function:  # a bound method is another object each time, but equal
        return True
    if not (inspect.isfunction(known) and inspect.isfunction(function)):
        return False
    parts = ("__code__", "__defaults__", "__kwdefaults__", "__closure__", "__module__")
    return all(getattr(known, part) == getattr(function, part) for part in parts)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    """Have the loop call `function`; a loop that is gone does not want to know any more."""
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        return


def _succeed(result: object) -> Outcome:
    try:
        value = orjson.dumps(result)
        if b"null" in value:  # orjson writes NaN and infinities as null; they are no JSON values
            plain = json.dumps(result, allow_nan=False, ensure_ascii=False, default=_plain, separators=(",", ":"))
            value = plain.encode()
    except (TypeError, ValueError, RecursionError) as error:
        return _fail("ResultError", f"the function returned something that is not JSON: {error}")
    if len(value) > MAX_RESULT:
        return _fail(
            "ResultError",
            f"the function returned {len(value):,} bytes of JSON, and {MAX_RESULT:,} are the most: "
            "keep large values elsewhere, and return where they are",
        )
    return Outcome(conclusion="success", result=value)


def _plain(value: object) -> object:
    """What orjson can write besides JSON's own types (dataclasses, dates, UUIDs, …)."""
    if dataclasses.is_dataclass(value):  # one level at a time: its numbers have to be looked at, too
        return {name: getattr(value, name) for name in orjson.loads(orjson.dumps(value))}
    return orjson.loads(orjson.dumps(value))


def _never_awaited(result: Coroutine[Any, Any, object]) -> Outcome:
    result.close()
    return _fail("ResultError", "the function returned a coroutine: register the `async def` itself")


def _fail(kind: str, message: str) -> Outcome:
    return Outcome(conclusion="fail", error=ErrorInfo(type=kind, message=message))


def _error(kind: str, message: str) -> Outcome:
    return Outcome(conclusion="error", error=ErrorInfo(type=kind, message=message))


def _from_exception(error: BaseException) -> Outcome:
    frames = traceback.extract_tb(error.__traceback__)[1:]
    return Outcome(
        conclusion="fail",
        error=ErrorInfo(
            type=type(error).__name__,
            message=str(error) or type(error).__name__,
            line=(frames[-1].lineno or 0) if frames else 0,
            traceback="".join(traceback.format_list(frames)).rstrip(),
        ),
    )
