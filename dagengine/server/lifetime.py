"""The life of a server process: the loop it runs on, and the signals that end it. Used by both servers' commands."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import structlog

__all__ = ["catch_signals", "run"]

log = structlog.get_logger(__name__)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end on the fastest loop there is."""
    try:
        import uvloop
    except ImportError:  # not made for this platform: the standard loop is slower, and does the same
        asyncio.run(main)
    else:
        uvloop.run(main)


def catch_signals() -> asyncio.Event:
    """Set at the first SIGTERM or SIGINT; the second ends the process at once, with 128 + its number."""
    stopping = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        if stopping.is_set():
            log.warning("stopped_at_once", signal=number.name)
            sys.stderr.flush()
            os._exit(128 + number)
        log.info("stop_requested", signal=number.name)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return stopping
