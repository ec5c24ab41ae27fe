"""The command line of the engine: `dag-engine`."""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run `dag-engine`; exits with 0, 1 (it broke) or 2 (it was used wrongly)."""
    # Without this the first process of a container would not even hear SIGTERM before it listens.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    from dagengine.cli import engine

    engine.app(prog_name="dag-engine")
