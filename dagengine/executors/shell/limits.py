"""What programs may use on one engine. Chosen by whoever runs the engine, never by a document."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["Limits", "most_programs"]


def most_programs() -> int:
    """Programs that run at once unless somebody says otherwise: most wait for something else than a processor."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 4 * processors


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`programs` run at once, or as many as `most_programs` says.

    `memory` is in bytes of address space and `cpu` in seconds of processor time, both for each process of a program;
    None is no limit. `output` is the bytes that a program may print before it is stopped. `grace` is the microseconds
    from SIGTERM to SIGKILL after a timeout.
    """

    programs: int | None = None
    memory: int | None = None
    cpu: int | None = None
    output: int = 64 << 20
    grace: int = 2_000_000
