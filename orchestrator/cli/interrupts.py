"""Ctrl-C while a workflow runs in this very process.

A Python function of the workflow may hold the main thread for long, and Python's own signal handlers would wait for it.
The C-level handler does not: it writes the signal's number into a pipe at once, and a thread here reads it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

__all__ = ["first_then_kill"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR: Final = "\x1b[?25h"


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Does nothing: having a handler is what makes the C level write into the pipe."""


@contextlib.contextmanager
def first_then_kill(on_first: Callable[[int], None]) -> Iterator[None]:
    """Call `on_first(signal)`, in a thread of its own, at the first SIGINT or SIGTERM; at the second, end the process.

    For the main thread. Puts back the handlers that were there before.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    thread = threading.Thread(target=_listen, args=(reader, on_first), name="interrupts", daemon=True)
    before = {number: signal.signal(number, _ignore) for number in _SIGNALS}
    previous_descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        thread.join()
        os.close(reader)


def _listen(reader: int, on_first: Callable[[int], None]) -> None:
    seen = False
    while numbers := os.read(reader, 16):
        for number in numbers:
            if number not in _SIGNALS:
                continue
            if seen:
                if sys.stderr.isatty():
                    sys.stderr.write(_SHOW_CURSOR)
                sys.stderr.flush()
                os._exit(128 + number)
            seen = True
            on_first(number)
