"""Runs Lua nodes in the engine's own process: the `inline` isolation.

Two ways. On the event loop's own thread (`thread=False`), for embedding: least overhead, in slices of a few
milliseconds between which the loop does other things; a long script blocks the loop until it ends or is stopped. On one
thread beside it (`thread=True`), for servers: the loop stays responsive while a script computes, because Lua runs
without Python's global lock; outcomes come back in batches.

There is no task and no hand-over per node: a queue, one pump, and one call into Lua per job. What a runtime can and
cannot protect from is told in `runtime`. `app` builds it, the driver calls it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from dagengine.clock import Clock
from dagengine.executors import base
from dagengine.executors.lua import runtime
from dagengine.executors.lua.performer import Performer

__all__ = ["InlineLua"]

Done = Callable[[base.Job, base.Outcome], None]
Ended = tuple[Done, base.Job, base.Outcome]

_SLICE: Final = 5_000
_FLUSH: Final = 1_000_000


class InlineLua:
    """Implements `base.Executor` for nodes whose spec is a `model.LuaExecutor`.

    `slice` is in microseconds: after it, the loop gets a turn (`thread=False`). `max_memory` and `max_output` are in
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
        self._waiting: deque[tuple[base.Job, Done]] = deque()
        self._pumping = False
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._side = _Side(self._performer) if thread else None

    def submit(self, jobs: Sequence[base.Job], done: Done) -> None:
        """Take `jobs`; see `base.Executor.submit`. Call it on the event loop's thread."""
        if self._closed or not jobs:
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if self._side is not None:
            self._side.take([(job, done) for job in jobs], self._loop)
            return
        self._waiting.extend([(job, done) for job in jobs])
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump, self._loop)

    def cancel(self, execution: str, node: str, index: int | None, attempt: int) -> None:
        """Stop an attempt: one that waits is not begun, one that runs is stopped within milliseconds."""
        self._performer.cancel((execution, node, index, attempt), waiting=self._busy())

    async def close(self) -> None:
        """Stop everything; a script that runs on the thread is stopped, and the thread has ended afterwards."""
        self._closed = True
        self._waiting.clear()
        self._performer.stop()
        if self._side is not None:
            await asyncio.to_thread(self._side.join)

    def _busy(self) -> bool:
        return bool(self._waiting) if self._side is None else self._side.busy

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        """Perform waiting jobs until there are none, or the slice is over. `done` may submit more."""
        waiting, perform = self._waiting, self._performer.perform
        over = time.monotonic_ns() + self._slice
        try:
            while waiting:
                job, done = waiting.popleft()
                outcome = perform(job)
                done(job, outcome)
                if time.monotonic_ns() >= over:
                    break
        finally:
            self._pumping = bool(waiting)
            if waiting:
                loop.call_soon(self._pump, loop)
            else:
                self._performer.forget()


class _Side:
    """The thread beside the loop: takes batches, posts outcomes back in batches."""

    def __init__(self, performer: Performer) -> None:
        self._performer = performer
        self._batches: queue.SimpleQueue[list[tuple[base.Job, Done]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._undelivered = 0
        self._stopped = False

    @property
    def busy(self) -> bool:
        """Whether jobs were taken whose outcomes have not been delivered."""
        return self._undelivered > 0

    def take(self, batch: list[tuple[base.Job, Done]], loop: asyncio.AbstractEventLoop) -> None:
        """Perform `batch` after those taken before it."""
        self._undelivered += len(batch)
        self._batches.put(batch)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(loop,), name="dagengine-lua", daemon=True)
            self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended. Nothing is delivered any more."""
        self._stopped = True
        self._batches.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        ended: list[Ended] = []
        flushed = time.monotonic_ns()
        while (batch := self._batches.get()) is not None:
            for at, (job, done) in enumerate(batch, start=1):
                if self._stopped:
                    return
                ended.append((done, job, self._performer.perform(job)))
                now = time.monotonic_ns()
                idle = at == len(batch) and self._batches.empty()
                if idle or now - flushed >= _FLUSH:
                    try:
                        loop.call_soon_threadsafe(self._deliver, ended)
                    except RuntimeError:
                        return  # the loop was closed: nobody is there to be told
                    ended, flushed = [], now

    def _deliver(self, ended: list[Ended]) -> None:
        self._undelivered -= len(ended)
        if not self._undelivered:
            self._performer.forget()
        for done, job, outcome in ended:
            if not self._stopped:
                done(job, outcome)
