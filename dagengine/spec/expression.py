"""What Lua code mentions, and `{{ }}` templates, without running anything.

`references(code)` says which nodes and inputs a piece of Lua reads, as far as that can be seen from outside:
`nodes.load`, `nodes["load-data"]`, `inputs.date`. Names in texts and comments do not count, and neither does a name
that the code itself declares (`local nodes = …`).

`parse_template(text)` cuts a text into literal text and Lua expressions. `{{` begins an expression and `}}` ends it;
braces and texts inside the expression are understood. To get a literal `{{`, write `\\{{`; to get a backslash before an
expression, write `\\\\{{`.

Used by the checks of `scope` and by the Lua executor, which evaluates the parts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final, Literal

from dagengine.errors import SpecError
from dagengine.spec import lua_tokens
from dagengine.spec.lua_tokens import Token

__all__ = ["Code", "Mention", "References", "Text", "parse_template", "references"]

_VALUES: Final = ("item", "index", "key", "execution", "response")
_ROOTS: Final = ("nodes", "inputs", *_VALUES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """One place where code reads `nodes` or `inputs` by a name that can be seen.

    `name` is what Lua would look up. `joined` is what was probably meant where Lua reads something else: the
    `load-data` of `nodes.load-data` (a subtraction), the `end` of `nodes.end` (a reserved word), or empty.
    `line` counts from 1 within the code.
    """

    root: Literal["nodes", "inputs"]
    name: str
    joined: str = ""
    line: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """What a piece of Lua reads of what is in scope.

    `dynamic_nodes` and `dynamic_inputs`: it reads some by a name that only running it can tell (`nodes[name]`,
    `pairs(nodes)`). `item`, `index`, `key`, `execution` and `response`: it reads them.
    """

    nodes: frozenset[str] = frozenset()
    inputs: frozenset[str] = frozenset()
    dynamic_nodes: bool = False
    dynamic_inputs: bool = False
    item: bool = False
    index: bool = False
    key: bool = False
    execution: bool = False
    response: bool = False
    mentions: tuple[Mention, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """Literal text of a template."""

    value: str


@dataclass(frozen=True, slots=True)
class Code:
    """A Lua expression of a template, without its braces and the white space around it."""

    source: str


_NOTHING: Final = References()


@functools.lru_cache(maxsize=16_384)  # a document's code is read when it is checked, and again when it is compiled
def references(code: str) -> References:
    """What `code`, a Lua chunk or expression, reads. Takes time linear in its length; never fails."""
    if not any(root in code for root in _ROOTS):
        return _NOTHING
    return _Reader(code).read()


def parse_template(text: str) -> tuple[Text | Code, ...]:
    """The parts of a template, in order; a text without `{{` is one `Text`, an empty one is nothing.

    Raises SpecError, without problems, when an expression is empty or does not end.
    """
    if "{{" not in text:
        return (Text(text),) if text else ()
    parts: list[Text | Code] = []
    literal: list[str] = []
    position = 0
    while (start := text.find("{{", position)) >= 0:
        before = text[position:start]
        slashes = len(before) - len(before.rstrip("\\"))
        literal.append(before[: len(before) - slashes] + "\\" * (slashes // 2))
        if slashes % 2:
            literal.append("{{")
            position = start + 2
            continue
        end = _end_of_code(text, start)
        source = text[start + 2 : end].strip()
        if not source:
            raise SpecError(f"the template has an empty {{{{ }}}}{_at(text, start)}")
        if joined := "".join(literal):
            parts.append(Text(joined))
        literal.clear()
        parts.append(Code(source))
        position = end + 2
    if rest := "".join([*literal, text[position:]]):
        parts.append(Text(rest))
    return tuple(parts)


def _end_of_code(text: str, start: int) -> int:
    """Where the `}}` is that ends the expression that `{{` at `start` begins."""
    depth = 0
    for token in lua_tokens.tokens(text, start + 2):
        if token.kind != "symbol":
            continue
        if token.value == "{":
            depth += 1
        elif token.value == "}" and depth:
            depth -= 1
        elif token.value == "}" and text.startswith("}}", token.start):
            return token.start
        elif token.value == "}":
            raise SpecError(f"the template has a '}}' that closes nothing{_at(text, token.start)}")
    raise SpecError(f"the template's '{{{{' has no '}}}}'{_at(text, start)}")


def _at(text: str, offset: int) -> str:
    line = text.count("\n", 0, offset) + 1
    return f" (in line {line} of the text)" if "\n" in text.strip("\n") else ""


class _Reader:
    """One pass over the tokens of a piece of code."""

    def __init__(self, code: str) -> None:
        self._code = code
        self._tokens = list(lua_tokens.tokens(code))
        self._mentions: list[Mention] = []
        self._dynamic: set[str] = set()
        self._read: set[str] = set()
        self._line = 1
        self._line_end = 0

    def read(self) -> References:
        declared = self._declared()
        for at, token in enumerate(self._tokens):
            if token.kind != "name" or token.value not in _ROOTS or not self._is_variable(at):
                continue
            if token.value in _VALUES:
                self._read.add(token.value)
            else:
                self._access(at, "nodes" if token.value == "nodes" else "inputs")
        mentions = tuple(mention for mention in self._mentions if mention.root not in declared)
        return References(
            nodes=frozenset(mention.name for mention in mentions if mention.root == "nodes"),
            inputs=frozenset(mention.name for mention in mentions if mention.root == "inputs"),
            dynamic_nodes="nodes" in self._dynamic or "nodes" in declared,
            dynamic_inputs="inputs" in self._dynamic or "inputs" in declared,
            mentions=mentions,
            **dict.fromkeys(self._read - declared, True),
        )

    def _token(self, at: int) -> Token:
        return (
            self._tokens[at] if 0 <= at < len(self._tokens) else Token("symbol", "", len(self._code), len(self._code))
        )

    def _is_variable(self, at: int) -> bool:
        """Whether the name at `at` is a variable, not a field, a method, a label or the key of a table."""
        before, after = self._token(at - 1), self._token(at + 1)
        if before.kind == "symbol" and before.value in (".", ":", "::"):
            return False
        if before.kind == "name" and before.value == "goto":
            return False
        is_key = before.kind == "symbol" and before.value in ("{", ",", ";") and after.value == "="
        return not (is_key and after.kind == "symbol")

    def _declared(self) -> set[str]:
        """Which names of the scope the code declares or assigns itself, anywhere."""
        declared: set[str] = set()
        for at, token in enumerate(self._tokens):
            if token.kind != "name":
                continue
            if token.value in ("local", "for"):
                declared.update(self._names_from(at + 1))
            elif token.value == "function":
                opening = next(
                    (i for i in range(at + 1, min(at + 12, len(self._tokens))) if self._token(i).value == "("), at
                )
                declared.update(self._names_from(opening + 1))
            elif token.value in _ROOTS and self._is_variable(at) and self._token(at + 1)[:2] == ("symbol", "="):
                declared.add(token.value)
        return declared

    def _names_from(self, at: int) -> set[str]:
        """The names of a list `a, b <const>, c` that begins at `at`."""
        names: set[str] = set()
        while True:
            token = self._token(at)
            if token.kind == "name" and token.value not in lua_tokens.RESERVED:
                names.add(token.value)
            elif token.kind != "symbol" or token.value not in (",", "<", ">"):
                return names
            at += 1

    def _access(self, at: int, root: Literal["nodes", "inputs"]) -> None:
        after, then = self._token(at + 1), self._token(at + 2)
        line = self._line_of(self._tokens[at].start)
        if after.kind == "symbol" and after.value == "." and then.kind == "name":
            joined = self._joined(at + 2)
            if not joined and then.value in lua_tokens.RESERVED:
                joined = then.value
            self._mentions.append(Mention(root=root, name=then.value, joined=joined, line=line))
        elif after.kind == "number" and after.value.startswith(".") and after.start == self._tokens[at].end:
            joined = self._joined(at + 1) or after.value[1:]
            self._mentions.append(Mention(root=root, name=joined, joined=joined, line=line))
        elif (
            after.value == "["
            and after.kind == "symbol"
            and then.kind == "text"
            and "\\" not in then.value
            and self._token(at + 3)[:2] == ("symbol", "]")
        ):
            self._mentions.append(Mention(root=root, name=then.value, line=line))
        else:
            self._dynamic.add(root)

    def _joined(self, at: int) -> str:
        """`load-data` where the tokens from `at` on read `load-data` without a space between them; else empty."""
        end = at
        while (
            self._token(end + 1)[:2] == ("symbol", "-")
            and self._token(end + 2).kind in ("name", "number")
            and self._token(end).end == self._token(end + 1).start
            and self._token(end + 1).end == self._token(end + 2).start
        ):
            end += 2
        if self._token(end + 1).kind == "name" and self._token(end).end == self._token(end + 1).start:
            end += 1
        text = self._code[self._token(at).start : self._token(end).end] if end > at else ""
        return text.removeprefix(".").partition(".")[0]

    def _line_of(self, offset: int) -> int:
        """The line of an offset; offsets come in rising order."""
        self._line += self._code.count("\n", self._line_end, offset)
        self._line_end = offset
        return self._line
