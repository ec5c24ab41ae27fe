"""The `python` executor: calls functions that the engine knows by name, or may import by path.

Synchronous functions run on a pool of threads, asynchronous ones on the driver's loop, and those of nodes that ask for
`isolation: process` in worker processes (`process`). A call that exceeds its timeout, or whose execution is cancelled,
is told so where Python can: a task is cancelled, a queued call is dropped, the call's `attempt.cancelled` becomes true.
What does not listen is made to end: a worker process is killed. A thread cannot be, so its attempt ends in the journal
and its result is thrown away.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from dagengine import context as contexts
from dagengine.clock import Clock
from dagengine.errors import ExecutorError
from dagengine.executors.base import Done, Job, LogSink, Outcome
from dagengine.executors.python import attempt as attempts
from dagengine.executors.python import outcomes
from dagengine.executors.python.attempt import Attempt, Key
from dagengine.executors.python.binding import Binding, BindingError
from dagengine.executors.python.catalogue import Catalogue
from dagengine.executors.python.place import FunctionMissing
from dagengine.executors.python.process.pool import DEFAULT_REUSE, Pool
from dagengine.executors.python.threads import Threads

__all__ = ["PythonFunctions"]

_LAST_MOMENT: Final = 0.5
"""Seconds that a function in a worker process gets to clean up after its timeout, before the process is killed."""

_CANCELLED: Final = outcomes.error("Cancelled", "the attempt was cancelled")


class PythonFunctions:
    """Performs `python` nodes. Function names match those in documents.

    `allow` are patterns of functions that documents may name by path (see `allowed`); ValueError when one is none.
    `workers` is how many worker processes there are at most (one for each processor), `reuse` how many calls one of
    them performs before another takes its place.
    """

    def __init__(
        self,
        functions: Mapping[str, Callable[..., object]] | None = None,
        *,
        clock: Clock,
        log: LogSink | None = None,
        threads: int = 16,
        allow: Iterable[str] = (),
        workers: int | None = None,
        reuse: int = DEFAULT_REUSE,
    ) -> None:
        self._catalogue = Catalogue(allow)
        self._sink = attempts.sink_to(log, clock)
        self._threads = Threads(threads)
        self._pool = Pool(limit=workers, reuse=reuse)
        self._attempts: dict[Key, Attempt] = {}
        self._closed = False
        for name, function in (functions or {}).items():
            self.register(name, function)

    def register(self, name: str, function: Callable[..., object]) -> None:
        """Make `function` known as `name`.

        Raises ExecutorError when another function has that name, or when nodes cannot call it: it tells nothing of
        its parameters, or takes one by position only.
        """
        self._catalogue.register(name, function)

    def __contains__(self, name: str) -> bool:
        return name in self._catalogue

    def missing(self, function: str, *, isolation: Literal["thread", "process"] = "thread") -> str | None:
        """Why nodes cannot call a function here, as words after "which …"; None when they can.

        Runs no code of anybody's: a module that is there but fails while it is imported is found by the first attempt.
        """
        return self._catalogue.missing(function, in_process=isolation == "process")

    def worker_pids(self) -> list[int]:
        """Ids of the worker processes that there are, for people who look."""
        return self._pool.pids()

    def submit(self, jobs: Sequence[Job], done: Done) -> None:
        """Begin a call per job."""
        for job in jobs:
            context = attempts.context_of(job, self._sink)
            attempt = self._attempts[attempts.key_of(job)] = Attempt(self, job, done, context)
            self._begin(attempt)

    def cancel(self, execution: str, node: str, index: int | None, attempt: int, *, grace: int = 0) -> None:
        """Ask a call to end; `done` is called in any case, after `grace` microseconds at the latest.

        A task is cancelled, a call that nobody has begun is dropped; on a thread and in a process `attempt.cancelled`
        tells the function. What ends by itself in time counts as it ended.
        """
        found = self._attempts.get((execution, node, index, attempt))
        if found is None:
            return
        told = found.context.cancelled
        found.context.tell()
        if found.in_process:
            self._cancel_process(found, grace)
        elif grace > 0 and found.begun:
            if found.task is not None and not told:
                # One that has not begun yet does not even get to say that it was cancelled.
                found.task.add_done_callback(lambda _: self.end(found, _CANCELLED))
                found.task.cancel()
            self._stop_after(found, grace / 1e6, self.end, found, _CANCELLED)
        else:
            self.end(found, _CANCELLED, soon=True)

    async def close(self) -> None:
        """Cancel tasks, drop queued calls, kill worker processes. Threads that run are told, but not waited for."""
        self._closed = True
        open_attempts, self._attempts = list(self._attempts.values()), {}
        tasks = []
        for attempt in open_attempts:
            attempt.stop_timers()
            attempt.over = True
            attempt.context.tell()
            if attempt.task is not None:
                attempt.task.cancel()
                tasks.append(attempt.task)
        self._threads.close()
        self._pool.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- how an attempt begins ---

    def _begin(self, attempt: Attempt) -> None:
        loop = asyncio.get_running_loop()
        name = attempt.spec.function
        try:
            if attempt.spec.isolation == "process":
                attempt.for_process(self._catalogue.place(name))
                self._pool.submit(attempt)
            elif (binding := self._catalogue.find(name)) is not None:
                self._call(attempt, binding)
            else:
                attempt.thread = self._threads.run(functools.partial(self._import, attempt, loop))
        except (BindingError, FunctionMissing) as problem:
            loop.call_soon(self.end, attempt, _refused(attempt, problem))
        except ExecutorError as error:
            loop.call_soon(self.end, attempt, outcomes.error("Overloaded", str(error)))

    def _call(self, attempt: Attempt, binding: Binding) -> None:
        """Raises BindingError, and ExecutorError when there is no thread for it."""
        arguments = binding.arguments(attempt.given, attempt.find, attempt.context)
        loop = asyncio.get_running_loop()
        if binding.is_async:
            inside = contextvars.copy_context()
            inside.run(contexts.enter, attempt.context)
            attempt.task = loop.create_task(self._on_loop(attempt, binding.function, arguments), context=inside)
            self.started(attempt)
        else:
            run = functools.partial(self._on_thread, attempt, binding.function, arguments, loop)
            attempt.thread = self._threads.run(run)

    def started(self, attempt: Attempt) -> None:
        """The call has really begun: its time counts from now."""
        if attempt.over or attempt.timer is not None:
            return
        attempt.since = time.perf_counter()
        timeout = attempt.job.timeout
        if timeout is not None:
            attempt.timer = asyncio.get_running_loop().call_later(timeout / 1e6, self._exceeded, attempt, timeout)

    def _import(self, attempt: Attempt, loop: asyncio.AbstractEventLoop) -> None:
        """On a thread: a module may take its time."""
        if attempt.over:
            return
        _tell(loop, self.started, attempt)
        try:
            binding = self._catalogue.load(attempt.spec.function)
        except FunctionMissing as problem:
            attempt.returned = True
            _tell(loop, self.end, attempt, _refused(attempt, problem))
        else:
            _tell(loop, self._imported, attempt, binding)

    def _imported(self, attempt: Attempt, binding: Binding) -> None:
        if attempt.over:
            return
        attempt.thread = None
        try:
            self._call(attempt, binding)
        except BindingError as problem:
            self.end(attempt, _refused(attempt, problem))
        except ExecutorError as error:
            self.end(attempt, outcomes.error("Overloaded", str(error)))

    # --- how it runs ---

    async def _on_loop(self, attempt: Attempt, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        try:
            outcome = outcomes.succeed(await function(**arguments))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # left alone, SystemExit would end the loop and all that runs on it
            # That it was cancelled is its own doing, unless it was told to, or its task was cancelled from outside.
            told = (task := asyncio.current_task()) is not None and task.cancelling() > 0
            outcome = outcomes.from_exception(error, told=told or attempt.context.cancelled)
        self.end(attempt, outcome)

    def _on_thread(
        self,
        attempt: Attempt,
        function: Callable[..., Any],
        arguments: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        if attempt.over:
            return
        _tell(loop, self.started, attempt)
        entered = contexts.enter(attempt.context)
        try:
            result = function(**arguments)
            outcome = outcomes.never_awaited(result) if inspect.iscoroutine(result) else outcomes.succeed(result)
        except BaseException as error:  # a thread has nobody above it: SystemExit is the function's failure, too
            outcome = outcomes.from_exception(error, told=attempt.context.cancelled)
        finally:
            contexts.leave(entered)
        attempt.returned = True
        _tell(loop, self.end, attempt, outcome)

    # --- how it ends ---

    def _exceeded(self, attempt: Attempt, timeout: int) -> None:
        outcome = outcomes.error("Timeout", f"the attempt took longer than its timeout of {timeout / 1e6:g} s")
        if not attempt.in_process:
            self.end(attempt, outcome)
        elif attempt.verdict is None:
            attempt.verdict = outcome
            self._pool.ask(attempt, last=True)
            self._stop_after(attempt, _LAST_MOMENT, self._pool.kill, attempt)

    def _cancel_process(self, attempt: Attempt, grace: int) -> None:
        if self._pool.drop(attempt):
            self.end(attempt, _CANCELLED, soon=True)
        elif grace > 0:
            self._pool.ask(attempt)
            self._stop_after(attempt, grace / 1e6, self._kill, attempt)
        else:
            self._kill(attempt)

    def _kill(self, attempt: Attempt) -> None:
        attempt.verdict = attempt.verdict or _CANCELLED
        self._pool.kill(attempt)

    def _stop_after(self, attempt: Attempt, seconds: float, stop: Callable[..., None], *arguments: object) -> None:
        """Have `stop` called then, unless it is to be stopped sooner already."""
        loop = asyncio.get_running_loop()
        if attempt.stop is not None:
            if attempt.stop.when() <= loop.time() + seconds:
                return
            attempt.stop.cancel()
        attempt.stop = loop.call_later(seconds, stop, *arguments)

    def end(self, attempt: Attempt, outcome: Outcome, *, soon: bool = False) -> None:
        """Report how it ended, once; or `soon`, in the loop's next turn."""
        key = attempt.key
        # Not by its key alone: the same attempt may have been given again, by whoever took the execution over.
        if self._attempts.get(key) is not attempt:
            return
        del self._attempts[key]
        attempt.over = True
        attempt.stop_timers()
        attempt.context.tell()  # for a thread that goes on
        if attempt.task is not None and attempt.task is not asyncio.current_task():
            attempt.task.cancel()
        if attempt.thread is not None and not attempt.returned:
            self._threads.drop(attempt.thread)
        elapsed = round((time.perf_counter() - attempt.since) * 1e6)
        outcome = msgspec.structs.replace(outcome, elapsed=elapsed)
        if soon:
            asyncio.get_running_loop().call_soon(self._report, attempt, outcome)
        else:
            self._report(attempt, outcome)

    def _report(self, attempt: Attempt, outcome: Outcome) -> None:
        if not self._closed:
            attempt.done(attempt.job, outcome)


def _refused(attempt: Attempt, problem: BindingError | FunctionMissing) -> Outcome:
    words = str(problem)
    if isinstance(problem, FunctionMissing):
        words = f"the function '{attempt.spec.function}' {words}"
    return outcomes.fail(type(problem).__name__, words)


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    """Have the loop call `function`, from a thread, unless the loop has been closed meanwhile."""
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        return
