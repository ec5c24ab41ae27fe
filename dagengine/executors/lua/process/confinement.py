"""What a worker process takes from itself before it runs anybody's code. Called by `zygote`.

A script cannot reach any of this to begin with. It is for the day when somebody finds a hole in Lua.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import signal
import sys
from typing import Final

__all__ = ["die_with_parent", "extend_cpu", "ignore_signals", "limit", "virtual_memory"]

_SET_PARENT_DEATH_SIGNAL: Final = 1
_SET_NO_NEW_PRIVILEGES: Final = 38
_HEADROOM: Final = 256 << 20
"""Bytes of address space beside Lua's own and that of values as they were sent: what they are while they are converted,
the interpreter's arenas."""

_PAGE: Final = resource.getpagesize()
_prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None


def ignore_signals() -> None:
    """Leave it to the engine when to end: a terminal or a service manager may signal all processes at once."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends, however that comes about. Exits when it has ended."""
    if _prctl is not None:
        _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def virtual_memory() -> int:
    """Bytes of address space that this process has; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * _PAGE
    except (OSError, ValueError):
        return 0


def limit(*, used: int, max_memory: int) -> None:
    """No new file, no new process, no growing file, no core dump, no new rights, bounded memory; for good.

    `used` is what `virtual_memory` told; `max_memory` is what Lua may have, both in bytes.
    """
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:
        file.write(b"900")  # when memory is short, a worker goes before the engine
    if used:
        _lower(resource.RLIMIT_AS, used + 3 * max_memory + _HEADROOM)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NPROC, 0)
    _lower(resource.RLIMIT_NOFILE, 0)
    if _prctl is not None:
        _prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def extend_cpu(seconds: int) -> None:
    """Let this process use so much more processor time; beyond that the kernel ends it with SIGXCPU."""
    times = os.times()
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    # The limit is in whole seconds, and what runs may have begun half a second after this: never end a script early.
    soft = math.ceil(times.user + times.system + 0.5) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _lower(kind: int, to: int) -> None:
    """Lower a limit for good; it stays where it is when it is lower already."""
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or to < hard:
        # Not every system has every limit (macOS has no RLIMIT_AS that works): the others still hold.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (to, to))
