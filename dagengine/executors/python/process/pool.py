"""The worker processes there are, and the calls that wait for one. Used by the executor, on the event loop's thread.

Workers are started when they are needed, up to a limit, and kept: the next call finds one that has its modules loaded.
After some calls a worker makes way for a fresh one, so that what functions leak does not add up for ever.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from typing import Final

from dagengine.errors import ExecutorError
from dagengine.executors.python import outcomes
from dagengine.executors.python.process.desk import Customer, Desk

__all__ = ["DEFAULT_REUSE", "Pool", "processors"]

DEFAULT_REUSE: Final = 1_000
"""Calls that one worker performs."""


def processors() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


class Pool:
    """At most `limit` workers, each of which performs one call at a time."""

    def __init__(self, *, limit: int | None = None, reuse: int = DEFAULT_REUSE) -> None:
        self._limit = limit or processors()
        self._reuse = reuse
        self._waiting: OrderedDict[Customer, None] = OrderedDict()
        """In the order that they came; any of them may be dropped, and there may be many."""
        self._desks: set[Desk] = set()
        """Those that start, wait or work."""
        self._leaving: set[Desk] = set()
        self._idle: list[Desk] = []
        self._closed = False

    def submit(self, customer: Customer) -> None:
        """Have a worker perform a call, sooner or later. Nobody is told anything before this has returned."""
        self._waiting[customer] = None
        asyncio.get_running_loop().call_soon(self._staff)

    def drop(self, customer: Customer) -> bool:
        """Forget a call that no worker has; False when one has it."""
        if customer in self._waiting:
            del self._waiting[customer]
            return True
        return False

    def ask(self, customer: Customer, *, last: bool = False) -> None:
        """Ask a call that is performed to end. With `last` its time is over; see `Desk.ask`."""
        for desk in self._desks:
            if desk.customer is customer:
                desk.ask(last=last)

    def kill(self, customer: Customer) -> None:
        """Kill the worker that performs a call."""
        for desk in list(self._desks):
            if desk.customer is customer:
                desk.kill()

    def pids(self) -> list[int]:
        """Ids of the workers' processes, for tests and for people who look."""
        return sorted(desk.pid for desk in self._desks)

    def close(self) -> None:
        """Kill the workers and wait for their end, which is a matter of milliseconds. Nobody is told any more."""
        self._closed = True
        self._waiting.clear()
        desks = self._desks | self._leaving
        for desk in desks:
            desk.kill()
        for desk in desks:
            desk.bury_now()
        self._desks.clear()
        self._leaving.clear()
        self._idle.clear()

    # --- what desks tell ---

    def free(self, desk: Desk) -> None:
        """See `desk.Owner`."""
        if desk.calls >= self._reuse:
            self._desks.discard(desk)
            self._leaving.add(desk)
            desk.dismiss()
        elif not desk.closing:
            self._idle.append(desk)
        self._staff()

    def gone(self, desk: Desk) -> None:
        """See `desk.Owner`."""
        self._leaving.discard(desk)
        self._desks.discard(desk)
        if desk in self._idle:
            self._idle.remove(desk)
        if not desk.ready and self._waiting:
            said = desk.started_with()
            message = f"a worker process could not start: {desk.how()}" + (f": {said}" if said else "")
            self._next().ended(outcomes.error("WorkerFailed", message))
        self._staff()

    def _staff(self) -> None:
        """See to it that somebody takes what waits."""
        while self._waiting and not self._closed:
            if self._idle:
                desk = self._idle.pop()
                if not desk.closing:
                    desk.hand(self._next())
            elif not self._hire():
                return

    def _next(self) -> Customer:
        customer, _ = self._waiting.popitem(last=False)
        return customer

    def _hire(self) -> bool:
        """Start a worker where that helps; False when what waits has to go on waiting."""
        starting = sum(not desk.ready for desk in self._desks)
        if len(self._desks) >= self._limit or starting >= len(self._waiting):
            return False
        try:
            self._desks.add(Desk(self))
        except (OSError, ExecutorError) as error:
            if self._desks:
                return False  # one of those will take it
            self._next().ended(outcomes.error("Overloaded", f"a worker process could not be started: {error}"))
        return True
