"""Runs Lua nodes in the engine's own process: the `inline` isolation.

Two ways. On the event loop's own thread (`thread=False`), for embedding: least overhead, in slices of a few
milliseconds between which the loop does other things; a long script blocks the loop until it ends or is stopped. On one
thread beside it (`thread=True`), for servers: the loop stays responsive while a script computes, because Lua runs
without Python's global lock; outcomes come back in batches.

There is no task and no hand-over per node: a queue, one pump, and one call into Lua per job. Executions take turns of a
few milliseconds. What a runtime can and
cannot protect from is told in `runtime`. `app` builds it, the driver calls it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Final

from dagengine.clock import Clock
from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua import runtime
from dagengine.executors.lua.performer import Key, Performer, key_of
from dagengine.executors.lua.turns import Done, Turns, Waiting

__all__ = ["InlineLua"]

Ended = tuple[Done, base.Job, base.Outcome]

_SLICE: Final = 5_000
_FLUSH: Final = 1_000_000
_JOIN_SECONDS: Final = 2.0
"""How long the thread may take to end. It is a daemon: one that does not end cannot hold up the process."""


class InlineLua:
    """Implements `base.Executor` for nodes whose spec is a `model.LuaExecutor`.

    `slice` is in microseconds: after it, it is the next execution's turn, and with `thread=False` the loop's.
    `max_memory` and `max_output` are in
    bytes. `clock` gives scripts their time and log lines theirs.
    """

    def __init__(
        self,
        *,
        log: base.LogSink,
        clock: Clock,
        thread: bool = False,
        max_memory: int = runtime.DEFAULT_MAX_MEMORY,
        max_output: int = runtime.DEFAULT_MAX_OUTPUT,
        slice: int = _SLICE,
    ) -> None:
        self._slice = slice * 1_000
        self._performer = Performer(log=log, clock=clock, max_memory=max_memory, max_output=max_output)
        self._waiting = Turns()
        self._pumping = False
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._side = _Side(self._performer, self._slice) if thread else None

    def submit(self, jobs: Sequence[base.Job], done: Done) -> None:
        """Take `jobs`; see `base.Executor.submit`. Call it on the event loop's thread."""
        if self._closed or not jobs:
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        execution = jobs[0].scope.execution
        if self._side is not None:
            self._side.take(execution, [(job, done) for job in jobs], self._loop)
            return
        self._waiting.add(execution, [(job, done) for job in jobs])
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump, self._loop)

    def cancel(self, execution: str, node: str, index: int | None, attempt: int, *, grace: int = 0) -> None:
        """Stop an attempt: one that waits is not begun, one that runs is stopped within milliseconds.

        A script cannot be asked to end, and loses nothing by being stopped: `grace` changes nothing.
        """
        del grace
        key = (execution, node, index, attempt)
        if self._side is not None:
            dropped = self._side.cancel(key)
        else:
            dropped = self._waiting.remove(lambda job: key_of(job) == key, (execution,))
        if dropped and self._loop is not None:
            self._loop.call_soon(_tell, dropped)

    async def close(self) -> None:
        """Stop everything; a script that runs on the thread is stopped, and the thread has ended afterwards."""
        self._closed = True
        self._waiting.clear()
        self._performer.stop()
        if self._side is not None and not await asyncio.to_thread(self._side.join):
            import structlog  # only here: whoever runs a small workflow need not wait for it

            structlog.get_logger(__name__).warning("lua_thread_left_behind", reason="a call in it cannot be stopped")

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        """Perform waiting jobs until there are none, or the slice is over. `done` may submit more."""
        waiting, perform = self._waiting, self._performer.perform
        over = time.monotonic_ns() + self._slice
        try:
            while waiting:
                job, done = waiting.pop()
                outcome = perform(job)
                done(job, outcome)
                if time.monotonic_ns() >= over:
                    break
        finally:
            waiting.pass_on()
            self._pumping = bool(waiting)
            if waiting:
                loop.call_soon(self._pump, loop)


class _Side:
    """The thread beside the loop: takes batches, posts outcomes back in batches."""

    def __init__(self, performer: Performer, slice: int) -> None:
        self._performer = performer
        self._slice = slice
        self._waiting = Turns()
        self._changed = threading.Condition()
        """Guards `_waiting` and `_stopped`."""
        self._thread: threading.Thread | None = None
        self._current: base.Job | None = None
        self._stopped = False

    def take(self, execution: str, batch: list[Waiting], loop: asyncio.AbstractEventLoop) -> None:
        """Perform `batch` after what was taken of the same execution before."""
        with self._changed:
            self._waiting.add(execution, batch)
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(loop,), name="dagengine-lua", daemon=True)
            self._thread.start()

    def cancel(self, key: Key) -> list[Waiting]:
        """Stop the attempt `key` if it runs; the jobs of it that waited, which are forgotten."""
        with self._changed:
            if self._current is not None and key_of(self._current) == key:
                self._performer.cancel(self._current)
            return self._waiting.remove(lambda job: key_of(job) == key, (key[0],))

    def join(self) -> bool:
        """Wait until the thread has ended; False when it does not. Nothing is delivered any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)
            return not self._thread.is_alive()
        return True

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        ended: list[Ended] = []
        flushed = turned = time.monotonic_ns()
        while (waiting := self._next()) is not None:
            job, done = waiting
            ended.append((done, job, self._performer.perform(job)))
            now = time.monotonic_ns()
            if now - turned >= self._slice:
                turned = now
                with self._changed:
                    self._waiting.pass_on()
            if now - flushed >= _FLUSH or not self._waiting:
                try:
                    loop.call_soon_threadsafe(self._deliver, ended)
                except RuntimeError:
                    return  # the loop was closed: nobody is there to be told
                ended, flushed = [], now

    def _next(self) -> Waiting | None:
        """The next job, as soon as there is one; None when it is time to stop."""
        with self._changed:
            while not self._waiting and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return None
            waiting = self._waiting.pop()
            self._current = waiting[0]
            return waiting

    def _deliver(self, ended: list[Ended]) -> None:
        for done, job, outcome in ended:
            if not self._stopped:
                done(job, outcome)


def _tell(dropped: list[Waiting]) -> None:
    error = ErrorInfo(type="Cancelled", message="the attempt was cancelled before it began")
    for job, done in dropped:
        done(job, base.Outcome(conclusion="error", error=error))
