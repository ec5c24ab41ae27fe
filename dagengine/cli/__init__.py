"""The command line of the engine: `dag-engine`."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run `dag-engine`; exits with 0, 1 (it broke) or 2 (it was used wrongly)."""
    from dagengine.cli import engine

    engine.app(prog_name="dag-engine")
