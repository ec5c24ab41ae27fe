"""`dag-engine` or `dag-orchestrator` as a process that does not outlive the one that started it.

`python -P -m orchestrator.cli.child PARENT dag-engine --port 0 …`, run by `cluster`; PARENT is its process id. Linux
sends the process SIGTERM when its parent is gone, however that came about; elsewhere, a parent that is killed leaves
its children behind. Functions of `python` nodes are found in the current directory, too, after everything else.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

__all__ = ["main"]

_SET_PARENT_DEATH_SIGNAL: Final = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def main() -> None:
    """Run the program that the second argument names, with the rest of the arguments."""
    _end_with(int(sys.argv.pop(1)))
    name = sys.argv.pop(1)
    sys.path.append(os.getcwd())
    _program(name)()


def _program(name: str) -> Callable[[], None]:
    if name == "dag-engine":
        from dagengine import cli

        return cli.main
    from orchestrator.cli import server

    return server.main


def _end_with(parent: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("whoever started this process is gone already")


if __name__ == "__main__":
    main()
