"""Which functions documents may name by path: the patterns of `ENGINE_PYTHON_ALLOW`.

A pattern is `module:function`, in which `*` stands for any text and `?` for any character: `images.*:make_*`. Nothing
is allowed unless a pattern says so, and nothing is imported that is not allowed (but for the packages that an allowed
module lies in, which Python imports with it). Used by `catalogue`, and by the settings to check what was written.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

__all__ = ["Allowed", "check", "is_path"]

_PATTERN = re.compile(r"[\w*?]+(?:\.[\w*?]+)*:[\w*?]+")
_PATH = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_path(function: str) -> bool:
    """Whether a name is `package.module:function`."""
    return _PATH.fullmatch(function) is not None


def check(pattern: str) -> str:
    """`pattern` as it is. Raises ValueError when it cannot match any function."""
    if _PATTERN.fullmatch(pattern) is None:
        raise ValueError(f"'{pattern}' allows no function: write package.module:function, with * and ? where you like")
    return pattern


class Allowed:
    """What may be imported."""

    __slots__ = ("_patterns",)

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        parts = (check(pattern).partition(":") for pattern in patterns)
        self._patterns = tuple((module, function) for module, _, function in parts)

    def __contains__(self, path: str) -> bool:
        """Whether `package.module:function` is allowed. A leading `_` has to be in the pattern, too."""
        module, _, function = path.partition(":")
        return any(
            fnmatch.fnmatchcase(module, modules)
            and fnmatch.fnmatchcase(function, functions)
            and (not function.startswith("_") or functions.startswith("_"))
            for modules, functions in self._patterns
        )
