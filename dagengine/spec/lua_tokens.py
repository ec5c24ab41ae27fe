"""The words of Lua code: enough of a lexer to see names, texts and braces, and to skip comments.

Used by `expression`. It never refuses code; whether code is Lua at all is for the Lua executor's check to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

__all__ = ["RESERVED", "Token", "is_name", "tokens"]

RESERVED: Final = frozenset(
    {
        "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local",
        "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
    }
)  # fmt: skip
"""Words that cannot be names in Lua."""

_TOKEN: Final = re.compile(
    r"--\[(?P<c>=*)\[.*?(?:\](?P=c)\]|\Z)"
    r"|--[^\n]*"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>0[xX][0-9a-fA-F.]+(?:[pP][-+]?[0-9]+)?|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
    r"""|(?P<text>"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)"""
    r"|(?P<long>\[(?P<t>=*)\[.*?(?:\](?P=t)\]|\Z))"
    r"|(?P<symbol>\.\.\.|\.\.|==|~=|<=|>=|//|::|<<|>>|[^\s])",
    re.DOTALL,
)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Kind = Literal["name", "number", "text", "symbol"]


class Token(NamedTuple):
    """A piece of Lua code. For a text `value` is what is between its quotes, escapes not yet read."""

    kind: Kind
    value: str
    start: int
    end: int


def tokens(code: str, start: int = 0) -> Iterator[Token]:
    """The tokens of `code` from `start` on, comments left out."""
    for match in _TOKEN.finditer(code, start):
        begin, end = match.span()
        match match.lastgroup:
            case "name" | "symbol" | "number" as kind:
                yield Token(kind, code[begin:end], begin, end)
            case "text":
                yield Token("text", code[begin + 1 : end - 1], begin, end)
            case "long":
                width = len(match["t"]) + 2
                yield Token("text", code[begin + width : end - width].removeprefix("\n"), begin, end)


def is_name(text: str) -> bool:
    """Whether `nodes.<text>` is Lua: a name that is not a reserved word."""
    return _NAME.fullmatch(text) is not None and text not in RESERVED
