"""What the sandbox's own Lua code asks of Python: digests, regular expressions, the results of nodes by name.

Scripts cannot reach these functions: only `library.lua` and `sandbox.lua` call them. The rules, for each of them:

- Texts and numbers in; numbers, booleans or nil out. Lua has to allocate a text it is answered with; where the state is
  out of memory, that would jump over Python's own frames, and the interpreter's lock would never be given back. The few
  that answer with a text are called after `guard.room` has found room for it.
- What is raised never reaches a script: `guard.lua` catches it, stops the script and hands it back to `runtime`.
- No call lasts: no hook watches it. What texts and patterns may be like is limited here.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import Any, Final

import re2  # type: ignore[import-untyped]  # google-re2 ships no type information

from dagengine.executors.lua.values import Values

__all__ = ["Host"]

MOST_GROUPS: Final = 32
MOST_WORK: Final = 1 << 26
"""Size of a pattern's program times the bytes it looks at: RE2 takes up to 3 ns for each, so 0.2 s for a call."""

_PATTERN_MEMORY: Final = 2 << 20
"""Bytes that RE2 may use for one pattern."""

_words: Final = struct.Struct(">4q").unpack

Answer = int | bool | bytes | tuple[int, ...] | None


class Host:
    """Makes the functions for one runtime, which it must not hold: Lua holds them, and nobody would see the cycle."""

    def __init__(self, values: Values, used: Callable[[], int]) -> None:
        self._values = values
        self.used = used
        """The bytes that the runtime holds. What Lua itself counts is less."""
        self._patterns: list[Any] = []
        self._text = b""

    def functions(self) -> dict[bytes, Callable[..., Answer]]:
        """By the names that the sandbox knows them under."""
        values = self._values
        named: dict[str, Callable[..., Answer]] = {
            "sha256": self._sha256,
            "hmac": self._hmac,
            "pattern": self._pattern,
            "forget": self._forget,
            "text": self._set_text,
            "find": self._find,
            "fetch": values.fetch,
            "take": values.take,
            "converted": values.converted,
            "count": values.count,
            "name": values.name,
        }
        return {name.encode(): function for name, function in named.items()}

    def _sha256(self, text: bytes) -> Answer:
        return _words(hashlib.sha256(text).digest())

    def _hmac(self, key: bytes, text: bytes) -> Answer:
        return _words(hmac.digest(key, text, "sha256"))

    def _pattern(self, pattern: bytes) -> Answer:
        """Compile: number, groups and how many bytes it may look at; or what is wrong with it, as a text."""
        options = re2.Options()
        options.log_errors = False
        options.max_mem = _PATTERN_MEMORY
        try:
            made = re2.compile(pattern, options)
        except re2.error as exc:
            told = exc.args[0] if exc.args else b""
            return (told if isinstance(told, bytes) else str(told).encode())[:1024] or b"not a pattern"
        if made.groups > MOST_GROUPS:
            return b"more than %d groups" % MOST_GROUPS
        self._patterns.append(made)
        size = max(made.programsize, made.reverseprogramsize, 1)
        return len(self._patterns), made.groups, MOST_WORK // size

    def _forget(self) -> Answer:
        self._patterns.clear()
        re2.purge()
        return None

    def _set_text(self, text: bytes) -> Answer:
        self._text = text
        return None

    def _find(self, number: int, start: int) -> Answer:
        """First and last byte of the next match from `start` on and of each of its groups (0, -1 for one not used)."""
        found = self._patterns[number - 1].search(self._text, start - 1)
        if found is None:
            return None
        spans = [found.span(group) for group in range(found.re.groups + 1)]
        return tuple(at for first, last in spans for at in (first + 1, last))
