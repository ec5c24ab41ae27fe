"""`{{ }}` templates as they are evaluated: JSON text with expressions in it.

A template is any JSON value. It becomes pieces of JSON text that are known already, and expressions between them, so
that a template of any size is one call into Lua. A text that is one whole `{{ }}` is replaced by the JSON of its value;
otherwise values are put into the text: texts as they are, numbers and booleans as Lua shows them, nil and null as
`null`, tables as JSON.

Used by `evaluator` and by `check`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from dagengine.spec import expression
from dagengine.spec import path as paths

__all__ = ["Layout", "Placed", "expressions", "layout"]

_encode = msgspec.json.Encoder().encode


class Placed(NamedTuple):
    """An expression of a template: its code, where it is in the template, and whether it is inside a text."""

    code: str
    path: paths.Path
    in_text: bool


class Layout(NamedTuple):
    """A template cut up: `modes` has one character for each of `parts` (see `sandbox.lua`).

    `placed` gives the expression of each part that is one.
    """

    modes: bytes
    parts: list[bytes]
    placed: dict[int, Placed]


def layout(template: object) -> Layout:
    """Cut `template` up. Raises `SpecError` for broken braces, `TypeError` for what is not a JSON value."""
    modes = bytearray()
    parts: list[bytes] = []
    placed: dict[int, Placed] = {}
    known = bytearray()
    for piece in _pieces(template, ()):
        if isinstance(piece, bytes):
            known += piece
            continue
        if known:
            modes += b"l"
            parts.append(bytes(known))
            known.clear()
        placed[len(parts)] = piece
        modes += b"t" if piece.in_text else b"j"
        parts.append(piece.code.encode("utf-8", "surrogatepass"))
    if known:
        modes += b"l"
        parts.append(bytes(known))
    return Layout(bytes(modes), parts, placed)


def expressions(template: object) -> list[Placed]:
    """The expressions of `template`, in order. Raises like `layout`."""
    return [piece for piece in _pieces(template, ()) if isinstance(piece, Placed)]


def _pieces(value: object, path: paths.Path) -> Iterator[bytes | Placed]:
    if isinstance(value, str):
        yield from _text(value, path)
    elif isinstance(value, dict):
        lead = b"{"
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} of a template is not a text")
            yield lead + _encode(key) + b":"
            yield from _pieces(inner, (*path, key))
            lead = b","
        yield b"}" if lead == b"," else b"{}"
    elif isinstance(value, list | tuple):
        lead = b"["
        for position, inner in enumerate(value):
            yield lead
            yield from _pieces(inner, (*path, position))
            lead = b","
        yield b"]" if lead == b"," else b"[]"
    else:
        yield _encode(value)


def _text(text: str, path: paths.Path) -> Iterator[bytes | Placed]:
    parts = expression.parse_template(text)
    if len(parts) == 1 and isinstance(parts[0], expression.Code):
        yield Placed(parts[0].source, path, False)
        return
    yield b'"'
    for part in parts:
        if isinstance(part, expression.Code):
            yield Placed(part.source, path, True)
        else:
            yield _encode(part.value)[1:-1]
    yield b'"'
