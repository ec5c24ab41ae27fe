"""Runs Lua nodes in worker processes: the `process` isolation. The engine's side, on the event loop's thread.

Executions take turns; what has its turn is handed to the worker that has least to do, in batches of about a
millisecond's work: hundreds of cheap attempts, or a single one that takes long. What lies behind an attempt that turns
out to be long is taken back when somebody else could do it. A script is stopped by killing its worker: its deadline, a
cancellation, and the limits on memory and processor time cost that one attempt and nothing else.

There is no task, no thread and no timer per attempt. `app` builds it, the driver calls it. `messages` tells why an
attempt is performed once.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from dagengine.clock import Clock
from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua import runtime
from dagengine.executors.lua.performer import Key, key_of, outcome_of
from dagengine.executors.lua.process import deaths, pool
from dagengine.executors.lua.process.desk import LONG, Desk, Handed, Report, Verdict
from dagengine.executors.lua.process.handing import MOST_HANDED, Ended, Handing
from dagengine.executors.lua.process.messages import BEGUN, LOG, READY, RESULT, VOID, Options
from dagengine.executors.lua.turns import Done, Turns, Waiting

__all__ = ["DEFAULT_CPU", "LuaProcesses"]

DEFAULT_CPU: Final = 3_600
"""Seconds of processor time that one attempt may use, whatever its timeout."""

_ENOUGH: Final = 1_000.0
"""Microseconds of work at which a worker is handed no more, while another one could be had."""

_PLENTY: Final = 4_000.0
"""The same when all workers are busy."""

_HALF: Final = MOST_HANDED // 2
"""Attempts at which a worker is handed no more: not as many as it has just ended, each time that it tells of some."""

_error = msgspec.json.Decoder(ErrorInfo).decode


class LuaProcesses:
    """Implements `base.Executor` for nodes whose spec is a `model.LuaExecutor`. For one event loop.

    `workers` is how many processes there are at most (None: one for each processor that this process may use). They are
    forked when there is work. `max_memory` and `max_output` are in bytes, for each worker; `cpu` is the seconds of
    processor time that one attempt may use (0: no limit). `clock` gives scripts their time and log lines theirs. Raises
    ValueError for a number that makes no sense, RuntimeError where there is no `fork`.
    """

    runs_ahead: Final = True

    def __init__(
        self,
        *,
        log: base.LogSink,
        clock: Clock,
        workers: int | None = None,
        max_memory: int = runtime.DEFAULT_MAX_MEMORY,
        max_output: int = runtime.DEFAULT_MAX_OUTPUT,
        cpu: int = DEFAULT_CPU,
    ) -> None:
        if not hasattr(os, "fork"):
            raise RuntimeError("this system cannot fork, which Lua in processes needs: choose the isolation 'thread'")
        size = pool.processors() if workers is None else workers
        if size < 1:
            raise ValueError(f"at least one worker is needed to run Lua, not {size}")
        self._options = Options(max_memory=max_memory, max_output=max_output, cpu=cpu)
        self._log = log
        self._clock = clock
        self._pool = pool.Pool(self._options, size, self)
        self._handing = Handing(clock=clock, max_memory=max_memory)
        self._waiting = Turns()
        self._cancelled: set[Key] = set()
        self._pumping = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def warm(self) -> None:
        """Begin to start what takes a moment, so that the first attempt does not wait for it."""
        if not self._closed:
            self._pool.start()

    def submit(self, jobs: Sequence[base.Job], done: Done) -> None:
        """Take `jobs`; see `base.Executor.submit`. Call it on the event loop's thread."""
        if self._closed or not jobs:
            return
        if self._cancelled:
            self._ready().call_soon(self._add, jobs, done)  # after the sweep: these are not what was cancelled
        else:
            self._add(jobs, done)

    def cancel(self, execution: str, node: str, index: int | None, attempt: int, *, grace: int = 0) -> None:  # noqa: ARG002 - a script cannot be asked to end
        """Stop an attempt at once: one that waits is not begun, one that runs is killed."""
        if self._closed or not (self._waiting or any(desk.handed for desk in self._pool.desks.values())):
            return
        if not self._cancelled:
            self._ready().call_soon(self._sweep)
        self._cancelled.add((execution, node, index, attempt))

    async def close(self) -> None:
        """Stop everything: no process is left afterwards."""
        self._closed = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        await self._pool.close()

    # --- handing over ---

    def _ready(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def _add(self, jobs: Sequence[base.Job], done: Done) -> None:
        if not self._closed:
            self._waiting.add(jobs[0].scope.execution, [(job, done) for job in jobs])
            self._pump_soon()

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._ready().call_soon(self._pump)

    def _pump(self) -> None:
        """Hand over what waits, as far as there are workers for it."""
        self._pumping = False
        if self._closed:
            return
        waiting, workers = self._waiting, self._pool
        while waiting:
            desk, others = self._hungriest()
            if desk is None:
                if workers.missing:
                    workers.grow(len(waiting))
                return
            self._hand_over(desk, _ENOUGH if others or workers.missing else _PLENTY)
            waiting.pass_on()
        self._level()

    def _hungriest(self) -> tuple[Desk | None, bool]:
        """The worker to hand something to, if there is one; and whether another one has nothing to do."""
        now = time.monotonic_ns()
        best: Desk | None = None
        idle = 0
        for desk in self._pool.desks.values():
            if not desk.ready or desk.verdict is not None:
                continue
            if not desk.handed:
                idle += 1
            elif desk.load >= _ENOUGH or len(desk.handed) > _HALF or desk.congested or desk.long(now):
                continue
            if best is None or desk.load < best.load:
                best = desk
        return best, idle > 1

    def _hand_over(self, desk: Desk, budget: float) -> None:
        broken = self._handing.fill(desk, self._waiting, budget)
        if desk.handed:
            self._watch(desk)
        if broken:
            self._deliver(broken)

    def _level(self) -> None:
        """Nothing waits: where a worker is idle, or could be had, take back what others have too much of."""
        workers = self._pool
        idle = any(desk.ready and not desk.handed for desk in workers.desks.values())
        if not idle and not workers.missing:
            return
        laden = [
            desk
            for desk in workers.desks.values()
            if len(desk.handed) > 1 and desk.verdict is None and desk.load - desk.handed[0].cost >= _ENOUGH
        ]
        if idle:
            for desk in laden:
                self._put_back(desk, desk.take_back())
        elif laden:
            workers.grow(len(laden))  # once they are there, they are idle

    def _put_back(self, desk: Desk, handed: Sequence[Handed]) -> None:
        """Have what was taken from a worker wait again; not what was only ahead of its time, which nobody knows of."""
        if not handed:
            return
        unfinished = {each.number for each in (*handed, *desk.handed)}
        known = [(each.job, each.done) for each in handed if each.after not in unfinished]
        if known:
            self._waiting.add_first(known)
            self._pump_soon()

    # --- what comes back ---

    def reported(self, desk: Desk) -> None:
        """See `pool.Owner`."""
        reports = desk.read()
        if desk.verdict is None:
            self._take(desk, reports)
        if desk.over and desk.orphaned:
            self._pool.let_go(desk)

    def _take(self, desk: Desk, reports: Sequence[Report]) -> None:
        """Take reports in, give the worker more to do, and only then tell of them: that may take a while."""
        ended: list[Ended] = []
        void: list[Handed] = []
        sane = True
        try:
            for kind, number, body, elapsed, at in reports:
                if kind == READY:
                    desk.ready = True
                    self._pump_soon()
                elif desk.handed[0].number != number:
                    raise ValueError(number)
                elif kind == LOG:
                    self._write(desk, body)
                elif kind == BEGUN:
                    desk.begun(number, at)
                elif kind == VOID:
                    void += self._void(desk)
                else:
                    ended.append(self._finished(desk, body if kind == RESULT else _error(body), elapsed, at))
        except (LookupError, ValueError):  # nothing that `worker` says: there is somebody else in it
            sane = False
        if ended:
            if not desk.proven:
                self._pool.proved(desk)
            if desk.handed and desk.verdict is None:
                self._watch(desk)
            if sane:
                self._pump()
            self._deliver(ended)
        # What may begin, or end, only because something before it has ended, comes after that was told.
        self._put_back(desk, void)
        if not sane:
            self._kill(desk, "Killed")
        elif ended and self._waiting:
            self._pump()  # a chain of nodes need not wait for the loop's next turn

    def _finished(self, desk: Desk, result: bytes | ErrorInfo, elapsed: int, at: int) -> Ended:
        number, job, done, code, cost, _, _ = desk.handed.popleft()
        code.learn(elapsed)
        desk.load = desk.load - cost if desk.handed else 0.0
        desk.since = min(at, time.monotonic_ns())
        desk.lines = 0
        if desk.log_error is not None:
            exc, desk.log_error = desk.log_error, None
            return job, done, deaths.internal(f"the Lua executor failed: {type(exc).__name__}: {exc}", elapsed)
        if isinstance(result, bytes) and desk.handed and desk.handed[0].after == number:
            desk.promised = desk.handed[0].number
            return job, done, base.Outcome(conclusion="success", result=result, elapsed=elapsed, ahead=True)
        return job, done, outcome_of(result, elapsed)

    def _void(self, desk: Desk) -> list[Handed]:
        """What was ahead of its time and is not performed there; told only if it was promised: then it begins anew."""
        void = desk.handed.popleft()
        if not void.after:
            raise ValueError(void.number)
        desk.load = desk.load - void.cost if desk.handed else 0.0
        return [void] if desk.promised == void.number else []

    def _write(self, desk: Desk, body: bytes) -> None:
        job = desk.handed[0].job
        desk.lines += 1
        level = runtime.LEVELS[body[0] - 48]
        line = job.printed(body[1:].decode(), line=desk.lines, at=self._clock.now(), level=level)
        try:
            self._log(line)
        except Exception as exc:
            desk.log_error = exc

    def _deliver(self, ended: Sequence[Ended]) -> None:
        for job, done, outcome in ended:
            if self._closed:
                return
            try:
                done(job, outcome)
            except Exception as exc:
                context = {"message": f"the end of node {job.node} could not be taken in", "exception": exc}
                self._ready().call_exception_handler(context)

    # --- what must be stopped ---

    def _watch(self, desk: Desk) -> None:
        """Have the clock looked at when this worker's attempt is due to be stopped, or has become a long one."""
        began, timeout = desk.began, desk.handed[0].job.timeout
        due = began + LONG if len(desk.handed) > 1 else 0
        if timeout is not None:
            stop = began + timeout * 1_000
            due = min(due, stop) if due else stop
        if due and (self._timer is None or due < self._due):
            if self._timer is not None:
                self._timer.cancel()
            self._due = due
            self._timer = self._ready().call_later(max(0, due - time.monotonic_ns()) / 1e9, self._look)

    def _look(self) -> None:
        self._timer = None
        desks = self._pool.desks
        for desk in list(desks.values()):
            if desk.overdue and desk.has_begun():
                self._take(desk, desk.read_all())  # it may have ended in time, unseen
                if desk.overdue:
                    self._kill(desk, "Timeout")
            if desk.verdict is None and len(desk.handed) > 1 and desk.long(time.monotonic_ns()):
                self._put_back(desk, desk.take_back())
        for desk in desks.values():
            if desk.handed and desk.verdict is None:
                self._watch(desk)

    def _kill(self, desk: Desk, verdict: Verdict) -> None:
        """Stop what the worker performs. That is over now: nothing that the worker says from here on counts."""
        desk.verdict = verdict
        # What it has not begun is taken from it first: it must not begin the next one before it dies.
        unbegun = desk.condemn()
        self._pool.kill(desk)
        self._put_back(desk, unbegun)
        self._lose(desk, None)

    def _lose(self, desk: Desk, status: int | None) -> None:
        """Tell of the attempt that went with its worker."""
        if not desk.handed:
            return
        victim, *others = desk.handed
        desk.handed.clear()
        self._put_back(desk, others)  # there are none: what it has not begun was taken from it
        elapsed = (time.monotonic_ns() - max(desk.since, victim.at)) // 1_000
        error = deaths.cause(status, verdict=desk.verdict, timeout=victim.job.timeout, cpu=self._options.cpu)
        self._pool.proved(desk)
        self._deliver([(victim.job, victim.done, outcome_of(error, elapsed))])

    def _sweep(self) -> None:
        """Do what `cancel` asked for since the last sweep."""
        cancelled, self._cancelled = self._cancelled, set()
        if self._closed:
            return

        def unwanted(job: base.Job) -> bool:
            return key_of(job) in cancelled

        concerned = [
            desk
            for desk in self._pool.desks.values()
            if desk.verdict is None and any(unwanted(each.job) for each in desk.handed)
        ]
        for desk in concerned:
            self._take(desk, desk.read_all())
        # That hands over what waits. From here on nothing is handed over until what is unwanted is out of the way.
        for desk in self._pool.desks.values():
            if desk.verdict is None and any(unwanted(each.job) for each in desk.handed):
                self._put_back(desk, desk.take_back(all=True))
                if desk.handed and unwanted(desk.handed[0].job):
                    self._kill(desk, "Cancelled")
        removed = self._waiting.remove(unwanted, {key[0] for key in cancelled})
        message = "the attempt was cancelled before it began"
        outcome = outcome_of(ErrorInfo(type="Cancelled", message=message), 0)
        self._deliver([(job, done, outcome) for job, done in removed])

    def ended(self, desk: Desk, status: int | None) -> None:
        """See `pool.Owner`."""
        if desk.verdict is None:
            self._take(desk, desk.read_all())
            self._put_back(desk, desk.condemn())
            self._lose(desk, status)
        desk.close()
        if not desk.proven:
            self._pool.failed(f"a worker ended before it did anything: {deaths.how(status)}")
        self._pump_soon()

    def rested(self) -> None:
        """See `pool.Owner`."""
        self._pump_soon()

    def hopeless(self, reason: str) -> None:
        """See `pool.Owner`."""
        given_up: list[Waiting] = []
        while self._waiting:
            given_up.append(self._waiting.pop())
        self._deliver([(job, done, deaths.internal(reason)) for job, done in given_up])
