"""Which Python values are JSON: texts, 64-bit integers, finite numbers, booleans, None, lists, and dicts of them.

`plain` copies a value and says everything in it that is not. Used on what Python code hands in (`document.from_dict`,
the builder, inputs) and on JSON text, whose parser is more generous than we are.
"""

from __future__ import annotations

import math
from typing import Final

from dagengine.spec.path import Finding, Path

__all__ = ["INTEGER_RANGE", "MAX_DEPTH", "describe", "plain", "show"]

MAX_DEPTH: Final = 64
"""How deep lists and mappings may be nested in a document."""

INTEGER_RANGE: Final = range(-(2**63), 2**63)
"""Integers outside it have no exact form in Lua, nor in most JSON readers."""

_MAX_VALUES: Final = 5_000_000


def plain(value: object, path: Path = (), *, max_depth: int = MAX_DEPTH) -> tuple[object, list[Finding]]:
    """A copy of `value` made of JSON values only (tuples become lists), and what in it is not JSON.

    What is not JSON is None in the copy.
    """
    copier = _Copier(max_depth)
    return copier.copy(value, path, 1), copier.findings


class _Copier:
    def __init__(self, max_depth: int) -> None:
        self.findings: list[Finding] = []
        self._max_depth = max_depth
        self._left = _MAX_VALUES
        self._stopped = False

    def copy(self, value: object, path: Path, depth: int) -> object:
        if isinstance(value, str):
            return self._text(str(value), path)
        if value is None or isinstance(value, bool) or (type(value) is int and value in INTEGER_RANGE):
            return value
        if isinstance(value, dict | list | tuple):
            return self._container(value, path, depth)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        return self._refuse(path, _complaint(value))

    def _container(
        self, value: dict[object, object] | list[object] | tuple[object, ...], path: Path, depth: int
    ) -> object:
        self._left -= len(value)
        if self._stopped:
            return None
        if depth > self._max_depth or self._left < 0:
            self._stopped = True
            size = f"nested deeper than {self._max_depth} levels" if self._left >= 0 else "too large"
            return self._refuse(path[:8], size)
        if not isinstance(value, dict):
            return [self.copy(item, (*path, index), depth + 1) for index, item in enumerate(value)]
        result: dict[str, object] = {}
        for key, item in value.items():
            if isinstance(key, str):
                result[str(key)] = self.copy(item, (*path, str(key)), depth + 1)
            else:
                self._refuse(path, f"keys must be texts, got {describe(key)} ({show(key)})")
        return result

    def _text(self, value: str, path: Path) -> object:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return self._refuse(path, "the text holds half of a surrogate pair, which is not Unicode")
        return value

    def _refuse(self, path: Path, message: str) -> object:
        self.findings.append(Finding(path, message))
        return None


def _complaint(value: object) -> str:
    if isinstance(value, int):
        return "the integer does not fit into 64 bits"
    if isinstance(value, float):
        return f"{value} is not a number that JSON can hold"
    return f"expected a JSON value, got {describe(value)}"


def describe(value: object) -> str:
    """What kind of thing a value is, in words: `a number`, `text`, `a list`."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case dict():
            return "a mapping"
    return f"a Python {type(value).__name__}"


def show(value: object) -> str:
    """A value as people write it, cut to a length that fits into a message."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict() | list() | tuple():
            return describe(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…{text[-1]}"
