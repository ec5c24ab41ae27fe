"""One worker process as the engine sees it: started, handed one call after the other, asked to end, killed, buried.

Used by `pool`, on the event loop's thread. The process is the leader of a session of its own: a terminal's Ctrl-C is
for the engine, and whatever a function has started dies with its worker. It is waited for here only, after its end was
seen, so that its id cannot mean another process when it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from dagengine.context import Level
from dagengine.errors import ExecutorError
from dagengine.events.facts import ErrorInfo
from dagengine.executors.base import Outcome
from dagengine.executors.python import outcomes
from dagengine.executors.python.process import messages
from dagengine.executors.python.process.messages import Call, Ended, FrameError, FromWorker, Given, Line, Ready, Wanted
from dagengine.executors.python.process.output import Output

__all__ = ["Customer", "Desk", "Owner"]

_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from dagengine.executors.python.process.worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
_CHUNK: Final = 1 << 18
_PATIENCE: Final = 60.0
"""Seconds that a worker may take to start."""

_LEAVE: Final = 5.0
"""Seconds that a worker may take to end by itself when it is not needed any more."""

_TAIL: Final = 2_000
"""Characters of what a worker printed before it was ready that are told when it never is."""


class Customer(Protocol):
    """Whose call it is."""

    @property
    def call(self) -> Call: ...

    def began(self) -> None:
        """A worker has the call: its time counts from now."""

    def find(self, name: str) -> bytes | None:
        """The JSON value that the scope has for a parameter."""

    def logged(self, level: Level, text: str) -> None:
        """The function has logged or printed a line."""

    def ended(self, outcome: Outcome) -> None:
        """The call has come to this, or its worker died."""


class Owner(Protocol):
    """Who has workers; each is told of once it changes."""

    def free(self, desk: Desk) -> None:
        """It can be handed a call."""

    def gone(self, desk: Desk) -> None:
        """Its process has ended and was waited for."""


class Desk:
    """Starts a process. OSError when the system gives none; ExecutorError without an interpreter to run."""

    def __init__(self, owner: Owner) -> None:
        self.calls = 0
        """Calls that it was handed."""
        self.ready = False
        self.closing = False
        """It was told to end, or has ended: it must not be handed anything."""
        self.customer: Customer | None = None
        self._owner = owner
        self._spent = False
        self._started_with = ""
        self._frames = messages.Frames(messages.MAX_FRAME)
        self._unsent = bytearray()
        self._decoder = msgspec.msgpack.Decoder(FromWorker)
        self._loop = asyncio.get_running_loop()
        self._process, self._channel, printed = _start()
        self._output = Output(printed, self._loop, self._printed)
        self._loop.add_reader(self._channel, self._read)
        self._life = _watch(self._process.pid, self._loop, self._bury)
        self._timer = self._loop.call_later(_PATIENCE, self.kill)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def hand(self, customer: Customer) -> None:
        """Have it perform a call; it must be ready and have no other."""
        self.customer = customer
        self.calls += 1
        self._send(customer.call)
        customer.began()

    def ask(self, *, last: bool = False) -> None:
        """Ask the call to end. With `last` its time is over: it is interrupted, and the worker takes no other one."""
        self._spent = self._spent or last
        if self._process.returncode is None:
            os.kill(self.pid, signal.SIGINT if last else signal.SIGTERM)

    def kill(self) -> None:
        """End the process, and what its functions have started."""
        self.closing = True
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a zombie
                os.killpg(self.pid, signal.SIGKILL)

    def dismiss(self) -> None:
        """Let it end by itself; it has no call."""
        self.closing = True
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
        self._timer.cancel()
        self._timer = self._loop.call_later(_LEAVE, self.kill)

    def bury_now(self) -> None:
        """Wait for the process, which was killed; nobody is told."""
        self.customer = None
        if self._process.returncode is None:
            self._give_back()

    def started_with(self) -> str:
        """What it printed before it was ready: why it did not start, most likely."""
        return self._started_with.strip()[-_TAIL:]

    def how(self) -> str:
        """How its process ended, in words."""
        status = self._process.returncode
        if status is None or status >= 0:
            return f"exit code {status}"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"{name}; the system may be short of memory" if -status == signal.SIGKILL else name

    # --- the conversation ---

    def _send(self, message: Call | Given) -> None:
        waiting = bool(self._unsent)
        self._unsent += messages.pack(message)
        if not waiting:
            self._write()

    def _write(self) -> None:
        try:
            sent = self._channel.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return  # it has ended, which is told by itself
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._channel, self._write)
        else:
            self._loop.remove_writer(self._channel)

    def _read(self) -> None:
        if self._receive() is None:
            self._loop.remove_reader(self._channel)
            self._bury()

    def _receive(self) -> bool | None:
        """Take what it says; False when there is nothing for now, None when it will say no more."""
        try:
            data = self._channel.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return None
        if not data:
            return None
        try:
            for frame in self._frames.feed(data):
                self._heard(self._decoder.decode(frame))
        except (FrameError, msgspec.MsgspecError):
            self.kill()  # a function has written into what is not its own
        return True

    def _heard(self, message: FromWorker) -> None:
        if isinstance(message, Ready):
            self.ready = True
            self._timer.cancel()
            self._output.drain()
            self._owner.free(self)
            return
        customer = self.customer
        if customer is None:
            return  # a thread that outlived its call
        match message:
            case Wanted():
                found = {name: customer.find(name) for name in message.names}
                self._send(Given(values={name: value for name, value in found.items() if value is not None}))
            case Line():
                self._output.drain()
                customer.logged(message.level, message.text)
            case Ended():
                self._output.drain()
                self.customer = None
                if self._spent:
                    self.kill()
                customer.ended(_outcome(message))
                if not self.closing:
                    self._owner.free(self)

    def _printed(self, text: str) -> None:
        if self.customer is not None:
            self.customer.logged("info", text)
        elif not self.ready:
            self._started_with = f"{self._started_with}{text}\n"[-2 * _TAIL :]

    # --- the end ---

    def _bury(self) -> None:
        """The process has ended, or has closed its channel: then it is of no use any more."""
        self.closing = True
        while self._receive():  # what it said before counts
            pass
        self._give_back()
        customer, self.customer = self.customer, None
        if customer is not None:
            customer.ended(outcomes.error("Killed", f"the function's worker process died while it ran: {self.how()}"))
        self._owner.gone(self)

    def _give_back(self) -> None:
        self.kill()
        self._process.wait()
        self._timer.cancel()
        self._life()
        self._output.close()
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()


def _start() -> tuple[subprocess.Popen[bytes], socket.socket, int]:
    """A process, our end of its channel, and the reading end of what it prints."""
    if not sys.executable:
        raise ExecutorError("worker processes need a Python interpreter, and sys.executable names none")
    ours, theirs = socket.socketpair()
    try:
        printed, prints = os.pipe()
    except OSError:
        ours.close()
        theirs.close()
        raise
    paths = json.dumps([os.path.abspath(path) for path in sys.path])
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-P", "-c", _START, str(theirs.fileno()), str(os.getpid()), paths],
            stdin=subprocess.DEVNULL,
            stdout=prints,
            stderr=prints,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    except OSError:
        ours.close()
        os.close(printed)
        raise
    finally:
        theirs.close()
        os.close(prints)
    ours.setblocking(False)
    return process, ours, printed


def _watch(pid: int, loop: asyncio.AbstractEventLoop, ended: Callable[[], None]) -> Callable[[], None]:
    """Have `ended` called when the process ends; gives what stops that.

    Where the system cannot tell, the end of the channel does: unless the function has left a process that has it, too.
    """
    if not hasattr(os, "pidfd_open"):
        return lambda: None
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # an older kernel, or a sandbox that does not let us
        return lambda: None
    loop.add_reader(descriptor, ended)

    def stop() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)

    return stop


def _outcome(message: Ended) -> Outcome:
    error = None if message.error is None else msgspec.json.decode(message.error, type=ErrorInfo)
    match message.conclusion:
        case "success":
            return Outcome(conclusion="success", result=message.result)
        case "fail":
            return Outcome(conclusion="fail", error=error)
    return Outcome(conclusion="error", error=error)
