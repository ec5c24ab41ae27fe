"""The zygote as the engine sees it: started when it is first needed, asked for workers and for their deaths.

Used by `executor`, on the event loop's thread; nothing here waits but `close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import Final, Protocol

import msgspec

from dagengine.errors import ExecutorError
from dagengine.executors.lua.process.messages import BORN, DIED, FORK, KILL, NOTICE, REQUEST, STILLBORN, Options

__all__ = ["Family", "Nursery"]

_MODULE: Final = "dagengine.executors.lua.process.zygote"
_KEPT_VARIABLES: Final = ("PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What an interpreter may need to start at all; the zygote drops them, too, once it runs."""

_LAST_MOMENT: Final = 5.0
"""Seconds that the zygote gets to end the workers and itself."""


class Family(Protocol):
    """Who is told what becomes of workers; each is named by the number it was asked for with."""

    def born(self, number: int, pid: int) -> None:
        """The worker was forked."""

    def died(self, number: int, status: int) -> None:
        """The worker has ended and was waited for; `status` as of `os.waitpid`."""

    def stillborn(self, number: int, error: OSError) -> None:
        """The worker could not be forked."""

    def orphaned(self, reason: str) -> None:
        """The zygote has ended, and all workers end with it; nothing more is told of them. `reason` is for people."""


class Nursery:
    """Starts the zygote with the first `fork`; after it was lost, another one."""

    def __init__(self, options: Options, family: Family) -> None:
        self._options = options
        self._family = family
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._received = b""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gone: asyncio.Event | None = None

    def start(self) -> None:
        """Start the zygote, unless it is there. Raises ExecutorError when the system does not let us."""
        if self._control is not None:
            return
        ours, theirs = socket.socketpair()
        try:
            self._process = self._spawn(theirs)
        except OSError as exc:
            ours.close()
            raise ExecutorError(f"cannot start the process that Lua workers come from: {exc}") from exc
        finally:
            theirs.close()
        ours.setblocking(False)
        self._control, self._received = ours, b""
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(ours, self._read)

    def fork(self, number: int, channel: socket.socket, tokens: socket.socket) -> None:
        """Ask for a worker that has the ends `channel` and `tokens`. Raises ExecutorError when nobody can be asked."""
        self.start()
        self._ask(FORK, number, [channel.fileno(), tokens.fileno()])

    def kill(self, number: int) -> None:
        """Ask for the death of a worker; `Family.died` tells when it has come."""
        self._ask(KILL, number, [])

    async def close(self) -> None:
        """End the zygote, and with it all workers; they are gone afterwards."""
        control, gone = self._control, self._gone
        if control is None or gone is None:
            return
        with contextlib.suppress(OSError):  # it has ended already
            control.shutdown(socket.SHUT_WR)  # it has workers perhaps, though it has told of none: it must end them
        try:
            await asyncio.wait_for(gone.wait(), _LAST_MOMENT)
        except TimeoutError:
            self._bury()

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        if not sys.executable:
            raise ExecutorError("Lua workers need a Python interpreter to run in, and sys.executable names none")
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        arguments = [str(theirs.fileno()), str(os.getpid()), msgspec.json.encode(self._options).decode()]
        return subprocess.Popen(  # noqa: S603 - the interpreter that runs us, with arguments of our own
            [sys.executable, "-P", "-s", "-m", _MODULE, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment | {"PYTHONPATH": paths},
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a terminal's Ctrl-C is for the engine, which ends them in good order
        )

    def _ask(self, kind: int, number: int, fds: list[int]) -> None:
        if self._control is None:
            return
        try:
            socket.send_fds(self._control, [REQUEST.pack(kind, number)], fds)
        except OSError:
            # Gone, or so stuck that it reads nothing: either way its end is told through `_read`, and how it came.
            if self._process is not None:
                self._process.kill()

    def _read(self) -> None:
        control = self._control
        if control is None:
            return
        try:
            data = control.recv(NOTICE.size * 256)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            reason = self._bury()
            self._family.orphaned(reason)
            return
        received = self._received + data
        whole = len(received) - len(received) % NOTICE.size
        self._received = received[whole:]
        for kind, number, value in NOTICE.iter_unpack(received[:whole]):
            self._heard(kind, number, value)

    def _heard(self, kind: int, number: int, value: int) -> None:
        if kind == BORN:
            self._family.born(number, value)
        elif kind == DIED:
            self._family.died(number, value)
        elif kind == STILLBORN:
            self._family.stillborn(number, OSError(value, os.strerror(value)))

    def _bury(self) -> str:
        """Give back what the zygote had here; why it ended, in words."""
        control, process = self._control, self._process
        self._control = self._process = None
        if control is not None and self._loop is not None:
            self._loop.remove_reader(control)
            control.close()
        reason = "it ended"
        if process is not None:
            if process.poll() is None:
                process.kill()  # it has closed its end, or takes too long: it has nothing to do any more
            status = process.wait()
            with contextlib.suppress(ValueError):
                reason = f"exit code {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
        if self._gone is not None:
            self._gone.set()
        return reason
