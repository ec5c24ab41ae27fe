"""Runs every benchmark and prints one table: `python -m benchmarks [--quick] [NAME …]`.

Modules without `figures` have a layout of their own; they are run as they are, and print after the table.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import figure

MODULES = (
    "machine",
    "memory",
    "lua_call",
    "lua_process",
    "sessions",
    "store",
    "durable",
    "recovery",
    "waiting",
    "shared_value",
    "scale",
    "rest",
)
HERE = Path(__file__).parent


def main() -> int:
    """The exit code: 1 when a benchmark failed."""
    there = [name for name in MODULES if (HERE / f"{name}.py").exists()]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and print one table.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run (default: all of {', '.join(there)})")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repetitions")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(there):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    names = arguments.names or there
    in_table = [name for name in names if hasattr(importlib.import_module(f"benchmarks.{name}"), "figures")]
    print(figure.conditions())
    if in_table:
        figure.show(_figures(in_table, quick=arguments.quick))
    failed = False
    for name in names:
        if name not in in_table:
            print(f"\n{name}", flush=True)
            failed |= subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode != 0
    return int(failed)


def _figures(names: list[str], *, quick: bool) -> Iterator[figure.Figure]:
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        yield from importlib.import_module(f"benchmarks.{name}").figures(quick=quick)


if __name__ == "__main__":
    sys.exit(main())
