"""JSON pointers (RFC 6901) into a JSON value that is not decoded: what is found is returned as it was written."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from dagengine.executors.base import Value

__all__ = ["PointerError", "find"]

_POSITION: Final = re.compile(r"0|[1-9][0-9]{0,9}")


class PointerError(Exception):
    """A pointer leads nowhere. The message says how far it led."""


def find(value: Value, pointer: str) -> Value:
    """The value that `pointer` leads to in `value`, which is JSON. Raises PointerError."""
    found = msgspec.Raw(value)
    passed = ""
    for part in pointer.split("/")[1:]:
        found = _member(found, part.replace("~1", "/").replace("~0", "~"), pointer, passed or "the body")
        passed = f"{passed}/{part}"
    return bytes(found)


def _member(value: msgspec.Raw, name: str, pointer: str, passed: str) -> msgspec.Raw:
    try:
        match bytes(value).lstrip()[:1]:
            case b"{":
                members = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
                if name in members:
                    return members[name]
                raise PointerError(f"'{pointer}' leads nowhere: {passed} has no member '{name}'")
            case b"[":
                items = msgspec.json.decode(value, type=list[msgspec.Raw])
                if _POSITION.fullmatch(name) and int(name) < len(items):
                    return items[int(name)]
                raise PointerError(f"'{pointer}' leads nowhere: {passed} has {len(items)} elements, and no '{name}'")
    except msgspec.MsgspecError as exc:
        raise PointerError(f"'{pointer}' leads nowhere: {passed} is not JSON ({exc})") from exc
    raise PointerError(f"'{pointer}' leads nowhere: {passed} is neither an object nor a list")
