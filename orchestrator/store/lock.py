"""One process per database: a file beside it, locked for as long as the store is open.

SQLite itself would let two orchestrators write in turns, and each would believe that it alone hands out epochs. The
kernel lets go of the lock when the process ends, however it ends, so a lock is never left behind; the file is.

The file holds the owner's process id, for the message to whoever comes second, and a mark that the database holds
too: when the two differ, the database is not the one that was closed here last (see `SQLiteStore.incarnation`).
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from orchestrator import errors

__all__ = ["ProcessLock"]


class ProcessLock:
    """An exclusive lock on `path`, until `release`.

    Raises StoreError when another process has it, or when the file cannot be made. `mark` is what the last owner
    left with `sign`, or an empty text.
    """

    def __init__(self, path: Path, *, guarded: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise errors.StoreError(f"Cannot create the lock file {path}: {error.strerror}.") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner, _ = self._read()
            os.close(self._file)
            raise errors.StoreError(
                f"{guarded} is in use by {f'process {owner}' if owner else 'another process'} (lock file {path}). "
                "A SQLite store belongs to one process at a time: stop that one first, or name another file."
            ) from error
        _, self.mark = self._read()
        self._held = True
        _held.add(self)

    def sign(self, mark: str) -> None:
        """Leave this process's id and `mark` in the file."""
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()} {mark}\n".encode(), 0)
        os.fsync(self._file)

    def release(self) -> None:
        """Let go. Idempotent."""
        if self._held:
            self._held = False
            _held.discard(self)
            os.close(self._file)

    def _read(self) -> tuple[str, str]:
        words = os.pread(self._file, 256, 0).decode(errors="replace").split()
        return (words[0], words[1]) if len(words) == 2 and words[0].isdigit() else ("", "")


_held: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A forked child shares the lock: one that outlives its parent would go on holding it.
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)
