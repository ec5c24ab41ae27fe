"""Patterns of names: `*` stands for any text, `?` for one character; everything else for itself."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["matches", "matches_any"]


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """Whether `name` fits one of `patterns`."""
    return any(matches(pattern, name) for pattern in patterns)


def matches(pattern: str, name: str) -> bool:
    """Whether all of `name` fits `pattern`. Takes at most `len(pattern) * len(name)` steps."""
    here, at = 0, 0
    star, resume = -1, 0
    while at < len(name):
        if here < len(pattern) and pattern[here] == "*":
            star, resume = here, at
            here += 1
        elif here < len(pattern) and pattern[here] in ("?", name[at]):
            here += 1
            at += 1
        elif star >= 0:  # let the last star take one character more
            here, resume = star + 1, resume + 1
            at = resume
        else:
            return False
    return all(character == "*" for character in pattern[here:])
