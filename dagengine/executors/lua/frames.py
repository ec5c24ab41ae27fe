"""What an error tells of the user's own code: its lines, and the source of each line.

`sandbox.lua` names the frames (`line 3, in function 'f'`, `module 'rows':7, in a function`); here each gets the line it
names. Used by `runtime`; whoever has no code at hand (a template) tells frames without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from dagengine.events.facts import ErrorInfo

__all__ = ["lines_of", "syntax_error", "with_source"]

_FRAME: Final = re.compile(r"(?:module '(?P<module>[^']*)':|line )(?P<line>\d+), in ")
_SHOWN: Final = 160
"""Characters of a source line that are shown."""

_MESSAGE: Final = 8192
"""Characters of a message that are told: Lua repeats the word that it does not understand, whole."""


def with_source(traceback: str, code: str, modules: Mapping[str, str]) -> str:
    """`traceback`, each frame followed by its source line, indented; `code` is the script's."""
    if not traceback or not code:
        return traceback
    told: list[str] = []
    for frame in traceback.split("\n"):
        told.append(frame)
        place = _FRAME.match(frame)
        if place is None:
            continue
        source = code if place["module"] is None else modules.get(place["module"], "")
        if line := _line(source, int(place["line"])):
            told.append(f"  {line}")
    return "\n".join(told)


def syntax_error(message: str, code: str) -> ErrorInfo:
    """The error for Lua's own message, `script:3: unexpected symbol near 'x'`."""
    if len(message) > _MESSAGE:
        message = message[:_MESSAGE] + "…"
    where, _, rest = message.removeprefix("script:").partition(": ")
    if not message.startswith("script:") or not where.isdigit():
        return ErrorInfo(type="LuaSyntaxError", message=message)
    line = min(int(where), lines_of(code))
    traceback = with_source(f"line {line}, in the script", code, {})
    return ErrorInfo(type="LuaSyntaxError", message=rest, line=line, traceback=traceback)


def lines_of(code: str) -> int:
    """How many lines `code` has. Lua sees one more where an expression is closed on a line of its own."""
    return code.count("\n") + 1


def _line(source: str, number: int) -> str:
    lines = source.split("\n")
    if not 0 < number <= len(lines):
        return ""
    line = lines[number - 1].strip()
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"
