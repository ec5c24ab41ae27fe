"""Results on standard output: tables that cut nothing short, JSON and YAML with everything in it.

Tables are for people: times are relative ("3s ago"). JSON and YAML are for programs: the shapes of the REST interface,
times in microseconds since the Unix epoch.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any, Final

from orchestrator.cli.options import Format

__all__ = ["ago", "colored", "moment", "structured", "table", "text", "value_block", "write"]

_GAP: Final = "   "
_COLORS = {
    "succeeded": "32",
    "ready": "32",
    "failed": "31",
    "unhealthy": "31",
    "unreachable": "31",
    "cancelled": "33",
    "retrying": "33",
    "queued": "33",
    "waiting": "36",
    "draining": "33",
    "running": "36",
}


def write(content: str) -> None:
    """Put text on standard output, with a line end."""
    sys.stdout.write(content if content.endswith("\n") else content + "\n")


def structured(value: Any, form: Format) -> None:
    """Print `value` (anything msgspec can encode) as one JSON or YAML document."""
    from msgspec import json

    encoded = json.encode(value)
    if form is Format.YAML:
        import yaml

        write(yaml.safe_dump(json.decode(encoded), sort_keys=False, allow_unicode=True, width=100))
    else:
        write(json.format(encoded, indent=2).decode())


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, least: Sequence[str] = ()) -> str:
    """Columns as wide as their longest cell; nothing is cut. A word that is a status gets its colour on a terminal.

    On a terminal that is too narrow, columns go whole: those that `least` names, the first one first.
    """
    grid = [list(headings), *(["-" if cell == "" else cell for cell in row] for row in rows)]
    for heading in least:
        if _width(grid) <= _room():
            break
        gone = grid[0].index(heading)
        grid = [[*row[:gone], *row[gone + 1 :]] for row in grid]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = []
    for position, row in enumerate(grid):
        cells = [
            (colored(cell) if position else cell) + " " * (width - len(cell))
            for cell, width in zip(row, widths, strict=True)
        ]
        lines.append(_GAP.join(cells).rstrip())
    return "\n".join(lines) + "\n"


def _width(grid: Sequence[Sequence[str]]) -> int:
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _room() -> float:
    """Columns of the terminal on standard output; without one there is no end of them."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf


def colored(word: str) -> str:
    """`word` in the colour of the status it names, when standard output is a terminal that wants colour."""
    code = _COLORS.get(word)
    if code is None or not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return word
    return f"\x1b[{code}m{word}\x1b[0m"


def ago(at: int | None, now: int) -> str:
    """How long before `now` something was: `3s ago`. Both in microseconds since the epoch."""
    if at is None:
        return ""
    seconds = max(0, now - at) // 1_000_000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit} ago"
    return f"{seconds}s ago"


def moment(at: int) -> str:
    """A time as people read it exactly: ISO 8601, UTC, milliseconds."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text(value: Any) -> str:
    """A JSON value for people: a text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    import json

    return json.dumps(value, ensure_ascii=False)


def value_block(values: dict[str, Any]) -> str:
    """The members of an object for people. A single text stands alone, so that a report prints as it was written."""
    if len(values) == 1 and isinstance(only := next(iter(values.values())), str):
        return only
    blocks = []
    for name, value in values.items():
        shown = text(value)
        blocks.append(f"{name}:\n{shown.rstrip()}" if "\n" in shown else f"{name}: {shown}")
    return "\n".join(blocks)
