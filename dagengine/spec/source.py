"""What came out of a text: plain values, where each of them was, and what was wrong with the text itself.

Made by `yaml_text` and `json_text`, used by `document` to put a line to every problem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dagengine.errors import Problem
from dagengine.spec.path import Finding, Path

__all__ = ["FatalError", "Place", "Source", "position"]


@dataclass(slots=True)
class Place:
    """Line and column (from 1) of a value, or of the key that names it, and the places of what is inside it."""

    line: int
    column: int
    inside: dict[str, Place] | list[Place] | None = None


@dataclass(slots=True, kw_only=True)
class Source:
    """Plain values, what was wrong with their text, and where each of them is.

    `findings` are located by their path; `problems` know their line already. `places` makes the tree of places when
    the first line is asked for.
    """

    value: object
    findings: list[Finding] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    places: Callable[[], Place] | None = None
    text: str = ""
    """What it came from, where that was YAML."""
    _root: Place | None = None

    def locate(self, path: Path) -> tuple[int, int]:
        """Line and column of `path`, or of the closest thing around it; (0, 0) where there is no text."""
        if self._root is None:
            if self.places is None:
                return 0, 0
            self._root = self.places()
        place = self._root
        for step in path:
            match place.inside, step:
                case dict() as inside, str() if step in inside:
                    place = inside[step]
                case list() as items, int() if step < len(items):
                    place = items[step]
                case _:
                    break
        return place.line, place.column


class FatalError(Exception):
    """The text cannot be read any further. Carries the problem; never leaves `dagengine.spec`."""

    def __init__(self, message: str, *, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.problem = Problem(message=message, line=line, column=column)


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of the character at `offset`."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
