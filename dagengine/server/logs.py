"""The log stream of one execution, between the threads that print and the session that sends.

Logs are beside the facts: a bounded buffer, and what does not fit is counted, not kept. Nothing ever waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from dagengine.executors.base import LogLine
from dagengine.wire import limits

__all__ = ["LogBuffer", "LogLines"]

MAX_BUFFERED_BYTES: Final = 1024 * 1024


class LogLines(NamedTuple):
    """Encoded lines in order; `dropped` were lost after them."""

    lines: list[bytes]
    dropped: int
    size: int


class LogBuffer:
    """Takes lines from any thread (it is a `LogSink`), gives batches to the event loop's thread.

    `on_ready()` is called on the loop's thread when there are lines where there were none.
    """

    def __init__(self, on_ready: Callable[[], None]) -> None:
        self._on_ready = on_ready
        self._loop = asyncio.get_running_loop()
        self._home = threading.get_ident()
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0

    def __call__(self, line: LogLine) -> None:
        """Take one line."""
        data = _encode(line)
        with self._lock:
            idle = not self._lines and not self._dropped
            # Once one line is lost, all are until the buffer is empty: so the loss has one place in the stream.
            if self._dropped or self._size + len(data) > MAX_BUFFERED_BYTES:
                self._dropped += 1
            else:
                self._lines.append(data)
                self._size += len(data)
        if not idle:
            return
        if threading.get_ident() == self._home:
            self._on_ready()
        else:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is left to send to
                self._loop.call_soon_threadsafe(self._on_ready)

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""
        return bool(self._lines or self._dropped)

    def take(self, max_bytes: int) -> LogLines:
        """The next lines, at least one if there is any."""
        taken: list[bytes] = []
        size = 0
        with self._lock:
            while self._lines and (not taken or size + len(self._lines[0]) <= max_bytes):
                data = self._lines.popleft()
                size += len(data)
                taken.append(data)
            self._size -= size
            dropped = 0
            if not self._lines:
                dropped, self._dropped = self._dropped, 0
        return LogLines(taken, dropped, size)


def _encode(line: LogLine) -> bytes:
    data = msgspec.json.encode(line)
    if len(data) <= limits.MAX_LOG_LINE_BYTES:
        return data
    # A character takes at most six bytes in JSON (\u0000), so a tenth of the limit always fits.
    kept = line.text[: limits.MAX_LOG_LINE_BYTES // 10]
    note = f" … ({len(line.text) - len(kept):,} more characters)"
    return msgspec.json.encode(msgspec.structs.replace(line, text=kept + note))
