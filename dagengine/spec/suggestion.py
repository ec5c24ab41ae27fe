"""Did you mean …? The known name closest to one that is not known.

Used by every check that refuses a name. Its work is bounded: a document with thousands of unknown names among
thousands of known ones stops getting suggestions, it does not take minutes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

__all__ = ["Suggestions", "did_you_mean"]

_LOOKS: Final = 500_000
_COMPARISONS: Final = 20_000
_CUTOFF: Final = 0.7


class Suggestions:
    """Closest names among `names`, within a budget of work for all questions."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(dict.fromkeys(names))
        self._folded = {_fold(name): name for name in reversed(self._names)}
        self._looks = _LOOKS
        self._comparisons = _COMPARISONS

    def closest(self, name: str) -> str | None:
        """The known name that `name` was probably meant to be, or None."""
        if (same := self._folded.get(_fold(name))) is not None:
            return same
        self._looks -= len(self._names)
        if self._looks < 0 or not name or len(name) > 128:
            return None
        slack = max(2, len(name) // 3)
        near = [known for known in self._names if abs(len(known) - len(name)) <= slack]
        self._comparisons -= len(near)
        if self._comparisons < 0:
            return None
        found = difflib.get_close_matches(name, near, n=1, cutoff=_CUTOFF)
        return found[0] if found else None

    def hint(self, name: str) -> str:
        """`; did you mean 'x'?`, or nothing."""
        found = self.closest(name)
        return "" if found is None else f"; did you mean {found!r}?"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the name in `known` closest to `name`, or nothing."""
    return Suggestions(known).hint(name)


def _fold(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")
