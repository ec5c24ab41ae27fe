"""What a program prints: cut into lines, masked, bounded, and handed on as log lines while it runs."""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

from dagengine.clock import Clock
from dagengine.executors.base import Job, LogSink
from dagengine.executors.secrets import Mask

__all__ = ["LOGGED", "Lines", "Log"]

MOST_LINES: Final = 10_000
MOST_BYTES: Final = 1 << 20
LONGEST: Final = 16 << 10
"""Lines, bytes and characters of a line that one attempt may log. What is beyond is not logged; it is no error."""

LOGGED: Final = 4 * LONGEST
"""Bytes of a line that are looked at for the log at least, however small the node's result has to be."""

_TAIL: Final = 8
"""Lines at the end of what is not logged that are looked at all the same."""


class Log:
    """Numbers the lines of one attempt and hands them to the sink. Both streams of a program go through one."""

    __slots__ = ("_bytes", "_clock", "_job", "_lines", "_sink")

    def __init__(self, job: Job, *, sink: LogSink, clock: Clock) -> None:
        self._job = job
        self._sink = sink
        self._clock = clock
        self._lines = 0
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether nothing more is logged."""
        return self._lines > MOST_LINES

    def write(self, level: Literal["info", "warning"], text: str, *, size: int) -> None:
        """Log a line that had `size` bytes; a long one is cut."""
        if self.full:
            return
        if len(text) > LONGEST:
            text = f"{text[:LONGEST]} [cut: the line has {size:,} bytes]"
        if self._lines == MOST_LINES or self._bytes + len(text) > MOST_BYTES:
            self._lines = MOST_LINES
            level = "warning"
            text = f"log truncated: an attempt may write {MOST_LINES:,} lines and {MOST_BYTES:,} bytes"
        self._lines += 1
        self._bytes += len(text)
        self._sink(self._job.printed(text, line=self._lines, at=self._clock.now(), level=level))


class Lines:
    """One stream of a program. `most` bytes of a line are kept, and of the last lines that are not blank, `last`."""

    __slots__ = ("_begun", "_level", "_log", "_mask", "_most", "_size", "last", "last_size")

    def __init__(self, *, level: Literal["info", "warning"], log: Log, mask: Mask, most: int, last: int) -> None:
        self._level: Literal["info", "warning"] = level
        self._log = log
        self._mask = mask
        self._most = most
        self._begun = bytearray()
        self._size = 0
        self.last: deque[bytes] = deque(maxlen=last)
        """The last lines, neither masked nor longer than `most` bytes."""
        self.last_size = 0
        """Bytes that the very last line had."""

    def feed(self, data: bytes) -> None:
        """Take what was printed next."""
        start = 0
        while (stop := data.find(b"\n", start)) >= 0:
            if self._log.full and (later := _skip(data, start)) > start:
                self._begun.clear()
                self._size = 0
                start = later
                continue
            self._add(data[start:stop])
            self._end_line()
            start = stop + 1
        self._add(data[start:])

    def finish(self) -> None:
        """Nothing follows any more: a line without a newline at its end is one, too."""
        if self._size:
            self._end_line()

    def shown(self, line: bytes, size: int) -> str:
        """A line that had `size` bytes as it may be seen."""
        if size > len(line):  # it was cut, perhaps in the middle of a secret: that half would not be found
            line = line[: max(0, len(line) - 4 * self._mask.longest)]
        return self._mask.text(line.decode("utf-8", "replace").removesuffix("\r"))

    def _end_line(self) -> None:
        line, size = bytes(self._begun), self._size
        self._begun.clear()
        self._size = 0
        if line.strip():
            self.last.append(line)
            self.last_size = size
        if not self._log.full:
            self._log.write(self._level, self.shown(line, size), size=size)

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        room = self._most - len(self._begun)
        if room > 0:
            self._begun += data[:room]


def _skip(data: bytes, start: int) -> int:
    """Where the last few lines of `data` begin; `start` when there are no more than those."""
    stop = len(data.rstrip())
    for _ in range(_TAIL):
        stop = data.rfind(b"\n", start, stop)
        if stop < 0:
            return start
    return stop + 1
