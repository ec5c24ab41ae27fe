"""Where in a document something is: `("spec", "nodes", 2, "id")` in Python, `spec.nodes[2].id` for people.

Used by everything that finds problems. A `Finding` is a problem whose line is not yet known.
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

__all__ = ["Finding", "Path", "format_path", "parse_path"]

Path = tuple[str | int, ...]
"""Names and list positions (from 0) from the root of a document."""

_PLAIN: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")
_STEP: Final = re.compile(r'\.?([A-Za-z_$][A-Za-z0-9_$-]*)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]')


class Finding(NamedTuple):
    """Something that is wrong, and its path."""

    path: Path
    message: str


def format_path(path: Path) -> str:
    """`spec.nodes[2].executor.code`; names that are not plain words are quoted: `metadata.labels["a/b"]`."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif _PLAIN.fullmatch(step):
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f"[{json.dumps(step, ensure_ascii=False)}]")
    return "".join(parts)


def parse_path(text: str) -> Path:
    """The path that `format_path` wrote; as much of it as can be read."""
    steps: list[str | int] = []
    position = 0
    while match := _STEP.match(text, position):
        name, index, quoted = match.groups()
        steps.append(name if name is not None else int(index) if index is not None else json.loads(quoted))
        position = match.end()
    return tuple(steps)
