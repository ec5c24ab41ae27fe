"""An event loop without a world: time is a number, processes are queues, and a seed decides who goes first.

`SimulatedLoop` runs several simulated operating system processes in one thread. What happens inside one of them happens
in the order that asyncio promises; how their steps follow each other is drawn from the seed. When nothing is left to
do now, time jumps to the next timer. A process can be killed (its tasks never run again), and paused for a while.

Which process a callback belongs to is told by its context: tasks and callbacks inherit it from whoever made them. What
belongs to none belongs to the world: the network, the disks, the clients, the adversary.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

__all__ = ["Clock", "Process", "SimulatedLoop", "Stuck", "START"]

T = TypeVar("T")

START: Final = 1_767_225_600_000_000
"""2026-01-01 00:00:00 UTC, in microseconds: where time begins."""

_MOST_AT_ONCE: Final = 200_000
"""Callbacks at one moment, before they are taken for an endless loop."""
_MOST: Final = 1_000_000
"""Callbacks of one world, before they are taken for one in which time goes on: a world has some ten thousand."""


class Stuck(Exception):  # noqa: N818 - it is what has happened
    """Nothing will ever happen again, or too much happens without time going on."""


class Process:
    """One operating system process, as far as a scheduler sees it."""

    def __init__(self, loop: SimulatedLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.alive = True
        self.paused = False
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        """Kept alive: what a killed process has begun must not be ended by the garbage collector in the middle."""
        self.context = contextvars.copy_context()
        self.context.run(_process.set, self)
        self._deaths: dict[object, Callable[[], None]] = {}

    def run(self, work: Callable[..., T], *args: object) -> T:
        """Call something as a part of this process."""
        return self.context.copy().run(work, *args)

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Start a task of this process."""
        return self.loop.create_task(work, name=name, context=self.context.copy())

    def on_death(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback()` called when the process is killed; call the answer to end that."""
        key = object()
        self._deaths[key] = callback
        return lambda: self._deaths.pop(key, None) and None

    def kill(self) -> None:
        """End it between two callbacks: nothing of it runs any more."""
        self.alive = False
        self.loop.idle(self)
        deaths, self._deaths = list(self._deaths.values()), {}
        for callback in deaths:
            callback()

    def pause(self) -> None:
        """As SIGSTOP does."""
        self.paused = True
        self.loop.idle(self)

    def go_on(self) -> None:
        """As SIGCONT does."""
        self.paused = False
        if self.ready:
            self.loop.busy(self)


_process: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


class SimulatedLoop(asyncio.BaseEventLoop):
    """See the module. `now` is in seconds since the start."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._draw = chance.random
        self.now = 0.0
        self.steps = 0
        self.ending = False
        """At the very end everything runs once more, the dead included, to be ended in an orderly way."""
        self._busy: list[Process] = []
        self._at_once = 0
        self.processes: list[Process] = []
        self.world = self.process("world")

    def process(self, name: str) -> Process:
        """A new process."""
        made = Process(self, name)
        self.processes.append(made)
        return made

    @staticmethod
    def current() -> Process:
        """The process whose code is running."""
        return _process.get()

    def later(self, delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """Have the world call something."""
        return self.call_later(delay, callback, *args, context=self.world.context)

    # --- what asyncio asks for ---

    def time(self) -> float:
        return self.now

    def call_soon(
        self, callback: Callable[..., object], *args: object, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there is one thread

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = super().create_task(coro, name=name, context=context)
        process = (context or contextvars.copy_context()).get(_process, self.world)
        tasks = process.tasks
        tasks.append(task)
        if len(tasks) >= 512:
            process.tasks = [kept for kept in tasks if not kept.done()]
            process.tasks.append(task)
        return task

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: object) -> asyncio.Future[T]:  # type: ignore[override]  # no threads: it is called in its turn
        answer: asyncio.Future[T] = self.create_future()

        def perform() -> None:
            if answer.done():
                return
            try:
                result = func(*args)
            except Exception as error:
                answer.set_exception(error)
            else:
                answer.set_result(result)

        self.call_soon(perform)
        return answer

    def _process_events(self, event_list: object) -> None: ...

    def _write_to_self(self) -> None: ...

    # --- scheduling ---

    def busy(self, process: Process) -> None:
        """It has something to do."""
        if process not in self._busy:
            self._busy.append(process)

    def idle(self, process: Process) -> None:
        """It has nothing to do, or must not."""
        if process in self._busy:
            self._busy.remove(process)

    def _enqueue(self, handle: asyncio.Handle) -> None:
        process: Process = handle._context.get(_process, self.world)  # type: ignore[attr-defined]  # asyncio's own
        if not process.ready and process.alive and not process.paused:
            self._busy.append(process)
        process.ready.append(handle)

    def _run_once(self) -> None:
        timers: list[Any] = self._scheduled  # type: ignore[attr-defined]  # asyncio's own heap
        if not self._busy:
            self._skip_to_next(timers)
        while timers and timers[0]._when <= self.now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if timer._cancelled:
                self._timer_cancelled_count -= 1
            else:
                self._enqueue(timer)
        busy = self._busy
        if not busy:
            return
        at = int(self._draw() * len(busy)) if len(busy) > 1 else 0
        process = busy[at]
        handle = process.ready.popleft()
        if not process.ready:
            del busy[at]
        self.steps += 1
        self._at_once += 1
        if self._at_once > _MOST_AT_ONCE and not self.ending:
            raise Stuck(f"{_MOST_AT_ONCE:,} steps at one moment, the last of them of {process.name}: {handle!r}")
        if self.steps > _MOST and not self.ending:
            raise Stuck(f"{_MOST:,} steps, and no end: the same happens again and again")
        if not handle._cancelled:  # type: ignore[attr-defined]  # asyncio's own
            handle._run()  # type: ignore[attr-defined]  # asyncio's own

    def _skip_to_next(self, timers: list[Any]) -> None:
        if len(timers) > 200 and self._timer_cancelled_count * 2 > len(timers):  # type: ignore[attr-defined]  # asyncio's
            for timer in timers:
                timer._scheduled = not timer._cancelled
            timers[:] = [timer for timer in timers if not timer._cancelled]
            heapq.heapify(timers)
            self._timer_cancelled_count = 0
        while timers and (timers[0]._cancelled or not self._of(timers[0]).alive):
            self._timer_cancelled_count -= timers[0]._cancelled
            heapq.heappop(timers)._scheduled = False
        if not timers:
            raise Stuck("nothing is left to happen, and somebody still waits")
        if timers[0]._when > self.now:
            self.now = timers[0]._when
            self._at_once = 0

    def _of(self, handle: Any) -> Process:
        process: Process = handle._context.get(_process, self.world)
        return process

    # --- the end ---

    def end(self) -> None:
        """Cancel everything, the dead included, and close."""
        self.ending = True
        self.set_exception_handler(lambda loop, context: None)
        for process in self.processes:
            process.alive, process.paused = True, False
            if process.ready:
                self.busy(process)
        for _ in range(20):
            left = [task for process in self.processes for task in process.tasks if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            try:
                self.run_until_complete(_settle(left))
            except Stuck:
                break
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()


async def _settle(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks, timeout=60.0)


class Clock:
    """A `dagengine.clock.Clock` of one machine: off by `offset` microseconds, and going at `rate`."""

    def __init__(self, loop: SimulatedLoop, *, offset: int = 0, rate: float = 1.0) -> None:
        self._loop = loop
        self._offset = offset
        self._rate = rate

    def now(self) -> int:
        return START + self._offset + round(self._loop.now * self._rate * 1e6)

    async def sleep_until(self, at: int) -> None:
        while (left := at - self.now()) > 0:  # noqa: ASYNC110 - the clock is what is waited for
            await asyncio.sleep(left / self._rate / 1e6)
