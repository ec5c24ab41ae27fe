"""JSON text to plain values: the fast road. Lines and columns are worked out only when a problem needs them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from dagengine.errors import Problem
from dagengine.spec.path import format_path
from dagengine.spec.plain import MAX_DEPTH, plain
from dagengine.spec.source import FatalError, Place, Source

__all__ = ["parse"]

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


def parse(text: str) -> Source:
    """The values of one JSON text. Raises FatalError when it is not JSON or is nested too deeply."""
    duplicates = False

    def mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal duplicates
        result = dict(pairs)
        duplicates = duplicates or len(result) != len(pairs)
        return result

    try:
        raw = json.loads(text, object_pairs_hook=mapping)
    except json.JSONDecodeError as exc:
        message = f"not valid JSON: {exc.msg[:1].lower()}{exc.msg[1:]}"
        raise FatalError(message, line=exc.lineno, column=exc.colno) from exc
    except ValueError as exc:
        raise FatalError("an integer does not fit into 64 bits") from exc
    except RecursionError as exc:
        raise FatalError(f"nested deeper than {MAX_DEPTH} levels") from exc
    value, findings = plain(raw)
    return Source(
        value=value,
        findings=findings,
        problems=_Scanner(text).duplicates() if duplicates else [],
        places=lambda: _Scanner(text).places(),
    )


class _Scanner:
    """Walks the tokens of a text that is known to be JSON, without recursion."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._problems: list[Problem] = []

    def duplicates(self) -> list[Problem]:
        self.places()
        return self._problems

    def places(self) -> Place:
        root = Place(1, 1)
        stack: list[Place] = []
        path: list[str | int] = []
        key: Place | None = None
        for word, line, column in self._tokens():
            if word in "}]":
                stack.pop()
                path = path[: len(stack)]
            elif word in ",:":
                continue
            elif stack and isinstance(stack[-1].inside, dict) and key is None:
                name = json.loads(word)
                key = Place(line, column)
                self._note_duplicate(name, stack[-1].inside, (*path[: len(stack) - 1], name), key)
                stack[-1].inside[name] = key
                path[len(stack) - 1 :] = [name]
            else:
                place = key or Place(line, column)
                key = None
                if stack and isinstance(stack[-1].inside, list):
                    path[len(stack) - 1 :] = [len(stack[-1].inside)]
                    stack[-1].inside.append(place)
                root = root if stack else place
                if word in "{[":
                    place.inside = {} if word == "{" else []
                    stack.append(place)
        return root

    def _note_duplicate(self, name: str, known: dict[str, Place], path: tuple[str | int, ...], place: Place) -> None:
        if (first := known.get(name)) is not None:
            self._problems.append(
                Problem(
                    line=place.line,
                    column=place.column,
                    path=format_path(path),
                    message=f"duplicate key {name!r} (first on line {first.line})",
                )
            )

    def _tokens(self) -> Iterator[tuple[str, int, int]]:
        text, line, line_start, seen = self._text, 1, 0, 0
        for match in _TOKEN.finditer(text):
            start = match.start()
            if (last := text.rfind("\n", seen, start)) >= 0:  # from the last token on: lines may be megabytes long
                line += text.count("\n", seen, start)
                line_start = last + 1
            seen = match.end()
            yield match[0], line, start - line_start + 1
