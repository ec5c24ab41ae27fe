"""Names in Lua code that are certainly wrong: globals that nothing ever gives a value.

A script may well look whether a global is there (`if item then`). What cannot be meant is one that nobody sets and that
is only ever called or indexed (`inputz.limit`, `prnt(x)`): every such place raises an error when it is reached. In an
expression a name that is not there is an error wherever it is read. Anything in doubt is left alone: code that says
`_ENV` or `_G`, and names that the code declares or assigns somewhere.

Used by `check`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from dagengine.spec import lua_tokens
from dagengine.spec.lua_tokens import Token
from dagengine.spec.suggestion import did_you_mean

__all__ = ["EXPRESSION", "MODULE", "SCOPE", "SCRIPT", "Unknown", "unknown"]

SCOPE: Final = frozenset({"inputs", "nodes", "env", "item", "index", "key", "execution"})
"""What the host gives."""

EXPRESSION: Final = SCOPE | {
    "_VERSION", "assert", "base64", "error", "getmetatable", "hmac", "ipairs", "json", "math", "next", "pairs", "pcall",
    "rawequal", "rawget", "rawlen", "rawset", "re", "select", "setmetatable", "sha256", "string", "table", "time",
    "tonumber", "tostring", "type", "utf8", "xpcall",
}  # fmt: skip
"""What an expression can name."""

SCRIPT: Final = EXPRESSION | {"coroutine", "fail", "log", "os", "print", "require"}
"""What the code of a node can name."""

MODULE: Final = SCRIPT - SCOPE
"""What the code of a module can name."""

_ABSENT: Final = frozenset(
    {"io", "package", "debug", "load", "loadfile", "loadstring", "dofile", "collectgarbage", "python", "warn", "bit32"}
)
_ENVIRONMENTS: Final = frozenset({"_ENV", "_G"})
_USES: Final = frozenset({"(", ".", "[", ":", "{"})
"""What follows a name that is called or indexed; a text does, too."""


class Unknown(NamedTuple):
    """A name that is certainly wrong, the line where it is first used, and what to say."""

    name: str
    line: int
    message: str


def unknown(code: str, known: frozenset[str], *, expression: bool = False) -> list[Unknown]:
    """The names in `code` that are certainly wrong, in their order; `known` are those that there are."""
    if "\\z" in code or "\r" in code:
        return []  # where Lua's lexer and ours may part
    tokens = list(lua_tokens.tokens(code))
    named = {token.value for token in tokens if token.kind == "name"}
    if not (named - known - lua_tokens.RESERVED) or named & _ENVIRONMENTS:
        return []
    variables = list(_variables(tokens))
    declared = _declared(tokens, variables)
    places: dict[str, list[int]] = {}
    for at in variables:
        name = tokens[at].value
        if name not in known and name not in declared:
            places.setdefault(name, []).append(at)
    found = []
    for name, uses in places.items():
        if expression or all(_must_be_there(tokens, at) for at in uses):
            line = code.count("\n", 0, tokens[uses[0]].start) + 1
            found.append(Unknown(name, line, _message(name, known | declared)))
    return found


def _message(name: str, known: frozenset[str] | set[str]) -> str:
    if name in _ABSENT:
        return f"{name!r} is not available in the sandbox"
    if name in SCOPE:
        return f"a module does not see {name!r}: give it what it needs as an argument"
    return f"unknown name {name!r}{did_you_mean(name, sorted(known - SCOPE) + sorted(known & SCOPE))}"


def _at(tokens: Sequence[Token], at: int) -> str:
    """The symbol or name at a position; empty for texts, numbers and beyond the ends."""
    token = tokens[at] if 0 <= at < len(tokens) else None
    return token.value if token is not None and token.kind in ("symbol", "name") else ""


def _keys(tokens: Sequence[Token]) -> set[int]:
    """The positions of names that are keys of a table: `{name = …}`."""
    found: set[int] = set()
    brackets: list[str] = []
    for at, token in enumerate(tokens):
        if token.kind == "symbol":
            if token.value in ("(", "[", "{"):
                brackets.append(token.value)
            elif token.value in (")", "]", "}") and brackets:
                brackets.pop()
        elif token.kind == "name" and brackets[-1:] == ["{"] and _is_key(tokens, at):
            found.add(at)
    return found


def _is_key(tokens: Sequence[Token], at: int) -> bool:
    """Whether a name between braces is a key."""
    return _at(tokens, at + 1) == "=" and _at(tokens, at - 1) in ("{", ",", ";")


def _variables(tokens: Sequence[Token]) -> Iterator[int]:
    """The positions of names that are variables: no fields, methods, labels or keys of tables."""
    keys = _keys(tokens)
    for at, token in enumerate(tokens):
        if token.kind != "name" or token.value in lua_tokens.RESERVED or at in keys:
            continue
        if _at(tokens, at - 1) not in (".", ":", "::", "goto"):
            yield at


def _must_be_there(tokens: Sequence[Token], at: int) -> bool:
    following = tokens[at + 1] if at + 1 < len(tokens) else None
    if following is None:
        return False
    return following.kind == "text" or (following.kind == "symbol" and following.value in _USES)


def _declared(tokens: Sequence[Token], variables: Sequence[int]) -> set[str]:
    """Every name that the code declares or assigns, anywhere."""
    declared: set[str] = set()
    for at, token in enumerate(tokens):
        if token.kind != "name":
            continue
        if token.value in ("local", "for", "global"):
            declared.update(_list_from(tokens, at + 1))
        elif token.value == "function":
            declared.update(_list_from(tokens, at + 1))  # its own name, where it has one
            opening = at + 1
            while _at(tokens, opening) not in ("(", ""):
                opening += 1
            declared.update(_list_from(tokens, opening + 1))
    for at in variables:
        if _at(tokens, at + 1) == "=":
            declared.update(_assigned(tokens, at))
    return declared


def _assigned(tokens: Sequence[Token], at: int) -> Iterator[str]:
    """The names of `a, b` where `=` follows; the last one is at `at`."""
    yield tokens[at].value
    while _at(tokens, at - 1) == "," and at >= 2 and tokens[at - 2].kind == "name":
        at -= 2
        yield tokens[at].value


def _list_from(tokens: Sequence[Token], at: int) -> Iterator[str]:
    """The names of a list `a <const>, b, ...t` that begins at a position."""
    while at < len(tokens):
        token = tokens[at]
        if token.kind == "name" and (token.value not in lua_tokens.RESERVED or token.value == "function"):
            yield token.value
        elif token.kind != "symbol" or token.value not in (",", "<", ">", "...", "*"):
            return
        at += 1
