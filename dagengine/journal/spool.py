"""Where unacknowledged facts go when memory is not for them any more: a temporary file of this process.

The file has no name, so it is gone with the process; what was not committed never happened then anyway. Its space is
given out in regions, each filled from its beginning. A region is used again once nothing in it is needed any more; when
that is so of all, the file is closed, which gives its space back. `dagengine.journal.session` uses it, on the event
loop's thread.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO, Final

import structlog

__all__ = ["Spool", "Spooled"]

log = structlog.get_logger(__name__)

REGIONS: Final = 32
"""Regions that a spool has: what one large fact that nobody acknowledges keeps from being used is that much of it."""


class Spooled:
    """An encoded fact that lies in a spool. Its length is that of the fact, as with bytes."""

    __slots__ = ("offset", "region", "size")

    def __init__(self, region: int, offset: int, size: int) -> None:
        self.region = region
        self.offset = offset
        self.size = size

    def __len__(self) -> int:
        return self.size


class Spool:
    """A file of `limit` bytes at most, in `directory` (by default that of the system). Made when it is first needed.

    A fact larger than a region, a 32nd of it, has no place in it.
    """

    def __init__(self, limit: int = 1 << 30, directory: Path | None = None) -> None:
        self.limit = limit
        self._region = limit // REGIONS
        self._directory = directory
        self._file: IO[bytes] | None = None
        self._live = [0] * REGIONS
        """By region: the facts in it that are needed still."""
        self._current = 0
        self._filled = 0
        """How much of the current region is written."""
        self._told = False

    @property
    def facts(self) -> int:
        """The facts that lie in it."""
        return sum(self._live)

    def put(self, fact: bytes) -> Spooled | None:
        """Write a fact down. None when there is no place for it, or the system refuses: it has to stay in memory."""
        if not self._find_room(len(fact)):
            self._tell("it is full")
            return None
        offset = self._current * self._region + self._filled
        try:
            self._write(fact, offset)
        except OSError as exc:
            self._tell(exc.strerror or str(exc))
            self._close_if_empty()
            return None
        self._filled += len(fact)
        self._live[self._current] += 1
        return Spooled(self._current, offset, len(fact))

    def read(self, fact: Spooled) -> bytes:
        """A fact that was put here and not freed. OSError when the system does not give it back."""
        if self._file is None:
            raise OSError("the spool is closed")
        data = os.pread(self._file.fileno(), fact.size, fact.offset)
        if len(data) != fact.size:
            raise OSError(f"the spool ends after {len(data):,} of the {fact.size:,} bytes at {fact.offset:,}")
        return data

    def free(self, fact: Spooled) -> None:
        """A fact is not needed any more."""
        self._live[fact.region] -= 1
        if self._close_if_empty():
            self._told = False

    def _find_room(self, size: int) -> bool:
        """Make `current` a region with room for so many bytes. False when there is none."""
        if self._filled + size <= self._region:
            return True
        if size > self._region or all(self._live):
            return False
        self._current, self._filled = self._live.index(0), 0
        return True

    def _write(self, data: bytes, offset: int) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 - it is closed once nothing in it is needed
                dir=self._directory, prefix="dagengine-spool-", buffering=0
            )
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._file.fileno(), rest, offset)
            offset += written
            rest = rest[written:]

    def _close_if_empty(self) -> bool:
        if self._file is None or any(self._live):
            return False
        self._file.close()
        self._file = None
        self._filled = 0
        return True

    def _tell(self, why: str) -> None:
        """Say once that facts stay in memory; again after all that was here was acknowledged."""
        if not self._told:
            self._told = True
            directory = str(self._directory or tempfile.gettempdir())
            log.warning("spool_unusable", reason=why, directory=directory, limit=self.limit, kept_in="memory")
