"""One program under way, from its order to its outcome. Used by `executor`, on the event loop's thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import time
from collections.abc import Callable
from typing import Final

import msgspec

from dagengine.clock import Clock
from dagengine.executors.base import Done, Job, LogSink, Outcome
from dagengine.executors.shell import environment, keeper, outcome
from dagengine.executors.shell.custody import Custody
from dagengine.executors.shell.limits import Limits
from dagengine.executors.shell.order import Order, unnamed_file
from dagengine.executors.shell.output import LOGGED, Lines, Log

__all__ = ["Attempt"]

_READ: Final = 8 << 10
"""Bytes that are taken from a program at a time: no more than a few milliseconds' work, whatever they are."""

_REST: Final = 1 << 20
"""Bytes that may lie in a pipe when everybody who wrote to it has ended: the most that Linux makes one."""

_STDERR_LINE: Final = 64 << 10
_LAST_WORDS: Final = 5

_UNKILLABLE: Final = 10.0
"""Seconds after SIGKILL in which a program has ended, unless the kernel holds it (a file system that is gone)."""


class Attempt:
    """Starts a program with `begin`. Calls `began()` once that was tried, and `ended(attempt, outcome)` at last."""

    def __init__(
        self,
        job: Job,
        done: Done,
        order: Order,
        *,
        limits: Limits,
        log: LogSink,
        clock: Clock,
        began: Callable[[], None],
        ended: Callable[[Attempt, Outcome], None],
    ) -> None:
        self.job = job
        self.done = done
        self._order = order
        self._limits = limits
        self._began: Callable[[], None] | None = began
        self._ended = ended
        lines = Log(job, sink=log, clock=clock)
        self._out = Lines(level="info", log=lines, mask=order.mask, most=max(order.most, LOGGED), last=1)
        self._err = Lines(level="warning", log=lines, mask=order.mask, most=_STDERR_LINE, last=_LAST_WORDS)
        self._printed = 0
        self._loop = asyncio.get_running_loop()
        self._control: socket.socket | None = None
        self._notices = b""
        self._pipes: dict[int, Lines] = {}
        self._started = time.monotonic()
        self._verdict: Outcome | None = None
        """What the attempt comes to because of what was decided here, whatever the program does."""
        self._asked = False
        """Whether it was asked to end by itself: if it then succeeds, it has succeeded."""
        self._timeout: asyncio.TimerHandle | None = None
        self._kill_timer: asyncio.TimerHandle | None = None
        self._last_timer: asyncio.TimerHandle | None = None

    def begin(self, custody: Custody) -> None:
        """Have the program started. Raises ExecutorError or OSError when that cannot be; nothing is left then."""
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            ours.callback(shutil.rmtree, self._order.directory, ignore_errors=True)
            control, other = socket.socketpair()
            ours.callback(control.close)
            theirs.callback(other.close)
            fds = [unnamed_file(self._order.text)]
            theirs.callback(os.close, fds[0])
            stdin = self._order.stdin
            fds.append(os.open(os.devnull, os.O_RDONLY) if stdin is None else unnamed_file(stdin))
            theirs.callback(os.close, fds[1])
            for lines in (self._out, self._err):
                read, write = os.pipe()
                ours.callback(os.close, read)
                theirs.callback(os.close, write)
                fds.append(write)
                self._pipes[read] = lines
            custody.order([*fds, other.fileno()])
            ours.pop_all()
        self._control = control
        control.setblocking(False)
        self._loop.add_reader(control, self._hear)
        for fd in self._pipes:
            os.set_blocking(fd, False)
            self._loop.add_reader(fd, self._read, fd)

    def cancel(self, grace: int) -> None:
        """Ask the program to end, and after `grace` microseconds kill it."""
        self._asked = self._asked or self._verdict is None
        self._stop(outcome.failure("error", "Cancelled", "the attempt was cancelled"), grace)

    def abandon(self) -> None:
        """Kill the program and forget it: nobody is told of its end."""
        self._release()

    # --- while it runs ---

    def _hear(self) -> None:
        """Take what the guard tells."""
        control = self._control
        if control is None:
            return
        try:
            data = control.recv(keeper.NOTICE.size * 4)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            shutil.rmtree(self._order.directory, ignore_errors=True)  # nobody else does it any more
            message = "the process that watched over the program is gone, and the program with it"
            self._finish(self._verdict or outcome.failure("error", "Killed", message))
            return
        self._notices += data
        while len(self._notices) >= keeper.NOTICE.size and self._control is not None:
            kind, value, elapsed = keeper.NOTICE.unpack_from(self._notices)
            self._notices = self._notices[keeper.NOTICE.size :]
            self._heard(kind, value, elapsed)

    def _heard(self, kind: bytes, value: int, elapsed: int) -> None:
        if kind == keeper.STARTED:
            self._started = time.monotonic() - elapsed / 1e6
            self._has_begun()
            if self.job.timeout is not None and self._verdict is None:
                self._timeout = self._loop.call_later(self.job.timeout / 1e6, self._time_out)
        elif kind == keeper.FAILED:
            self._finish(self._verdict or outcome.not_started(self._order.program, value))
        else:
            try:
                self._drain()
                ended = self._judge(value)
            except Exception as exc:
                ended = outcome.failure("error", "InternalError", f"the shell executor failed: {type(exc).__name__}")
            self._finish(ended, elapsed)

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return
        if not data:
            self._pipes[fd].finish()
            self._close_pipe(fd)
            return
        self._printed += len(data)
        if self._printed > self._limits.output:
            message = f"the program printed more than {self._limits.output:,} bytes"
            self._stop(outcome.failure("fail", "OutputLimit", message), 0)
            self._close_pipe(fd)
        else:
            self._pipes[fd].feed(data)

    def _time_out(self) -> None:
        message = f"the attempt took longer than its timeout of {(self.job.timeout or 0) / 1e6:g} s"
        self._stop(outcome.failure("error", "Timeout", message), self._limits.grace)

    def _stop(self, verdict: Outcome, grace: int) -> None:
        """Have the program end: by itself within `grace` microseconds, or killed. The first verdict holds."""
        self._verdict = self._verdict or verdict
        if self._last_timer is not None:
            return
        if grace <= 0:
            self._kill()
            return
        at = self._loop.time() + grace / 1e6
        if self._kill_timer is None:
            self._tell(keeper.TERMINATE)
        elif self._kill_timer.when() <= at:
            return
        else:
            self._kill_timer.cancel()
        self._kill_timer = self._loop.call_at(at, self._kill)

    def _kill(self) -> None:
        if self._last_timer is None:
            self._tell(keeper.KILL)
            self._last_timer = self._loop.call_later(_UNKILLABLE, self._give_up)

    def _give_up(self) -> None:
        import structlog  # only here: whoever runs a small workflow need not wait for it

        job = self.job
        structlog.get_logger(__name__).warning(
            "program_left_behind", execution=job.scope.execution, node=job.node, reason="it does not end when killed"
        )
        self._finish(self._verdict or outcome.failure("error", "Killed", "the program did not end when it was killed"))

    def _tell(self, what: bytes) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):  # it is gone, which `_hear` notices
                self._control.send(what)

    # --- its end ---

    def _judge(self, status: int) -> Outcome:
        """The outcome of a program that has ended with `status`."""
        failed = outcome.of_status(status, (self._err.shown(line, len(line)) for line in self._err.last))
        if self._verdict is not None and not (self._asked and failed is None):
            return self._verdict
        if failed is not None:
            return failed
        return outcome.result_of(
            self._order.directory / environment.OUTPUT,
            last=self._out.last[-1] if self._out.last else b"",
            last_size=self._out.last_size,
            limit=self._order.most,
            mask=self._order.mask,
        )

    def _drain(self) -> None:
        """Take what was printed last: everybody who could write has ended."""
        for fd, lines in list(self._pipes.items()):
            taken = 0
            with contextlib.suppress(BlockingIOError):
                while taken < _REST and (data := os.read(fd, _READ)):
                    taken += len(data)
                    lines.feed(data)
            lines.finish()
            self._close_pipe(fd)

    def _finish(self, outcome: Outcome, elapsed: int | None = None) -> None:
        """The attempt has ended; `elapsed` is what the guard measured, if it could."""
        if elapsed is None:
            elapsed = 0 if self._began is not None else round((time.monotonic() - self._started) * 1e6)
        self._has_begun()
        self._release()
        self._ended(self, msgspec.structs.replace(outcome, elapsed=elapsed))

    def _has_begun(self) -> None:
        began, self._began = self._began, None
        if began is not None:
            began()

    def _release(self) -> None:
        """Give back what it held here. With the socket closed, the guard kills what is left, and removes the files."""
        for timer in (self._timeout, self._kill_timer, self._last_timer):
            if timer is not None:
                timer.cancel()
        for fd in list(self._pipes):
            self._close_pipe(fd)
        if self._control is not None:
            self._loop.remove_reader(self._control)
            self._control.close()
            self._control = None

    def _close_pipe(self, fd: int) -> None:
        if self._pipes.pop(fd, None) is not None:
            self._loop.remove_reader(fd)
            os.close(fd)
