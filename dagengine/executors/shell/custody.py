"""The keeper as the engine sees it: started with the first program, and again after it was lost.

Used by `attempt` and `executor` on the event loop's thread; nothing here waits but `close`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from dagengine.errors import ExecutorError
from dagengine.executors.shell import keeper

__all__ = ["Custody"]

_KEPT_VARIABLES: Final = ("PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What an interpreter may need to start at all; the keeper drops them, too, once it runs."""

_LAST_MOMENT: Final = 10.0
"""Seconds that programs that were killed, and the removal of their directories, may take when the engine closes."""


class Custody:
    """Starts the keeper when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def order(self, fds: list[int]) -> None:
        """Have a program started; `fds` as of `keeper.ORDER_FDS`. Raises ExecutorError when that cannot be asked."""
        for last in (False, True):
            control = self._control or self._start()
            try:
                socket.send_fds(control, [b"o"], fds)
                return
            except OSError as exc:
                self._lose()
                if last:
                    raise ExecutorError(f"the process that programs are started from cannot be reached: {exc}") from exc

    async def close(self) -> None:
        """End the keeper. It waits for all programs, which must have been told to end."""
        process, control = self._process, self._control
        self._process = self._control = None
        if control is not None:
            control.close()
        if process is not None:
            await asyncio.to_thread(_wait, process)

    def _start(self) -> socket.socket:
        self._lose()
        if not sys.executable:
            raise ExecutorError("programs are started from a Python interpreter, and sys.executable names none")
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter that runs us, with arguments of our own
                [sys.executable, "-I", "-S", "-X", "utf8", str(Path(keeper.__file__).resolve()), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a terminal's Ctrl-C is for the engine, which ends programs in good order
            )
        except OSError as exc:
            ours.close()
            raise ExecutorError(f"the process that programs are started from cannot be started: {exc}") from exc
        finally:
            theirs.close()
        ours.setblocking(False)
        self._control = ours
        return ours

    def _lose(self) -> None:
        """Give back what a keeper that is gone had here. Its guards go on without it."""
        process, control = self._process, self._control
        self._process = self._control = None
        if control is not None:
            control.close()
        if process is not None:
            if process.poll() is None:
                process.kill()  # it has closed its end, or is stuck: it has nothing to do any more
            process.wait()


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_LAST_MOMENT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
