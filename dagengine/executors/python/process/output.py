"""What a worker process prints: read from its pipe, cut into lines. Used by `desk`, on the event loop's thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Final

__all__ = ["MAX_LINE", "Output"]

MAX_LINE: Final = 64 << 10
"""Bytes of a line; a longer one is cut into several."""

_CHUNK: Final = 64 << 10
_CHUNKS_AT_ONCE: Final = 4
"""How much of a flood is read before the loop does other things."""

_CHUNKS_IN_PIPE: Final = 32
"""More than the pipe holds: what was printed before the end of a call is in it when the end is told."""


class Output:
    """The reading end of a pipe; each line goes to `sink`, without its line break."""

    def __init__(self, descriptor: int, loop: asyncio.AbstractEventLoop, sink: Callable[[str], None]) -> None:
        self._descriptor = descriptor
        self._loop = loop
        self._sink = sink
        self._rest = b""
        self._open = True
        os.set_blocking(descriptor, False)
        loop.add_reader(descriptor, self._read, _CHUNKS_AT_ONCE)

    def drain(self) -> None:
        """Take what was printed so far; a line that is not complete counts as one."""
        self._read(_CHUNKS_IN_PIPE)
        if self._rest:
            self._cut(b"\n")

    def close(self) -> None:
        """Take what was printed, and give the pipe back."""
        if self._descriptor < 0:
            return
        self.drain()
        self._stop()
        os.close(self._descriptor)
        self._descriptor = -1

    def _read(self, chunks: int) -> None:
        for _ in range(chunks):
            if not self._open:
                return
            with contextlib.suppress(InterruptedError):
                try:
                    data = os.read(self._descriptor, _CHUNK)
                except BlockingIOError:
                    return
                if not data:
                    self._stop()
                self._cut(data)

    def _cut(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._give(line.removesuffix(b"\r"))
        while len(self._rest) >= MAX_LINE:
            self._give(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]

    def _give(self, line: bytes) -> None:
        for begin in range(0, max(1, len(line)), MAX_LINE):
            self._sink(line[begin : begin + MAX_LINE].decode("utf-8", "replace"))

    def _stop(self) -> None:
        """Nobody has the other end any more: do not be told so again and again."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._descriptor)
