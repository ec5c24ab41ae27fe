"""The small process that workers are forked from: `python -m dagengine.executors.lua.process.zygote FD PARENT OPTIONS`.

It has no thread, no event loop, no gRPC and nobody's secrets in it, so that a fork is quick and what a worker inherits
is harmless. It has a Lua runtime ready, which every worker begins with. It is the workers' parent: it alone kills them
and waits for them, so that a process id is never mistaken for another one. When the engine is gone, so are they.

Started by `nursery`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from typing import Final, NoReturn

import msgspec

from dagengine.events.facts import ErrorInfo
from dagengine.executors.lua import runtime
from dagengine.executors.lua.process import confinement
from dagengine.executors.lua.process.messages import (
    BORN,
    DIED,
    FORK,
    NOTICE,
    REQUEST,
    STILLBORN,
    Options,
)
from dagengine.executors.lua.process.worker import NO_SCOPE, Worker

__all__ = ["main"]

_FAILED: Final = 70
"""The exit code of a worker that raised: EX_SOFTWARE of sysexits(3)."""


class Zygote:
    """Forks and kills what the engine asks for over `control`, and tells what became of it."""

    def __init__(self, control: socket.socket, options: Options) -> None:
        self._control = control
        self._options = options
        self._lua = runtime.Runtime(max_memory=options.max_memory, max_output=options.max_output, watched=False)
        self._warm_up()
        self._memory = confinement.virtual_memory()
        self._children: dict[int, int] = {}
        """Process ids by the number of the worker, of all that have not been waited for."""
        self._awake, self._alarm = socket.socketpair()
        self._awake.setblocking(False)
        self._alarm.setblocking(False)

    def serve(self) -> None:
        """Do as asked until the engine is gone; then end all workers."""
        signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._awake, select.POLLIN)
        try:
            while True:
                ready = {fd for fd, _ in poll.poll()}
                if self._awake.fileno() in ready:
                    self._reap()
                if self._control.fileno() in ready and not self._obey():
                    break
        except ConnectionError:
            pass  # the engine is gone
        finally:
            self._end()

    def _warm_up(self) -> None:
        """Run a script that touches what scripts touch, so that workers find it loaded: they open no file."""
        for code in ("return {#tostring(math.random())}", "error('x')", "x = = 1"):
            chunk = self._lua.script(code)
            if not isinstance(chunk, ErrorInfo):
                self._lua.run(chunk, NO_SCOPE)

    def _obey(self) -> bool:
        """Take one request; False when the engine is gone."""
        message, fds, _, _ = socket.recv_fds(self._control, REQUEST.size, 2)
        if not message:
            return False
        kind, number = REQUEST.unpack(message)
        if kind == FORK:
            self._fork(number, fds)
        elif number in self._children:
            os.kill(self._children[number], signal.SIGKILL)
        return True

    def _fork(self, number: int, fds: list[int]) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as exc:
            self._tell(STILLBORN, number, exc.errno or 0)
        else:
            if pid == 0:
                self._become_worker(parent, fds)
            self._children[number] = pid
            self._tell(BORN, number, pid)
        finally:
            for fd in fds:
                os.close(fd)

    def _become_worker(self, parent: int, fds: list[int]) -> NoReturn:
        code = _FAILED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for inherited in (self._control, self._awake, self._alarm):
                inherited.close()
            confinement.die_with_parent(parent)
            channel, tokens = (socket.socket(fileno=fd) for fd in fds)
            worker = Worker(channel, tokens, lua=self._lua, options=self._options)
            confinement.limit(used=self._memory, max_memory=self._options.max_memory)
            worker.serve()
            code = 0
        except BaseException as exc:
            with contextlib.suppress(Exception):
                os.write(2, f"a Lua worker failed: {type(exc).__name__}: {exc}\n".encode())
        finally:
            os._exit(code)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._awake.recv(512):
                pass
        for number, pid in list(self._children.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._children[number]
                self._tell(DIED, number, status)

    def _end(self) -> None:
        for pid in self._children.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._children.values():
            os.waitpid(pid, 0)

    def _tell(self, kind: int, number: int, value: int) -> None:
        self._control.sendall(NOTICE.pack(kind, number, value))


def main(arguments: list[str]) -> None:
    """Be the zygote of the process PARENT, which holds the other end of the socket FD."""
    fd, parent, options = arguments
    confinement.ignore_signals()
    confinement.die_with_parent(int(parent))
    os.environ.clear()
    control = socket.socket(fileno=int(fd))
    zygote = Zygote(control, msgspec.json.decode(options, type=Options))
    gc.collect()
    gc.freeze()  # what is shared with the workers is not touched by their garbage collector
    zygote.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
