"""The life of a server process: the loop it runs on, and the signals that end it. Used by both servers' commands."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from typing import Any, Final, NoReturn

import structlog

__all__ = ["catch_signals", "run"]

log = structlog.get_logger(__name__)

CLOSING_SECONDS: Final = 10.0
"""How long everything may take to close, after what was under way had its time."""


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end on the fastest loop there is."""
    try:
        import uvloop
    except ImportError:  # not made for this platform: the standard loop is slower, and does the same
        asyncio.run(main)
    else:
        uvloop.run(main)


def catch_signals(*, patience: float) -> asyncio.Event:
    """Set at the first SIGTERM or SIGINT; the second ends the process at once, with 128 + its number.

    So does the time: `patience` seconds are for what is under way, a few more for closing. Whatever keeps the process
    then, a database that has stopped to answer perhaps, whoever sent the signal is about to kill it.
    """
    stopping = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        if stopping.is_set():
            _end("stopped_at_once", number)
        log.info("stop_requested", signal=number.name)
        stopping.set()
        # A thread, not the loop: that may be closed already, or be what hangs.
        last = threading.Timer(patience + CLOSING_SECONDS, _end, ("not_stopped_in_time", number))
        last.daemon = True
        last.start()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return stopping


def _end(event: str, number: signal.Signals) -> NoReturn:
    log.warning(event, signal=number.name)
    sys.stderr.flush()
    os._exit(128 + number)
