"""Performs Lua jobs one at a time, on a runtime that it replaces when it breaks.

There is no asyncio in it. `inline` performs with it; what an attempt's end means is told here for every isolation.
"""

from __future__ import annotations

import time
from typing import Final

from dagengine.clock import Clock
from dagengine.events.facts import Conclusion, ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua import runtime
from dagengine.spec import model

__all__ = ["Key", "Performer", "key_of", "outcome_of"]

Key = tuple[str, str, int | None, int]
"""An attempt: execution, node, index, attempt."""

_ERRORS: Final = runtime.BREAKING | {"InternalError", "Killed", "CPULimit"}
"""The error types that are the platform's `error`; others are the script's `fail`."""


class Performer:
    """Used by one thread; `cancel` and `stop` may be called from any.

    `max_memory` and `max_output` are in bytes; `log` takes the scripts' lines, on the thread that performs.
    """

    def __init__(self, *, log: base.LogSink, clock: Clock, max_memory: int, max_output: int) -> None:
        self._clock = clock
        self._max_memory = max_memory
        self._max_output = max_output
        self._lines = _Lines(log, clock)
        self._write = self._lines.write
        self._runtime: runtime.Runtime | None = None
        self._unwanted: base.Job | None = None
        self._stopped = False

    def perform(self, job: base.Job) -> base.Outcome:
        """How the attempt ended. Never raises an Exception."""
        started = time.monotonic_ns()
        try:
            result = self._run(job, started)
        except Exception as exc:
            self._runtime = None
            result = ErrorInfo(type="InternalError", message=f"the Lua executor failed: {type(exc).__name__}: {exc}")
        return outcome_of(result, (time.monotonic_ns() - started) // 1_000)

    def cancel(self, job: base.Job) -> None:
        """Stop `job`, this very one, whether it runs already or is about to."""
        self._unwanted = job
        lua = self._runtime
        if lua is not None:
            lua.cancel(job)

    def stop(self) -> None:
        """Stop the attempt that runs and begin none any more."""
        self._stopped = True
        lua = self._runtime
        if lua is not None:
            lua.stop()

    def _run(self, job: base.Job, started: int) -> bytes | ErrorInfo:
        lua = self._runtime
        if lua is None or lua.broken:
            lua = self._runtime = runtime.Runtime(max_memory=self._max_memory, max_output=self._max_output)
        spec = job.spec
        if not isinstance(spec, model.LuaExecutor):
            return ErrorInfo(type="InternalError", message=f"not a Lua node: its executor is {type(spec).__name__}")
        chunk = lua.script(spec.code)
        if isinstance(chunk, ErrorInfo):
            return chunk
        if self._stopped or self._unwanted is job:
            return ErrorInfo(type="Cancelled", message="the attempt was cancelled before it began")
        now = self._clock.now() if chunk.reads.time else 0
        self._lines.begin(job)
        result = lua.run(
            chunk,
            job.scope,
            seed=job.seed,
            now=now,
            timeout=job.timeout,
            lines=self._write,
            started=started,
            token=job,
            memory=spec.memory,
            output=spec.output,
        )
        if lua.broken:
            self._runtime = None  # frees its memory now, not with the next attempt
        return result


class _Lines:
    """Numbers the lines of the attempt that runs, and hands them to the sink."""

    def __init__(self, sink: base.LogSink, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._job: base.Job | None = None
        self._count = 0

    def begin(self, job: base.Job) -> None:
        self._job = job
        self._count = 0

    def write(self, level: runtime.Level, text: str) -> None:
        job = self._job
        if job is None:
            return
        self._count += 1
        self._sink(job.printed(text, line=self._count, at=self._clock.now(), level=level))


def outcome_of(result: bytes | ErrorInfo, elapsed: int) -> base.Outcome:
    """The outcome of an attempt that gave a JSON result, or an error; `elapsed` is in microseconds."""
    if isinstance(result, bytes):
        return base.Outcome(conclusion="success", result=result, elapsed=elapsed)
    conclusion: Conclusion = "error" if result.type in _ERRORS else "fail"
    return base.Outcome(conclusion=conclusion, error=result, elapsed=elapsed)


def key_of(job: base.Job) -> Key:
    """What names the attempt of `job`."""
    return (job.scope.execution, job.node, job.index, job.attempt)
