"""YAML or JSON text, or its bytes, to plain values with places. Called by `dagengine.spec.document`."""

from __future__ import annotations

import re
from typing import Final

from dagengine.spec import json_text, yaml_text
from dagengine.spec.source import FatalError, Source, position

__all__ = ["MAX_BYTES", "parse"]

MAX_BYTES: Final = 4 * 1024 * 1024
"""Longest document, in bytes of UTF-8."""

_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_JSON_START: Final = re.compile(r"\s*[{\[]")
_SURELY_JSON: Final = re.compile(r'\s*[{\[]\s*["{}\[\]]')


def parse(text: str | bytes, *, max_bytes: int = MAX_BYTES) -> Source:
    """The values of a YAML or JSON text. Raises `source.FatalError` when it cannot be read to its end."""
    characters = _decode(text, max_bytes)
    if not _JSON_START.match(characters):
        return yaml_text.parse(characters)
    try:
        return json_text.parse(characters)
    except FatalError as not_json:
        try:
            return yaml_text.parse(characters)
        except FatalError:
            if _SURELY_JSON.match(characters):
                raise not_json from None
            raise


def _decode(content: str | bytes, max_bytes: int) -> str:
    size = len(content)
    if size <= max_bytes and isinstance(content, str) and not content.isascii():
        size = len(content.encode(errors="replace"))
    if size > max_bytes:
        raise FatalError(f"the document has {size:,} bytes; at most {max_bytes:,} are accepted")
    text = content if isinstance(content, str) else _utf8(content)
    text = text.removeprefix("\ufeff")
    if bad := _FORBIDDEN.search(text):
        line, column = position(text, bad.start())
        raise FatalError(f"the character U+{ord(bad[0]):04X} is not allowed", line=line, column=column)
    return text


def _utf8(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise FatalError("the document is not UTF-8 text", line=line) from exc
