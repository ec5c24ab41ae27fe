"""Files that appear whole or not at all: written beside their place under another name, and renamed at the end.

For what `dagctl` writes: exported journals, backups, stores that are put back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import RequestError

__all__ = ["draft"]


@contextlib.contextmanager
def draft(place: Path, *, force: bool) -> Iterator[Path]:
    """A path beside `place` to write to; what is there when the block ends gets the name, unless it raises.

    Raises RequestError when something is at `place` already, unless `force`, or when it cannot be written there.
    """
    if place.is_dir():
        raise RequestError(f"{place} is a directory: name a file in it")
    if place.exists() and not force:
        raise RequestError(f"{place} is there already: give --force to replace it, or another name")
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
        yield beside
        _settle(beside, place)
    except OSError as exc:
        raise RequestError(f"{place} cannot be written: {exc.strerror or exc}") from exc
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def _settle(beside: Path, place: Path) -> None:
    """Have it on the disk, then under its name, then the name on the disk."""
    descriptor = os.open(beside, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(place)
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
