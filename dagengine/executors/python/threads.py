"""Threads for calls that may never return.

A thread cannot be stopped from outside. What `concurrent.futures` does with one that hangs is to count it for ever: a
few calls that never return, and nothing runs any more. Here a hanging call is written off: its thread counts no longer,
another one takes its place, and should the call return after all, its thread ends. How many may hang is bounded. The
threads are daemons, so a hanging call cannot hold up the end of the process either.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from dagengine.errors import ExecutorError

__all__ = ["Call", "Threads"]


class Call:
    """One call, from `Threads.run` until it has returned."""

    __slots__ = ("function", "hanging", "running")

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.running = False
        self.hanging = False


class Threads:
    """At most `limit` calls at a time, besides at most `hanging_limit` that were written off."""

    def __init__(self, limit: int, *, hanging_limit: int = 64) -> None:
        self._limit = limit
        self._hanging_limit = hanging_limit
        self._waiting: OrderedDict[Call, None] = OrderedDict()
        self._changed = threading.Condition()
        """Guards everything here."""
        self._threads = 0
        self._idle = 0
        self._hanging = 0
        self._closed = False

    def run(self, function: Callable[[], None]) -> Call:
        """Have a thread call `function`, which must not raise. ExecutorError when too many calls hang."""
        call = Call(function)
        with self._changed:
            if self._hanging >= self._hanging_limit:
                raise ExecutorError(f"{self._hanging} calls that exceeded their timeouts have not returned")
            self._waiting[call] = None
            self._staff()
        return call

    def drop(self, call: Call) -> None:
        """Forget a call that waits; write off one that runs."""
        with self._changed:
            if call.running and not call.hanging:
                call.hanging = True
                self._threads -= 1
                self._hanging += 1
                self._staff()
            elif call in self._waiting:
                del self._waiting[call]

    def close(self) -> None:
        """Begin no more calls. Those that run are not waited for."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _staff(self) -> None:
        """See to it that somebody takes what waits. ExecutorError when the system gives no more threads."""
        if self._idle:
            self._changed.notify()
        elif self._waiting and self._threads < self._limit:
            thread = threading.Thread(target=self._work, name="dagengine-python", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                if not self._threads:
                    self._waiting.clear()
                    raise ExecutorError(f"no thread for the call: {error}") from error
            else:
                self._threads += 1

    def _work(self) -> None:
        while (call := self._next()) is not None:
            call.function()
            with self._changed:
                call.running = False
                if call.hanging:
                    self._hanging -= 1
                    return

    def _next(self) -> Call | None:
        with self._changed:
            self._idle += 1
            while not self._waiting and not self._closed:
                self._changed.wait()
            self._idle -= 1
            if self._closed:
                self._threads -= 1
                return None
            call, _ = self._waiting.popitem(last=False)
            call.running = True
            return call
