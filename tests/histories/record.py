"""Records journals for this folder: `python tests/histories/record.py [NAME…]`. See `README.md`.

What is there already is left alone: a journal stays as the release wrote it that ran it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import recorded_runs
import recorded_scenarios

HERE = Path(__file__).parent

Recorded = tuple[str, bytes]
"""The name of a journal, and its lines."""


async def main(wanted: list[str]) -> int:
    """Record what is wanted, or all there is, as far as it is not there yet; the exit code."""
    there = {path.stem for path in HERE.glob("*.jsonl")}
    async for name, content in _all(there, wanted):
        if name in there or (wanted and not name.startswith(tuple(wanted))):
            continue
        (HERE / f"{name}.jsonl").write_bytes(content)
        sys.stdout.write(f"{name}: {len(content.splitlines()) - 1} facts\n")
    return 0


async def _all(there: set[str], wanted: list[str]) -> AsyncIterator[Recorded]:
    async for recorded in recorded_scenarios.play_all():
        yield recorded
    for name, run in recorded_runs.RUNS.items():
        if name not in there and (not wanted or name.startswith(tuple(wanted))):
            yield name, await run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
